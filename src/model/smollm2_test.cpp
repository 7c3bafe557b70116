// SmolLM2-135M-Instruct in Q4_1 against transformers in float32 on the same dequantised weights
// (tests/golden/smollm2-public.json). `make models` fetches the file.
#include <filesystem>

#include "model/model_harness.h"

namespace baton::model {
namespace {

constexpr char kPath[] = BATON_SOURCE_DIR "/models/SmolLM2-135M-Instruct-Q4_1.gguf";

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kPath)) GTEST_SKIP() << kPath << " is not here; run make models";
    golden_ = ReadJsonFile(BATON_SOURCE_DIR "/tests/golden/smollm2-public.json");
  }

  // Mean |difference| of the paragraph's first `tokens` log probabilities.
  double MeanDifference(kernels::Ops& ops, int tokens) {
    const auto files = ResolveModel(kPath);
    EXPECT_TRUE(files.ok());
    auto model = LoadModel(*files, ops, {.max_tokens = 256, .max_logit_rows = 256});
    EXPECT_TRUE(model.ok()) << model.status().message();
    const json::object& paragraph = golden_.at("paragraph").as_object();
    auto ids = JsonVector<int32_t>(paragraph, "ids");
    const auto want = JsonVector<double>(paragraph, "next_logprob");
    ids.resize(std::min<size_t>(ids.size(), tokens));
    ModelHarness harness(**model, 32, 16, kernels::DType::kF32);
    const auto logits = harness.Run(ids, 256);
    const size_t vocab = (*model)->config().vocab;
    double sum = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      sum += std::abs(LogProb({logits.data() + i * vocab, vocab}, ids[i + 1]) - want[i]);
    }
    return sum / (ids.size() - 1);
  }

  json::object golden_;
};

TEST_F(SmolLm2, ConfigIsWhatItsCardSays) {
  const auto config = LoadConfig(*ResolveModel(kPath));
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->architecture, "llama");
  EXPECT_EQ(config->layers, 30);
  EXPECT_EQ(config->hidden, 576);
  EXPECT_EQ(config->ffn, 1536);
  EXPECT_EQ(config->heads, 9);
  EXPECT_EQ(config->kv_heads, 3);
  EXPECT_EQ(config->head_dim, 64);
  EXPECT_EQ(config->vocab, 49152);
  EXPECT_EQ(config->context_length, 8192);
  EXPECT_EQ(config->rope.theta, 100000);
  EXPECT_FLOAT_EQ(config->rms_eps, 1e-5f);
  EXPECT_TRUE(config->tied_embeddings);
  EXPECT_TRUE(config->interleaved_rope);
  EXPECT_EQ(config->bos_id, 1);
  EXPECT_EQ(config->eos_ids, std::vector<int32_t>{2});
}

TEST_F(SmolLm2, ReferenceKernelsMatchTransformers) {
  const auto ops = kernels::MakeReferenceOps();
  EXPECT_LE(MeanDifference(*ops, 32), 1e-4);  // the whole paragraph too: 7e-6, in 24 s
}

TEST_F(SmolLm2, CpuKernelsStayCloseToTransformers) {
  const auto ops = kernels::MakeCpuOps({.threads = 2});
  if (!ops.ok()) GTEST_SKIP() << ops.status().message();
  EXPECT_LE(MeanDifference(**ops, 202), 0.02);
}

}  // namespace
}  // namespace baton::model
