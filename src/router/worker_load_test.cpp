#include "router/worker_load.h"

#include <gtest/gtest.h>

namespace baton::router {
namespace {

constexpr TimePoint kStart{std::chrono::hours(1)};

TEST(LoadReport, BothFormsAreRead) {
  const auto loads = ReadLoadReport(R"({"timestamp":1.5,"loads":[
      {"dp_rank":0,"num_running_reqs":3,"num_waiting_reqs":2,"num_used_tokens":100,"max_total_num_tokens":1000},
      {"dp_rank":1,"num_running_reqs":1,"num_waiting_reqs":0,"num_used_tokens":50,"max_total_num_tokens":1000,"num_total_reqs":7}],"aggregate":{}})");
  ASSERT_TRUE(loads);
  EXPECT_EQ(loads->requests, 12);
  EXPECT_EQ(loads->waiting, 2);
  EXPECT_EQ(loads->tokens, 150);
  EXPECT_EQ(loads->capacity, 2000);
  const auto old = ReadLoadReport(R"([{"dp_rank":0,"num_reqs":4,"num_waiting_reqs":1,"num_tokens":77,"ts_tic":1.0}])");
  ASSERT_TRUE(old);
  EXPECT_EQ(old->requests, 4);
  EXPECT_EQ(old->tokens, 77);
  EXPECT_EQ(old->capacity, std::nullopt);
}

TEST(LoadReport, AnythingElseIsNone) {
  for (const char* body : {"", "{", "[]", "{}", "7", R"({"loads":[]})", R"({"loads":{}})", R"([{"num_reqs":1}])",
                           R"({"loads":[{"num_tokens":5}]})", R"(["x"])",
                           R"({"loads":[{"num_used_tokens":144444444444444154444}]})", R"([{"num_tokens":-1e300}])", R"({"choices":[]})"}) {
    EXPECT_FALSE(ReadLoadReport(body)) << body;
  }
}

TEST(LoadTracker, CountsWhatWasSentSince) {
  LoadTracker tracker(3s);
  EXPECT_FALSE(tracker.Estimate(5, kStart).fresh);
  tracker.OnReport({.requests = 4, .waiting = 1, .tokens = 400, .capacity = 1000}, 4, kStart);
  const LoadEstimate same = tracker.Estimate(4, kStart + 1s);
  EXPECT_TRUE(same.fresh);
  EXPECT_DOUBLE_EQ(same.tokens, 400);
  EXPECT_DOUBLE_EQ(same.usage, 0.4);
  EXPECT_EQ(same.free_tokens, 600);
  const LoadEstimate more = tracker.Estimate(7, kStart + 1s);
  EXPECT_DOUBLE_EQ(more.tokens, 700);
  EXPECT_EQ(more.waiting, 4);
  EXPECT_EQ(tracker.Estimate(0, kStart + 1s).tokens, 0);
  EXPECT_EQ(tracker.Estimate(100, kStart + 1s).free_tokens, 0);
  EXPECT_FALSE(tracker.Estimate(4, kStart + 4s).fresh);
}

TEST(LoadTracker, FailureIsWorseThanSilence) {
  LoadTracker tracker(3s);
  tracker.OnReport({.requests = 1, .tokens = 10}, 0, kStart);
  tracker.OnFailure();
  EXPECT_TRUE(tracker.Estimate(0, kStart).failing);
  EXPECT_FALSE(tracker.Estimate(0, kStart).fresh);
  tracker.Reset();
  EXPECT_FALSE(tracker.Estimate(0, kStart).failing);
}

}  // namespace
}  // namespace baton::router
