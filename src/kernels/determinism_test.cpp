// The determinism rule of ops.h, to the bit: a row's result does not depend on the other rows of
// the batch, on how a prompt was cut into chunks, on pages, or on the number of threads. This is
// what makes a prompt prefilled on one machine and decoded on another give the monolithic output.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>

#include "kernels/ops.h"
#include "kernels/test_data.h"

namespace baton::kernels {
namespace {

// A transformer small enough to run often, with every format that a model mixes.
struct TinyModel {
  static constexpr int kHidden = 256, kHeads = 6, kKvHeads = 2, kDim = 40, kFfn = 512, kVocab = 99;
  static constexpr int kWindow = 90;  // of the second layer
  static constexpr int kLayers = 2, kQkv = (kHeads + 2 * kKvHeads) * kDim;

  explicit TinyModel(Ops& ops) : ops(ops) {
    const DType formats[kLayers][4] = {
        {DType::kQ4_1, DType::kBF16, DType::kQ8_0, DType::kQ5_1},
        {DType::kQ4_K, DType::kF32, DType::kQ6_K, DType::kQ4_0},
    };
    for (int l = 0; l < kLayers; ++l) {
      const RandomWeight qkv(formats[l][0], kQkv, kHidden, 10 * l + 1);
      const RandomWeight o(formats[l][1], kHidden, kHeads * kDim, 10 * l + 2);
      const RandomWeight gate_up(formats[l][2], 2 * kFfn, kHidden, 10 * l + 3);
      const RandomWeight down(formats[l][3], kHidden, kFfn, 10 * l + 4);
      layers.push_back({Load(qkv), Load(o), Load(gate_up), Load(down)});
    }
    const RandomWeight head(DType::kQ8_0, kVocab, kHidden, 99);
    embedding = Load(head);
    RandomTensor values(1, kHidden, 7);
    auto vector = ops.LoadVector(
        {DType::kF32, 1, kHidden, reinterpret_cast<const std::byte*>(values.values.data())});
    norm = std::move(vector).value();
    for (int i = 0; i < kDim / 2; ++i) inv_freq.push_back(std::pow(1e4f, -2.0f * i / kDim));
  }
  WeightPtr Load(const RandomWeight& weight) {
    return std::move(ops.LoadWeight({&weight.stored, 1}, WeightUse::kTied)).value();
  }

  // One step over slices of token ids; returns the logits of every row.
  std::vector<float> Step(std::span<const int32_t> ids, std::span<const SequenceSlice> slices,
                          const KvPool& kv);

  struct Layer {
    WeightPtr qkv, o, gate_up, down;
  };
  Ops& ops;
  std::vector<Layer> layers;
  WeightPtr embedding, norm;
  std::vector<float> inv_freq;
};

std::vector<float> TinyModel::Step(std::span<const int32_t> ids,
                                   std::span<const SequenceSlice> slices, const KvPool& kv) {
  const int rows = static_cast<int>(ids.size());
  ZeroTensor x(rows, kHidden), normed(rows, kHidden), qkv(rows, kQkv), q(rows, kHeads * kDim),
      k(rows, kKvHeads * kDim), v(rows, kKvHeads * kDim), mixed(rows, kHeads * kDim),
      gate_up(rows, 2 * kFfn), gated(rows, kFfn), logits(rows, kVocab);
  std::vector<int32_t> positions(rows);
  for (const SequenceSlice& s : slices)
    std::iota(&positions[s.q_begin], &positions[s.q_begin] + s.q_len, s.kv_len - s.q_len);
  std::vector<float> table(static_cast<size_t>(rows) * kDim);
  ops.RopeTable(positions, inv_freq, 1.0f, table.data());
  ops.Embed(*embedding, ids, 1.0f, x.tensor);
  for (int l = 0; l < kLayers; ++l) {
    ops.RmsNorm(x.tensor, *norm, 1e-5f, normed.tensor);
    ops.Linear(normed.tensor, *layers[l].qkv, nullptr, false, qkv.tensor);
    const Tensor parts[] = {q.tensor, k.tensor, v.tensor};
    ops.SplitColumns(qkv.tensor, parts);
    ops.Rope({q.tensor, k.tensor, table.data(), kDim, kDim, l == 0});
    ops.AppendKv(k.tensor, v.tensor, slices, kv, l);
    ops.Attention({q.tensor, mixed.tensor, slices, &kv, l, kHeads, 0.158f, l == 1 ? kWindow : 0});
    ops.Linear(mixed.tensor, *layers[l].o, nullptr, true, x.tensor);
    ops.RmsNorm(x.tensor, *norm, 1e-5f, normed.tensor);
    ops.Linear(normed.tensor, *layers[l].gate_up, nullptr, false, gate_up.tensor);
    if (l == 0) ops.SiluMul(gate_up.tensor, gated.tensor);
    else ops.GeluTanhMul(gate_up.tensor, gated.tensor);
    ops.Linear(gated.tensor, *layers[l].down, nullptr, true, x.tensor);
  }
  ops.RmsNorm(x.tensor, *norm, 1e-5f, normed.tensor);
  ops.Linear(normed.tensor, *embedding, nullptr, false, logits.tensor);
  return logits.values;
}

// Runs sequences in steps chosen by `random`: any of them, any number of their next tokens (up to
// `most`), pages handed out in random order. Returns the logits of every token of each sequence.
class RandomSchedule {
 public:
  RandomSchedule(std::vector<std::vector<int32_t>> sequences, uint32_t seed, int most)
      : sequences_(std::move(sequences)),
        random_(seed),
        most_(most),
        done_(sequences_.size()),
        pages_(sequences_.size()),
        logits_(sequences_.size()) {}

  std::vector<std::vector<float>> Run(TinyModel& model, KvLayout layout) {
    size_t total = 0;
    for (const auto& s : sequences_) total += s.size() / layout.page_tokens + 1;
    OwnedPool pool(layout, static_cast<int>(total));
    free_.resize(total);
    std::iota(free_.begin(), free_.end(), 0);
    std::shuffle(free_.begin(), free_.end(), random_);
    while (Plan(layout.page_tokens)) {
      const auto logits = model.Step(ids_, slices_, pool.pool);
      for (size_t i = 0; i < slices_.size(); ++i) {
        const float* begin = &logits[static_cast<size_t>(slices_[i].q_begin) * TinyModel::kVocab];
        auto& out = logits_[owner_[i]];
        out.insert(out.end(), begin, begin + slices_[i].q_len * TinyModel::kVocab);
      }
    }
    return logits_;
  }

 private:
  // Fills ids_, slices_ and owner_ for one step; false when all sequences are done.
  bool Plan(int page_tokens) {
    ids_.clear(), slices_.clear(), owner_.clear();
    std::vector<int> order(sequences_.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    bool left = false;
    for (int s : order) {
      const int remaining = static_cast<int>(sequences_[s].size()) - done_[s];
      if (remaining == 0) continue;
      left = true;
      if (random_() % 3 == 0) continue;
      const int count = std::min<int>(remaining, 1 + random_() % most_);
      const int begin = static_cast<int>(ids_.size());
      ids_.insert(ids_.end(), &sequences_[s][done_[s]], &sequences_[s][done_[s]] + count);
      done_[s] += count;
      while (static_cast<int>(pages_[s].size()) * page_tokens < done_[s]) {
        pages_[s].push_back(free_.back());
        free_.pop_back();
      }
      slices_.push_back({begin, count, done_[s], pages_[s]});
      owner_.push_back(s);
    }
    return left;
  }

  std::vector<std::vector<int32_t>> sequences_;
  std::mt19937 random_;
  int most_;
  std::vector<int> done_;
  std::vector<std::vector<PageId>> pages_;
  std::vector<std::vector<float>> logits_;
  std::vector<PageId> free_;
  std::vector<int32_t> ids_;
  std::vector<SequenceSlice> slices_;
  std::vector<int> owner_;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class DeterminismTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, DeterminismTest, testing::Values("avx2", "avx512", "avx512-vnni"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(DeterminismTest, BatchChunksPagesAndThreadsDoNotChangeABit) {
  std::mt19937 random(1);
  std::vector<std::vector<int32_t>> sequences;
  for (int length : {1, 17, 130, 560}) {
    sequences.emplace_back(length);
    for (int32_t& id : sequences.back()) id = static_cast<int32_t>(random() % TinyModel::kVocab);
  }
  std::vector<std::vector<float>> expected;
  for (int run = 0; run < 3; ++run) {
    auto ops = MakeCpuOps({3 - run, GetParam()});
    if (!ops.ok()) GTEST_SKIP() << ops.status().message();
    TinyModel model(**ops);
    const KvLayout layout{TinyModel::kLayers, run % 2 ? 16 : 7, TinyModel::kKvHeads,
                          TinyModel::kDim, DType::kF16};
    // The first run goes nearly a token at a time (and so cuts its attention between threads), the
    // others in larger and larger pieces.
    RandomSchedule schedule(sequences, 100 + run, run == 0 ? 5 : 90 * run * run);
    auto logits = schedule.Run(model, layout);
    if (run == 0) {
      expected = std::move(logits);
      continue;
    }
    for (size_t s = 0; s < sequences.size(); ++s)
      EXPECT_TRUE(SameBits(logits[s], expected[s])) << "sequence " << s << ", run " << run;
  }
}

// Wide weights and many tokens: tiles, groups and activation chunks of every size.
TEST_P(DeterminismTest, LinearRowsStandAlone) {
  auto one = MakeCpuOps({1, GetParam()});
  if (!one.ok()) GTEST_SKIP() << one.status().message();
  auto three = MakeCpuOps({3, GetParam()});
  for (DType dtype : {DType::kQ4_1, DType::kQ8_0, DType::kQ6_K, DType::kBF16, DType::kF32}) {
    const int rows = 70, cols = 1536, tokens = 400;
    const RandomWeight weight(dtype, rows, cols, 3);
    auto a = (*one)->LoadWeight({&weight.stored, 1}, WeightUse::kLinear);
    auto b = (*three)->LoadWeight({&weight.stored, 1}, WeightUse::kLinear);
    RandomTensor x(tokens, cols, 4);
    ZeroTensor single(tokens, rows), all(tokens, rows);
    for (int t = 0; t < tokens; ++t) {
      (*one)->Linear({x.tensor.Row(t), DType::kF32, 1, cols}, **a, nullptr, false,
                     {single.tensor.Row(t), DType::kF32, 1, rows});
    }
    (*three)->Linear(x.tensor, **b, nullptr, false, all.tensor);
    EXPECT_TRUE(SameBits(single.values, all.values)) << InfoOf(dtype).name;
  }
}

}  // namespace
}  // namespace baton::kernels
