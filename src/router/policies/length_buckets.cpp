#include "router/policies/length_buckets.h"

#include <algorithm>
#include <bit>

namespace baton::router {

size_t LengthBuckets::StepOf(uint64_t length) {
  const uint64_t v = std::max<uint64_t>(length, 8);
  const int log = 63 - std::countl_zero(v);                          // at least 3
  const uint64_t eighth = (v >> (log - 3)) & 7;                      // the three bits below the top
  return std::min<size_t>(static_cast<size_t>(log - 3) * 8 + eighth, kSteps - 1);
}

size_t LengthBuckets::Place(uint64_t length, size_t count, TimePoint now) {
  const size_t step = StepOf(length);
  seen_[step] += static_cast<double>(std::max<uint64_t>(length, 8));
  // The first prompts move the cuts at once: there is nothing else to go by.
  const bool due = now >= adjust_;
  if (due || young_ > 0) Cut();
  if (young_ > 0) --young_;
  if (due) {
    for (double& weight : seen_) weight /= 2;
    adjust_ = now + interval_;
  }
  const auto bucket = static_cast<size_t>(share_[step] * static_cast<double>(count));
  return std::min(bucket, count - 1);
}

void LengthBuckets::Cut() {
  double total = 0;
  for (double weight : seen_) total += weight;
  double below = 0;
  for (size_t i = 0; i < kSteps; ++i) {
    share_[i] = (below + seen_[i] / 2) / total;
    below += seen_[i];
  }
}

}  // namespace baton::router
