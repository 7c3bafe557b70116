#include "transfer/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace baton::transfer {
namespace {

using Plan = std::vector<transfer::Run>;

Plan MakePlan(const std::vector<PageId>& source, const std::vector<PageId>& target, PageSlice slice) {
  Plan plan;
  PlanPages(source, target, slice, plan);
  return plan;
}

TEST(PlanPages, JoinsPagesThatFollowEachOtherOnBothSides) {
  const Plan plan = MakePlan({3, 4, 5, 9, 10}, {7, 8, 9, 10, 12}, {100, 0, 100});
  ASSERT_EQ(plan.size(), 3u);
  EXPECT_EQ(plan[0].local_offset, 300u);
  EXPECT_EQ(plan[0].remote_offset, 700u);
  EXPECT_EQ(plan[0].bytes, 300u);
  EXPECT_EQ(plan[1].bytes, 100u);
  EXPECT_EQ(plan[2].remote_offset, 1200u);
}

TEST(PlanPages, SlicesNeverJoin) {
  const Plan plan = MakePlan({0, 1}, {4, 5}, {100, 25, 50});
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[1].local_offset, 125u);
  EXPECT_EQ(plan[1].remote_offset, 525u);
  EXPECT_EQ(plan[1].bytes, 50u);
}

TEST(PlanPages, EmptyInputsPlanNothing) {
  EXPECT_TRUE(MakePlan({}, {}, {100, 0, 100}).empty());
  EXPECT_TRUE(MakePlan({1}, {2}, {100, 50, 0}).empty());
}

TEST(PlanPages, AppendsWithoutJoiningWhatWasThere) {
  Plan plan = {{0, 0, 100}};
  PlanPages(std::vector<PageId>{1}, std::vector<PageId>{1}, {100, 0, 100}, plan);
  EXPECT_EQ(plan.size(), 2u);
}

TEST(PlanPages, OffsetsBeyond32BitsAreExact) {
  const Plan plan = MakePlan({2'000'000'000}, {1'999'999'999}, {1 << 20, 0, 1 << 20});
  EXPECT_EQ(plan[0].local_offset, 2'000'000'000ull << 20);
  EXPECT_EQ(plan[0].remote_offset, 1'999'999'999ull << 20);
}

// The naive plan copies each slice alone; ours must move the same bytes, in as few runs as there
// are breaks.
TEST(PlanPages, MovesWhatTheNaivePlanMoves) {
  for (uint32_t seed = 1; seed <= 2000; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto pick = [&](uint32_t below) { return random() % below; };
    constexpr uint32_t kPoolPages = 40;
    const uint64_t page = 1 + pick(24);
    PageSlice slice{.page_bytes = page};
    slice.bytes = pick(3) ? page : pick(page + 1);
    slice.offset = pick(page - slice.bytes + 1);
    // Distinct target pages, sources at will; runs of neighbours are likely.
    std::vector<PageId> all(kPoolPages);
    for (uint32_t i = 0; i < kPoolPages; ++i) all[i] = static_cast<PageId>(i);
    for (uint32_t swaps = pick(20); swaps; --swaps) std::swap(all[pick(kPoolPages)], all[pick(kPoolPages)]);
    const uint32_t count = pick(kPoolPages + 1);
    const std::vector<PageId> target(all.begin(), all.begin() + count);
    std::vector<PageId> source = target;
    for (uint32_t changes = pick(8); changes && count; --changes)
      source[pick(count)] = static_cast<PageId>(pick(kPoolPages));

    std::vector<uint8_t> from(kPoolPages * page), naive(kPoolPages * page), ours(kPoolPages * page);
    for (uint8_t& b : from) b = static_cast<uint8_t>(random());
    size_t breaks = 0;
    for (uint32_t i = 0; i < count; ++i) {
      std::memcpy(&naive[target[i] * page + slice.offset], &from[source[i] * page + slice.offset],
                  slice.bytes);
      const bool follows = i > 0 && slice.bytes == page && source[i] == source[i - 1] + 1 &&
                           target[i] == target[i - 1] + 1;
      breaks += !follows;
    }
    const Plan plan = MakePlan(source, target, slice);
    for (const transfer::Run& run : plan)
      std::memcpy(&ours[run.remote_offset], &from[run.local_offset], run.bytes);
    ASSERT_EQ(ours, naive);
    ASSERT_EQ(plan.size(), slice.bytes ? breaks : 0);
  }
}

}  // namespace
}  // namespace baton::transfer
