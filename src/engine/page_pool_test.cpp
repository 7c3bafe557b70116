#include "engine/page_pool.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace baton::engine {
namespace {

constexpr PageOwner kOwner = PageOwner::kSequence;

int Runs(std::span<const PageId> pages) {
  int runs = pages.empty() ? 0 : 1;
  for (size_t i = 1; i < pages.size(); ++i) runs += pages[i] != pages[i - 1] + 1;
  return runs;
}

TEST(PagePoolTest, GivesOneRunWhenThereIsOne) {
  PagePool pool(200);
  std::vector<PageId> a, b;
  ASSERT_TRUE(pool.Allocate(70, kOwner, -1, a));
  ASSERT_TRUE(pool.Allocate(130, kOwner, a.back(), b));
  EXPECT_EQ(Runs(a), 1);
  EXPECT_EQ(Runs(b), 1);
  EXPECT_EQ(pool.free_pages(), 0);
  EXPECT_FALSE(pool.Allocate(1, kOwner, -1, a));
  EXPECT_EQ(a.size(), 70u);
}

TEST(PagePoolTest, TakesTheSmallestHoleThatFits) {
  PagePool pool(100);
  std::vector<PageId> all;
  ASSERT_TRUE(pool.Allocate(100, kOwner, -1, all));
  for (int page = 10; page < 30; ++page) pool.Free(page, kOwner);
  for (int page = 50; page < 55; ++page) pool.Free(page, kOwner);
  for (int page = 70; page < 80; ++page) pool.Free(page, kOwner);
  std::vector<PageId> pages;
  ASSERT_TRUE(pool.Allocate(5, kOwner, -1, pages));
  EXPECT_EQ(pages, (std::vector<PageId>{50, 51, 52, 53, 54}));
  pages.clear();
  ASSERT_TRUE(pool.Allocate(8, kOwner, -1, pages));
  EXPECT_EQ(pages.front(), 70);
  EXPECT_EQ(Runs(pages), 1);
  pages.clear();
  ASSERT_TRUE(pool.Allocate(22, kOwner, -1, pages));  // 20 + 2: largest first
  EXPECT_EQ(pages.front(), 10);
  EXPECT_EQ(Runs(pages), 2);
}

TEST(PagePoolTest, ContinuesAfterThePageNamed) {
  PagePool pool(64);
  std::vector<PageId> pages;
  ASSERT_TRUE(pool.Allocate(10, kOwner, -1, pages));
  pool.Free(3, kOwner);  // a smaller hole elsewhere
  std::vector<PageId> more;
  ASSERT_TRUE(pool.Allocate(1, kOwner, 9, more));
  EXPECT_EQ(more, std::vector<PageId>{10});
}

TEST(PagePoolTest, RandomUseKeepsTheBooks) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const int total = 1 + static_cast<int>(random() % 300);
    PagePool pool(total);
    std::vector<PageOwner> expected(static_cast<size_t>(total), PageOwner::kFree);
    std::vector<PageId> taken;
    for (int i = 0; i < 100; ++i) {
      if (random() % 2 && !taken.empty()) {
        const size_t at = random() % taken.size();
        pool.Free(taken[at], expected[static_cast<size_t>(taken[at])]);
        expected[static_cast<size_t>(taken[at])] = PageOwner::kFree;
        taken.erase(taken.begin() + static_cast<ptrdiff_t>(at));
        continue;
      }
      const int count = static_cast<int>(random() % 40);
      const PageOwner owner = random() % 2 ? PageOwner::kSequence : PageOwner::kReservation;
      const PageId after = static_cast<PageId>(random() % (static_cast<size_t>(total) + 1)) - 1;
      std::vector<PageId> pages;
      const bool fits = count <= pool.free_pages();
      ASSERT_EQ(pool.Allocate(count, owner, after, pages), fits);
      ASSERT_EQ(pages.size(), fits ? static_cast<size_t>(count) : 0u);
      for (const PageId page : pages) {
        ASSERT_EQ(expected[static_cast<size_t>(page)], PageOwner::kFree) << "given twice";
        expected[static_cast<size_t>(page)] = owner;
        taken.push_back(page);
      }
    }
    for (int kind = 0; kind < kPageOwners; ++kind) {
      const auto owner = static_cast<PageOwner>(kind);
      EXPECT_EQ(pool.count(owner), std::ranges::count(expected, owner));
    }
    for (PageId page = 0; page < total; ++page) EXPECT_EQ(pool.owner(page), expected[static_cast<size_t>(page)]);
  }
}

TEST(PagePoolDeathTest, FreeingTwiceDies) {
  PagePool pool(4);
  std::vector<PageId> pages;
  ASSERT_TRUE(pool.Allocate(1, kOwner, -1, pages));
  pool.Free(pages[0], kOwner);
  EXPECT_DEATH(pool.Free(pages[0], kOwner), "is owned by");
}

}  // namespace
}  // namespace baton::engine
