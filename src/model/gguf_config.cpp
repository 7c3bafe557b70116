// GGUF metadata to ModelConfig (key names: specs/engine.md 3.3). What metadata does not say (tied
// head, biases) is read off the tensor table.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "model/gguf.h"
#include "model/text.h"

namespace baton::model {
namespace {

constexpr std::string_view kSource = "GGUF metadata";

struct Architecture {
  std::string_view name, class_name;
  bool interleaved_rope;  // rows of q and k were permuted by the converter
  bool qk_norm;
};
constexpr std::array kArchitectures = {Architecture{"llama", "LlamaForCausalLM", true, false},
                                       Architecture{"qwen2", "Qwen2ForCausalLM", false, false},
                                       Architecture{"qwen3", "Qwen3ForCausalLM", false, true}};

// Reads keys of "<architecture>.*". Keeps the first failure.
class Reader {
 public:
  Reader(const GgufFile& file, std::string_view architecture)
      : file_(file), prefix_(std::string(architecture) + ".") {}

  int Int(std::string_view key, std::optional<int> otherwise = {}) {
    return FullInt(prefix_ + std::string(key), otherwise);
  }
  int FullInt(const std::string& key, std::optional<int> otherwise) {
    if (!file_.Has(key) && otherwise) return *otherwise;
    const auto value = file_.GetUint(key);
    if (!value.ok()) return Fail(value.status());
    if (*value > static_cast<uint64_t>(std::numeric_limits<int>::max())) {
      return Fail(
          Error(Code::kInvalidArgument, "GGUF key {} is {}: too large", Quote(key), *value));
    }
    return static_cast<int>(*value);
  }
  // A number for all layers, or one per layer that must all be the same.
  int PerLayerInt(std::string_view key, std::optional<int> otherwise) {
    const std::string name = prefix_ + std::string(key);
    if (!file_.FindArray(name)) return Int(key, otherwise);
    const auto values = file_.GetInts(name);
    if (!values.ok()) return Fail(values.status());
    const bool same =
        !values->empty() && std::all_of(values->begin(), values->end(),
                                        [&](int64_t v) { return v == values->front(); });
    if (!same || values->front() < 0 || values->front() > std::numeric_limits<int>::max()) {
      return Fail(
          Error(Code::kUnsupported, "GGUF key {} differs from layer to layer", Quote(name)));
    }
    return static_cast<int>(values->front());
  }
  double Number(std::string_view key, std::optional<double> otherwise = {}) {
    const std::string name = prefix_ + std::string(key);
    if (!file_.Has(name) && otherwise) return *otherwise;
    const auto value = file_.GetDouble(name);
    return value.ok() ? *value : Fail(value.status());
  }
  std::string String(std::string_view key, std::string_view otherwise) {
    const std::string name = prefix_ + std::string(key);
    if (!file_.Has(name)) return std::string(otherwise);
    auto value = file_.GetString(name);
    if (value.ok()) return *value;
    Fail(value.status());
    return "";
  }
  bool Has(std::string_view key) const { return file_.Has(prefix_ + std::string(key)); }

  int Fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
    return 0;
  }
  const Status& status() const { return status_; }

 private:
  const GgufFile& file_;
  std::string prefix_;
  Status status_;
};

void ReadRope(Reader& reader, ModelConfig* out) {
  RopeConfig& rope = out->rope;
  rope.theta = reader.Number("rope.freq_base", 10000.0);
  std::string type = reader.String("rope.scaling.type", "none");
  if (type == "none" && reader.Has("rope.scale_linear")) type = "linear";  // before 2024
  rope.original_context = reader.Int("rope.scaling.original_context_length", out->context_length);
  if (type == "none") return;
  rope.factor = reader.Number("rope.scaling.factor", reader.Number("rope.scale_linear", 1.0));
  if (type == "linear") {
    rope.scaling = RopeConfig::Scaling::kLinear;
  } else if (type == "yarn") {
    rope.scaling = RopeConfig::Scaling::kYarn;
    rope.beta_fast = reader.Number("rope.scaling.yarn_beta_fast", 32.0);
    rope.beta_slow = reader.Number("rope.scaling.yarn_beta_slow", 1.0);
    if (reader.Has("rope.scaling.attn_factor")) {
      rope.attention_factor = reader.Number("rope.scaling.attn_factor");
    }
  } else {
    reader.Fail(Error(Code::kUnsupported,
                      "GGUF rope.scaling.type {}; supported are none, linear and "
                      "yarn (llama3's factors come as rope_freqs.weight)",
                      Quote(type)));
  }
}

// rope_freqs.weight, when there: one divisor per rotated pair.
Status ReadFrequencyFactors(const GgufFile& file, ModelConfig* out) {
  constexpr std::string_view kName = "rope_freqs.weight";
  if (file.tensors().find(kName) == file.tensors().end()) return Status::Ok();
  const auto tensor = file.Tensor(kName);
  if (!tensor.ok()) return tensor.status();
  if (tensor->dtype != kernels::DType::kF32 || tensor->rows != 1 ||
      tensor->cols != out->rotary_dim / 2) {
    return Error(Code::kDataCorrupt, "{} must be {} F32 values, one per rotated pair", kName,
                 out->rotary_dim / 2);
  }
  out->rope.frequency_factors.resize(tensor->cols);
  std::memcpy(out->rope.frequency_factors.data(), tensor->data, tensor->cols * sizeof(float));
  return Status::Ok();
}

int ReadVocabulary(const GgufFile& file, Reader& reader) {
  const auto embedding = file.tensors().find("token_embd.weight");
  if (embedding != file.tensors().end() && embedding->second.dims.size() == 2) {
    const uint64_t rows = embedding->second.dims[1];
    return rows <= static_cast<uint64_t>(std::numeric_limits<int>::max()) ? static_cast<int>(rows)
                                                                          : 0;
  }
  if (reader.Has("vocab_size")) return reader.Int("vocab_size");
  const GgufArray* tokens = file.FindArray("tokenizer.ggml.tokens");
  return tokens ? static_cast<int>(std::min<uint64_t>(tokens->count, 1 << 30)) : 0;
}

void ReadTokenIds(const GgufFile& file, Reader& reader, ModelConfig* out) {
  if (file.Has("tokenizer.ggml.bos_token_id")) {
    out->bos_id = reader.FullInt("tokenizer.ggml.bos_token_id", {});
  }
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    if (!file.Has(key)) continue;
    const int id = reader.FullInt(key, {});
    if (std::find(out->eos_ids.begin(), out->eos_ids.end(), id) == out->eos_ids.end()) {
      out->eos_ids.push_back(id);
    }
  }
}

void RefuseOtherFeatures(Reader& reader, const ModelConfig& config) {
  if (reader.Int("expert_count", 0) > 0) {
    reader.Fail(Error(Code::kUnsupported, "a {} with experts (mixture of experts) is not supported",
                      config.architecture));
  }
  const int window = reader.PerLayerInt("attention.sliding_window", 0);
  if (window > 0 && window < config.context_length) {
    reader.Fail(Error(Code::kUnsupported,
                      "sliding window attention ({} tokens) is not supported for "
                      "{}",
                      window, config.architecture));
  }
  const int value_length = reader.Int("attention.value_length", config.head_dim);
  if (value_length != config.head_dim) {
    reader.Fail(Error(Code::kUnsupported, "value heads of {} beside key heads of {}", value_length,
                      config.head_dim));
  }
}

}  // namespace

Result<ModelConfig> ConfigFromGguf(const GgufFile& file) {
  const auto name = file.GetString("general.architecture");
  if (!name.ok()) return name.status();
  const auto known = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                                  [&](const Architecture& a) { return a.name == *name; });
  if (known == kArchitectures.end()) return UnsupportedArchitecture(*name);

  Reader reader(file, *name);
  ModelConfig out;
  out.architecture = *name;
  out.hf_architecture = std::string(known->class_name);
  out.interleaved_rope = known->interleaved_rope;
  out.qk_norm = known->qk_norm;
  out.layers = reader.Int("block_count");
  out.hidden = reader.Int("embedding_length");
  out.ffn = reader.PerLayerInt("feed_forward_length", {});
  out.heads = reader.PerLayerInt("attention.head_count", {});
  out.kv_heads = reader.PerLayerInt("attention.head_count_kv", out.heads);
  out.head_dim = reader.Int("attention.key_length", out.heads > 0 ? out.hidden / out.heads : 0);
  out.rotary_dim = reader.Int("rope.dimension_count", out.head_dim);
  out.vocab = ReadVocabulary(file, reader);
  out.context_length = reader.Int("context_length");
  out.rms_eps = static_cast<float>(reader.Number("attention.layer_norm_rms_epsilon"));
  const auto has_tensor = [&](std::string_view tensor) {
    return file.tensors().find(tensor) != file.tensors().end();
  };
  out.tied_embeddings = !has_tensor("output.weight");
  out.attention_bias = has_tensor("blk.0.attn_q.bias");
  out.output_bias = has_tensor("blk.0.attn_output.bias");
  ReadRope(reader, &out);
  ReadTokenIds(file, reader, &out);
  RefuseOtherFeatures(reader, out);
  if (!reader.status().ok()) return reader.status();
  if (Status status = ReadFrequencyFactors(file, &out); !status.ok()) return status;
  if (Status status = CheckConfig(out, kSource); !status.ok()) return status;
  return out;
}

}  // namespace baton::model
