// The dense decoder with grouped-query attention that Llama, Qwen2 and Qwen3 share. Internal to
// model/; see llama.cpp for the forward pass.
#pragma once

#include <memory>

#include "model/model.h"
#include "model/weights.h"

namespace baton::model {

// Binds every weight of `weights` to `ops` (which outlives the model) and allocates the
// activations of steps of up to options.max_tokens rows.
Result<std::unique_ptr<Model>> MakeLlama(const ModelConfig& config, WeightView weights,
                                         kernels::Ops& ops, const LoadOptions& options);

}  // namespace baton::model
