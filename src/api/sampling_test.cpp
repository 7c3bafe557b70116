#include "api/sampling.h"

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

namespace baton::api {
namespace {

constexpr int kVocab = 1000;

struct Case {
  const char* name;
  std::function<void(SamplingParams&)> change;
  const char* field;  // named by the error; "" when the value is fine
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class SamplingTest : public testing::TestWithParam<Case> {};

TEST_P(SamplingTest, AcceptsOrNamesTheField) {
  SamplingParams params;
  GetParam().change(params);
  const Status status = Validate(params, kVocab);
  const std::string field = GetParam().field;
  if (field.empty()) {
    EXPECT_TRUE(status.ok()) << status.ToString();
    return;
  }
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find(field), std::string::npos) << status.message();
}

using P = SamplingParams;

INSTANTIATE_TEST_SUITE_P(
    Values, SamplingTest,
    testing::Values(
        Case{"Defaults", [](P&) {}, ""},
        Case{"Greedy", [](P& p) { p.temperature = 0; }, ""},
        Case{"NegativeTemperature", [](P& p) { p.temperature = -0.1f; }, "temperature"},
        Case{"NanTemperature", [](P& p) { p.temperature = NAN; }, "temperature"},
        Case{"InfiniteTemperature", [](P& p) { p.temperature = INFINITY; }, "temperature"},
        Case{"ZeroTopP", [](P& p) { p.top_p = 0; }, "top_p"},
        Case{"TopPAboveOne", [](P& p) { p.top_p = 1.01f; }, "top_p"},
        Case{"NanTopP", [](P& p) { p.top_p = NAN; }, "top_p"},
        Case{"SmallTopP", [](P& p) { p.top_p = 1e-6f; }, ""},
        Case{"TopKZero", [](P& p) { p.top_k = 0; }, ""},
        Case{"TopKMinusTwo", [](P& p) { p.top_k = -2; }, "top_k"},
        Case{"TopKBeyondVocab", [](P& p) { p.top_k = kVocab * 2; }, ""},
        Case{"MinPOne", [](P& p) { p.min_p = 1; }, ""},
        Case{"MinPNegative", [](P& p) { p.min_p = -0.01f; }, "min_p"},
        Case{"FrequencyBorder", [](P& p) { p.frequency_penalty = -2; }, ""},
        Case{"FrequencyAbove", [](P& p) { p.frequency_penalty = 2.1f; }, "frequency_penalty"},
        Case{"PresenceNan", [](P& p) { p.presence_penalty = NAN; }, "presence_penalty"},
        Case{"RepetitionZero", [](P& p) { p.repetition_penalty = 0; }, "repetition_penalty"},
        Case{"RepetitionTwo", [](P& p) { p.repetition_penalty = 2; }, ""},
        Case{"NoNewTokens", [](P& p) { p.max_new_tokens = 0; }, ""},
        Case{"RestOfContext", [](P& p) { p.max_new_tokens = -1, p.min_new_tokens = 5; }, ""},
        Case{"MaxBelowMinusOne", [](P& p) { p.max_new_tokens = -2; }, "max_new_tokens"},
        Case{"MinAboveMax", [](P& p) { p.max_new_tokens = 3, p.min_new_tokens = 4; }, "min_new_tokens"},
        Case{"MinNegative", [](P& p) { p.min_new_tokens = -1; }, "min_new_tokens"},
        Case{"BiasLastId", [](P& p) { p.logit_bias = {{kVocab - 1, -100.0f}}; }, ""},
        Case{"BiasBeyondVocab", [](P& p) { p.logit_bias = {{kVocab, 1.0f}}; }, "logit_bias"},
        Case{"BiasTooLarge", [](P& p) { p.logit_bias = {{1, 100.5f}}; }, "logit_bias"},
        Case{"StopIdNegative", [](P& p) { p.stop_token_ids = {-1}; }, "stop_token_ids"},
        Case{"EmptyStop", [](P& p) { p.stop = {"a", ""}; }, "stop"},
        Case{"NoSamples", [](P& p) { p.n = 0; }, "n must"},
        Case{"TooManySamples", [](P& p) { p.n = 129; }, "n must"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace baton::api
