#include "model/config.h"

#include <cmath>

#include "model/text.h"

namespace baton::model {
namespace {

struct SizeRule {
  std::string_view name;
  int ModelConfig::*size;
  int most;
};
// Generous next to any published model, and small enough for the products named in config.h.
constexpr SizeRule kSizes[] = {
    {"layer count", &ModelConfig::layers, 1 << 12},
    {"hidden size", &ModelConfig::hidden, 1 << 20},
    {"feed-forward size", &ModelConfig::ffn, 1 << 22},
    {"head count", &ModelConfig::heads, 1 << 12},
    {"KV head count", &ModelConfig::kv_heads, 1 << 12},
    {"head size", &ModelConfig::head_dim, 1 << 12},
    {"rotary size", &ModelConfig::rotary_dim, 1 << 12},
    {"vocabulary size", &ModelConfig::vocab, 1 << 24},
    {"context length", &ModelConfig::context_length, 1 << 30},
};

bool IsPositive(double v) {
  return std::isfinite(v) && v > 0;
}

Status CheckRope(const RopeConfig& rope, int rotary_dim, std::string_view source) {
  using Scaling = RopeConfig::Scaling;
  const auto bad = [&](std::string_view what, double value) {
    return Error(Code::kInvalidArgument, "{}: RoPE {} of {} is impossible", source, what, value);
  };
  // At theta <= 1 frequencies would grow with the pair, and yarn divides by log(theta).
  if (!IsPositive(rope.theta) || rope.theta <= 1) return bad("theta", rope.theta);
  if (!IsPositive(rope.factor)) return bad("factor", rope.factor);
  if (!IsPositive(rope.beta_fast)) return bad("beta_fast", rope.beta_fast);
  if (!IsPositive(rope.beta_slow)) return bad("beta_slow", rope.beta_slow);
  if (!IsPositive(rope.low_freq_factor)) return bad("low_freq_factor", rope.low_freq_factor);
  if (!IsPositive(rope.high_freq_factor)) return bad("high_freq_factor", rope.high_freq_factor);
  if (!std::isfinite(rope.mscale) || rope.mscale < 0) return bad("mscale", rope.mscale);
  if (!std::isfinite(rope.mscale_all_dim) || rope.mscale_all_dim < 0) {
    return bad("mscale_all_dim", rope.mscale_all_dim);
  }
  if (rope.attention_factor && !IsPositive(*rope.attention_factor)) {
    return bad("attention_factor", *rope.attention_factor);
  }
  const bool needs_context = rope.scaling == Scaling::kLlama3 || rope.scaling == Scaling::kYarn;
  if (needs_context && rope.original_context <= 0) {
    return bad("original context length", rope.original_context);
  }
  if (rope.scaling == Scaling::kLlama3 && rope.high_freq_factor <= rope.low_freq_factor) {
    return bad("high_freq_factor (not above low_freq_factor)", rope.high_freq_factor);
  }
  if (!rope.frequency_factors.empty() &&
      rope.frequency_factors.size() != static_cast<size_t>(rotary_dim / 2)) {
    return bad("factor count", static_cast<double>(rope.frequency_factors.size()));
  }
  for (const float factor : rope.frequency_factors) {
    if (!IsPositive(factor)) return bad("frequency factor", factor);
  }
  return Status::Ok();
}

}  // namespace

Status CheckConfig(const ModelConfig& config, std::string_view source) {
  for (const SizeRule& rule : kSizes) {
    const int size = config.*rule.size;
    if (size < 1 || size > rule.most) {
      return Error(Code::kInvalidArgument, "{}: {} is {}, possible are 1 to {}", source, rule.name,
                   size, rule.most);
    }
  }
  if (config.heads % config.kv_heads != 0) {
    return Error(Code::kInvalidArgument, "{}: {} heads cannot share {} KV heads evenly", source,
                 config.heads, config.kv_heads);
  }
  if (config.rotary_dim % 2 != 0 || config.rotary_dim > config.head_dim) {
    return Error(Code::kInvalidArgument,
                 "{}: rotary size {} must be even and at most the head size {}", source,
                 config.rotary_dim, config.head_dim);
  }
  if (!IsPositive(config.rms_eps) || config.rms_eps > 1) {
    return Error(Code::kInvalidArgument, "{}: RMSNorm epsilon {} is impossible", source,
                 config.rms_eps);
  }
  for (const int32_t id : config.eos_ids) {
    if (id < 0 || id >= config.vocab) {
      return Error(Code::kInvalidArgument, "{}: end token {} is outside of the vocabulary of {}",
                   source, id, config.vocab);
    }
  }
  if (config.bos_id && (*config.bos_id < 0 || *config.bos_id >= config.vocab)) {
    return Error(Code::kInvalidArgument, "{}: start token {} is outside of the vocabulary of {}",
                 source, *config.bos_id, config.vocab);
  }
  return CheckRope(config.rope, config.rotary_dim, source);
}

Status UnsupportedArchitecture(std::string_view architecture) {
  return Error(Code::kUnsupported,
               "architecture {} is not supported; supported are llama (LlamaForCausalLM), qwen2 "
               "(Qwen2ForCausalLM) and qwen3 (Qwen3ForCausalLM)",
               Quote(architecture));
}

}  // namespace baton::model
