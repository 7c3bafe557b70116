// From page lists to runs: which bytes of a page pool go where, coalesced where pages are adjacent
// on both sides. Pure functions; no allocation beyond the caller's vector.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/ids.h"
#include "transfer/transfer.h"

namespace baton::transfer {

// The part of each page that moves: [offset, offset + bytes) of page_bytes. One layer of a page, or
// all of it.
struct PageSlice {
  uint64_t page_bytes = 0;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// Appends runs for source[i] -> target[i] (same count). Whole pages that follow each other on both
// sides become one run.
void PlanPages(std::span<const PageId> source, std::span<const PageId> target, PageSlice slice,
               std::vector<Run>& out);

}  // namespace baton::transfer
