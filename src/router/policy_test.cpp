#include "router/policy.h"

#include <array>
#include <map>

#include <gtest/gtest.h>

namespace baton::router {
namespace {

std::vector<Candidate> Fleet(std::vector<int64_t> loads) {
  std::vector<Candidate> fleet;
  for (size_t i = 0; i < loads.size(); ++i) fleet.push_back({i * 10, loads[i]});
  return fleet;
}

TEST(Policy, NamesRoundTrip) {
  for (const char* name : {"random", "round_robin", "power_of_two", "least_load"}) {
    ASSERT_TRUE(ParsePolicy(name).ok());
    EXPECT_EQ(PolicyName(*ParsePolicy(name)), name);
  }
  EXPECT_NE(ParsePolicy("roundrobin").status().message().find("least_load"), std::string::npos);
}

TEST(Policy, RoundRobinIsEven) {
  Policy policy(PolicyKind::kRoundRobin, 1);
  const auto fleet = Fleet({0, 0, 0});
  std::vector<size_t> picks;
  for (int i = 0; i < 6; ++i) picks.push_back(policy.Pick(fleet));
  EXPECT_EQ(picks, (std::vector<size_t>{0, 1, 2, 0, 1, 2}));
}

TEST(Policy, RoundRobinSurvivesWorkersLeavingAndComing) {
  Policy policy(PolicyKind::kRoundRobin, 1);
  EXPECT_EQ(policy.Pick(std::vector<Candidate>{{1, 0}, {2, 0}, {3, 0}}), 0u);
  EXPECT_EQ(policy.Pick(std::vector<Candidate>{{1, 0}, {3, 0}}), 1u);  // 2 left: 3 is next
  EXPECT_EQ(policy.Pick(std::vector<Candidate>{{1, 0}, {2, 0}, {3, 0}, {9, 0}}), 3u);
  EXPECT_EQ(policy.Pick(std::vector<Candidate>{{1, 0}, {2, 0}, {3, 0}}), 0u);
}

TEST(Policy, LeastLoadPicksAMinimumAndRotatesAmongEquals) {
  Policy policy(PolicyKind::kLeastLoad, 1);
  std::mt19937_64 random(5);
  for (int i = 0; i < 1000; ++i) {
    std::vector<int64_t> loads(1 + random() % 8);
    for (int64_t& load : loads) load = static_cast<int64_t>(random() % 5);
    const size_t picked = policy.Pick(Fleet(loads));
    EXPECT_EQ(loads[picked], *std::min_element(loads.begin(), loads.end()));
  }
  std::map<size_t, int> counts;
  for (int i = 0; i < 30; ++i) ++counts[policy.Pick(Fleet({2, 2, 2}))];
  EXPECT_EQ(counts[0], 10);
  EXPECT_EQ(counts[1], 10);
  EXPECT_EQ(counts[2], 10);
}

TEST(Policy, PowerOfTwoNeverPicksTheMostLoaded) {
  Policy policy(PolicyKind::kPowerOfTwo, 3);
  std::map<size_t, int> counts;
  for (int i = 0; i < 3000; ++i) ++counts[policy.Pick(Fleet({1, 5, 9}))];
  EXPECT_EQ(counts[2], 0);  // every pair has a less loaded one
  EXPECT_GT(counts[0], counts[1]);
  EXPECT_GT(counts[1], 0);
}

// Balls into bins: with two choices the fullest of n bins stays within a few of the mean.
TEST(Policy, PowerOfTwoKeepsLoadsClose) {
  Policy policy(PolicyKind::kPowerOfTwo, 11);
  auto fleet = Fleet(std::vector<int64_t>(16, 0));
  for (int i = 0; i < 1600; ++i) ++fleet[policy.Pick(fleet)].load;
  for (const Candidate& c : fleet) EXPECT_NEAR(static_cast<double>(c.load), 100, 8);
}

TEST(Policy, RandomReachesEveryoneAboutEvenly) {
  Policy policy(PolicyKind::kRandom, 17);
  std::array<int, 4> counts{};
  for (int i = 0; i < 4000; ++i) ++counts[policy.Pick(Fleet({0, 100, 0, 100}))];
  for (int count : counts) EXPECT_NEAR(count, 1000, 150);
}

TEST(Policy, OneCandidateIsPicked) {
  for (PolicyKind kind : {PolicyKind::kRandom, PolicyKind::kRoundRobin, PolicyKind::kPowerOfTwo,
                          PolicyKind::kLeastLoad}) {
    Policy policy(kind, 1);
    EXPECT_EQ(policy.Pick(Fleet({1000})), 0u);
  }
}

}  // namespace
}  // namespace baton::router
