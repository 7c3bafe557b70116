// What `baton bench transfer` moves: blocks of a pattern, from one order of places to another. Both
// ends derive the same places and bytes from seeds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/memory.h"
#include "common/shared_memory.h"
#include "common/status.h"
#include "transfer/cuda/memory.h"
#include "transfer/transfer.h"

namespace baton::bench {

// Block i goes from place from[i] of the writer to place to[i] of the target, in blocks.
struct BlockOrder {
  std::vector<uint32_t> from, to;
};
BlockOrder MakeBlockOrder(uint32_t blocks, bool scattered, uint64_t seed);

// Memory of any kind; of devices by a copy of the whole.
Status FillPattern(MemorySpan memory, uint64_t seed);
Status ClearMemory(MemorySpan memory);
// Bytes of the target that differ from what the writer's pattern of `seed` has put there.
Result<uint64_t> CountWrongBytes(MemorySpan target, const BlockOrder& order, uint64_t block_bytes, uint64_t seed);

// 10^9 bytes/s of one large copy between two memories as the pools are (devices, or pinned host memory
// for -1), by CUDA's copy engine within this process. 0 when it cannot be measured.
double MeasureDeviceCopy(int from_device, int to_device, uint64_t bytes);
// What an end announces at Open: its own device, or over shm the other end's, on the same host.
std::optional<int> AnnouncedDevice(transfer::ProviderKind provider, int own_device, int other_device);
std::string MemoryName(int device);  // "host", "cuda:1"
// "host" or "cuda:N"; -1 for host.
Result<int> ParseMemory(const std::string& name);

// 10^9 bytes/s of one thread that copies the blocks within this process by memcpy.
double MeasureMemcpy(MemorySpan memory, const BlockOrder& order, uint64_t block_bytes);

struct PoolUnmapper {
  size_t bytes = 0;
  void operator()(std::byte* data) const;
};

// The pool of one end: as the server's KV pool, plain private memory, or memory of a CUDA device.
class BenchPool {
 public:
  static Result<BenchPool> Create(uint64_t bytes, bool shared, int device = -1);
  MemorySpan span() const;

 private:
  std::optional<SharedMemory> shared_;
  std::optional<transfer::cuda::DeviceBuffer> device_;
  std::unique_ptr<std::byte, PoolUnmapper> private_;
};

}  // namespace baton::bench
