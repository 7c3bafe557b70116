// Arrivals, lengths, percentiles and SLOs against numpy and scipy (tests/golden/bench).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>

#include "bench/serving/arrivals.h"
#include "bench/serving/lengths.h"
#include "bench/serving/record.h"
#include "bench/serving/samples.h"
#include "bench/serving/slo.h"
#include "common/json.h"

namespace baton::bench::serving {
namespace {

const json::object& Golden() {
  static const json::object golden = [] {
    std::ifstream in(BATON_SOURCE_DIR "/tests/golden/bench/serving.json");
    const std::string text(std::istreambuf_iterator<char>(in), {});
    auto parsed = json::Parse(text);
    EXPECT_TRUE(parsed.ok()) << parsed.status().message();
    return parsed->get_object();
  }();
  return golden;
}

std::vector<double> Numbers(const json::value& list) {
  std::vector<double> out;
  for (const auto& v : list.as_array()) out.push_back(v.to_number<double>());
  return out;
}

TEST(SamplesTest, PercentilesAreNumpys) {
  for (const auto& item : Golden().at("percentiles").as_array()) {
    const json::object& c = item.as_object();
    Samples samples;
    for (const double v : Numbers(c.at("values"))) samples.Add(v);
    const auto at = Numbers(c.at("at")), expected = Numbers(c.at("expected"));
    for (size_t i = 0; i < at.size(); ++i) {
      EXPECT_NEAR(samples.Percentile(at[i]), expected[i], 1e-5 * (1 + expected[i]))
          << c.at("name") << " p" << at[i];
    }
    EXPECT_NEAR(samples.mean(), c.at("mean").to_number<double>(), 1e-9 * (1 + samples.mean()));
    EXPECT_NEAR(samples.deviation(), c.at("sd").to_number<double>(),
                1e-9 * (1 + samples.deviation()));
  }
}

TEST(SamplesTest, HistogramStaysWithinItsError) {
  for (const auto& item : Golden().at("percentiles").as_array()) {
    const json::object& c = item.as_object();
    const auto values = Numbers(c.at("values"));
    if (values.size() < 100) continue;
    Samples exact, folded(50);
    for (const double v : values) {
      exact.Add(v);
      folded.Add(v);
    }
    ASSERT_TRUE(exact.exact());
    ASSERT_FALSE(folded.exact());
    for (double p = 0; p <= 100; p += 0.5) {
      EXPECT_NEAR(folded.Percentile(p), exact.Percentile(p), 0.0006 * exact.Percentile(p) + 1e-9)
          << "p" << p;
    }
    EXPECT_EQ(folded.max(), exact.max());
    EXPECT_EQ(folded.count(), exact.count());
  }
}

TEST(SamplesTest, EmptyAndZero) {
  Samples samples(2);
  EXPECT_EQ(samples.Percentile(50), 0);
  for (int i = 0; i < 5; ++i) samples.Add(0);
  EXPECT_EQ(samples.Percentile(99), 0);
  EXPECT_EQ(samples.deviation(), 0);
}

// The largest distance between drawn and true distribution at the stored points, times sqrt(n):
// Kolmogorov's statistic is below 1.95 in all but 1 of 1,000 draws, and the seed is fixed.
double KolmogorovOf(std::vector<double> drawn, const json::object& c) {
  std::sort(drawn.begin(), drawn.end());
  const auto x = Numbers(c.at("x")), cdf = Numbers(c.at("cdf"));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto below = std::upper_bound(drawn.begin(), drawn.end(), x[i]) - drawn.begin();
    worst = std::max(
        worst, std::abs(static_cast<double>(below) / static_cast<double>(drawn.size()) - cdf[i]));
  }
  return worst * std::sqrt(static_cast<double>(drawn.size()));
}

TEST(RngTest, DistributionsAreScipys) {
  for (const auto& item : Golden().at("continuous").as_array()) {
    const json::object& c = item.as_object();
    const double shape = c.at("shape").to_number<double>();
    const std::string_view name = c.at("name").as_string();
    for (const uint64_t seed : {1u, 2u, 77u}) {
      Rng rng(seed);
      std::vector<double> drawn(20'000);
      for (double& v : drawn) {
        v = name == "gamma"    ? rng.Gamma(shape)
            : name == "normal" ? rng.Normal()
                               : rng.Exponential();
      }
      EXPECT_LT(KolmogorovOf(std::move(drawn), c), 1.95)
          << name << " " << shape << " seed " << seed;
    }
  }
}

TEST(ArrivalsTest, GapsFollowTheirProcess) {
  constexpr double kRate = 12.5;
  for (const auto& item : Golden().at("continuous").as_array()) {
    const json::object& c = item.as_object();
    const std::string_view name = c.at("name").as_string();
    if (name == "normal") continue;
    const double shape = c.at("shape").to_number<double>();
    Arrivals arrivals(name == "gamma" ? ArrivalKind::kGamma : ArrivalKind::kPoisson, kRate, shape,
                      5);
    std::vector<double> gaps(20'000);
    double last = arrivals.Next(), sum = 0;
    EXPECT_EQ(last, 0);
    for (double& gap : gaps) {
      const double at = arrivals.Next();
      gap = (at - last) * kRate * shape;  // in units of the standard gamma's scale
      sum += at - last;
      last = at;
      ASSERT_GE(gap, 0);
    }
    EXPECT_LT(KolmogorovOf(std::move(gaps), c), 1.95) << name << " " << shape;
    EXPECT_NEAR(sum / 20'000 * kRate, 1,
                5 / std::sqrt(20'000 * shape));  // the mean rate, whatever the shape
  }
}

TEST(ArrivalsTest, ConstantDoesNotDrift) {
  Arrivals arrivals(ArrivalKind::kConstant, 3, 1, 1);
  for (int i = 0; i < 3'000'000; ++i) arrivals.Next();
  EXPECT_DOUBLE_EQ(arrivals.Next(), 1'000'000);
}

TEST(ArrivalsTest, SeedDecides) {
  Arrivals a(ArrivalKind::kPoisson, 1, 1, 9), b(ArrivalKind::kPoisson, 1, 1, 9),
      c(ArrivalKind::kPoisson, 1, 1, 10);
  a.Next(), b.Next(), c.Next();
  const double first = a.Next();
  EXPECT_EQ(first, b.Next());
  EXPECT_NE(first, c.Next());
}

TEST(LengthsTest, FrequenciesAreScipys) {
  for (const auto& item : Golden().at("lengths").as_array()) {
    const json::object& c = item.as_object();
    auto lengths = LengthDistribution::Parse(std::string_view(c.at("text").as_string()));
    ASSERT_TRUE(lengths.ok()) << lengths.status().message();
    const auto edges = Numbers(c.at("edges")), p = Numbers(c.at("p"));
    std::vector<double> seen(p.size());
    constexpr int kDraws = 50'000;
    Rng rng(3);
    for (int i = 0; i < kDraws; ++i) {
      const int length = lengths->Draw(rng);
      ASSERT_GE(length, edges[0]);
      ++seen[static_cast<size_t>(std::upper_bound(edges.begin(), edges.end(), length) -
                                 edges.begin() - 1)];
    }
    double chi_square = 0;
    for (size_t i = 0; i < p.size(); ++i)
      chi_square += std::pow(seen[i] - p[i] * kDraws, 2) / (p[i] * kDraws);
    EXPECT_LT(chi_square, c.at("limit").to_number<double>()) << c.at("text");
  }
}

TEST(LengthsTest, BoundsHoldAndBadTextIsRefused) {
  Rng rng(1);
  auto lengths = LengthDistribution::Parse("lognormal:50,200,10,90");
  ASSERT_TRUE(lengths.ok());
  for (int i = 0; i < 2000; ++i) {
    const int n = lengths->Draw(rng);
    EXPECT_TRUE(n >= 10 && n <= 90) << n;
  }
  EXPECT_EQ(LengthDistribution::Parse("17")->Draw(rng), 17);
  for (const char* bad : {"", "abc", "uniform:5", "uniform:9,3", "uniform:1.5,3", "normal:5",
                          "normal:5,-1", "normal:5,1,3", "lognormal:0,1", "zipf:1,2", "zipf:-1,1,5",
                          "beta:1,2", "-4", "1e30", "nan", "fixed:1,2"}) {
    const auto parsed = LengthDistribution::Parse(bad);
    EXPECT_EQ(parsed.status().code(), Code::kInvalidArgument) << bad;
    EXPECT_NE(parsed.status().message().find(std::string("\"") + bad + "\""), std::string::npos);
  }
}

TEST(SloTest, ParsesUnitsAndJudges) {
  auto slo = Slo::Parse("ttft=500ms,tpot:50,e2e=2s,itl=750us");
  ASSERT_TRUE(slo.ok());
  EXPECT_EQ(slo->ToString(), "ttft=500ms,tpot=50ms,itl=0.75ms,e2e=2000ms");
  EXPECT_TRUE(Meets(*slo, {500, 50, 2000, 0.75}));
  EXPECT_FALSE(Meets(*slo, {501, 1, 1, 0.1}));
  EXPECT_FALSE(Meets(*slo, {1, 51, 1, 0.1}));
  EXPECT_FALSE(Meets(*slo, {1, 1, 2001, 0.1}));
  EXPECT_FALSE(Meets(*slo, {1, 1, 1, 0.8}));
  EXPECT_TRUE(Slo::Parse("")->empty());
  for (const char* bad : {"ttft", "ttft=", "ttft=5m", "ttft=0", "ttft=-3", "x=3", "ttft=1,ttft=2",
                          "tpot=1 ms", "e2e=inf"}) {
    EXPECT_EQ(Slo::Parse(bad).status().code(), Code::kInvalidArgument) << bad;
  }
}

TEST(TallyTest, CountsFromTheIntendedTimeAndKeepsBoth) {
  Tally tally(*Slo::Parse("ttft=100ms"));
  RequestRecord r{.intended_s = 1,
                  .sent_s = 3,
                  .first_s = 3.05,
                  .end_s = 4.05,
                  .output_tokens = 11,
                  .chunks = 11,
                  .counted_by_usage = true};
  const std::vector<float> gaps(10, 100.0f);
  tally.OnSent(1, 3);
  tally.OnDone(r, gaps);
  EXPECT_NEAR(tally.ttft.mean(), 2050, 1e-3);        // the two seconds of waiting count
  EXPECT_NEAR(tally.service_ttft.mean(), 50, 1e-3);  // what the server took
  EXPECT_NEAR(tally.e2e.mean(), 3050, 1e-3);
  EXPECT_NEAR(tally.service_e2e.mean(), 1050, 1e-3);
  EXPECT_NEAR(tally.tpot.mean(), 100, 1e-3);
  EXPECT_NEAR(tally.send_lag.mean(), 2000, 1e-3);
  EXPECT_EQ(tally.itl.count(), 10u);
  EXPECT_EQ(tally.good, 0u);  // late by the client's view, so not good
}

TEST(TallyTest, ErrorsByKindWithTheFirstMessage) {
  Tally tally;
  const auto fail = [&](Failure kind, int status, const char* message) {
    RequestRecord r;
    r.failure = kind;
    r.http_status = status;
    r.message = message;
    tally.OnSent(0, 0);
    tally.OnDone(r, {});
  };
  fail(Failure::kStatus, 503, "first");
  fail(Failure::kStatus, 503, "second");
  fail(Failure::kStatus, 400, "bad");
  fail(Failure::kConnect, 0, "refused");
  fail(Failure::kCancelled, 0, "");
  EXPECT_EQ(tally.failed, 4u);
  EXPECT_EQ(tally.cancelled, 1u);
  ASSERT_EQ(tally.errors.size(), 3u);
  EXPECT_EQ(tally.errors[0].count, 2u);
  EXPECT_EQ(tally.errors[0].first_message, "first");
  EXPECT_EQ(tally.in_flight, 0u);
}

TEST(TimelineTest, KeepsTheSumInBoundedSlots) {
  Timeline line;
  Rng rng(4);
  double sum = 0;
  for (int i = 0; i < 20'000; ++i) {
    const double amount = static_cast<double>(rng.Below(5));
    line.Add(rng.Uniform() * 0.9 * i, amount);
    sum += amount;
  }
  double total = 0;
  for (const double slot : line.slots()) total += slot;
  EXPECT_EQ(total, sum);
  EXPECT_LE(line.slots().size(), 1024u);
}

}  // namespace
}  // namespace baton::bench::serving
