#include "router/health.h"

#include <random>

#include <gtest/gtest.h>

#include "router/registry.h"

namespace baton::router {
namespace {

constexpr TimePoint kStart{std::chrono::hours(1)};

TEST(Health, StartsOutAndComesInWithTheFirstGoodProbe) {
  HealthState health(HealthRules{});
  EXPECT_FALSE(health.healthy());
  EXPECT_LE(health.next_probe(), kStart);
  EXPECT_TRUE(health.OnProbe(true, 1ms, kStart).flipped);
  EXPECT_TRUE(health.healthy());
  EXPECT_EQ(health.next_probe(), kStart + 1s);
}

TEST(Health, OneMissIsForgivenTwoAreNot) {
  HealthState health(HealthRules{});
  health.OnProbe(true, 1ms, kStart);
  EXPECT_FALSE(health.OnProbe(false, 1s, kStart).flipped);
  EXPECT_TRUE(health.healthy());
  EXPECT_LT(health.next_probe(), kStart + 1s);
  const HealthState::Change change = health.OnProbe(false, 1s, kStart + 1s);
  EXPECT_TRUE(change.flipped);
  EXPECT_TRUE(change.dead);
  EXPECT_FALSE(health.healthy());
}

TEST(Health, DeadIsToldOnceAlsoWhenItWasOutAlready) {
  HealthState health(HealthRules{});
  health.OnProbe(true, 1ms, kStart);
  EXPECT_TRUE(health.OnConnectionFailure(true, kStart));
  EXPECT_FALSE(health.OnConnectionFailure(true, kStart));
  EXPECT_FALSE(health.OnProbe(false, 1s, kStart).dead);
  EXPECT_TRUE(health.OnProbe(false, 1s, kStart).dead);
  EXPECT_FALSE(health.OnProbe(false, 1s, kStart).dead);
}

TEST(Health, FailedConnectionTakesItOutAndAProbeBringsItBackWithinASecond) {
  HealthState health(HealthRules{});
  health.OnProbe(true, 1ms, kStart);
  EXPECT_TRUE(health.OnConnectionFailure(true, kStart));
  EXPECT_FALSE(health.healthy());
  EXPECT_LE(health.next_probe(), kStart);
  for (int i = 0; i < 100; ++i) {
    health.OnProbe(false, 1ms, kStart);
    EXPECT_LE(health.next_probe(), kStart + 500ms);
  }
  EXPECT_TRUE(health.OnProbe(true, 1ms, kStart).flipped);
}

// A hundred requests that did not get through in one moment prove no more than one.
TEST(Health, AnUnreachableWorkerIsDecidedByTheNextProbe) {
  HealthState health(HealthRules{});
  health.OnProbe(true, 1ms, kStart);
  const auto fail = [&] {
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(health.OnConnectionFailure(false, kStart));
    EXPECT_TRUE(health.healthy());
    EXPECT_LE(health.next_probe(), kStart) << "probed now";
  };
  fail();
  EXPECT_FALSE(health.OnProbe(true, 1ms, kStart).flipped);
  fail();
  const HealthState::Change change = health.OnProbe(false, 1ms, kStart);
  EXPECT_TRUE(change.flipped);
  EXPECT_TRUE(change.dead);
}

TEST(Health, AProbeThatCouldNotBeMadeSaysNothing) {
  HealthState health(HealthRules{});
  health.OnProbe(true, 1ms, kStart);
  health.OnProbe(false, 1ms, kStart);
  for (int i = 0; i < 10; ++i) {
    health.OnNoProbe(kStart);
    EXPECT_TRUE(health.healthy());
    EXPECT_GT(health.next_probe(), kStart);
    EXPECT_LE(health.next_probe(), kStart + 500ms);
  }
  EXPECT_TRUE(health.OnProbe(false, 1ms, kStart).dead) << "the second in a row that was made";
}

TEST(Health, PatienceFollowsWhatTheWorkerHasShown) {
  HealthState health(HealthRules{});
  EXPECT_EQ(health.patience(), 5s);
  health.OnProbe(true, 1ms, kStart);
  EXPECT_EQ(health.patience(), 1s);
  health.OnProbe(true, 1100ms, kStart);  // SGLang's /health
  EXPECT_EQ(health.patience(), 3300ms);
  health.OnProbe(true, 4s, kStart);
  EXPECT_EQ(health.patience(), 5s);
}

TEST(Health, SuccessThreshold) {
  HealthRules rules;
  rules.success_threshold = 3;
  HealthState health(rules);
  health.OnProbe(true, 1ms, kStart);
  health.OnProbe(true, 1ms, kStart);
  health.OnProbe(false, 1ms, kStart);
  health.OnProbe(true, 1ms, kStart);
  health.OnProbe(true, 1ms, kStart);
  EXPECT_FALSE(health.healthy());
  health.OnProbe(true, 1ms, kStart);
  EXPECT_TRUE(health.healthy());
}

TEST(Health, DisabledIsAlwaysHealthy) {
  HealthRules rules;
  rules.enabled = false;
  HealthState health(rules);
  EXPECT_TRUE(health.healthy());
  EXPECT_FALSE(health.OnConnectionFailure(true, kStart));
  EXPECT_TRUE(health.healthy());
}

// One worker that dies (its host refuses connections, or it is frozen and answers nothing) and comes
// back, at random moments, probed as the prober does.
TEST(Health, OutAfterTwoMissesAndBackWithinASecond) {
  std::mt19937_64 random(1);
  const auto ms = [](int64_t n) { return std::chrono::milliseconds(n); };
  for (int round = 0; round < 500; ++round) {
    const bool frozen = round % 2;
    const TimePoint died = kStart + ms(3000 + static_cast<int64_t>(random() % 3000));
    const TimePoint back = died + ms(6000 + static_cast<int64_t>(random() % 3000));
    HealthState health(HealthRules{});
    TimePoint now = kStart, out{}, in{};
    while (in == TimePoint{} && now < back + 10s) {
      now = std::max(now, health.next_probe());
      const TimePoint asked = now;
      const bool dead = now >= died && now < back;
      // A frozen worker answers a probe that still waits when it thaws.
      const TimePoint answered = !dead ? now + 1ms : frozen ? std::max(back, now) : TimePoint::max();
      const bool good = answered <= asked + health.patience();
      now = good ? answered : frozen ? asked + health.patience() : asked + 1ms;
      health.OnProbe(good, now - asked, now);
      if (out == TimePoint{} && !health.healthy() && now > died) out = now;
      if (out != TimePoint{} && health.healthy()) in = now;
    }
    ASSERT_NE(out, TimePoint{});
    ASSERT_NE(in, TimePoint{});
    // One interval until the first probe meets it, then two misses: a frozen worker takes its
    // patience (one second) each.
    EXPECT_LE(out - died, frozen ? ms(3400) : ms(1400)) << round;
    EXPECT_LE(in - back, ms(1000)) << round;
  }
}

// Whoever watches a worker hears of its death once, also when that came before the watch.
TEST(Health, AWatchTellsOfADeathBeforeIt) {
  RouterOptions options;
  RouterMetrics metrics(false, {});
  const auto registry = std::make_shared<Registry>(options, metrics);
  const auto worker = registry->Add({.url = "http://10.0.0.1:1"});
  ASSERT_TRUE(worker.ok());
  registry->OnProbe(*worker, true, 1ms, kStart);
  auto early = registry->Acquire(Role::kRegular, {}, kStart, {});
  auto late = registry->Acquire(Role::kRegular, {}, kStart, {});
  ASSERT_TRUE(early.ok() && late.ok());
  int told_early = 0, told_late = 0;
  early->Watch([&] { ++told_early; });
  for (int i = 0; i < options.health.failure_threshold; ++i) {
    EXPECT_EQ(told_early, 0);
    registry->OnProbe(*worker, false, 1ms, kStart);
  }
  EXPECT_EQ(told_early, 1);
  late->Watch([&] { ++told_late; });
  EXPECT_EQ(told_late, 1);
  registry->OnProbe(*worker, false, 1ms, kStart);
  EXPECT_EQ(told_early, 1);
  EXPECT_EQ(told_late, 1);
}

}  // namespace
}  // namespace baton::router
