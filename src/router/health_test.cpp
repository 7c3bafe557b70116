#include "router/health.h"

#include <gtest/gtest.h>

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
  EXPECT_TRUE(health.OnConnectionFailure(kStart));
  EXPECT_FALSE(health.OnConnectionFailure(kStart));
  EXPECT_FALSE(health.OnProbe(false, 1s, kStart).dead);
  EXPECT_TRUE(health.OnProbe(false, 1s, kStart).dead);
  EXPECT_FALSE(health.OnProbe(false, 1s, kStart).dead);
}

TEST(Health, FailedConnectionTakesItOutAndAProbeBringsItBackWithinASecond) {
  HealthState health(HealthRules{});
  health.OnProbe(true, 1ms, kStart);
  EXPECT_TRUE(health.OnConnectionFailure(kStart));
  EXPECT_FALSE(health.healthy());
  EXPECT_LE(health.next_probe(), kStart);
  for (int i = 0; i < 100; ++i) {
    health.OnProbe(false, 1ms, kStart);
    EXPECT_LE(health.next_probe(), kStart + 500ms);
  }
  EXPECT_TRUE(health.OnProbe(true, 1ms, kStart).flipped);
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
  EXPECT_FALSE(health.OnConnectionFailure(kStart));
  EXPECT_TRUE(health.healthy());
}

}  // namespace
}  // namespace baton::router
