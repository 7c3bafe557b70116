#include "engine/radix_cache.h"

#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

namespace baton::engine {
namespace {

constexpr int kPageTokens = 2;

// Computes the pages of `tokens` as a request would: match, allocate the rest, insert.
struct User {
  std::vector<int32_t> tokens;
  std::vector<PageId> pages;
};

bool Admit(PagePool& pool, RadixCache& cache, User& user) {
  const int pages = static_cast<int>(user.tokens.size()) / kPageTokens;
  const int matched = cache.Match(user.tokens, pages, user.pages);
  const int missing = pages - matched;
  if (missing > pool.free_pages() + cache.evictable()) {
    cache.Unlock(user.pages);
    user.pages.clear();
    return false;
  }
  if (missing > pool.free_pages()) cache.Evict(missing - pool.free_pages());
  EXPECT_TRUE(pool.Allocate(missing, PageOwner::kSequence, -1, user.pages));
  for (int i = matched; i < pages; ++i) {
    const PageId parent = i == 0 ? RadixCache::kRoot : user.pages[static_cast<size_t>(i) - 1];
    const auto tokens = std::span(user.tokens).subspan(static_cast<size_t>(i) * kPageTokens, kPageTokens);
    EXPECT_EQ(cache.Insert(parent, tokens, user.pages[static_cast<size_t>(i)], PageOwner::kSequence),
              user.pages[static_cast<size_t>(i)]);
  }
  return true;
}

TEST(RadixCacheTest, FindsWhatWasInsertedAndNothingElse) {
  PagePool pool(16);
  RadixCache cache(pool, kPageTokens);
  User first{{1, 2, 3, 4, 5, 6}, {}};
  ASSERT_TRUE(Admit(pool, cache, first));
  std::vector<PageId> found;
  EXPECT_EQ(cache.Match(std::vector<int32_t>{1, 2, 3, 4, 9, 9}, 3, found), 2);
  EXPECT_EQ(found, (std::vector<PageId>{first.pages[0], first.pages[1]}));
  cache.Unlock(found);
  found.clear();
  EXPECT_EQ(cache.Match(std::vector<int32_t>{3, 4}, 1, found), 0);  // the same tokens, another prefix
  EXPECT_EQ(cache.Match(first.tokens, 2, found), 2);                // not past the limit
  cache.Unlock(found);
  cache.Unlock(first.pages);
  EXPECT_EQ(cache.evictable(), 3);
}

TEST(RadixCacheTest, EvictsTheLeastRecentlyUsedLeafAndNeverALockedPage) {
  PagePool pool(8);
  RadixCache cache(pool, kPageTokens);
  User a{{1, 1, 2, 2}, {}}, b{{1, 1, 3, 3}, {}}, c{{4, 4}, {}};
  ASSERT_TRUE(Admit(pool, cache, a));
  ASSERT_TRUE(Admit(pool, cache, b));
  ASSERT_TRUE(Admit(pool, cache, c));
  EXPECT_EQ(a.pages[0], b.pages[0]);
  cache.Unlock(a.pages);
  cache.Unlock(c.pages);
  EXPECT_EQ(cache.evictable(), 2);  // a's leaf and c; the shared page is b's too
  std::vector<PageId> touched;
  EXPECT_EQ(cache.Match(a.tokens, 2, touched), 2);
  cache.Unlock(touched);  // now a's leaf is newer than c
  EXPECT_EQ(cache.Evict(1), 1);
  EXPECT_EQ(pool.owner(c.pages[0]), PageOwner::kFree);
  EXPECT_EQ(cache.Evict(10), 1);
  EXPECT_EQ(pool.owner(a.pages[1]), PageOwner::kFree);
  EXPECT_EQ(pool.owner(b.pages[1]), PageOwner::kCache);
  cache.Unlock(b.pages);
  EXPECT_EQ(cache.Evict(10), 2);
  EXPECT_EQ(pool.free_pages(), 8);
}

TEST(RadixCacheTest, SecondCopyOfAPageStaysWithItsOwner) {
  PagePool pool(4);
  RadixCache cache(pool, kPageTokens);
  User first{{1, 2}, {}};
  ASSERT_TRUE(Admit(pool, cache, first));
  std::vector<PageId> own;
  ASSERT_TRUE(pool.Allocate(1, PageOwner::kSequence, -1, own));
  EXPECT_EQ(cache.Insert(RadixCache::kRoot, std::vector<int32_t>{1, 2}, own[0], PageOwner::kSequence),
            first.pages[0]);
  EXPECT_EQ(pool.owner(own[0]), PageOwner::kSequence);
  EXPECT_EQ(cache.locks(first.pages[0]), 2);
}

// Against a map from prefix to page: whatever is found must be right, whatever is locked must stay,
// and counts must agree at every moment.
TEST(RadixCacheTest, RandomUseAgreesWithAMapOfPrefixes) {
  for (uint32_t seed = 0; seed < 150; ++seed) {
    std::mt19937 random(seed);
    PagePool pool(4 + static_cast<int>(random() % 60));
    RadixCache cache(pool, kPageTokens);
    std::vector<User> users;
    std::map<PageId, std::vector<int32_t>> prefix_of;  // of every page ever inserted
    for (int i = 0; i < 150; ++i) {
      if (random() % 3 == 0 && !users.empty()) {
        const size_t at = random() % users.size();
        cache.Unlock(users[at].pages);
        users.erase(users.begin() + static_cast<ptrdiff_t>(at));
      } else {
        User user;
        const size_t length = kPageTokens * (1 + random() % 8);
        while (user.tokens.size() < length) user.tokens.push_back(static_cast<int32_t>(random() % 2));
        std::vector<PageId> found;
        cache.Match(user.tokens, static_cast<int>(length) / kPageTokens, found);
        for (size_t page = 0; page < found.size(); ++page) {
          const std::vector<int32_t> prefix(user.tokens.begin(),
                                            user.tokens.begin() + static_cast<ptrdiff_t>((page + 1) * kPageTokens));
          ASSERT_EQ(prefix_of.at(found[page]), prefix) << "seed " << seed;
        }
        cache.Unlock(found);
        if (!Admit(pool, cache, user)) continue;
        for (size_t page = 0; page < user.pages.size(); ++page) {
          prefix_of[user.pages[page]] = {user.tokens.begin(),
                                         user.tokens.begin() + static_cast<ptrdiff_t>((page + 1) * kPageTokens)};
        }
        users.push_back(std::move(user));
      }
      std::set<PageId> locked;
      for (const User& user : users) locked.insert(user.pages.begin(), user.pages.end());
      for (const PageId page : locked) ASSERT_EQ(pool.owner(page), PageOwner::kCache);
      ASSERT_EQ(cache.pages() - cache.evictable(), static_cast<int>(locked.size()));
      ASSERT_EQ(pool.count(PageOwner::kCache), cache.pages());
      ASSERT_EQ(pool.count(PageOwner::kSequence), 0);
    }
    for (const User& user : users) cache.Unlock(user.pages);
    const int cached = cache.pages();
    EXPECT_EQ(cache.Evict(cached + 1), cached);
    EXPECT_EQ(pool.free_pages(), pool.total());
  }
}

}  // namespace
}  // namespace baton::engine
