#include "transfer/plan.h"

namespace baton::transfer {

void PlanPages(std::span<const PageId> source, std::span<const PageId> target, PageSlice slice,
               std::vector<Run>& out) {
  BATON_CHECK(source.size() == target.size(), "{} source pages, {} target pages", source.size(),
              target.size());
  BATON_CHECK(slice.bytes <= slice.page_bytes && slice.offset <= slice.page_bytes - slice.bytes,
              "slice [{}, +{}) of a page of {} bytes", slice.offset, slice.bytes, slice.page_bytes);
  if (slice.bytes == 0) return;
  // Only whole pages touch their neighbours; slices of them never join.
  const bool whole = slice.bytes == slice.page_bytes;
  const size_t first = out.size();
  for (size_t i = 0; i < source.size(); ++i) {
    const uint64_t from = static_cast<uint64_t>(source[i]) * slice.page_bytes + slice.offset;
    const uint64_t to = static_cast<uint64_t>(target[i]) * slice.page_bytes + slice.offset;
    if (whole && out.size() > first) {
      Run& last = out.back();
      if (last.local_offset + last.bytes == from && last.remote_offset + last.bytes == to) {
        last.bytes += slice.bytes;
        continue;
      }
    }
    out.push_back({from, to, slice.bytes});
  }
}

}  // namespace baton::transfer
