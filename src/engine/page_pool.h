// Who owns each KV page. Every page has exactly one owner kind at any time; a page changes hands by
// Allocate, Move and Free, each of which checks the hand it comes from, so that a double free or a
// page used after its release dies here instead of corrupting somebody's KV.
//
// Not a lock and not a cache: sharing of prefix pages is counted in RadixCache (a shared page is
// owned by kCache). Engine thread only. Allocates no memory after construction, apart from the
// caller's vector.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "common/ids.h"

namespace baton::engine {

enum class PageOwner : uint8_t {
  kFree,
  kSequence,     // one admitted request
  kCache,        // the prefix cache, and whoever locked it there
  kReservation,  // granted to a peer, who may write it at any time
  kHold,         // of an ended request, still read by a transfer
};
inline constexpr int kPageOwners = 5;

class PagePool {
 public:
  explicit PagePool(int pages);

  int total() const { return static_cast<int>(owners_.size()); }
  int free_pages() const { return count(PageOwner::kFree); }
  int count(PageOwner owner) const { return counts_[static_cast<size_t>(owner)]; }
  PageOwner owner(PageId page) const { return owners_[static_cast<size_t>(page)]; }

  // Appends `count` pages to `out`, or returns false and takes none. Prefers the pages right after
  // `after` (-1: no wish), then the smallest free run that holds the rest, then the largest runs:
  // adjacent pages become one transfer.
  bool Allocate(int count, PageOwner owner, PageId after, std::vector<PageId>& out);
  void Move(PageId page, PageOwner from, PageOwner to);
  void Free(PageId page, PageOwner from) { Move(page, from, PageOwner::kFree); }

 private:
  struct Run {
    PageId begin = 0;
    int length = 0;
  };
  // The next run of free pages at or after `from`; length 0 when there is none.
  Run NextRun(PageId from) const;
  // The smallest run of at least `count` pages, else the largest one.
  Run BestRun(int count) const;
  int Take(Run run, int count, PageOwner owner, std::vector<PageId>& out);

  std::vector<PageOwner> owners_;
  std::vector<uint64_t> free_bits_;  // bit set: the page is free
  std::array<int, kPageOwners> counts_{};
};

}  // namespace baton::engine
