#include "engine/page_pool.h"

#include <algorithm>
#include <bit>

#include "common/status.h"

namespace baton::engine {

PagePool::PagePool(int pages)
    : owners_(static_cast<size_t>(pages), PageOwner::kFree),
      free_bits_((static_cast<size_t>(pages) + 63) / 64, 0) {
  counts_[static_cast<size_t>(PageOwner::kFree)] = pages;
  for (int page = 0; page < pages; ++page) free_bits_[page / 64] |= uint64_t{1} << (page % 64);
}

PagePool::Run PagePool::NextRun(PageId from) const {
  const PageId total_pages = total();
  // First set bit at or after `from`.
  size_t word = static_cast<size_t>(from) / 64;
  if (from >= total_pages) return {};
  uint64_t bits = free_bits_[word] & (~uint64_t{0} << (from % 64));
  while (bits == 0) {
    if (++word == free_bits_.size()) return {};
    bits = free_bits_[word];
  }
  const PageId begin = static_cast<PageId>(word * 64) + std::countr_zero(bits);
  // First clear bit after it; bits past the last page are clear.
  uint64_t used = ~free_bits_[word] & (~uint64_t{0} << (begin % 64));
  while (used == 0) {
    if (++word == free_bits_.size()) return {begin, total_pages - begin};
    used = ~free_bits_[word];
  }
  const PageId end = static_cast<PageId>(word * 64) + std::countr_zero(used);
  return {begin, std::min(end, total_pages) - begin};
}

PagePool::Run PagePool::BestRun(int count) const {
  Run best;
  for (Run run = NextRun(0); run.length > 0; run = NextRun(run.begin + run.length)) {
    const bool fits = run.length >= count;
    const bool best_fits = best.length >= count;
    if (fits ? (!best_fits || run.length < best.length) : (!best_fits && run.length > best.length)) {
      best = run;
    }
    if (best.length == count) break;
  }
  return best;
}

int PagePool::Take(Run run, int count, PageOwner owner, std::vector<PageId>& out) {
  const int taken = std::min(run.length, count);
  for (PageId page = run.begin; page < run.begin + taken; ++page) {
    Move(page, PageOwner::kFree, owner);
    out.push_back(page);
  }
  return taken;
}

bool PagePool::Allocate(int count, PageOwner owner, PageId after, std::vector<PageId>& out) {
  if (count > free_pages()) return false;
  int missing = count;
  if (after >= 0 && after + 1 < total() && this->owner(after + 1) == PageOwner::kFree) {
    missing -= Take(NextRun(after + 1), missing, owner, out);
  }
  // A few best runs; in a pool that is all holes, one sweep instead of a scan per hole.
  constexpr int kScans = 4;
  for (int i = 0; i < kScans && missing > 0; ++i) missing -= Take(BestRun(missing), missing, owner, out);
  for (PageId from = 0; missing > 0;) {
    const Run run = NextRun(from);
    missing -= Take(run, missing, owner, out);
    from = run.begin + run.length;
  }
  return true;
}

void PagePool::Move(PageId page, PageOwner from, PageOwner to) {
  BATON_CHECK(page >= 0 && page < total(), "page {} of {}", page, total());
  PageOwner& owner = owners_[static_cast<size_t>(page)];
  BATON_CHECK(owner == from, "page {} is owned by {}, not by {}", page, static_cast<int>(owner),
              static_cast<int>(from));
  owner = to;
  --counts_[static_cast<size_t>(from)];
  ++counts_[static_cast<size_t>(to)];
  const uint64_t bit = uint64_t{1} << (page % 64);
  if (to == PageOwner::kFree) {
    free_bits_[page / 64] |= bit;
  } else {
    free_bits_[page / 64] &= ~bit;
  }
}

}  // namespace baton::engine
