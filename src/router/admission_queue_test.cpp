#include "router/admission_queue.h"

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace baton::router {
namespace {

using Verdict = AdmissionQueue::Verdict;
constexpr TimePoint kStart{std::chrono::hours(1)};

AdmissionRules Rules(int64_t most, size_t queue = 100) {
  AdmissionRules rules;
  rules.max_concurrent = most;
  rules.queue_size = queue;
  return rules;
}

TEST(AdmissionQueue, CapThenQueueThenFull) {
  AdmissionQueue q(Rules(2, 1));
  EXPECT_EQ(q.Offer(1, "", 1, kStart).verdict, Verdict::kAdmitted);
  EXPECT_EQ(q.Offer(2, "", 1, kStart).verdict, Verdict::kAdmitted);
  EXPECT_EQ(q.Offer(3, "", 1, kStart).verdict, Verdict::kQueued);
  EXPECT_EQ(q.Offer(4, "", 1, kStart).verdict, Verdict::kFull);
  EXPECT_EQ(q.Next(kStart + 50s), std::nullopt);  // time alone frees nothing
  q.End();
  EXPECT_EQ(q.Next(kStart), 3u);
  EXPECT_EQ(q.Next(kStart), std::nullopt);
  EXPECT_EQ(q.running(), 2);
}

TEST(AdmissionQueue, NobodyPassesAWaitingOne) {
  AdmissionQueue q(Rules(1));
  q.Offer(1, "", 1, kStart);
  q.Offer(2, "", 1, kStart);
  q.End();
  EXPECT_EQ(q.Offer(3, "", 1, kStart).verdict, Verdict::kQueued);
  EXPECT_EQ(q.Next(kStart), 2u);
}

TEST(AdmissionQueue, DeadlineAndCancelFreePlaces) {
  AdmissionQueue q(Rules(1, 2));
  q.Offer(1, "", 1, kStart);
  q.Offer(2, "", 1, kStart);
  q.Offer(3, "", 1, kStart + 1s);
  EXPECT_EQ(q.WakeAt(), kStart + 60s);
  EXPECT_TRUE(q.Cancel(2));
  EXPECT_FALSE(q.Cancel(2));
  EXPECT_EQ(q.Offer(4, "", 1, kStart + 2s).verdict, Verdict::kQueued);
  EXPECT_EQ(q.Expire(kStart + 60s), std::vector<uint64_t>());
  EXPECT_EQ(q.Expire(kStart + 61s), std::vector<uint64_t>{3});
  EXPECT_EQ(q.waiting(), 1u);
  EXPECT_EQ(q.Clear(), std::vector<uint64_t>{4});
  EXPECT_EQ(q.WakeAt(), std::nullopt);
}

TEST(AdmissionQueue, RateLimitsAndSaysWhenToLookAgain) {
  AdmissionRules rules = Rules(-1);
  rules.rate_per_second = 2;
  AdmissionQueue q(rules);
  EXPECT_EQ(q.Offer(1, "", 1, kStart).verdict, Verdict::kAdmitted);
  EXPECT_EQ(q.Offer(2, "", 1, kStart).verdict, Verdict::kAdmitted);
  EXPECT_EQ(q.Offer(3, "", 1, kStart).verdict, Verdict::kQueued);
  EXPECT_EQ(q.Offer(4, "", 1, kStart).verdict, Verdict::kQueued);
  EXPECT_EQ(q.Next(kStart + 400ms), std::nullopt);
  ASSERT_TRUE(q.WakeAt());
  EXPECT_LE(*q.WakeAt(), kStart + 501ms);
  EXPECT_EQ(q.Next(*q.WakeAt()), 3u);
  EXPECT_EQ(q.Next(kStart + 600ms), std::nullopt);
  EXPECT_EQ(q.Next(*q.WakeAt()), 4u);
}

TEST(AdmissionQueue, HoldStopsEveryone) {
  AdmissionQueue q(Rules(-1));
  q.Hold(true);
  EXPECT_EQ(q.Offer(1, "", 1, kStart).verdict, Verdict::kQueued);
  EXPECT_EQ(q.Next(kStart), std::nullopt);
  q.Hold(false);
  EXPECT_EQ(q.Next(kStart), 1u);
}

// Random arrivals, ends, cancels and time against a plain model: FIFO, never above the cap, every
// free place used, everyone accounted for exactly once.
TEST(AdmissionQueue, FifoUnderRandomLife) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    std::mt19937_64 random(seed);
    const auto most = static_cast<int64_t>(1 + random() % 5);
    const size_t room = random() % 8;
    AdmissionQueue q(Rules(most, room));
    std::deque<std::pair<uint64_t, TimePoint>> waiting;
    int64_t running = 0;
    TimePoint now = kStart;
    uint64_t next = 0;
    for (int step = 0; step < 2000; ++step) {
      now += std::chrono::milliseconds(random() % 3000);
      for (const uint64_t id : q.Expire(now)) {
        ASSERT_FALSE(waiting.empty());
        ASSERT_EQ(waiting.front().first, id);
        ASSERT_LE(waiting.front().second + 60s, now);
        waiting.pop_front();
      }
      if (!waiting.empty()) { ASSERT_GT(waiting.front().second + 60s, now); }
      switch (random() % 4) {
        case 0:
        case 1: {
          const uint64_t id = ++next;
          const auto offered = q.Offer(id, "t", 1 + random() % 50, now);
          ASSERT_EQ(offered.displaced, std::nullopt);
          if (running < most && waiting.empty()) {
            ASSERT_EQ(offered.verdict, Verdict::kAdmitted);
            ++running;
          } else if (waiting.size() < room) {
            ASSERT_EQ(offered.verdict, Verdict::kQueued);
            waiting.emplace_back(id, now);
          } else {
            ASSERT_EQ(offered.verdict, Verdict::kFull);
          }
          break;
        }
        case 2:
          if (running > 0) {
            q.End();
            --running;
          }
          break;
        case 3:
          if (!waiting.empty()) {
            const size_t at = random() % waiting.size();
            ASSERT_TRUE(q.Cancel(waiting[at].first));
            waiting.erase(waiting.begin() + static_cast<ptrdiff_t>(at));
          }
          break;
      }
      while (const auto id = q.Next(now)) {
        ASSERT_FALSE(waiting.empty());
        ASSERT_EQ(*id, waiting.front().first);
        waiting.pop_front();
        ++running;
      }
      ASSERT_EQ(q.running(), running);
      ASSERT_LE(running, most);
      ASSERT_EQ(q.waiting(), waiting.size());
      ASSERT_TRUE(waiting.empty() || running == most);  // no lost wake-up
    }
  }
}

TEST(AdmissionQueue, TenantsShareByCost) {
  AdmissionRules rules = Rules(1, 10'000);
  rules.fair = true;
  AdmissionQueue q(rules);
  q.Offer(0, "x", 1, kStart);
  std::map<uint64_t, std::pair<std::string, uint32_t>> all;
  uint64_t id = 0;
  // One asks a lot, one asks big, one asks little.
  for (int i = 0; i < 3000; ++i) all[++id] = {"many", 1};
  for (int i = 0; i < 300; ++i) all[++id] = {"big", 10};
  for (int i = 0; i < 20; ++i) all[++id] = {"few", 1};
  for (const auto& [n, what] : all) ASSERT_EQ(q.Offer(n, what.first, what.second, kStart).verdict, Verdict::kQueued);
  std::map<std::string, int64_t> served;
  int few_done_after = 0;
  for (int i = 0; i < 700; ++i) {
    q.End();
    const auto next = q.Next(kStart);
    ASSERT_TRUE(next);
    served[all[*next].first] += all[*next].second;
    if (all[*next].first == "few") few_done_after = i;
  }
  EXPECT_LT(few_done_after, 100);  // not behind the thousands that came before
  EXPECT_NEAR(static_cast<double>(served["many"]), static_cast<double>(served["big"]), 64);
}

TEST(AdmissionQueue, FifoWithinATenant) {
  AdmissionRules rules = Rules(1, 1000);
  rules.fair = true;
  AdmissionQueue q(rules);
  q.Offer(0, "x", 1, kStart);
  std::mt19937_64 random(6);
  std::map<uint64_t, std::string> tenant;
  for (uint64_t id = 1; id < 500; ++id) {
    tenant[id] = fmt::format("t{}", random() % 5);
    q.Offer(id, tenant[id], static_cast<uint32_t>(1 + random() % 40), kStart);
  }
  std::map<std::string, uint64_t> last;
  size_t served = 0;
  q.End();
  while (const auto id = q.Next(kStart)) {
    EXPECT_GT(*id, last[tenant[*id]]);
    last[tenant[*id]] = *id;
    ++served;
    q.End();
  }
  EXPECT_EQ(served, 499u);  // no starvation
}

TEST(AdmissionQueue, AFullQueueGivesUpTheHogsLast) {
  AdmissionRules rules = Rules(1, 4);
  rules.fair = true;
  AdmissionQueue q(rules);
  q.Offer(1, "hog", 1, kStart);
  for (uint64_t id = 2; id <= 5; ++id) q.Offer(id, "hog", 1, kStart);
  EXPECT_EQ(q.Offer(6, "hog", 1, kStart).verdict, Verdict::kFull);
  auto offered = q.Offer(7, "small", 1, kStart);
  EXPECT_EQ(offered.verdict, Verdict::kQueued);
  EXPECT_EQ(offered.displaced, 5u);
  offered = q.Offer(8, "small", 1, kStart);
  EXPECT_EQ(offered.displaced, 4u);
  EXPECT_EQ(q.Offer(9, "small", 1, kStart).verdict, Verdict::kFull);  // even now
  EXPECT_EQ(q.waiting(), 4u);
}

}  // namespace
}  // namespace baton::router
