// The operations that models are written in, and the contract that every backend keeps.
//
// Backends: reference/ (plain loops, the oracle), cpu/ (AVX2, AVX-512, VNNI chosen at run time),
// later cuda/. A backend owns its threads or stream; calls are made from one thread (the rank's
// engine thread), in order, and a result is visible to the next call. Host code that reads results
// calls Synchronize() first (a no-op on CPUs).
//
// Determinism (tests hold every backend to it): a row of any result depends on that row's inputs
// only. It is the same to the bit whatever other rows are in the batch, however a prompt was cut
// into chunks, whichever pages hold its KV and however many threads run. So reductions run in an
// order fixed by absolute index: along K in blocks from 0, along KV in tiles from position 0.
//
// Shapes use T = rows of the step. Outputs never alias inputs unless said. Shape errors are bugs
// (CHECK), not statuses; weights come from files, so loading them returns Status.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "common/memory.h"
#include "common/status.h"
#include "kernels/paged_kv.h"
#include "kernels/tensor.h"

namespace baton::kernels {

// A weight matrix [out, in] or a vector, in the form that the backend's kernels read. Immutable.
class Weight {
 public:
  virtual ~Weight() = default;
  int64_t rows = 0;
  int64_t cols = 0;
  size_t bytes = 0;  // memory held or mapped: what one pass over it reads
  bool borrows = false;  // reads the StoredTensors' bytes where they lie: keep them alive and mapped
};
using WeightPtr = std::unique_ptr<const Weight>;

enum class WeightUse : uint8_t {
  kLinear,     // only Linear reads it
  kEmbedding,  // only Embed reads it
  kTied,       // both: the embedding is the output head
};

// Memory for activations or the KV pool, zeroed, aligned to 64 bytes (2 MiB pages when large).
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual MemorySpan span() const = 0;
};

struct RopeArgs {
  Tensor q;                 // [T, heads * head_dim], rotated in place
  Tensor k;                 // [T, kv_heads * head_dim], rotated in place
  const float* cos_sin;     // [T, rotary_dim / 2, 2] from RopeTable
  int head_dim;
  int rotary_dim;           // the first rotary_dim of each head turn, the rest stay
  bool interleaved;         // true: pairs (2i, 2i+1), GGUF llama; false: (i, i + rotary_dim/2)
};

struct AttentionArgs {
  Tensor q;                 // [T, heads * head_dim], rotated
  Tensor out;               // [T, heads * head_dim]
  std::span<const SequenceSlice> slices;
  const KvPool* kv;
  int layer;
  int heads;
  float scale;              // usually head_dim^-0.5
  int window = 0;           // sliding window in tokens counting the current one; 0: all
};

struct BackendInfo {
  std::string name;         // "reference", "cpu"
  std::string isa;          // "avx512-vnni", "avx2", "scalar" ...
  int threads = 1;
  DType activation = DType::kF32;
};

class Ops {
 public:
  virtual ~Ops() = default;
  virtual const BackendInfo& info() const = 0;

  // Packs `parts` stacked by rows (all the same cols) into one weight: q|k|v, gate|up. The stored
  // bytes may be dropped afterwards unless the Weight says that it borrows them.
  // kUnsupported names format and use.
  virtual Result<WeightPtr> LoadWeight(std::span<const StoredTensor> parts, WeightUse use) = 0;
  virtual Result<WeightPtr> LoadVector(const StoredTensor& stored) = 0;  // norm weights, biases

  virtual Result<std::unique_ptr<Buffer>> Allocate(size_t bytes) = 0;
  // The same, in memory that other processes of this host can map (common/shared_memory.h) where
  // the backend has such memory.
  virtual Result<std::unique_ptr<Buffer>> AllocateShared(size_t bytes) { return Allocate(bytes); }

  // out[t, :] = table[tokens[t], :] * scale. Ids are in range (checked at the door).
  virtual void Embed(const Weight& table, std::span<const int32_t> tokens, float scale, Tensor out) = 0;

  // out[t, :] = x[t, :] / rms(x[t, :]) * weight, rms over each run of weight.cols columns (so that
  // a head_dim weight normalises per head). out may alias x.
  virtual void RmsNorm(Tensor x, const Weight& weight, float eps, Tensor out) = 0;

  // y[t, :] = W x[t, :] (+ bias) ; with add: y[t, :] += that. Bias may be null.
  virtual void Linear(Tensor x, const Weight& w, const Weight* bias, bool add, Tensor y) = 0;

  // out[t, i] = act(x[t, i]) * x[t, n + i], x = [T, 2n], out = [T, n].
  virtual void SiluMul(Tensor gate_up, Tensor out) = 0;
  virtual void GeluTanhMul(Tensor gate_up, Tensor out) = 0;

  // cos_sin[t, i] = (cos, sin)(positions[t] * inv_freq[i]) * magnitude, in double before rounding.
  virtual void RopeTable(std::span<const int32_t> positions, std::span<const float> inv_freq,
                         float magnitude, float* cos_sin) = 0;
  virtual void Rope(const RopeArgs& args) = 0;

  // Writes k, v ([T, kv_heads * head_dim]) of this layer at each row's position into its pages.
  virtual void AppendKv(Tensor k, Tensor v, std::span<const SequenceSlice> slices, const KvPool& kv,
                        int layer) = 0;
  // Causal attention of each slice over its pages, KV of the step included (AppendKv ran before).
  virtual void Attention(const AttentionArgs& args) = 0;

  // out[i, :] = x[rows[i], :].
  virtual void GatherRows(Tensor x, std::span<const int32_t> rows, Tensor out) = 0;
  // Splits columns: parts[i] = the next parts[i].cols columns of x.
  virtual void SplitColumns(Tensor x, std::span<const Tensor> parts) = 0;

  virtual void Synchronize() = 0;
};

std::unique_ptr<Ops> MakeReferenceOps();

struct CpuOptions {
  int threads = 0;      // 0: one per core of this process's affinity mask
  std::string isa;      // "", or force "avx2", "avx512", "avx512-vnni"; BATON_ISA in the environment too
};
// kUnsupported when the CPU lacks AVX2+FMA+F16C or a forced ISA (use the reference backend then).
Result<std::unique_ptr<Ops>> MakeCpuOps(const CpuOptions& options);

// Measured ceilings of this machine, for bench: bytes/s of streaming reads and int8 multiply-adds
// (2 operations each)/s over all `threads`, each measured for about `seconds`.
struct CpuCeiling { double read_bytes_per_s; double int8_ops_per_s; };
CpuCeiling MeasureCpuCeiling(int threads, double seconds);

}  // namespace baton::kernels
