#include "router/policy.h"

#include <array>
#include <map>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace baton::router {
namespace {

constexpr TimePoint kStart{std::chrono::hours(1)};

std::vector<Candidate> Fleet(std::vector<int64_t> loads) {
  std::vector<Candidate> fleet;
  for (size_t i = 0; i < loads.size(); ++i) {
    fleet.push_back({i * 10, loads[i], HashText(fmt::format("http://w{}:1", i)), {}});
  }
  return fleet;
}

LoadEstimate Reported(double tokens, double capacity = 0) {
  LoadEstimate e;
  e.fresh = true;
  e.tokens = tokens;
  if (capacity > 0) {
    e.usage = tokens / capacity;
    e.free_tokens = static_cast<int64_t>(capacity - tokens);
  }
  return e;
}

PrefixDigest Digest(std::string_view text) {
  PrefixDigestBuilder builder;
  builder.Feed(text);
  return builder.Finish();
}

constexpr std::array kAllKinds = {
    PolicyKind::kRandom,     PolicyKind::kRoundRobin, PolicyKind::kPowerOfTwo,
    PolicyKind::kLeastLoad,  PolicyKind::kCacheAware, PolicyKind::kPrefixHash,
    PolicyKind::kConsistentHashing, PolicyKind::kManual, PolicyKind::kBucket};

TEST(Policy, NamesRoundTrip) {
  for (PolicyKind kind : kAllKinds) {
    const auto parsed = ParsePolicy(PolicyName(kind));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, kind);
  }
  EXPECT_NE(ParsePolicy("roundrobin").status().message().find("least_load"), std::string::npos);
  EXPECT_TRUE(ParseAssignment("min_group").ok());
  EXPECT_NE(ParseAssignment("max").status().message().find("min_load"), std::string::npos);
}

TEST(Policy, AnyPolicyPicksSomeoneWhateverTheHints) {
  std::mt19937_64 random(9);
  for (PolicyKind kind : kAllKinds) {
    Policy policy(kind, 1);
    for (uint64_t order = 0; order < 70; order += 10) policy.Join(order);
    for (int i = 0; i < 300; ++i) {
      auto fleet = Fleet(std::vector<int64_t>(1 + random() % 7, static_cast<int64_t>(random() % 3)));
      for (Candidate& c : fleet) {
        if (random() % 3 == 0) c.reported = Reported(static_cast<double>(random() % 100), random() % 2 ? 200 : 0);
        if (random() % 5 == 0) c.reported.failing = true;
      }
      const PrefixDigest digest = Digest(std::string(random() % 400, static_cast<char>('a' + random() % 3)));
      const std::string key = random() % 2 ? fmt::format("k{}", random() % 9) : "";
      const PickHints hints{random() % 4 ? &digest : nullptr, key, kStart + std::chrono::seconds(i)};
      Policy::Matches matches;
      policy.Look(hints, &matches);
      const size_t picked = policy.Pick(fleet, hints, matches);
      ASSERT_LT(picked, fleet.size());
      policy.Placed(hints, fleet[picked].order);
      if (random() % 20 == 0) policy.Forget(fleet[0].order, random() % 2);
    }
  }
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

TEST(Policy, AFailedPollRepels) {
  for (PolicyKind kind : {PolicyKind::kPowerOfTwo, PolicyKind::kLeastLoad}) {
    Policy policy(kind, 3);
    auto fleet = Fleet({500, 0});
    fleet[0].reported = Reported(1e6);
    fleet[1].reported.failing = true;
    for (int i = 0; i < 50; ++i) EXPECT_EQ(policy.Pick(fleet), 0u);
    fleet[0].reported = {};  // tells nothing: still better than one that does not answer
    for (int i = 0; i < 50; ++i) EXPECT_EQ(policy.Pick(fleet), 0u);
  }
}

TEST(Policy, ReportedLoadDecidesOnlyWhenAllReport) {
  Policy policy(PolicyKind::kLeastLoad, 3);
  auto fleet = Fleet({1, 9});
  fleet[0].reported = Reported(900, 1000);
  fleet[1].reported = Reported(1000, 4000);
  EXPECT_EQ(policy.Pick(fleet), 1u);  // the emptier one, though it has more tokens and requests
  fleet[0].reported = Reported(900);
  EXPECT_EQ(policy.Pick(fleet), 0u);  // capacities unknown: tokens
  fleet[1].reported = {};
  EXPECT_EQ(policy.Pick(fleet), 0u);  // one unknown: requests
}

TEST(Policy, RandomReachesEveryoneAboutEvenly) {
  Policy policy(PolicyKind::kRandom, 17);
  std::array<int, 4> counts{};
  for (int i = 0; i < 4000; ++i) ++counts[policy.Pick(Fleet({0, 100, 0, 100}))];
  for (int count : counts) EXPECT_NEAR(count, 1000, 150);
}

// A cache_aware policy and a way to send it a prompt.
struct CacheAware {
  explicit CacheAware(PolicyRules rules = {}) : policy(PolicyKind::kCacheAware, 1, rules) {}
  uint64_t Send(const std::vector<Candidate>& fleet, std::string_view text) {
    for (const Candidate& c : fleet) {
      if (!left.contains(c.order)) policy.Join(c.order);
    }
    const PrefixDigest digest = Digest(text);
    const PickHints hints{&digest, "", kStart};
    Policy::Matches matches;
    policy.Look(hints, &matches);
    const uint64_t order = fleet[policy.Pick(fleet, hints, matches)].order;
    policy.Placed(hints, order);
    return order;
  }
  void Leave(uint64_t order) {
    policy.Forget(order, true);
    left.insert(order);
  }
  Policy policy;
  std::set<uint64_t> left;
};

TEST(CacheAware, ConversationsStayAndSpread) {
  CacheAware sender;
  const auto fleet = Fleet({0, 0, 0});
  const std::string system(2000, 's');  // shared: must not draw everyone to one worker
  std::map<uint64_t, int> per_worker;
  for (int user = 0; user < 30; ++user) {
    std::string text = system + std::string(3000, static_cast<char>('A' + user)) + "hello";
    // The shared part is below the threshold of this policy.
    const uint64_t home = sender.Send(fleet, text);
    ++per_worker[home];
    for (int turn = 0; turn < 5; ++turn) {
      text += std::string(500, static_cast<char>('a' + turn));
      EXPECT_EQ(sender.Send(fleet, text), home) << user << " " << turn;
    }
  }
  for (const auto& [order, count] : per_worker) EXPECT_GE(count, 1);
}

TEST(CacheAware, EqualMatchesGoToTheLeastLoaded) {
  CacheAware sender;
  const std::string text(1000, 'x');
  auto fleet = Fleet({0, 0, 0});
  sender.Send(Fleet({0, 9, 9}), text);
  PolicyRules rules;
  rules.balance_abs = 0;
  rules.balance_rel = 1;
  // Out of balance: goes to the idle worker, which then holds the prefix as well.
  CacheAware strict(rules);
  EXPECT_EQ(strict.Send(Fleet({0, 9, 9}), text), 0u);
  EXPECT_EQ(strict.Send(Fleet({5, 1, 9}), text), 10u);
  EXPECT_EQ(strict.Send(Fleet({3, 3, 3}), text + "more"), strict.Send(Fleet({3, 3, 3}), text + "more"));
  const uint64_t picked = strict.Send(Fleet({3, 3, 3}), text);
  EXPECT_NE(picked, 20u);  // the third has never seen it
}

TEST(CacheAware, ThresholdsDecide) {
  PolicyRules rules;
  rules.cache_threshold = 0.5;
  CacheAware sender(rules);
  const std::string head(1000, 'h');
  EXPECT_EQ(sender.Send(Fleet({0, 1}), head), 0u);
  EXPECT_EQ(sender.Send(Fleet({1, 0}), head + std::string(300, 'm')), 0u) << "more than half";
  // 64 more in flight than the other is balanced still, 65 is not.
  EXPECT_EQ(sender.Send(Fleet({64, 0}), head + std::string(300, 'm')), 0u);
  EXPECT_EQ(sender.Send(Fleet({265, 200}), head + std::string(200, 'o')), 0u);  // abs, but not rel
  EXPECT_EQ(sender.Send(Fleet({65, 0}), head + std::string(300, 'm')), 10u);
  CacheAware other(rules);
  EXPECT_EQ(other.Send(Fleet({0, 1}), head), 0u);
  EXPECT_EQ(other.Send(Fleet({1, 0}), head + std::string(3000, 'n')), 10u);  // a quarter is too little
}

TEST(CacheAware, ForgottenAndFailingWorkersDoNotAttract) {
  CacheAware sender;
  const std::string text(500, 'x');
  EXPECT_EQ(sender.Send(Fleet({0, 1}), text), 0u);
  EXPECT_EQ(sender.Send(Fleet({1, 0}), text), 0u);
  auto fleet = Fleet({1, 0});
  fleet[0].reported.failing = true;
  EXPECT_EQ(sender.Send(fleet, text), 10u);
  sender.policy.Forget(10, false);
  EXPECT_EQ(sender.Send(Fleet({1, 0}), text), 0u);
  sender.Leave(0);
  EXPECT_EQ(sender.Send(Fleet({1, 0}), text), 10u);
  sender.Leave(10);
  EXPECT_EQ(sender.Send(Fleet({0, 1}), text), 0u);  // late news of workers that are gone
  EXPECT_EQ(sender.policy.TreeMemory(), 0u);
}

TEST(CacheAware, AnAbsentHolderIsNotWaitedFor) {
  CacheAware sender;
  const std::string text(500, 'x');
  auto fleet = Fleet({0, 1, 1});
  EXPECT_EQ(sender.Send(fleet, text), 0u);
  fleet.erase(fleet.begin());
  const uint64_t second = sender.Send(fleet, text);
  EXPECT_NE(second, 0u);
  EXPECT_EQ(sender.Send(fleet, text), second);
}

// Minimal remapping: a worker that leaves moves only its own keys, one that comes takes only what
// becomes its own.
TEST(Hashing, LeavingAndComingMoveOnlyTheirKeys) {
  PolicyRules rules;
  rules.hash_load_factor = 1e9;
  for (PolicyKind kind : {PolicyKind::kConsistentHashing, PolicyKind::kPrefixHash}) {
    Policy policy(kind, 1, rules);
    const auto all = Fleet(std::vector<int64_t>(10, 0));
    auto fewer = all;
    fewer.erase(fewer.begin() + 4);
    std::map<uint64_t, int> counts;
    for (int i = 0; i < 5000; ++i) {
      const std::string key = fmt::format("user-{}", i);
      const PrefixDigest digest = Digest(key);
      const PickHints hints{&digest, key, kStart};
      const uint64_t before = all[policy.Pick(all, hints)].order;
      const uint64_t after = fewer[policy.Pick(fewer, hints)].order;
      ++counts[before];
      if (before != 40) {
        EXPECT_EQ(before, after) << key;
      }
    }
    for (const auto& [order, count] : counts) EXPECT_NEAR(count, 500, 120) << order;
    EXPECT_EQ(counts.size(), 10u);
  }
}

TEST(Hashing, IsTheSameInEveryRouter) {
  Policy a(PolicyKind::kConsistentHashing, 1), b(PolicyKind::kConsistentHashing, 99);
  auto fleet = Fleet(std::vector<int64_t>(5, 0));
  auto other = fleet;
  for (size_t i = 0; i < other.size(); ++i) other[i].order = 1000 + i;
  for (int i = 0; i < 200; ++i) {
    const std::string key = fmt::format("k{}", i);
    EXPECT_EQ(a.Pick(fleet, {nullptr, key, kStart}), b.Pick(other, {nullptr, key, kStart}));
  }
}

TEST(Hashing, LoadsAreBounded) {
  PolicyRules rules;
  rules.hash_load_factor = 1.25;
  Policy policy(PolicyKind::kConsistentHashing, 1, rules);
  auto fleet = Fleet(std::vector<int64_t>(8, 0));
  for (int i = 0; i < 800; ++i) {
    ++fleet[policy.Pick(fleet, {nullptr, "the one hot key", kStart})].load;
    int64_t total = 0;
    for (const Candidate& c : fleet) total += c.load;
    for (const Candidate& c : fleet) {
      ASSERT_LE(static_cast<double>(c.load), std::ceil(1.25 * static_cast<double>(total) / 8) + 1e-9);
    }
  }
}

TEST(Manual, KeysStickUntilIdleOrTheWorkerLeaves) {
  PolicyRules rules;
  rules.max_idle = std::chrono::seconds(100);
  rules.assignment = Assignment::kMinGroup;
  Policy policy(PolicyKind::kManual, 1, rules);
  const auto fleet = Fleet({0, 0, 0});
  std::map<std::string, size_t> home;
  std::map<size_t, int> groups;
  for (int i = 0; i < 30; ++i) {
    const std::string key = fmt::format("s{}", i);
    ++groups[home[key] = policy.Pick(fleet, {nullptr, key, kStart})];
  }
  for (const auto& [worker, count] : groups) EXPECT_EQ(count, 10);
  for (const auto& [key, worker] : home) EXPECT_EQ(policy.Pick(fleet, {nullptr, key, kStart + 99s}), worker);
  policy.Forget(fleet[1].order, true);
  const std::vector<Candidate> left = {fleet[0], fleet[2]};
  for (const auto& [key, worker] : home) {
    const size_t now = policy.Pick(left, {nullptr, key, kStart + 150s});
    if (worker != 1) {
      EXPECT_EQ(left[now].order, fleet[worker].order) << key;
    }
  }
}

TEST(StickyKeys, ForgetsTheIdleAndTheOldest) {
  StickyKeys keys(10s, 3);
  keys.Assign(1, 7, kStart);
  keys.Assign(2, 7, kStart + 1s);
  keys.Assign(3, 8, kStart + 2s);
  EXPECT_EQ(keys.KeysOf(7), 2u);
  EXPECT_EQ(keys.Find(1, kStart + 3s), 7u);  // used: now 2 is the oldest
  keys.Assign(4, 8, kStart + 4s);
  EXPECT_EQ(keys.Find(2, kStart + 4s), std::nullopt);
  EXPECT_EQ(keys.size(), 3u);
  EXPECT_EQ(keys.Find(3, kStart + 12s), std::nullopt);
  EXPECT_EQ(keys.Find(1, kStart + 12s), 7u);
  EXPECT_EQ(keys.Find(1, kStart + 22s), std::nullopt);
  EXPECT_EQ(keys.size(), 0u);
  EXPECT_EQ(keys.KeysOf(7) + keys.KeysOf(8), 0u);
}

TEST(Bucket, IsMonotoneAndSharesTheWorkEvenly) {
  std::mt19937_64 random(4);
  LengthBuckets buckets(5s);
  std::lognormal_distribution<double> lengths(7, 1.5);
  std::array<double, 4> work{};
  for (int i = 0; i < 20'000; ++i) {
    const auto length = static_cast<uint64_t>(lengths(random));
    const size_t bucket = buckets.Place(length, 4, kStart + std::chrono::milliseconds(10 * i));
    ASSERT_LT(bucket, 4u);
    if (i >= 5000) work[bucket] += static_cast<double>(length);
  }
  const double total = work[0] + work[1] + work[2] + work[3];
  for (double w : work) EXPECT_NEAR(w / total, 0.25, 0.08);
  const TimePoint end = kStart + 1h;
  buckets.Place(1000, 4, end);
  size_t last = 0;
  for (uint64_t length = 1; length < 1'000'000; length += 1 + length / 50) {
    const size_t bucket = buckets.Place(length, 4, end);
    EXPECT_GE(bucket, last) << length;
    last = bucket;
  }
  EXPECT_EQ(last, 3u);
}

TEST(Bucket, FollowsTheTraffic) {
  LengthBuckets buckets(5s);
  TimePoint now = kStart;
  for (int i = 0; i < 1000; ++i) buckets.Place(100 + i % 10, 2, now += 50ms);
  for (int i = 0; i < 1000; ++i) buckets.Place(i % 2 ? 10'000 : 20'000, 2, now += 50ms);
  EXPECT_EQ(buckets.Place(10'000, 2, now), 0u);
  EXPECT_EQ(buckets.Place(20'000, 2, now), 1u);
}

}  // namespace
}  // namespace baton::router
