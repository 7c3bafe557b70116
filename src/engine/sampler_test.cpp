// The sampler against plain double-precision arithmetic, and its draws against the distribution
// they should follow.
#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "engine/philox.h"
#include "engine/row_math.h"

namespace baton::engine {
namespace {

using api::SamplingParams;

std::vector<float> RandomRow(std::mt19937& random, int vocab, float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> row(static_cast<size_t>(vocab));
  for (float& x : row) x = normal(random);
  return row;
}

// Known answers of Random123's kat_vectors file, philox4x32 with 10 rounds.
TEST(PhiloxTest, KnownAnswers) {
  using Counter = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t f = 0xffffffff;
  EXPECT_EQ(Philox({f, f, f, f}, {f, f}), (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RowMathTest, ExpIsAccurateOverItsRange) {
  for (float x = 0; x > -87.0f; x -= 0.00137f) {
    const double exact = std::exp(static_cast<double>(x));
    ASSERT_NEAR(ExpNonPositive(x) / exact, 1.0, 3e-7) << x;
  }
  EXPECT_EQ(ExpNonPositive(0), 1.0f);
  EXPECT_EQ(ExpNonPositive(-88.0f), 0.0f);
  EXPECT_EQ(ExpNonPositive(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_TRUE(std::isnan(ExpNonPositive(std::numeric_limits<float>::quiet_NaN())));
}

TEST(RowMathTest, SumAndMaxOfAnyLength) {
  std::mt19937 random(1);
  for (const int length : {1, 2, 15, 16, 17, 1000, 1024, 1025, 5000}) {
    const std::vector<float> row = RandomRow(random, length, 3);
    const float max = *std::ranges::max_element(row);
    EXPECT_EQ(RowMax(row), max);
    double sum = 0;
    for (const float x : row) sum += std::exp((static_cast<double>(x) - max) * 0.7);
    EXPECT_NEAR(SumExp(row, max, 0.7f) / sum, 1.0, 1e-6);
  }
}

// -------------------------------------------------------------------- the oracle

struct Oracle {
  std::vector<int> kept;        // ids in the order in which they are cumulated
  std::vector<double> weights;  // proportional to their probabilities
  bool close_call = false;      // a filter was decided by less than float rounding
};

std::vector<double> AdjustedRow(const std::vector<float>& logits, const SampleInput& input,
                                const std::vector<int32_t>& prompt, const std::vector<int32_t>& outputs) {
  const SamplingParams& p = *input.params;
  std::vector<double> row(logits.begin(), logits.end());
  for (const int32_t id : input.masked) row[static_cast<size_t>(id)] = -HUGE_VAL;
  for (const int32_t id : input.more_masked) row[static_cast<size_t>(id)] = -HUGE_VAL;
  for (const auto& [id, bias] : p.logit_bias) row[static_cast<size_t>(id)] += bias;
  std::map<int32_t, int> counts;
  for (const int32_t id : prompt) counts[id] += 0;
  for (const int32_t id : outputs) ++counts[id];
  for (const auto& [id, count] : counts) {
    double& x = row[static_cast<size_t>(id)];
    x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
    x -= static_cast<double>(p.frequency_penalty) * count + (count > 0 ? p.presence_penalty : 0);
  }
  return row;
}

Oracle KeptTokens(const std::vector<double>& row, const SamplingParams& p) {
  const double max = *std::ranges::max_element(row);
  std::vector<double> weight(row.size());
  for (size_t i = 0; i < row.size(); ++i) weight[i] = std::exp((row[i] - max) / p.temperature);
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  std::vector<int> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int a, int b) { return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)]; });
  Oracle oracle;
  const bool filtered = p.top_k > 0 || p.top_p < 1 || p.min_p > 0;
  if (!filtered) std::iota(order.begin(), order.end(), 0);
  double before = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const double w = weight[static_cast<size_t>(order[rank])];
    if (filtered) {
      if (p.top_k > 0 && rank >= static_cast<size_t>(p.top_k)) break;
      if (p.top_p < 1) {
        if (std::abs(before / total - p.top_p) < 1e-5) oracle.close_call = true;
        if (before / total >= p.top_p) break;
      }
      if (std::abs(w - p.min_p) < 1e-5 * p.min_p) oracle.close_call = true;
      if (w < p.min_p) break;
    }
    oracle.kept.push_back(order[rank]);
    oracle.weights.push_back(w);
    before += w;
  }
  return oracle;
}

TEST(SamplerTest, DrawsWhatTheOracleDraws) {
  std::mt19937 random(7);
  int compared = 0;
  for (int round = 0; round < 4000; ++round) {
    const int vocab = 2 + static_cast<int>(random() % 300);
    const auto pick = [&] { return static_cast<int32_t>(random() % static_cast<uint32_t>(vocab)); };
    const std::vector<float> row = RandomRow(random, vocab, 0.5f + static_cast<float>(random() % 50) / 10);
    SamplingParams p;
    p.seed = random();
    p.temperature = 0.05f + static_cast<float>(random() % 300) / 100;
    if (random() % 2) p.top_k = 1 + static_cast<int>(random() % 60);
    if (random() % 2) p.top_p = 0.01f + static_cast<float>(random() % 99) / 100;
    if (random() % 3 == 0) p.min_p = static_cast<float>(random() % 100) / 300;
    if (random() % 3 == 0) p.repetition_penalty = 0.5f + static_cast<float>(random() % 15) / 10;
    if (random() % 3 == 0) p.frequency_penalty = static_cast<float>(random() % 40) / 10 - 2;
    if (random() % 3 == 0) p.presence_penalty = static_cast<float>(random() % 40) / 10 - 2;
    if (random() % 3 == 0) p.logit_bias = {{pick(), 2.5f}, {pick(), -100.0f}};
    std::vector<int32_t> prompt, outputs, masked, more_masked;
    for (int i = 0; i < 20; ++i) (random() % 2 ? prompt : outputs).push_back(pick());
    if (random() % 2) masked = {pick()};
    if (random() % 4 == 0 && vocab > 10) more_masked = {pick(), pick()};
    TokenCounts counts;
    counts.AddPrompt(prompt);
    for (const int32_t id : outputs) counts.AddOutput(id);
    const SampleInput input{.params = &p, .masked = masked, .more_masked = more_masked, .counts = &counts,
                            .output_index = static_cast<int>(random() % 1000)};
    Sampler sampler(vocab);
    const Result<int32_t> got = sampler.Sample(row, input);
    ASSERT_TRUE(got.ok()) << got.status().ToString();

    const Oracle oracle = KeptTokens(AdjustedRow(row, input, prompt, outputs), p);
    const double target = UniformAt(*p.seed, static_cast<uint64_t>(input.output_index)) *
                          std::accumulate(oracle.weights.begin(), oracle.weights.end(), 0.0);
    double sum = 0;
    size_t rank = 0;
    bool near_border = oracle.close_call;
    for (; rank < oracle.kept.size(); ++rank) {
      sum += oracle.weights[rank];
      if (std::abs(sum - target) < 1e-4 * sum) near_border = true;
      if (sum > target) break;
    }
    if (near_border) continue;  // float and double may differ there
    ++compared;
    ASSERT_LT(rank, oracle.kept.size());
    ASSERT_EQ(*got, oracle.kept[rank]) << "round " << round;
  }
  EXPECT_GT(compared, 3500);
}

TEST(SamplerTest, GreedyTakesTheLowestIdAmongEquals) {
  Sampler sampler(100);
  std::vector<float> row(100, 1.0f);
  row[40] = row[60] = 5.0f;
  SamplingParams p;
  p.temperature = 0;
  EXPECT_EQ(*sampler.Sample(row, {.params = &p}), 40);
  const std::vector<int32_t> masked{40};
  EXPECT_EQ(*sampler.Sample(row, {.params = &p, .masked = masked}), 60);
  p.temperature = 1e-7f;
  EXPECT_EQ(*sampler.Sample(row, {.params = &p}), 40);
  // Among equals at the border of top_k, too.
  p.temperature = 1;
  p.top_k = 1;
  EXPECT_EQ(*sampler.Sample(row, {.params = &p}), 40);
}

TEST(SamplerTest, BadRowsAreErrors) {
  Sampler sampler(4);
  SamplingParams p;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(sampler.Sample(std::vector<float>{nan, nan, nan, nan}, {.params = &p}).status().code(), Code::kInternal);
  EXPECT_EQ(sampler.Sample(std::vector<float>{1, nan, 2, 3}, {.params = &p}).status().code(), Code::kInternal);
  EXPECT_EQ(sampler.Sample(std::vector<float>{1, inf, 2, 3}, {.params = &p}).status().code(), Code::kInternal);
  EXPECT_EQ(sampler.Sample(std::vector<float>{-inf, -inf, -inf, -inf}, {.params = &p}).status().code(), Code::kInternal);
  EXPECT_EQ(*sampler.Sample(std::vector<float>{-inf, -inf, 3, -inf}, {.params = &p}), 2);
}

// Pearson's statistic of draws over many positions against the exact distribution. With fixed seeds
// this is a fixed number; the bound is the 99.99% quantile (Wilson and Hilferty's approximation).
void ExpectFollows(const std::vector<float>& row, const SamplingParams& params) {
  const Oracle oracle = KeptTokens(std::vector<double>(row.begin(), row.end()), params);
  const double total = std::accumulate(oracle.weights.begin(), oracle.weights.end(), 0.0);
  constexpr int kDraws = 40000;
  std::map<int32_t, int> counts;
  Sampler sampler(static_cast<int>(row.size()));
  for (int i = 0; i < kDraws; ++i) ++counts[*sampler.Sample(row, {.params = &params, .output_index = i})];
  double statistic = 0, rest_expected = 0, rest_seen = 0;
  int cells = 0, seen = 0;
  for (size_t i = 0; i < oracle.kept.size(); ++i) {
    const double expected = kDraws * oracle.weights[i] / total;
    const int count = counts[oracle.kept[i]];
    seen += count;
    if (expected < 5) {
      rest_expected += expected;
      rest_seen += count;
      continue;
    }
    statistic += (count - expected) * (count - expected) / expected;
    ++cells;
  }
  EXPECT_EQ(seen, kDraws) << "a token came that was filtered out";
  if (rest_expected >= 1) {
    statistic += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
    ++cells;
  }
  const double df = std::max(cells - 1, 1);
  const double bound = df * std::pow(1 - 2 / (9 * df) + 3.719 * std::sqrt(2 / (9 * df)), 3);
  EXPECT_LT(statistic, bound) << cells << " cells";
}

TEST(SamplerTest, DrawsFollowTheDistribution) {
  std::mt19937 random(3);
  const std::vector<float> row = RandomRow(random, 200, 2);
  SamplingParams p;
  p.seed = 12345;
  ExpectFollows(row, p);
  p.temperature = 0.6f;
  p.top_p = 0.9f;
  ExpectFollows(row, p);
  p.top_p = 1;
  p.top_k = 20;
  p.seed = 99;
  ExpectFollows(row, p);
  p.min_p = 0.1f;
  ExpectFollows(row, p);
  p = {.temperature = 1.5f, .top_p = 0.95f, .top_k = 50, .min_p = 0.01f, .seed = 0};
  ExpectFollows(row, p);
}

TEST(SamplerTest, SeedsAndPositionsGiveIndependentDraws) {
  std::vector<float> row(1000, 0.0f);
  SamplingParams p;
  Sampler sampler(1000);
  std::map<int32_t, int> by_seed;
  for (uint64_t seed = 0; seed < 50000; ++seed) {
    p.seed = seed;
    ++by_seed[*sampler.Sample(row, {.params = &p})];
  }
  double statistic = 0;
  for (int32_t id = 0; id < 1000; ++id) statistic += std::pow(by_seed[id] - 50.0, 2) / 50.0;
  EXPECT_LT(statistic, 1171);  // 99.99% of chi-square with 999 degrees
  EXPECT_GT(statistic, 840);
}

// -------------------------------------------------------------------- logprobs

TEST(SamplerTest, LogProbsAreTheLogSoftmaxOfTheRawRow) {
  std::mt19937 random(5);
  for (int round = 0; round < 100; ++round) {
    const int vocab = 1 + static_cast<int>(random() % 3000);
    std::vector<float> row = RandomRow(random, vocab, 4);
    if (vocab > 4) row[2] = row[4] = row[0] + 20;  // a tie at the top
    const double max = *std::ranges::max_element(row);
    double sum = 0;
    for (const float x : row) sum += std::exp(x - max);
    const auto exact = [&](int32_t id) { return row[static_cast<size_t>(id)] - max - std::log(sum); };
    std::vector<int32_t> order(row.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int a, int b) { return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)]; });

    Sampler sampler(vocab);
    const int32_t token = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
    const LogprobRequest request{.enabled = true, .top = static_cast<int>(random() % 25), .token_ids = {0, token}};
    TokenLogprob got;
    sampler.LogProbs(row, token, request, got);
    EXPECT_EQ(got.token, token);
    EXPECT_NEAR(got.logprob, exact(token), 2e-5);
    ASSERT_EQ(got.top.size(), std::min<size_t>(static_cast<size_t>(request.top), row.size()));
    for (size_t i = 0; i < got.top.size(); ++i) {
      EXPECT_EQ(got.top[i].first, order[i]);
      EXPECT_NEAR(got.top[i].second, exact(order[i]), 2e-5);
    }
    ASSERT_EQ(got.requested.size(), 2u);
    EXPECT_EQ(got.requested[1].first, token);
    EXPECT_EQ(got.requested[1].second, got.logprob);
  }
}

TEST(TokenCountsTest, CountsLikeAMap) {
  std::mt19937 random(11);
  for (int round = 0; round < 50; ++round) {
    TokenCounts counts;
    std::map<int32_t, int> expected;
    std::vector<int32_t> prompt;
    for (uint32_t i = random() % 200; i > 0; --i) prompt.push_back(static_cast<int32_t>(random() % 300));
    if (round % 2) {
      counts.AddPrompt(prompt);
      for (const int32_t id : prompt) expected[id] += 0;
    }
    for (uint32_t i = random() % 1000; i > 0; --i) {
      const int32_t id = static_cast<int32_t>(random() % 300);
      counts.AddOutput(id);
      ++expected[id];
    }
    std::map<int32_t, int> got;
    for (const TokenCounts::Entry& entry : counts.slots()) {
      if (entry.token >= 0) got[entry.token] = entry.outputs;
    }
    EXPECT_EQ(got, expected);
  }
}

}  // namespace
}  // namespace baton::engine
