// The forward pass against Hugging Face transformers in float32 (tests/golden/tiny: random models
// in the hub's layout with logits, log probabilities and greedy continuations), and against
// itself: chunked, token by token, with pages in any order, batched with other sequences.
#include <filesystem>

#include "model/model_harness.h"

namespace baton::model {
namespace {

using kernels::DType;

constexpr int kPages = 16, kPageTokens = 16;

std::string GoldenFolder(const std::string& name) {
  const std::string own = BATON_SOURCE_DIR "/tests/golden/tiny/" + name;
  return std::filesystem::exists(own) ? own : BATON_SOURCE_DIR "/../shared/fixtures/tiny/" + name;
}

// Model and backend.
class TinyModel : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void SetUp() override {
    const auto& [name, backend] = GetParam();
    if (backend == "cpu") {
      auto cpu = kernels::MakeCpuOps({.threads = 2});
      if (!cpu.ok()) GTEST_SKIP() << cpu.status().message();
      ops_ = std::move(*cpu);
      tolerance_ = 5e-3;
    }
    const std::string folder = GoldenFolder(name);
    if (!std::filesystem::exists(folder)) {
      GTEST_SKIP() << "golden model " << folder << " is not here";
    }
    golden_ = ReadJsonFile(folder + "/golden.json");
    const auto files = ResolveModel(folder);
    ASSERT_TRUE(files.ok()) << files.status().message();
    auto model = LoadModel(*files, *ops_, {.max_tokens = 128, .max_logit_rows = 128});
    ASSERT_TRUE(model.ok()) << model.status().message();
    model_ = std::move(*model);
    prompt_ = JsonVector<int32_t>(golden_, "prompt");
  }

  std::span<const float> Row(const std::vector<float>& logits, size_t row) const {
    const size_t vocab = model_->config().vocab;
    return {logits.data() + row * vocab, vocab};
  }

  std::unique_ptr<kernels::Ops> ops_ = kernels::MakeReferenceOps();
  double tolerance_ = 2e-4;
  std::unique_ptr<Model> model_;
  json::object golden_;
  std::vector<int32_t> prompt_;
};

TEST_P(TinyModel, MatchesTransformers) {
  ModelHarness harness(*model_, kPages, kPageTokens, DType::kF32);
  const auto logits = harness.Run(prompt_, 128);
  ASSERT_EQ(logits.size(), prompt_.size() * model_->config().vocab);

  const auto next = JsonVector<double>(golden_, "next_logprob");
  ASSERT_EQ(next.size() + 1, prompt_.size());
  for (size_t i = 0; i < next.size(); ++i) {
    EXPECT_NEAR(LogProb(Row(logits, i), prompt_[i + 1]), next[i], tolerance_) << "position " << i;
  }
  const auto last = JsonVector<double>(golden_, "logits_last");
  ASSERT_EQ(static_cast<int>(last.size()), model_->config().vocab);
  for (size_t i = 0; i < last.size(); ++i) {
    EXPECT_NEAR(Row(logits, prompt_.size() - 1)[i], last[i], tolerance_) << "token " << i;
  }
}

TEST_P(TinyModel, ContinuesGreedilyAsTransformers) {
  ModelHarness harness(*model_, kPages, kPageTokens, DType::kF32, /*shuffle_seed=*/7);
  std::vector<float> logits = harness.Run(prompt_, 33, /*all_rows=*/false);
  const size_t vocab = model_->config().vocab;
  logits.erase(logits.begin(), logits.end() - vocab);
  for (const int32_t want : JsonVector<int32_t>(golden_, "greedy")) {
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    ASSERT_EQ(best, want);
    logits = harness.Run({want}, 1);
  }
}

TEST_P(TinyModel, ChunksPagesAndSingleTokensGiveTheSameBits) {
  ModelHarness whole(*model_, kPages, kPageTokens, DType::kF16);
  const auto want = whole.Run(prompt_, 128);
  for (const int chunk : {1, 5, 16, 64}) {
    ModelHarness chunked(*model_, kPages, kPageTokens, DType::kF16, /*shuffle_seed=*/chunk);
    EXPECT_EQ(chunked.Run(prompt_, chunk), want) << "chunks of " << chunk;
  }
  ModelHarness odd_pages(*model_, 40, 3, DType::kF16, /*shuffle_seed=*/3);
  EXPECT_EQ(odd_pages.Run(prompt_, 10), want) << "pages of 3 tokens";
}

TEST_P(TinyModel, WantedRowsDoNotChangeOtherRows) {
  ModelHarness all(*model_, kPages, kPageTokens, DType::kF16);
  const auto want = all.Run(prompt_, 128);
  ModelHarness last_only(*model_, kPages, kPageTokens, DType::kF16);
  const auto got = last_only.Run(prompt_, 128, /*all_rows=*/false);
  const auto row = Row(want, prompt_.size() - 1);
  EXPECT_EQ(got, std::vector<float>(row.begin(), row.end()));
}

// Two sequences in one step: one prefills a chunk while the other decodes.
TEST_P(TinyModel, BatchingDoesNotChangeASequence) {
  ModelHarness alone(*model_, kPages, kPageTokens, DType::kF16);
  const auto want = alone.Run(prompt_, 128);

  ModelHarness batch(*model_, kPages, kPageTokens, DType::kF16);
  const std::vector<PageId> first(batch.pages().begin(), batch.pages().begin() + 8);
  const std::vector<PageId> second(batch.pages().begin() + 8, batch.pages().end());
  const auto step = [&](int a_begin, int a_rows, int b_begin, int b_rows) {
    std::vector<int32_t> tokens, positions, wanted(a_rows + b_rows);
    for (int i = 0; i < a_rows; ++i)
      tokens.push_back(prompt_[a_begin + i]), positions.push_back(a_begin + i);
    for (int i = 0; i < b_rows; ++i)
      tokens.push_back(prompt_[b_begin + i]), positions.push_back(b_begin + i);
    std::iota(wanted.begin(), wanted.end(), 0);
    const kernels::SequenceSlice slices[] = {{0, a_rows, a_begin + a_rows, first},
                                             {a_rows, b_rows, b_begin + b_rows, second}};
    const auto logits = model_->Forward({tokens, positions, slices, wanted}, batch.pool());
    return std::vector<float>(logits.begin(), logits.end());
  };
  step(0, 40, 0, 50);
  const auto mixed = step(40, 1, 50, 46);
  EXPECT_TRUE(std::ranges::equal(Row(mixed, 0), Row(want, 40)));
  for (int i = 0; i < 46; ++i)
    EXPECT_TRUE(std::ranges::equal(Row(mixed, 1 + i), Row(want, 50 + i)));
}

TEST_P(TinyModel, LayerDoneComesOncePerLayerWithItsKvFinal) {
  ModelHarness harness(*model_, kPages, kPageTokens, DType::kF32);
  std::vector<int> layers;
  std::vector<std::vector<std::byte>> seen;
  const auto layer_bytes = [&](int layer) {
    const auto* data = harness.pool().LayerOfPage(harness.pages()[0], layer);
    return std::vector<std::byte>(data, data + harness.pool().layout.LayerBytes());
  };
  const LayerDone done = [&](int layer) {
    layers.push_back(layer);
    seen.push_back(layer_bytes(layer));
  };
  harness.set_layer_done(&done);
  harness.Run(prompt_, 128, /*all_rows=*/false);
  ASSERT_EQ(layers.size(), static_cast<size_t>(model_->config().layers));
  for (int l = 0; l < model_->config().layers; ++l) {
    EXPECT_EQ(layers[l], l);
    EXPECT_EQ(seen[l], layer_bytes(l));
  }
}

TEST_P(TinyModel, NoWantedRowsStillWritesTheSameKv) {
  ModelHarness with(*model_, kPages, kPageTokens, DType::kF16);
  with.Run(prompt_, 128);
  ModelHarness without(*model_, kPages, kPageTokens, DType::kF16);
  std::vector<int32_t> positions(prompt_.size());
  std::iota(positions.begin(), positions.end(), 0);
  const kernels::SequenceSlice slice{0, static_cast<int>(prompt_.size()),
                                     static_cast<int>(prompt_.size()), without.pages()};
  EXPECT_TRUE(model_->Forward({prompt_, positions, {&slice, 1}, {}}, without.pool()).empty());
  const size_t bytes = with.pool().layout.PageBytes() * kPages;
  EXPECT_TRUE(std::equal(with.pool().base, with.pool().base + bytes, without.pool().base));
}

INSTANTIATE_TEST_SUITE_P(Golden, TinyModel,
                         testing::Combine(testing::Values("llama", "llama3-rope-tied", "qwen2",
                                                          "qwen3"),
                                          testing::Values("reference", "cpu")),
                         [](const auto& info) {
                           std::string name =
                               std::get<0>(info.param) + "_" + std::get<1>(info.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace baton::model
