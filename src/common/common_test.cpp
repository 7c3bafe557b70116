// bytes.h, half.h, json.h, metrics.h, status.h: the small things everything stands on.
#include <cmath>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "common/half.h"
#include "common/json.h"
#include "common/metrics.h"
#include "common/status.h"

namespace baton {
namespace {

TEST(Half, EveryHalfSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const Half half{static_cast<uint16_t>(bits)};
    const float f = ToFloat(half);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(ToFloat(ToHalf(f))));
    } else {
      ASSERT_EQ(ToHalf(f).bits, half.bits) << bits;
    }
    const BFloat16 b{static_cast<uint16_t>(bits)};
    if (!std::isnan(ToFloat(b))) {
      ASSERT_EQ(ToBFloat16(ToFloat(b)).bits, b.bits);
    }
  }
}

TEST(Half, RoundsToNearestEven) {
  std::mt19937 random(1);
  for (int i = 0; i < 200000; ++i) {
    const float f = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (std::isnan(f)) continue;
    const float mine = ToFloat(ToHalf(f));
    if (std::abs(f) >= 65520.0f) {
      ASSERT_TRUE(std::isinf(mine));
      continue;
    }
    // No representable neighbour is nearer.
    const Half h = ToHalf(std::abs(f));
    const double error = std::abs(double(ToFloat(h)) - std::abs(f));
    for (const int step : {-1, 1}) {
      const Half neighbour{static_cast<uint16_t>(h.bits + step)};
      if (h.bits == 0 && step < 0) continue;
      const double other = std::abs(double(ToFloat(neighbour)) - std::abs(f));
      ASSERT_LE(error, other) << f;
      if (error == other && !std::isinf(ToFloat(neighbour))) {
        ASSERT_EQ(h.bits % 2, 0) << f;
      }
    }
  }
}

TEST(Bytes, ReaderNeverReadsPastTheEnd) {
  ByteWriter w;
  w.Put<uint32_t>(7);
  w.PutString("abc");
  const int32_t values[] = {1, 2, 3};
  w.PutArray<int32_t>(values);
  for (size_t n = 0; n < w.bytes().size(); ++n) {
    ByteReader r(std::string_view(w.bytes()).substr(0, n));
    r.Get<uint32_t>();
    r.GetString(100);
    r.GetArray<int32_t>(100);
    EXPECT_FALSE(r.Finish().ok()) << n;
  }
  ByteReader bounded(w.bytes());
  bounded.Get<uint32_t>();
  EXPECT_TRUE(bounded.GetString(2).empty());
  EXPECT_TRUE(bounded.failed());
}

TEST(Json, KeepsBigIntegersAndRefusesBadText) {
  const auto v = json::Parse(R"({"room": 9223372036854775807})");
  ASSERT_TRUE(v.ok());
  EXPECT_EQ(v->at("room").as_int64(), INT64_MAX);
  for (const char* bad : {"", "{", "{} x", "{\"a\":}", "\"\xff\"", "[1,]", "nul", "\"\xed\xa0\x80\""}) {
    const auto parsed = json::Parse(bad);
    EXPECT_FALSE(parsed.ok()) << bad;
  }
  EXPECT_FALSE(json::Parse(std::string(100, '[') + std::string(100, ']')).ok());
}

TEST(Json, Utf8Validation) {
  for (const char* good : {"", "abc", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xef\xbf\xbf"}) EXPECT_TRUE(json::IsValidUtf8(good));
  for (const char* bad : {"\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x80\x80\x80", "\xff"}) {
    EXPECT_FALSE(json::IsValidUtf8(bad));
  }
}

TEST(Metrics, RendersPrometheusText) {
  metrics::Registry registry(metrics::Labels{{"model_name", "a\"b"}});
  registry.AddCounter("requests_total", "Requests", {{"code", "200"}})->Add(3);
  EXPECT_EQ(registry.AddCounter("requests_total", "Requests", {{"code", "200"}})->value(), 3);
  auto* h = registry.AddHistogram("seconds", "Time", {0.1, 1});
  h->Observe(0.05);
  h->Observe(0.1);
  h->Observe(5);
  const std::string text = registry.Render();
  EXPECT_NE(text.find("requests_total{model_name=\"a\\\"b\",code=\"200\"} 3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("seconds_bucket{model_name=\"a\\\"b\",le=\"0.1\"} 2\n"), std::string::npos) << text;
  EXPECT_NE(text.find("seconds_bucket{model_name=\"a\\\"b\",le=\"+Inf\"} 3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("# TYPE seconds histogram\n"), std::string::npos);
}

TEST(Status, EachCodeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (size_t code = 0; code < kCodeCount; ++code) names.insert(CodeName(static_cast<Code>(code)));
  EXPECT_EQ(names.size(), kCodeCount);
  EXPECT_FALSE(names.contains(""));
  EXPECT_EQ(CodeName(Code::kInternal), "internal");
  EXPECT_EQ(CodeName(Code::kUnreachable), "unreachable");
}

}  // namespace
}  // namespace baton
