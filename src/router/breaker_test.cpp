#include "router/breaker.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace baton::router {
namespace {

using Outcome = Breaker::Outcome;
using State = Breaker::State;

struct Driver {
  explicit Driver(BreakerRules rules) : breaker(rules) {}
  bool Run(Outcome outcome) {
    if (!breaker.Admits(now)) return false;
    breaker.Admit();
    breaker.Settle(outcome, breaker.epoch(), now);
    return true;
  }
  Breaker breaker;
  TimePoint now{std::chrono::hours(1)};
};

BreakerRules Rules() {
  BreakerRules rules;
  rules.failure_threshold = 3;
  rules.success_threshold = 2;
  rules.open_time = 60s;
  rules.window = 120s;
  return rules;
}

TEST(Breaker, OpensAfterFailuresInARow) {
  Driver d(Rules());
  EXPECT_TRUE(d.Run(Outcome::kFailure));
  EXPECT_TRUE(d.Run(Outcome::kFailure));
  EXPECT_TRUE(d.Run(Outcome::kSuccess));
  EXPECT_TRUE(d.Run(Outcome::kFailure));
  EXPECT_TRUE(d.Run(Outcome::kFailure));
  EXPECT_EQ(d.breaker.state(), State::kClosed);
  EXPECT_TRUE(d.Run(Outcome::kFailure));
  EXPECT_EQ(d.breaker.state(), State::kOpen);
  EXPECT_FALSE(d.Run(Outcome::kSuccess));
}

TEST(Breaker, WindowForgetsOldFailures) {
  Driver d(Rules());
  d.Run(Outcome::kFailure);
  d.Run(Outcome::kFailure);
  d.now += 121s;
  d.Run(Outcome::kFailure);
  EXPECT_EQ(d.breaker.state(), State::kClosed);
  d.Run(Outcome::kFailure);
  d.Run(Outcome::kFailure);
  EXPECT_EQ(d.breaker.state(), State::kOpen);
}

TEST(Breaker, CancelsNeverCount) {
  Driver d(Rules());
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(d.Run(Outcome::kNone));
  EXPECT_EQ(d.breaker.state(), State::kClosed);
}

Driver HalfOpen() {
  Driver d(Rules());
  for (int i = 0; i < 3; ++i) d.Run(Outcome::kFailure);
  d.now += 60s;
  EXPECT_TRUE(d.breaker.Admits(d.now));
  EXPECT_EQ(d.breaker.state(), State::kHalfOpen);
  return d;
}

TEST(Breaker, HalfOpenAdmitsABoundedNumber) {
  Driver d = HalfOpen();
  d.breaker.Admit();
  EXPECT_TRUE(d.breaker.Admits(d.now));
  d.breaker.Admit();
  EXPECT_FALSE(d.breaker.Admits(d.now));
}

TEST(Breaker, HalfOpenCancelGivesItsPermitBack) {
  Driver d = HalfOpen();
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(d.Run(Outcome::kNone));
  EXPECT_EQ(d.breaker.state(), State::kHalfOpen);
  EXPECT_TRUE(d.Run(Outcome::kSuccess));
  EXPECT_TRUE(d.Run(Outcome::kSuccess));
  EXPECT_EQ(d.breaker.state(), State::kClosed);
}

TEST(Breaker, HalfOpenFailureOpensAgain) {
  Driver d = HalfOpen();
  d.Run(Outcome::kSuccess);
  d.Run(Outcome::kFailure);
  EXPECT_EQ(d.breaker.state(), State::kOpen);
  d.now += 59s;
  EXPECT_FALSE(d.breaker.Admits(d.now));
  d.now += 1s;
  EXPECT_TRUE(d.breaker.Admits(d.now));
}

TEST(Breaker, OutcomesFromBeforeAStateChangeAreIgnored) {
  Driver d(Rules());
  d.breaker.Admit();
  const uint64_t old = d.breaker.epoch();
  for (int i = 0; i < 3; ++i) d.Run(Outcome::kFailure);
  d.now += 60s;
  ASSERT_TRUE(d.breaker.Admits(d.now));
  d.breaker.Settle(Outcome::kFailure, old, d.now);
  EXPECT_EQ(d.breaker.state(), State::kHalfOpen);
  d.breaker.Admit();
  d.breaker.Settle(Outcome::kNone, old, d.now);  // frees nobody else's permit
  d.breaker.Admit();
  EXPECT_FALSE(d.breaker.Admits(d.now));
}

TEST(Breaker, DisabledAdmitsAlways) {
  BreakerRules rules = Rules();
  rules.enabled = false;
  Driver d(rules);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(d.Run(Outcome::kFailure));
}

// Whatever happens: half open never has more than its bound in flight, closed never holds
// failure_threshold failures, and an open breaker admits again after its time.
TEST(Breaker, RandomHistoriesKeepTheInvariants) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    Driver d(Rules());
    std::vector<uint64_t> running;
    size_t half_open_running = 0;
    uint64_t epoch = d.breaker.epoch();
    for (int step = 0; step < 500; ++step) {
      d.now += std::chrono::seconds(random() % 10);
      if (random() % 2 && d.breaker.Admits(d.now)) {
        d.breaker.Admit();
        running.push_back(d.breaker.epoch());
      } else if (!running.empty()) {
        const size_t i = random() % running.size();
        d.breaker.Settle(static_cast<Outcome>(random() % 3), running[i], d.now);
        running.erase(running.begin() + static_cast<long>(i));
      }
      epoch = d.breaker.epoch();
      half_open_running = static_cast<size_t>(std::count(running.begin(), running.end(), epoch));
      if (d.breaker.state() == State::kHalfOpen) {
        ASSERT_LE(half_open_running, 2u) << seed;
      }
      ASSERT_LT(d.breaker.consecutive_failures(), 3) << seed;
    }
    for (uint64_t admitted : running) d.breaker.Settle(Outcome::kNone, admitted, d.now);
    d.now += 60s;
    EXPECT_TRUE(d.breaker.Admits(d.now)) << seed;
  }
}

}  // namespace
}  // namespace baton::router
