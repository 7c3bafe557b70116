// config.json of Hugging Face checkpoints. Reads what transformers 5 writes (`rope_parameters`) and
// what hub checkpoints older than that have (`rope_theta`, `rope_scaling`). A feature that this
// build would silently compute wrong (another activation, sliding windows, foreign quantisation)
// is refused by name.
#include <array>
#include <cmath>
#include <limits>

#include "model/config.h"
#include "model/text.h"

namespace baton::model {
namespace {

constexpr std::string_view kSource = "config.json";

struct Architecture {
  std::string_view model_type, class_name;
};
constexpr std::array kArchitectures = {Architecture{"llama", "LlamaForCausalLM"},
                                       Architecture{"qwen2", "Qwen2ForCausalLM"},
                                       Architecture{"qwen3", "Qwen3ForCausalLM"}};

// Typed reads of one JSON object. The first wrong one is kept, later reads give their defaults:
// check status() once at the end.
class Reader {
 public:
  Reader(const json::object& object, std::string path) : object_(object), path_(std::move(path)) {}

  int Int(std::string_view key, std::optional<int> otherwise = {}) {
    const json::value* v = Find(key, otherwise.has_value());
    if (!v) return otherwise.value_or(0);
    if (const int64_t* i = v->if_int64();
        i && *i >= std::numeric_limits<int>::min() && *i <= std::numeric_limits<int>::max()) {
      return static_cast<int>(*i);
    }
    Wrong(key, *v, "an integer of 32 bits");
    return 0;
  }
  double Number(std::string_view key, std::optional<double> otherwise = {}) {
    const json::value* v = Find(key, otherwise.has_value());
    if (!v) return otherwise.value_or(0);
    if (v->is_number()) return v->to_number<double>();
    Wrong(key, *v, "a number");
    return 0;
  }
  bool Bool(std::string_view key, bool otherwise) {
    const json::value* v = Find(key, true);
    if (!v) return otherwise;
    if (const bool* b = v->if_bool()) return *b;
    Wrong(key, *v, "a boolean");
    return otherwise;
  }
  std::string String(std::string_view key, std::string_view otherwise) {
    const json::value* v = Find(key, true);
    if (!v) return std::string(otherwise);
    if (const json::string* s = v->if_string()) return std::string(*s);
    Wrong(key, *v, "a string");
    return "";
  }
  const json::object* Object(std::string_view key) {
    const json::value* v = Find(key, true);
    if (!v) return nullptr;
    if (const json::object* o = v->if_object()) return o;
    Wrong(key, *v, "an object");
    return nullptr;
  }
  bool Has(std::string_view key) const { return json::Find(object_, key) != nullptr; }

  void Wrong(std::string_view key, const json::value& v, std::string_view wanted) {
    Fail(Code::kInvalidArgument,
         fmt::format("{}{} is {}, not {}", path_, key, json::KindName(v), wanted));
  }
  void Fail(Code code, const std::string& reason) {
    if (status_.ok()) status_ = Error(code, "{}: {}", kSource, reason);
  }
  const json::object& object() const { return object_; }
  const Status& status() const { return status_; }

 private:
  const json::value* Find(std::string_view key, bool optional) {
    const json::value* v = json::Find(object_, key);
    if (!v && !optional) Fail(Code::kInvalidArgument, fmt::format("{}{} is missing", path_, key));
    return v;
  }

  const json::object& object_;
  std::string path_;
  Status status_;
};

Result<Architecture> FindArchitecture(Reader& reader) {
  const std::string type = reader.String("model_type", "");
  std::string name = type;
  if (const json::value* list = json::Find(reader.object(), "architectures")) {
    const json::array* names = list->if_array();
    if (!names || (!names->empty() && !names->front().is_string())) {
      reader.Wrong("architectures", *list, "a list of strings");
    } else if (!names->empty()) {
      name = std::string(names->front().as_string());
    }
  }
  if (!reader.status().ok()) return reader.status();
  if (name.empty()) {
    return Error(Code::kInvalidArgument, "{}: neither architectures nor model_type is given",
                 kSource);
  }
  for (const Architecture& known : kArchitectures) {
    if (name == known.class_name || name == known.model_type) return known;
  }
  return UnsupportedArchitecture(name);
}

// `rope` is rope_parameters, rope_scaling, or empty; `config` the whole file.
Status ReadRopeScaling(Reader& config, const json::object& object, ModelConfig* out) {
  Reader rope(object, "rope_parameters.");
  RopeConfig& r = out->rope;
  r.theta = rope.Number("rope_theta", config.Number("rope_theta", 10000.0));
  const std::string type = rope.String("rope_type", rope.String("type", "default"));
  if (type == "default") {
    r.scaling = RopeConfig::Scaling::kNone;
  } else if (type == "linear") {
    r.scaling = RopeConfig::Scaling::kLinear;
  } else if (type == "llama3") {
    r.scaling = RopeConfig::Scaling::kLlama3;
  } else if (type == "yarn") {
    r.scaling = RopeConfig::Scaling::kYarn;
  } else {
    rope.Fail(Code::kUnsupported,
              "rope_type " + Quote(type) + "; supported are default, linear, llama3 and yarn");
  }
  // A file's own top-level value goes first (Phi-3 and kin), then the model's context.
  r.original_context =
      config.Int("original_max_position_embeddings",
                 rope.Int("original_max_position_embeddings", out->context_length));
  if (r.scaling == RopeConfig::Scaling::kYarn && !rope.Has("factor") && r.original_context > 0) {
    r.factor = static_cast<double>(out->context_length) / r.original_context;
  } else if (r.scaling != RopeConfig::Scaling::kNone) {
    r.factor = rope.Number("factor");
  }
  if (r.scaling == RopeConfig::Scaling::kLlama3) {
    r.low_freq_factor = rope.Number("low_freq_factor");
    r.high_freq_factor = rope.Number("high_freq_factor");
  }
  if (r.scaling == RopeConfig::Scaling::kYarn) {
    r.beta_fast = rope.Number("beta_fast", 32.0);
    r.beta_slow = rope.Number("beta_slow", 1.0);
    if (rope.Has("attention_factor")) r.attention_factor = rope.Number("attention_factor");
    r.mscale = rope.Number("mscale", 0.0);
    r.mscale_all_dim = rope.Number("mscale_all_dim", 0.0);
    r.truncate = rope.Bool("truncate", true);
  }
  const double partial =
      rope.Number("partial_rotary_factor", config.Number("partial_rotary_factor", 1.0));
  out->rotary_dim = partial > 0 && partial <= 1 ? static_cast<int>(out->head_dim * partial) : 0;
  return rope.status();
}

Status ReadRope(Reader& config, ModelConfig* out) {
  const json::object* rope = config.Object("rope_parameters");
  if (!rope) rope = config.Object("rope_scaling");
  if (!config.status().ok()) return config.status();
  const json::object none;
  return ReadRopeScaling(config, rope ? *rope : none, out);
}

void ReadTokenIds(Reader& config, ModelConfig* out) {
  if (config.Has("bos_token_id")) out->bos_id = config.Int("bos_token_id");
  const json::value* eos = json::Find(config.object(), "eos_token_id");
  if (!eos) return;
  if (const json::array* list = eos->if_array()) {
    for (const json::value& id : *list) {
      const int64_t* i = id.if_int64();
      if (!i || *i < 0 || *i > std::numeric_limits<int32_t>::max()) {
        return config.Wrong("eos_token_id", id, "a token id");
      }
      out->eos_ids.push_back(static_cast<int32_t>(*i));
    }
  } else {
    out->eos_ids.push_back(config.Int("eos_token_id"));
  }
}

// What would otherwise run and give wrong numbers.
void RefuseOtherFeatures(Reader& config) {
  const std::string activation = config.String("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    config.Fail(Code::kUnsupported, "hidden_act " + Quote(activation) + "; silu is supported");
  }
  if (config.Bool("mlp_bias", false)) config.Fail(Code::kUnsupported, "mlp_bias is true");
  if (config.Bool("use_sliding_window", false)) {
    config.Fail(Code::kUnsupported, "use_sliding_window is true; only full attention is supported");
  }
  if (const json::object* quantization = config.Object("quantization_config")) {
    const json::value* method = json::Find(*quantization, "quant_method");
    const std::string name = method && method->is_string() ? std::string(method->as_string()) : "";
    if (name != "fp8") {
      config.Fail(Code::kUnsupported, "quantization_config.quant_method " + Quote(name) +
                                          "; supported is fp8 with weight_block_size [128, 128]");
    }
    const json::value* block = json::Find(*quantization, "weight_block_size");
    if (!block || *block != json::value(json::array{128, 128})) {
      config.Fail(Code::kUnsupported, "quantization_config.weight_block_size must be [128, 128]");
    }
  }
}

}  // namespace

Result<ModelConfig> ConfigFromHf(const json::object& object) {
  Reader config(object, "");
  const auto architecture = FindArchitecture(config);
  if (!architecture.ok()) return architecture.status();

  ModelConfig out;
  out.architecture = std::string(architecture->model_type);
  out.hf_architecture = std::string(architecture->class_name);
  out.layers = config.Int("num_hidden_layers");
  out.hidden = config.Int("hidden_size");
  out.ffn = config.Int("intermediate_size");
  out.heads = config.Int("num_attention_heads");
  out.kv_heads = config.Int("num_key_value_heads", out.heads);
  const int usual_head_dim = out.heads > 0 ? out.hidden / out.heads : 0;
  out.head_dim = config.Int("head_dim", out.architecture == "qwen3" ? 128 : usual_head_dim);
  out.vocab = config.Int("vocab_size");
  out.context_length = config.Int("max_position_embeddings");
  out.rms_eps = static_cast<float>(config.Number("rms_norm_eps", 1e-6));
  out.tied_embeddings = config.Bool("tie_word_embeddings", false);
  // Llama's and qwen3's attention_bias covers the output projection; qwen2 always has q, k, v only.
  out.attention_bias = architecture->model_type == "qwen2" || config.Bool("attention_bias", false);
  out.output_bias = architecture->model_type != "qwen2" && out.attention_bias;
  out.qk_norm = architecture->model_type == "qwen3";
  const Status rope = ReadRope(config, &out);
  ReadTokenIds(config, &out);
  RefuseOtherFeatures(config);
  if (!config.status().ok()) return config.status();
  if (!rope.ok()) return rope;
  if (Status status = CheckConfig(out, kSource); !status.ok()) return status;
  return out;
}

}  // namespace baton::model
