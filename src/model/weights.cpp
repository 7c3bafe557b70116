#include "model/weights.h"

#include <algorithm>
#include <array>
#include <new>
#include <set>

#include "common/half.h"
#include "model/text.h"

namespace baton::model {
namespace {

using kernels::StoredTensor;

// Where a role lies in either naming (specs/engine.md 1.6 and 3.3). Names of layers follow
// "blk.N." and "model.layers.N.".
struct RoleNames {
  WeightRole role;
  bool in_layer;
  std::string_view gguf, hf;
};
constexpr std::array kNames = {
    RoleNames{WeightRole::kEmbedding, false, "token_embd.weight", "model.embed_tokens.weight"},
    RoleNames{WeightRole::kOutputNorm, false, "output_norm.weight", "model.norm.weight"},
    RoleNames{WeightRole::kHead, false, "output.weight", "lm_head.weight"},
    RoleNames{WeightRole::kAttentionNorm, true, "attn_norm.weight", "input_layernorm.weight"},
    RoleNames{WeightRole::kQ, true, "attn_q.weight", "self_attn.q_proj.weight"},
    RoleNames{WeightRole::kK, true, "attn_k.weight", "self_attn.k_proj.weight"},
    RoleNames{WeightRole::kV, true, "attn_v.weight", "self_attn.v_proj.weight"},
    RoleNames{WeightRole::kO, true, "attn_output.weight", "self_attn.o_proj.weight"},
    RoleNames{WeightRole::kFfnNorm, true, "ffn_norm.weight", "post_attention_layernorm.weight"},
    RoleNames{WeightRole::kGate, true, "ffn_gate.weight", "mlp.gate_proj.weight"},
    RoleNames{WeightRole::kUp, true, "ffn_up.weight", "mlp.up_proj.weight"},
    RoleNames{WeightRole::kDown, true, "ffn_down.weight", "mlp.down_proj.weight"},
    RoleNames{WeightRole::kQBias, true, "attn_q.bias", "self_attn.q_proj.bias"},
    RoleNames{WeightRole::kKBias, true, "attn_k.bias", "self_attn.k_proj.bias"},
    RoleNames{WeightRole::kVBias, true, "attn_v.bias", "self_attn.v_proj.bias"},
    RoleNames{WeightRole::kOBias, true, "attn_output.bias", "self_attn.o_proj.bias"},
    RoleNames{WeightRole::kQNorm, true, "attn_q_norm.weight", "self_attn.q_norm.weight"},
    RoleNames{WeightRole::kKNorm, true, "attn_k_norm.weight", "self_attn.k_norm.weight"},
};

const RoleNames& NamesOf(WeightRole role) {
  const auto found = std::find_if(kNames.begin(), kNames.end(),
                                  [role](const RoleNames& n) { return n.role == role; });
  BATON_CHECK(found != kNames.end(), "role {}", static_cast<int>(role));
  return *found;
}

bool IsUsed(WeightRole role, const ModelConfig& c) {
  switch (role) {
    case WeightRole::kHead:
      return !c.tied_embeddings;
    case WeightRole::kQBias:
    case WeightRole::kKBias:
    case WeightRole::kVBias:
      return c.attention_bias;
    case WeightRole::kOBias:
      return c.output_bias;
    case WeightRole::kQNorm:
    case WeightRole::kKNorm:
      return c.qk_norm;
    default:
      return true;
  }
}

struct Shape {
  int64_t rows, cols;
};

// Matrices [outputs, inputs]; vectors are one row.
Shape ShapeOf(WeightRole role, const ModelConfig& c) {
  const int64_t q = int64_t{c.heads} * c.head_dim, kv = int64_t{c.kv_heads} * c.head_dim;
  switch (role) {
    case WeightRole::kEmbedding:
    case WeightRole::kHead:
      return {c.vocab, c.hidden};
    case WeightRole::kOutputNorm:
    case WeightRole::kAttentionNorm:
    case WeightRole::kFfnNorm:
    case WeightRole::kOBias:
      return {1, c.hidden};
    case WeightRole::kQ:
      return {q, c.hidden};
    case WeightRole::kK:
    case WeightRole::kV:
      return {kv, c.hidden};
    case WeightRole::kO:
      return {c.hidden, q};
    case WeightRole::kGate:
    case WeightRole::kUp:
      return {c.ffn, c.hidden};
    case WeightRole::kDown:
      return {c.hidden, c.ffn};
    case WeightRole::kQBias:
      return {1, q};
    case WeightRole::kKBias:
    case WeightRole::kVBias:
      return {1, kv};
    case WeightRole::kQNorm:
    case WeightRole::kKNorm:
      return {1, c.head_dim};
  }
  return {0, 0};
}

// Tensors that files carry and no forward pass reads, or that are read with their weight.
bool IsHarmless(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq") || name.ends_with("_scale_inv") ||
         name.ends_with(".attn_rot_embd.weight");
}

template <typename Map>
std::vector<std::string> KeysOf(const Map& map) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : map) keys.push_back(key);
  return keys;
}

}  // namespace

std::vector<WeightId> ListWeights(const ModelConfig& config) {
  std::vector<WeightId> out;
  for (const RoleNames& names : kNames) {
    if (!names.in_layer && IsUsed(names.role, config)) out.push_back({names.role, -1});
  }
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const RoleNames& names : kNames) {
      if (names.in_layer && IsUsed(names.role, config)) out.push_back({names.role, layer});
    }
  }
  return out;
}

Result<WeightView> WeightView::FromGguf(GgufFile file, const ModelConfig& config) {
  WeightView view(config);
  view.gguf_ = std::move(file);
  if (Status status = view.CheckNames(KeysOf(view.gguf_->tensors())); !status.ok()) return status;
  return view;
}

Result<WeightView> WeightView::FromSafetensors(SafetensorsFiles files, const ModelConfig& config) {
  WeightView view(config);
  view.safetensors_ = std::move(files);
  if (Status status = view.CheckNames(KeysOf(view.safetensors_->tensors())); !status.ok())
    return status;
  return view;
}

std::string WeightView::NameOf(WeightRole role, int layer) const {
  const RoleNames& names = NamesOf(role);
  const std::string_view name = gguf_ ? names.gguf : names.hf;
  if (!names.in_layer) return std::string(name);
  return fmt::format("{}{}.{}", gguf_ ? "blk." : "model.layers.", layer, name);
}

Status WeightView::CheckNames(const std::vector<std::string>& names) const {
  std::set<std::string> known;
  for (const WeightId& id : ListWeights(config_)) known.insert(NameOf(id.role, id.layer));
  const std::string_view layer_prefix = gguf_ ? "blk." : "model.layers.";
  for (const std::string& name : names) {
    if (!name.starts_with(layer_prefix) || known.contains(name) || IsHarmless(name)) continue;
    return Error(Code::kUnsupported,
                 "tensor {} has no place in a {} model of {} layers as its config describes it; "
                 "leaving it out would give wrong results",
                 Quote(name), config_.architecture, config_.layers);
  }
  return Status::Ok();
}

Result<StoredTensor> WeightView::Get(WeightRole role, int layer) const {
  const Shape want = ShapeOf(role, config_);
  if (dummy_) return Dummy(role, want.rows, want.cols);
  const std::string name = NameOf(role, layer);
  auto tensor = gguf_ ? gguf_->Tensor(name) : safetensors_->Tensor(name);
  if (!tensor.ok()) return tensor.status();
  if (tensor->rows != want.rows || tensor->cols != want.cols) {
    return Error(
        Code::kDataCorrupt,
        "tensor {} is [{}, {}], but the config asks for [{}, {}] (hidden {}, ffn {}, heads {} "
        "and {} for KV of {}, vocabulary {})",
        Quote(name), tensor->rows, tensor->cols, want.rows, want.cols, config_.hidden, config_.ffn,
        config_.heads, config_.kv_heads, config_.head_dim, config_.vocab);
  }
  return tensor;
}

Result<WeightView> WeightView::MakeDummy(const ModelConfig& config) {
  WeightView view(config);
  int64_t most = 0;
  for (const WeightId& id : ListWeights(config)) {
    const Shape shape = ShapeOf(id.role, config);
    most = std::max(most, shape.rows * shape.cols);
  }
  constexpr int64_t kMostElements = int64_t{1} << 32;  // 8 GiB
  if (most > kMostElements) {
    return Error(Code::kInvalidArgument, "a weight of {} elements is too large to make up", most);
  }
  // Uniform in +-0.035: the spread (0.02) that models are commonly initialised with, so that
  // activations stay finite through any number of layers. A xorshift generator: 16 GB models must
  // not wait for their noise.
  std::shared_ptr<std::vector<uint16_t>> noise;
  try {
    noise = std::make_shared<std::vector<uint16_t>>(most);
  } catch (const std::bad_alloc&) {
    return Error(Code::kResourceExhausted, "no memory for a dummy weight of {} elements", most);
  }
  uint64_t state = 0x9e3779b97f4a7c15;
  for (uint16_t& value : *noise) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    value =
        ToBFloat16(static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f * 0.035f).bits;
  }
  view.dummy_ = std::move(noise);
  return view;
}

StoredTensor WeightView::Dummy(WeightRole role, int64_t rows, int64_t cols) const {
  static const std::vector<uint16_t> kOnes(1 << 20, ToBFloat16(1.0f).bits);
  const std::string_view name = NamesOf(role).hf;
  const bool norm = name.ends_with("norm.weight");
  StoredTensor out{.dtype = kernels::DType::kBF16, .rows = rows, .cols = cols};
  out.data = reinterpret_cast<const std::byte*>(norm ? kOnes.data() : dummy_->data());
  return out;
}

}  // namespace baton::model
