// PagePlan against a naive copy of every (layer, plane, token, head), on random pairs of layouts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "transfer/plan.h"

namespace baton::transfer {
namespace {

using Runs = std::vector<transfer::Run>;

constexpr uint32_t kPoolPages = 24;

// Bytes of a region that holds `pages` pages of `l`.
uint64_t RegionBytes(const PoolLayout& l, uint64_t pages) {
  return l.base + (pages - 1) * l.page_stride + (l.layers - 1) * l.layer_stride +
         (l.planes - 1) * l.plane_stride + (l.page_tokens - 1) * l.token_stride +
         (l.heads - 1) * l.head_stride + l.head_bytes;
}

uint64_t Offset(const PoolLayout& l, const TokenPages& list, uint32_t layer, uint32_t plane,
                uint64_t token, uint32_t head) {
  const uint64_t index = token - list.first_token;
  return l.base + static_cast<uint64_t>(list.pages[index / l.page_tokens]) * l.page_stride +
         (layer - l.first_layer) * l.layer_stride + plane * l.plane_stride +
         index % l.page_tokens * l.token_stride + (head - l.first_head) * l.head_stride;
}

struct Case {
  PoolLayout source, target;
  HeadRange heads;
  std::vector<PageId> source_pages, target_pages;
  TokenPages from, to;
  PlanRange range;
};

void NaiveCopy(const Case& c, const std::vector<uint8_t>& source, std::vector<uint8_t>& target) {
  const auto in = [](uint32_t layer, const PoolLayout& l) {
    return layer >= l.first_layer && layer < l.first_layer + l.layers;
  };
  for (uint32_t layer = c.range.layer_begin; layer < c.range.layer_end; ++layer) {
    if (!in(layer, c.source) || !in(layer, c.target)) continue;
    for (uint64_t token = c.range.token_begin; token < c.range.token_end; ++token) {
      if (c.to.pages[(token - c.to.first_token) / c.target.page_tokens] < 0) continue;
      for (uint32_t plane = 0; plane < c.source.planes; ++plane)
        for (uint32_t h = c.heads.first; h < c.heads.first + c.heads.count; ++h)
          std::memcpy(&target[Offset(c.target, c.to, layer, plane, token, h)],
                      &source[Offset(c.source, c.from, layer, plane, token, h)],
                      c.source.head_bytes);
    }
  }
}

class Draw {
 public:
  explicit Draw(uint32_t seed) : random_(seed) {}
  uint32_t operator()(uint32_t below) { return static_cast<uint32_t>(random_() % below); }

  PoolLayout Pool(uint32_t first_layer, uint32_t layers, HeadRange heads, uint32_t planes,
                  uint64_t head_bytes, uint32_t page_tokens) {
    PoolLayout l = (*this)(2) ? PoolLayout::PageMajor(layers, planes, page_tokens, heads.count, head_bytes)
                              : PoolLayout::LayerMajor(layers, planes, page_tokens, heads.count,
                                                       head_bytes, kPoolPages);
    if ((*this)(4) == 0) l = l.HeadMajor();
    if ((*this)(6) == 0) l.base = (*this)(100);
    l.first_layer = first_layer;
    l.first_head = heads.first;
    return l;
  }

  // Distinct pages, mostly neighbours.
  std::vector<PageId> Pages(uint32_t count) {
    std::vector<PageId> all(kPoolPages);
    for (uint32_t i = 0; i < kPoolPages; ++i) all[i] = static_cast<PageId>(i);
    for (uint32_t swaps = (*this)(8); swaps; --swaps)
      std::swap(all[(*this)(kPoolPages)], all[(*this)(kPoolPages)]);
    all.resize(count);
    return all;
  }

 private:
  std::mt19937 random_;
};

// One pair of ranks out of two tensor-parallel groups of random size.
bool DrawCase(Draw& draw, Case& c) {
  constexpr uint32_t kSizes[] = {1, 2, 4, 8};
  const bool latent = draw(5) == 0;
  const uint32_t total = latent ? 1 : kSizes[draw(4)], planes = latent ? 1 : 1 + draw(2);
  const uint32_t source_tp = kSizes[draw(4)], target_tp = kSizes[draw(4)];
  const uint32_t source_rank = draw(source_tp), target_rank = draw(target_tp);
  c.heads = *HeadsToSend(total, source_tp, source_rank, target_tp, target_rank);
  if (c.heads.count == 0) return false;
  constexpr uint32_t kPageTokens[] = {1, 2, 3, 4, 6, 8};
  const uint32_t from_tokens = kPageTokens[draw(6)];
  const uint32_t to_tokens = draw(2) ? from_tokens : kPageTokens[draw(6)];
  const uint64_t head_bytes = 1 + draw(5);
  const uint32_t layers = 1 + draw(4);
  const uint32_t skipped = draw(3) ? 0 : draw(layers);
  c.source = draw.Pool(skipped, layers - skipped, *HeadsOfRank(total, source_tp, source_rank),
                       planes, head_bytes, from_tokens);
  c.target = draw.Pool(0, layers, *HeadsOfRank(total, target_tp, target_rank), planes, head_bytes,
                       to_tokens);
  // Lists that begin behind a cached prefix or a window, and a range that both cover.
  const uint32_t begin = draw(20), tokens = draw(40);
  c.from.first_token = begin - begin % from_tokens - (begin >= 2 * from_tokens ? from_tokens * draw(2) : 0);
  c.to.first_token = begin >= 3 && draw(3) == 0 ? begin - draw(3) : begin - begin % to_tokens;
  const auto pages_for = [&](uint64_t first, uint32_t page_tokens) {
    return static_cast<uint32_t>((begin + tokens - first + page_tokens - 1) / page_tokens);
  };
  const uint32_t from_pages = pages_for(c.from.first_token, from_tokens);
  const uint32_t to_pages = pages_for(c.to.first_token, to_tokens);
  if (from_pages > kPoolPages || to_pages > kPoolPages) return false;
  c.source_pages = draw.Pages(from_pages);
  c.target_pages = draw.Pages(to_pages);
  if (draw(4) == 0 && to_pages) c.target_pages[draw(to_pages)] = -1;
  c.from.pages = c.source_pages;
  c.to.pages = c.target_pages;
  const uint32_t layer_begin = draw(layers + 1);
  c.range = {layer_begin, layer_begin + draw(layers - layer_begin + 2), begin, uint64_t{begin} + tokens};
  return true;
}

TEST(PagePlan, MovesWhatTheNaiveCopyMovesBetweenAnyTwoLayouts) {
  uint32_t cases = 0, moved = 0, several_tokens = 0;
  PagePlan::Scratch scratch;
  for (uint32_t seed = 1; seed <= 20'000; ++seed) {
    SCOPED_TRACE(seed);
    Draw draw(seed);
    Case c;
    if (!DrawCase(draw, c)) continue;
    ++cases;
    std::vector<uint8_t> source(RegionBytes(c.source, kPoolPages));
    for (uint8_t& b : source) b = static_cast<uint8_t>(1 + draw(255));
    std::vector<uint8_t> naive(RegionBytes(c.target, kPoolPages)), ours(naive.size());
    NaiveCopy(c, source, naive);

    const Result<PagePlan> plan = PagePlan::Make(c.source, c.target, c.heads);
    ASSERT_TRUE(plan.ok()) << plan.status().ToString();
    Runs runs;
    const Status status = plan->Append(c.from, c.to, c.range, scratch, runs);
    ASSERT_TRUE(status.ok()) << status.ToString();
    uint64_t bytes = 0;
    for (size_t i = 0; i < runs.size(); ++i) {
      const transfer::Run& run = runs[i];
      ASSERT_LE(run.local_offset + run.bytes, source.size());
      ASSERT_LE(run.remote_offset + run.bytes, ours.size());
      std::memcpy(&ours[run.remote_offset], &source[run.local_offset], run.bytes);
      bytes += run.bytes;
      // What follows on both sides is one run.
      if (i) {
        ASSERT_FALSE(runs[i - 1].local_offset + runs[i - 1].bytes == run.local_offset &&
                     runs[i - 1].remote_offset + runs[i - 1].bytes == run.remote_offset);
      }
    }
    ASSERT_EQ(ours, naive);
    // No byte twice: the naive copy wrote as many bytes as are not zero.
    ASSERT_EQ(bytes, naive.size() - static_cast<size_t>(std::count(naive.begin(), naive.end(), 0)));
    moved += bytes > 0;
    several_tokens += !runs.empty() && runs.size() * plan->TokenLayerBytes() < bytes;
  }
  EXPECT_GT(cases, 5000u);
  EXPECT_GT(moved, 4000u);
  EXPECT_GT(several_tokens, 1000u);
}

TEST(PagePlan, EqualPageMajorPoolsMoveWholePages) {
  const PoolLayout pool = PoolLayout::PageMajor(30, 2, 16, 3, 128);
  const PagePlan plan = *PagePlan::Make(pool, pool);
  const std::vector<PageId> from = {4, 5, 9}, to = {7, 8, 3};
  PagePlan::Scratch scratch;
  Runs runs;
  ASSERT_TRUE(plan.Append({from}, {to}, {0, 30, 0, 48}, scratch, runs).ok());
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].bytes, 2 * pool.page_stride);
  EXPECT_EQ(runs[1].remote_offset, 3 * pool.page_stride);
  // One layer of a page is one run, half a page two per layer.
  runs.clear();
  ASSERT_TRUE(plan.Append({from}, {to}, {5, 6, 0, 40}, scratch, runs).ok());
  EXPECT_EQ(runs.size(), 4u);
}

TEST(PagePlan, AppendsWithoutJoiningWhatWasThere) {
  const PoolLayout l = PoolLayout::PageMajor(1, 1, 1, 1, 100);
  const Result<PagePlan> plan = PagePlan::Make(l, l);
  ASSERT_TRUE(plan.ok());
  Runs out = {{0, 0, 100}};
  PagePlan::Scratch scratch;
  const std::vector<PageId> page = {1};
  ASSERT_TRUE(plan->Append({page, 0}, {page, 0}, {0, 1, 0, 1}, scratch, out).ok());
  EXPECT_EQ(out.size(), 2u);
}

TEST(PagePlan, OffsetsBeyond32BitsAreExact) {
  const PoolLayout l = PoolLayout::PageMajor(1, 1, 1, 1, 1 << 20);
  const Result<PagePlan> plan = PagePlan::Make(l, l);
  ASSERT_TRUE(plan.ok());
  Runs out;
  PagePlan::Scratch scratch;
  const std::vector<PageId> from = {2'000'000'000}, to = {1'999'999'999};
  ASSERT_TRUE(plan->Append({from, 0}, {to, 0}, {0, 1, 0, 1}, scratch, out).ok());
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].local_offset, 2'000'000'000ull << 20);
  EXPECT_EQ(out[0].remote_offset, 1'999'999'999ull << 20);
}

TEST(PagePlan, LayerMajorPoolsJoinAcrossPagesOfAnySize) {
  const PoolLayout small = PoolLayout::LayerMajor(4, 2, 16, 2, 64, 100);
  const PoolLayout large = PoolLayout::LayerMajor(4, 2, 64, 2, 64, 25);
  const PagePlan plan = *PagePlan::Make(small, large);
  const std::vector<PageId> from = {10, 11, 12, 13}, to = {6};
  PagePlan::Scratch scratch;
  Runs runs;
  ASSERT_TRUE(plan.Append({from}, {to}, {0, 4, 0, 64}, scratch, runs).ok());
  ASSERT_EQ(runs.size(), 8u);  // a run per layer and plane
  EXPECT_EQ(runs[0].bytes, 64u * 2 * 64);
}

TEST(PagePlan, EveryHeadReachesEveryRankOnce) {
  constexpr uint32_t kTp[] = {1, 2, 4, 8, 16};
  for (const uint32_t total : {1u, 2u, 4u, 8u})
    for (const uint32_t source_tp : kTp)
      for (const uint32_t target_tp : kTp)
        for (uint32_t target = 0; target < target_tp; ++target) {
          std::vector<int> got(total);
          for (uint32_t source = 0; source < source_tp; ++source) {
            const HeadRange heads = *HeadsToSend(total, source_tp, source, target_tp, target);
            for (uint32_t h = 0; h < heads.count; ++h) ++got[heads.first + h];
          }
          const HeadRange wanted = *HeadsOfRank(total, target_tp, target);
          for (uint32_t h = 0; h < total; ++h)
            ASSERT_EQ(got[h], h >= wanted.first && h < wanted.first + wanted.count)
                << total << " heads, " << source_tp << " to " << target_tp << ", rank " << target;
        }
  EXPECT_FALSE(HeadsOfRank(8, 3, 0).ok());
  EXPECT_FALSE(HeadsOfRank(8, 2, 2).ok());
  EXPECT_FALSE(HeadsOfRank(0, 2, 1).ok());
}

TEST(PagePlan, RefusesWhatDoesNotFit) {
  const PoolLayout pool = PoolLayout::PageMajor(2, 2, 4, 2, 8);
  PoolLayout other = pool;
  other.head_bytes = 4;
  EXPECT_EQ(PagePlan::Make(pool, other).status().code(), Code::kInvalidArgument);
  other = pool;
  other.planes = 1;
  EXPECT_FALSE(PagePlan::Make(pool, other).ok());
  other = pool;
  other.first_head = 2;
  EXPECT_FALSE(PagePlan::Make(pool, other).ok());
  EXPECT_FALSE(PagePlan::Make(pool, pool, {1, 2}).ok());
  EXPECT_FALSE(PagePlan::Make({}, {}).ok());

  const PagePlan plan = *PagePlan::Make(pool, pool);
  const std::vector<PageId> two = {0, 1}, one = {0}, gone = {0, -1};
  PagePlan::Scratch scratch;
  Runs runs = {{1, 2, 3}};
  EXPECT_EQ(plan.Append({two}, {one}, {0, 2, 0, 5}, scratch, runs).code(), Code::kOutOfRange);
  EXPECT_EQ(plan.Append({one}, {two}, {0, 2, 0, 5}, scratch, runs).code(), Code::kOutOfRange);
  EXPECT_EQ(plan.Append({two, 4}, {two}, {0, 2, 0, 5}, scratch, runs).code(), Code::kOutOfRange);
  EXPECT_EQ(plan.Append({gone}, {two}, {0, 2, 0, 8}, scratch, runs).code(), Code::kOutOfRange);
  EXPECT_EQ(runs.size(), 1u);
  EXPECT_TRUE(plan.Append({two}, {gone}, {0, 2, 0, 8}, scratch, runs).ok());
  EXPECT_EQ(runs.size(), 2u);
  EXPECT_TRUE(plan.Append({two}, {two}, {1, 1, 0, 8}, scratch, runs).ok());
  EXPECT_EQ(runs.size(), 2u);
}

TEST(PlanCache, KeepsOnePlanPerPairOfLayouts) {
  PlanCache cache;
  const PoolLayout a = PoolLayout::PageMajor(2, 2, 4, 2, 8), b = PoolLayout::PageMajor(2, 2, 8, 2, 8);
  const PagePlan* first = *cache.Get(a, b, {0, 2});
  EXPECT_EQ(*cache.Get(a, b, {0, 2}), first);
  EXPECT_NE(*cache.Get(b, a, {0, 2}), first);
  EXPECT_NE(*cache.Get(a, b, {0, 1}), first);
  EXPECT_FALSE(cache.Get(a, {}, {0, 2}).ok());
}

}  // namespace
}  // namespace baton::transfer
