// A decoder-only transformer: weights bound to a backend, and the forward pass that reads top to
// bottom. Knows KV as views (kernels/paged_kv.h), nothing of requests or schedulers.
//
// One object per rank; Forward is called from the rank's engine thread only and allocates nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/status.h"
#include "kernels/ops.h"
#include "model/config.h"
#include "model/hub.h"

namespace baton::model {

// Called after each layer's KV of this step is in its pages: a PD prefill pushes it while the next
// layer runs. Runs on the engine thread and must not block.
using LayerDone = std::function<void(int layer)>;

struct ForwardInput {
  std::span<const int32_t> tokens;                 // [T], T <= max_tokens
  std::span<const int32_t> positions;              // [T]
  std::span<const kernels::SequenceSlice> slices;  // cover [0, T) in order
  std::span<const int32_t> logit_rows;             // rows whose logits are wanted
  const LayerDone* layer_done = nullptr;
};

struct LoadOptions {
  int max_tokens = 512;        // most rows of one step
  int max_logit_rows = 512;    // most rows of logits of one step
  bool dummy_weights = false;  // --load-format dummy: random weights, only config is read
  // Called with 0..1 as weights load; may be empty.
  std::function<void(double)> progress;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelConfig& config() const = 0;
  // The pages this model writes; page_tokens and dtype are the caller's choice.
  virtual kernels::KvLayout MakeKvLayout(int page_tokens, kernels::DType dtype) const = 0;
  // Logits [logit_rows, vocab] f32 in host memory, valid until the next call.
  virtual std::span<const float> Forward(const ForwardInput& input, const kernels::KvPool& kv) = 0;
  virtual size_t weight_bytes() const = 0;  // bytes one pass reads
};

// Reads config and weights and binds them to `ops` (which outlives the model).
Result<std::unique_ptr<Model>> LoadModel(const ModelFiles& files, kernels::Ops& ops,
                                         const LoadOptions& options);
Result<ModelConfig> LoadConfig(const ModelFiles& files);

}  // namespace baton::model
