// What a model is made of, whichever file it came from: Hugging Face config.json (transformers 5
// `rope_parameters` and the older `rope_theta` / `rope_scaling`) or GGUF metadata.
//
// A ModelConfig that a reader returned has passed CheckConfig: sizes are positive, fit each other
// and are small enough that products of any two of them fit in int64 and heads * head_dim in int.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/json.h"
#include "common/status.h"

namespace baton::model {

struct RopeConfig {
  enum class Scaling : uint8_t { kNone, kLinear, kLlama3, kYarn };
  double theta = 10000;
  Scaling scaling = Scaling::kNone;
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  // yarn's magnitude: given, or from mscale / mscale_all_dim (0: absent), or from factor.
  std::optional<double> attention_factor;
  double mscale = 0, mscale_all_dim = 0;
  bool truncate = true;  // yarn: round the ramp's ends to whole pairs
  int original_context = 0;
  // GGUF may carry llama3's factors as a tensor; when set (rotary_dim/2) they divide the
  // frequencies.
  std::vector<float> frequency_factors;
};

struct ModelConfig {
  std::string architecture;     // "llama", "qwen2", "qwen3" (later "gemma3", "deepseek_v3" ...)
  std::string hf_architecture;  // "LlamaForCausalLM": /model_info
  int layers = 0;
  int hidden = 0;
  int ffn = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;  // the first rotary_dim of each head turn; even, usually head_dim
  int vocab = 0;
  int context_length = 0;
  float rms_eps = 1e-5f;
  bool tied_embeddings = false;
  bool attention_bias = false;    // q, k, v have biases
  bool output_bias = false;       // the attention's output projection has one
  bool qk_norm = false;           // RMSNorm of each head of q and k before RoPE (qwen3)
  bool interleaved_rope = false;  // GGUF llama rows are permuted for pairs (2i, 2i+1)
  RopeConfig rope;
  std::optional<int32_t> bos_id;
  std::vector<int32_t> eos_ids;
};

// kInvalidArgument / kUnsupported name the key and the value. Every size is checked for range, so
// that products of them cannot overflow.
Result<ModelConfig> ConfigFromHf(const json::object& config);

// The limits promised above; both readers end with it. Messages say `source` ("config.json").
Status CheckConfig(const ModelConfig& config, std::string_view source);

// kUnsupported: names `architecture` and lists what this build runs.
Status UnsupportedArchitecture(std::string_view architecture);

// Inverse frequencies [rotary_dim/2] with scaling applied, and the magnitude that yarn multiplies
// cos and sin with (1 otherwise).
struct RopeFrequencies {
  std::vector<float> inv_freq;
  float magnitude = 1;
};
RopeFrequencies ComputeRope(const RopeConfig& rope, int rotary_dim);

}  // namespace baton::model
