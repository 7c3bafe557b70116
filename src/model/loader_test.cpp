// From files to a bound model: the GGUF form of a golden model gives the same log probabilities as
// its safetensors form, and files that do not fit their config are refused by tensor name.
#include <gmock/gmock.h>

#include <filesystem>

#include "model/model_harness.h"
#include "model/test_files.h"
#include "model/weights.h"

namespace baton::model {
namespace {

using testing::HasSubstr;

constexpr char kTiny[] = BATON_SOURCE_DIR "/tests/golden/tiny/";

struct Tiny {
  ModelConfig config;
  SafetensorsFiles files;
  WeightView weights;
};

Tiny OpenTiny(const std::string& name) {
  auto config = LoadConfig(*ResolveModel(kTiny + name));
  auto files = SafetensorsFiles::Open(kTiny + name);
  EXPECT_TRUE(config.ok() && files.ok());
  auto weights = WeightView::FromSafetensors(*files, *config);
  EXPECT_TRUE(weights.ok()) << weights.status().message();
  return {std::move(*config), std::move(*files), std::move(*weights)};
}

std::string BytesOf(const kernels::StoredTensor& t) {
  return {reinterpret_cast<const char*>(t.data), size_t(t.rows) * t.RowBytes()};
}

// As converters do for llama: within each head, row i goes to 2i and row i + D/2 to 2i + 1, so
// that rotated pairs lie side by side.
std::string Permuted(const kernels::StoredTensor& t, int head_dim) {
  const std::string rows = BytesOf(t);
  const size_t row_bytes = t.RowBytes();
  std::string out;
  for (int64_t head = 0; head < t.rows / head_dim; ++head) {
    for (int i = 0; i < head_dim; ++i) {
      const int from = i / 2 + (i % 2) * head_dim / 2;
      out += rows.substr((head * head_dim + from) * row_bytes, row_bytes);
    }
  }
  return out;
}

GgufWriter GgufHeader(const ModelConfig& c) {
  GgufWriter w;
  w.String("general.architecture", "llama").U32("llama.block_count", c.layers);
  w.U32("llama.embedding_length", c.hidden).U32("llama.feed_forward_length", c.ffn);
  w.U32("llama.attention.head_count", c.heads).U32("llama.attention.head_count_kv", c.kv_heads);
  w.U32("llama.context_length", c.context_length).U32("llama.vocab_size", c.vocab);
  w.F32("llama.attention.layer_norm_rms_epsilon", c.rms_eps);
  return w.F32("llama.rope.freq_base", static_cast<float>(c.rope.theta));
}

constexpr uint32_t kBf16 = 30;

// Names as GGUF has them, by the order of the roles in the enum's layer part.
std::string GgufName(WeightId id) {
  static const std::map<WeightRole, std::string> kNames = {
      {WeightRole::kEmbedding, "token_embd"},
      {WeightRole::kOutputNorm, "output_norm"},
      {WeightRole::kHead, "output"},
      {WeightRole::kAttentionNorm, "attn_norm"},
      {WeightRole::kQ, "attn_q"},
      {WeightRole::kK, "attn_k"},
      {WeightRole::kV, "attn_v"},
      {WeightRole::kO, "attn_output"},
      {WeightRole::kFfnNorm, "ffn_norm"},
      {WeightRole::kGate, "ffn_gate"},
      {WeightRole::kUp, "ffn_up"},
      {WeightRole::kDown, "ffn_down"}};
  const std::string name = kNames.at(id.role) + ".weight";
  return id.layer < 0 ? name : "blk." + std::to_string(id.layer) + "." + name;
}

// `skip`: a tensor to leave out.
std::string ToGguf(const Tiny& tiny, GgufWriter w, const std::string& skip = "") {
  for (const WeightId id : ListWeights(tiny.config)) {
    const auto t = *tiny.weights.Get(id.role, id.layer);
    if (GgufName(id) == skip) continue;
    std::vector<uint64_t> dims = {static_cast<uint64_t>(t.cols)};
    if (id.role != WeightRole::kOutputNorm && id.role != WeightRole::kAttentionNorm &&
        id.role != WeightRole::kFfnNorm) {
      dims.push_back(t.rows);
    }
    const bool rotated = id.role == WeightRole::kQ || id.role == WeightRole::kK;
    w.Tensor(GgufName(id), dims, kBf16, rotated ? Permuted(t, tiny.config.head_dim) : BytesOf(t));
  }
  return w.Build();
}

class Loader : public testing::Test {
 protected:
  Result<std::unique_ptr<Model>> Load(const std::string& path, LoadOptions options = {}) {
    const auto files = ResolveModel(path);
    if (!files.ok()) return files.status();
    return LoadModel(*files, *ops_, options);
  }
  // Largest difference of the golden prompt's log probabilities.
  double WorstDifference(Model& model, const json::object& golden) {
    const auto prompt = JsonVector<int32_t>(golden, "prompt");
    const auto want = JsonVector<double>(golden, "next_logprob");
    ModelHarness harness(model, 8, 16, kernels::DType::kF32);
    const auto logits = harness.Run(prompt, 128);
    const size_t vocab = model.config().vocab;
    double worst = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double got = LogProb({logits.data() + i * vocab, vocab}, prompt[i + 1]);
      worst = std::max(worst, std::abs(got - want[i]));
    }
    return worst;
  }

  std::unique_ptr<kernels::Ops> ops_ = kernels::MakeReferenceOps();
  TempFolder folder_;
};

TEST_F(Loader, GgufFormOfLlamaGivesTheGolden) {
  const Tiny tiny = OpenTiny("llama");
  const auto path = folder_.Write("m.gguf", ToGguf(tiny, GgufHeader(tiny.config)));
  auto model = Load(path);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_TRUE((*model)->config().interleaved_rope);
  EXPECT_FALSE((*model)->config().tied_embeddings);
  EXPECT_LT(WorstDifference(**model, ReadJsonFile(std::string(kTiny) + "llama/golden.json")), 2e-4);
}

TEST_F(Loader, GgufFormWithFrequencyFactorsAndTiedHeadGivesTheGolden) {
  const Tiny tiny = OpenTiny("llama3-rope-tied");
  RopeConfig plain = tiny.config.rope;
  plain.scaling = RopeConfig::Scaling::kNone;
  const auto scaled = ComputeRope(tiny.config.rope, tiny.config.rotary_dim).inv_freq;
  const auto base = ComputeRope(plain, tiny.config.rotary_dim).inv_freq;
  std::string factors;
  for (size_t i = 0; i < base.size(); ++i) factors += Raw(base[i] / scaled[i]);
  auto header = GgufHeader(tiny.config);
  header.Tensor("rope_freqs.weight", {base.size()}, 0, factors);
  auto model = Load(folder_.Write("m.gguf", ToGguf(tiny, header)));
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_TRUE((*model)->config().tied_embeddings);
  EXPECT_LT(
      WorstDifference(**model, ReadJsonFile(std::string(kTiny) + "llama3-rope-tied/golden.json")),
      2e-4);
}

TEST_F(Loader, ProgressRisesToOne) {
  std::vector<double> seen;
  auto model =
      Load(std::string(kTiny) + "llama", {.progress = [&](double p) { seen.push_back(p); }});
  ASSERT_TRUE(model.ok());
  ASSERT_GT(seen.size(), 10u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_NEAR(seen.back(), 1.0, 1e-9);
}

TEST_F(Loader, WeightBytesLeaveOutATableThatIsOnlyLookedUp) {
  const auto untied = Load(std::string(kTiny) + "llama"),
             tied = Load(std::string(kTiny) + "llama3-rope-tied");
  ASSERT_TRUE(untied.ok() && tied.ok());
  EXPECT_EQ((*untied)->weight_bytes(), (*tied)->weight_bytes());  // both read one [vocab, hidden]
}

TEST_F(Loader, DummyWeightsNeedOnlyTheConfigAndStayFinite) {
  folder_.Write("config.json", R"({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 64,
    "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "num_hidden_layers": 24, "vocab_size": 100, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6})");
  EXPECT_EQ(Load(folder_.path()).status().code(), Code::kNotFound);  // real weights are not there
  auto model = Load(folder_.path(), {.dummy_weights = true});
  ASSERT_TRUE(model.ok()) << model.status().message();
  ModelHarness harness(**model, 8, 16, kernels::DType::kF16);
  const auto logits = harness.Run({1, 2, 3, 4, 5, 6, 7, 8}, 8);
  for (const float x : logits) ASSERT_TRUE(std::isfinite(x));
  EXPECT_NE(logits[0], logits[1]);
}

TEST_F(Loader, GenerationConfigAddsEndTokens) {
  namespace fs = std::filesystem;
  fs::copy(std::string(kTiny) + "llama/config.json", folder_ / "config.json");
  folder_.Write("generation_config.json", R"({"eos_token_id": [2, 9, 11]})");
  EXPECT_EQ(LoadConfig(*ResolveModel(folder_.path()))->eos_ids, (std::vector<int32_t>{2, 9, 11}));
  folder_.Write("generation_config.json", R"({"eos_token_id": 4000})");
  EXPECT_THAT(LoadConfig(*ResolveModel(folder_.path())).status().message(),
              HasSubstr("eos_token_id holds 4000"));
  folder_.Write("generation_config.json", "{");
  EXPECT_THAT(LoadConfig(*ResolveModel(folder_.path())).status().message(),
              HasSubstr("generation_config.json: invalid JSON"));
}

TEST_F(Loader, RefusesFilesThatDoNotFitTheirConfig) {
  const Tiny tiny = OpenTiny("llama");
  const auto refusal = [&](const std::string& bytes) {
    return Load(folder_.Write("m.gguf", bytes)).status().message();
  };
  EXPECT_THAT(refusal(ToGguf(tiny, GgufHeader(tiny.config), "blk.1.ffn_up.weight")),
              HasSubstr("no tensor 'blk.1.ffn_up.weight'"));
  ModelConfig other = tiny.config;
  other.kv_heads = 4;
  EXPECT_THAT(
      refusal(ToGguf(tiny, GgufHeader(other))),
      HasSubstr("tensor 'blk.0.attn_k.weight' is [32, 128], but the config asks for [64, 128]"));
  auto bias = GgufHeader(tiny.config);
  bias.Tensor("blk.0.ffn_up.bias", {256}, 0, std::string(1024, '\0'));
  EXPECT_THAT(refusal(ToGguf(tiny, bias)),
              HasSubstr("'blk.0.ffn_up.bias' has no place in a llama model"));
  auto fewer = tiny.config;
  fewer.layers = 2;
  EXPECT_THAT(refusal(ToGguf(tiny, GgufHeader(fewer))),
              HasSubstr("has no place in a llama model of 2 layers"));
  auto unread = GgufHeader(tiny.config);
  unread.Tensor("token_embd.weight", {128, 352}, 24, std::string(128 * 352, '\0'));
  EXPECT_THAT(refusal(ToGguf(tiny, unread, "token_embd.weight")),
              HasSubstr("'token_embd.weight' is I8"));
  EXPECT_THAT(refusal("GGUF"), HasSubstr("m.gguf: byte 4"));
}

TEST_F(Loader, RefusesImpossibleSteps) {
  EXPECT_EQ(Load(std::string(kTiny) + "llama", {.max_tokens = 0}).status().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(Load(std::string(kTiny) + "llama", {.max_logit_rows = 1 << 30}).status().code(),
            Code::kInvalidArgument);
}

}  // namespace
}  // namespace baton::model
