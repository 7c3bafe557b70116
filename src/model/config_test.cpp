// Configs from both file formats: what is read, and that impossible or unsupported ones are
// refused by name. Rotary frequencies against transformers (tests/golden/rope).
#include <gmock/gmock.h>

#include "model/gguf.h"
#include "model/model_harness.h"
#include "model/test_files.h"

namespace baton::model {
namespace {

using testing::HasSubstr;
using Scaling = RopeConfig::Scaling;

constexpr char kLlama[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
  "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
  "num_hidden_layers": 3, "vocab_size": 100, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "hidden_act": "silu",
  "bos_token_id": 1, "eos_token_id": [2, 3], "tie_word_embeddings": false})";

// kLlama with the fields of `change` (an object as text) set; null removes.
Result<ModelConfig> Changed(std::string_view change) {
  json::object config = json::Parse(kLlama)->as_object();
  const json::value changes = *json::Parse(change);
  for (const auto& [key, value] : changes.as_object()) config[key] = value;
  return ConfigFromHf(config);
}

TEST(HfConfig, ReadsLlama) {
  const auto c = Changed("{}");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->architecture, "llama");
  EXPECT_EQ(c->hf_architecture, "LlamaForCausalLM");
  EXPECT_EQ(c->layers, 3);
  EXPECT_EQ(c->hidden, 64);
  EXPECT_EQ(c->ffn, 96);
  EXPECT_EQ(c->heads, 4);
  EXPECT_EQ(c->kv_heads, 2);
  EXPECT_EQ(c->head_dim, 16);
  EXPECT_EQ(c->rotary_dim, 16);
  EXPECT_EQ(c->vocab, 100);
  EXPECT_EQ(c->context_length, 2048);
  EXPECT_FALSE(c->tied_embeddings || c->attention_bias || c->qk_norm || c->interleaved_rope);
  EXPECT_EQ(c->bos_id, 1);
  EXPECT_EQ(c->eos_ids, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(c->rope.theta, 10000);
  EXPECT_EQ(c->rope.scaling, Scaling::kNone);
}

TEST(HfConfig, ReadsVariants) {
  EXPECT_EQ(Changed(R"({"num_key_value_heads": null})")->kv_heads, 4);
  EXPECT_EQ(Changed(R"({"head_dim": 32})")->head_dim, 32);
  EXPECT_EQ(Changed(R"({"eos_token_id": 7})")->eos_ids, std::vector<int32_t>{7});
  EXPECT_TRUE(Changed(R"({"eos_token_id": null})")->eos_ids.empty());
  EXPECT_FALSE(Changed(R"({"bos_token_id": null})")->bos_id.has_value());
  EXPECT_TRUE(Changed(R"({"tie_word_embeddings": true})")->tied_embeddings);
  EXPECT_EQ(Changed(R"({"partial_rotary_factor": 0.5})")->rotary_dim, 8);
  EXPECT_EQ(Changed(R"({"architectures": null})")->architecture, "llama");

  const auto biased = Changed(R"({"attention_bias": true})");
  EXPECT_TRUE(biased->attention_bias && biased->output_bias);
  const auto qwen2 = Changed(R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"})");
  EXPECT_TRUE(qwen2->attention_bias && !qwen2->output_bias && !qwen2->qk_norm);
  const auto qwen3 = Changed(R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"})");
  EXPECT_TRUE(qwen3->qk_norm && !qwen3->attention_bias);
  EXPECT_EQ(qwen3->head_dim, 128);
  const auto fp8 = Changed(
      R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})");
  EXPECT_TRUE(fp8.ok()) << fp8.status().message();
}

TEST(HfConfig, ReadsRopeOfOldAndNewFiles) {
  const auto old =
      Changed(R"({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}})");
  const auto recent =
      Changed(R"({"rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}})");
  for (const auto* c : {&old, &recent}) {
    ASSERT_TRUE(c->ok()) << c->status().message();
    EXPECT_EQ((*c)->rope.theta, 500000);
    EXPECT_EQ((*c)->rope.scaling, Scaling::kLlama3);
    EXPECT_EQ((*c)->rope.factor, 8);
    EXPECT_EQ((*c)->rope.original_context, 512);
  }
  const auto oldest = Changed(R"({"rope_scaling": {"type": "linear", "factor": 2}})");
  EXPECT_EQ(oldest->rope.scaling, Scaling::kLinear);
  EXPECT_EQ(oldest->rope.factor, 2);
  EXPECT_EQ(
      Changed(R"({"rope_parameters": {"rope_theta": 7, "rope_type": "default"}})")->rope.theta, 7);
}

struct Bad {
  const char* change;
  Code code;
  const char* message;
};

TEST(HfConfig, RefusesByName) {
  constexpr Code kBad = Code::kInvalidArgument, kNo = Code::kUnsupported;
  const Bad cases[] = {
      {R"({"architectures": ["GPT2LMHeadModel"]})", kNo,
       "architecture 'GPT2LMHeadModel' is not supported; supported are llama"},
      {R"({"architectures": ["LlamaForSequenceClassification"]})", kNo,
       "'LlamaForSequenceClassification'"},
      {R"({"architectures": null, "model_type": "qwen3_moe"})", kNo, "'qwen3_moe'"},
      {R"({"architectures": null, "model_type": null})", kBad,
       "neither architectures nor model_type"},
      {R"({"architectures": [1]})", kBad, "architectures is an array, not a list of strings"},
      {R"({"hidden_size": null})", kBad, "config.json: hidden_size is missing"},
      {R"({"hidden_size": "64"})", kBad, "hidden_size is a string, not an integer"},
      {R"({"hidden_size": 64.5})", kBad, "hidden_size is a number, not an integer"},
      {R"({"hidden_size": 0})", kBad, "hidden size is 0"},
      {R"({"hidden_size": -64, "head_dim": 16})", kBad, "hidden size is -64"},
      {R"({"hidden_size": 4294967296})", kBad,
       "hidden_size is an integer, not an integer of 32 bits"},
      {R"({"num_hidden_layers": 2000000000})", kBad, "layer count is 2000000000"},
      {R"({"num_hidden_layers": 0})", kBad, "layer count is 0"},
      {R"({"intermediate_size": 2000000000})", kBad, "feed-forward size is"},
      {R"({"vocab_size": 2000000000})", kBad, "vocabulary size is"},
      {R"({"num_attention_heads": 0})", kBad, "head count is 0"},
      {R"({"num_key_value_heads": 3})", kBad, "4 heads cannot share 3 KV heads"},
      {R"({"num_key_value_heads": 0})", kBad, "KV head count is 0"},
      {R"({"num_key_value_heads": 8})", kBad, "4 heads cannot share 8 KV heads"},
      {R"({"head_dim": 15})", kBad, "rotary size 15 must be even"},
      {R"({"head_dim": 1000000})", kBad, "head size is 1000000"},
      {R"({"partial_rotary_factor": 2.0})", kBad, "rotary size is 0"},
      {R"({"max_position_embeddings": 0})", kBad, "context length is 0"},
      {R"({"rms_norm_eps": 0})", kBad, "RMSNorm epsilon"},
      {R"({"rms_norm_eps": 1e300})", kBad, "RMSNorm epsilon"},
      {R"({"eos_token_id": 100})", kBad, "end token 100 is outside of the vocabulary of 100"},
      {R"({"eos_token_id": [2, "x"]})", kBad, "eos_token_id is a string, not a token id"},
      {R"({"bos_token_id": -1})", kBad, "start token -1"},
      {R"({"tie_word_embeddings": 1})", kBad, "tie_word_embeddings is an integer, not a boolean"},
      {R"({"hidden_act": "gelu"})", kNo, "hidden_act 'gelu'"},
      {R"({"mlp_bias": true})", kNo, "mlp_bias"},
      {R"({"use_sliding_window": true})", kNo, "use_sliding_window"},
      {R"({"quantization_config": {"quant_method": "awq"}})", kNo, "quant_method 'awq'"},
      {R"({"quantization_config": {"quant_method": "fp8"}})", kNo, "weight_block_size"},
      {R"({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}})", kNo,
       "rope_type 'dynamic'"},
      {R"({"rope_parameters": {"rope_type": "longrope"}})", kNo,
       "rope_type 'longrope'; supported are"},
      {R"({"rope_parameters": {"rope_type": "linear"}})", kBad,
       "rope_parameters.factor is missing"},
      {R"({"rope_parameters": {"rope_type": "linear", "factor": 0}})", kBad, "RoPE factor of 0"},
      {R"({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}})", kBad,
       "low_freq_factor is missing"},
      {R"({"rope_parameters": {"rope_type": "llama3", "factor": 8,
                             "low_freq_factor": 4, "high_freq_factor": 4}})",
       kBad, "high_freq_factor (not above"},
      {R"({"rope_parameters": {"rope_type": "yarn", "factor": -1}})", kBad, "RoPE factor of -1"},
      {R"({"rope_parameters": {"rope_theta": 0}})", kBad, "RoPE theta of 0"},
      {R"({"rope_parameters": {"rope_theta": "x"}})", kBad,
       "rope_parameters.rope_theta is a string"},
      {R"({"rope_parameters": {"full_attention": {}}, "rope_theta": []})", kBad,
       "rope_theta is an array"},
      {R"({"rope_scaling": []})", kBad, "rope_scaling is an array, not an object"},
  };
  for (const Bad& bad : cases) {
    const auto c = Changed(bad.change);
    ASSERT_FALSE(c.ok()) << bad.change;
    EXPECT_EQ(c.status().code(), bad.code) << bad.change << ": " << c.status().message();
    EXPECT_THAT(c.status().message(), HasSubstr(bad.message)) << bad.change;
  }
}

// ---- GGUF --------------------------------------------------------------------------------------

GgufWriter GgufLlama() {
  GgufWriter w;
  w.String("general.architecture", "llama")
      .U32("llama.block_count", 3)
      .U32("llama.embedding_length", 64);
  w.U32("llama.feed_forward_length", 96).U32("llama.attention.head_count", 4);
  w.U32("llama.attention.head_count_kv", 2).U32("llama.context_length", 2048);
  w.F32("llama.attention.layer_norm_rms_epsilon", 1e-5f).U32("tokenizer.ggml.bos_token_id", 1);
  w.U32("tokenizer.ggml.eos_token_id", 2).U32("tokenizer.ggml.eot_token_id", 2);
  w.U32("tokenizer.ggml.eom_token_id", 5)
      .Strings("tokenizer.ggml.tokens", std::vector<std::string>(100));
  return w;
}

Result<ModelConfig> FromGguf(const GgufWriter& writer) {
  const std::string bytes = writer.Build();
  const auto file = GgufFile::Parse(AsBytes(bytes));
  EXPECT_TRUE(file.ok()) << file.status().message();
  return ConfigFromGguf(*file);
}

TEST(GgufConfig, ReadsLlama) {
  const auto c = FromGguf(GgufLlama());
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->hf_architecture, "LlamaForCausalLM");
  EXPECT_EQ(c->layers, 3);
  EXPECT_EQ(c->head_dim, 16);
  EXPECT_EQ(c->vocab, 100);
  EXPECT_TRUE(c->interleaved_rope && c->tied_embeddings && !c->attention_bias);
  EXPECT_EQ(c->bos_id, 1);
  EXPECT_EQ(c->eos_ids, (std::vector<int32_t>{2, 5}));
}

TEST(GgufConfig, ReadsRopeScaling) {
  auto linear = GgufLlama();
  linear.String("llama.rope.scaling.type", "linear").F32("llama.rope.scaling.factor", 4);
  EXPECT_EQ(FromGguf(linear)->rope.scaling, Scaling::kLinear);
  EXPECT_EQ(FromGguf(linear)->rope.factor, 4);
  auto yarn = GgufLlama();
  yarn.String("llama.rope.scaling.type", "yarn").F32("llama.rope.scaling.factor", 4);
  yarn.U32("llama.rope.scaling.original_context_length", 512).F32("llama.rope.freq_base", 1e6f);
  EXPECT_EQ(FromGguf(yarn)->rope.scaling, Scaling::kYarn);
  EXPECT_EQ(FromGguf(yarn)->rope.original_context, 512);
  EXPECT_EQ(FromGguf(yarn)->rope.theta, 1e6);
  auto factors = GgufLlama();
  std::string values;
  for (int i = 0; i < 8; ++i) values += Raw(1.0f + i);
  factors.Tensor("rope_freqs.weight", {8}, 0, values);
  EXPECT_EQ(FromGguf(factors)->rope.frequency_factors.at(7), 8.0f);
}

TEST(GgufConfig, RefusesByName) {
  struct Case {
    void (*change)(GgufWriter&);
    const char* message;
  };
  const Case cases[] = {
      {[](GgufWriter& w) { w.U32("llama.expert_count", 8); }, "experts"},
      {[](GgufWriter& w) { w.U32("llama.attention.sliding_window", 512); }, "sliding window"},
      {[](GgufWriter& w) { w.U32("llama.attention.value_length", 8); }, "value heads of 8"},
      {[](GgufWriter& w) { w.U32("llama.rope.dimension_count", 15); }, "rotary size 15"},
      {[](GgufWriter& w) { w.U32("llama.rope.dimension_count", 32); }, "rotary size 32"},
      {[](GgufWriter& w) { w.U32("llama.attention.key_length", 0); }, "head size is 0"},
      {[](GgufWriter& w) { w.Entry("llama.attention.key_length", 5, Raw(int32_t{-1})); },
       "'llama.attention.key_length' is an integer"},
      {[](GgufWriter& w) { w.Entry("llama.attention.key_length", 10, Raw(uint64_t{1} << 40)); },
       "too large"},
      {[](GgufWriter& w) { w.String("llama.rope.scaling.type", "longrope"); },
       "rope.scaling.type 'longrope'"},
      {[](GgufWriter& w) { w.F32("llama.rope.freq_base", -1); }, "RoPE theta"},
      {[](GgufWriter& w) { w.String("llama.rope.freq_base", "x"); },
       "'llama.rope.freq_base' is a string, not a number"},
      {[](GgufWriter& w) { w.Tensor("rope_freqs.weight", {4}, 0, std::string(16, '\1')); },
       "rope_freqs.weight must be 8 F32"},
      {[](GgufWriter& w) { w.Tensor("rope_freqs.weight", {8}, 0, std::string(32, '\0')); },
       "RoPE frequency factor of 0"},
      {[](GgufWriter& w) {
         w.Tensor("token_embd.weight", {64, 2}, 0, std::string(512, '\0'));
       },
       "is outside of the vocabulary of 2"},
  };
  for (const Case& c : cases) {
    auto writer = GgufLlama();
    c.change(writer);
    const auto config = FromGguf(writer);
    ASSERT_FALSE(config.ok()) << c.message;
    EXPECT_THAT(config.status().message(), HasSubstr(c.message));
  }
  GgufWriter other;
  EXPECT_THAT(FromGguf(other).status().message(), HasSubstr("'general.architecture' is missing"));
  other.String("general.architecture", "gemma3");
  EXPECT_EQ(FromGguf(other).status().code(), Code::kUnsupported);
  EXPECT_THAT(FromGguf(other).status().message(),
              HasSubstr("'gemma3' is not supported; supported are llama"));
  GgufWriter bare;
  bare.String("general.architecture", "llama");
  EXPECT_THAT(FromGguf(bare).status().message(), HasSubstr("'llama.block_count' is missing"));
}

TEST(GgufConfig, PerLayerNumbersMustAgree) {
  const auto with = [](std::vector<int32_t> heads) {
    GgufWriter w;
    w.String("general.architecture", "llama")
        .U32("llama.block_count", 2)
        .U32("llama.embedding_length", 64);
    w.U32("llama.feed_forward_length", 96).U32("llama.context_length", 2048);
    w.U32("llama.vocab_size", 10).F32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    w.U32("llama.attention.head_count", 4);
    std::string values = Raw(uint32_t{5}, uint64_t{heads.size()});
    for (const int32_t h : heads) values += Raw(h);
    w.Entry("llama.attention.head_count_kv", 9, values);
    return FromGguf(w);
  };
  EXPECT_EQ(with({2, 2})->kv_heads, 2);
  EXPECT_THAT(with({2, 4}).status().message(), HasSubstr("differs from layer to layer"));
  EXPECT_FALSE(with({}).ok());
}

// ---- Rotary frequencies ------------------------------------------------------------------------

TEST(Rope, MatchesTransformers) {
  const json::object golden = ReadJsonFile(BATON_SOURCE_DIR "/tests/golden/rope/rope_golden.json");
  for (const json::value& item : golden.at("cases").as_array()) {
    json::object config = json::Parse(kLlama)->as_object();
    config["rope_parameters"] = item.at("rope_parameters");
    config["head_dim"] = golden.at("head_dim");
    config["max_position_embeddings"] = golden.at("max_position_embeddings");
    const auto c = ConfigFromHf(config);
    ASSERT_TRUE(c.ok()) << c.status().message();
    const RopeFrequencies got = ComputeRope(c->rope, c->rotary_dim);
    const auto want = JsonVector<double>(item.as_object(), "inv_freq");
    ASSERT_EQ(got.inv_freq.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_NEAR(got.inv_freq[i], want[i], 1e-6 * want[i])
          << json::serialize(item.at("rope_parameters"));
    }
    EXPECT_NEAR(got.magnitude, item.at("magnitude").as_double(), 1e-6);
  }
}

TEST(Rope, FrequencyFactorsDivide) {
  RopeConfig rope;
  rope.frequency_factors = {1, 2};
  const auto got = ComputeRope(rope, 4);
  EXPECT_FLOAT_EQ(got.inv_freq[0], 1);
  EXPECT_FLOAT_EQ(got.inv_freq[1], 0.01f / 2);
}

}  // namespace
}  // namespace baton::model
