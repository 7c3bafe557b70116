// One view of a model's weights, whatever file they lie in: a role and a layer give the stored
// tensor, its shape held against the config. Internal to model/.
//
// A view owns (shares) what it points into: keep it as long as its tensors are in use. Immutable.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"
#include "kernels/tensor.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/safetensors.h"

namespace baton::model {

enum class WeightRole : uint8_t {
  kEmbedding,
  kOutputNorm,
  kHead,  // once
  kAttentionNorm,
  kQ,
  kK,
  kV,
  kO,
  kFfnNorm,
  kGate,
  kUp,
  kDown,  // in each layer
  kQBias,
  kKBias,
  kVBias,
  kOBias,
  kQNorm,
  kKNorm,  // in each layer where the config says so
};

// All weights of a model in the order they are bound; layer -1 for those outside of layers.
struct WeightId {
  WeightRole role;
  int layer;
};
std::vector<WeightId> ListWeights(const ModelConfig& config);

class WeightView {
 public:
  // kDataCorrupt / kNotFound / kUnsupported name the tensor: one that is missing or has another
  // shape than the config asks for, or one inside a layer that this architecture does not know
  // (ignoring it would compute something else than the model).
  static Result<WeightView> FromGguf(GgufFile file, const ModelConfig& config);
  static Result<WeightView> FromSafetensors(SafetensorsFiles files, const ModelConfig& config);
  // Random bf16 weights of plausible size, norms of 1; every tensor shares one block of memory.
  static Result<WeightView> MakeDummy(const ModelConfig& config);

  Result<kernels::StoredTensor> Get(WeightRole role, int layer = -1) const;
  // As the file names it, for messages: "blk.3.attn_q.weight".
  std::string NameOf(WeightRole role, int layer) const;

 private:
  explicit WeightView(const ModelConfig& config) : config_(config) {}
  Status CheckNames(const std::vector<std::string>& names) const;
  kernels::StoredTensor Dummy(WeightRole role, int64_t rows, int64_t cols) const;

  ModelConfig config_;
  std::optional<GgufFile> gguf_;
  std::optional<SafetensorsFiles> safetensors_;
  std::shared_ptr<const std::vector<uint16_t>> dummy_;  // bf16
};

}  // namespace baton::model
