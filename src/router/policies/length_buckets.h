// Splits requests by prompt length so that each worker gets an equal share of the work (policy
// `bucket`): short prompts do not wait behind long ones.
//
// A histogram of the lengths seen (eight steps to a doubling), each weighted with its length, is
// cut into as many equal parts as there are workers. The cuts are made anew every `interval`, when
// the past is halved, so that they follow the traffic. Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/clock.h"

namespace baton::router {

class LengthBuckets {
 public:
  explicit LengthBuckets(Duration interval) : interval_(interval) {}

  // The bucket of a prompt of `length` bytes among `count` > 0 of them: never falls as the length
  // grows. Counts the prompt.
  size_t Place(uint64_t length, size_t count, TimePoint now);

 private:
  static constexpr size_t kSteps = 8 * 40;
  static size_t StepOf(uint64_t length);
  void Cut();

  const Duration interval_;
  TimePoint adjust_{};
  std::array<double, kSteps> seen_{};  // weight since the last cut, and what is left from before
  std::array<double, kSteps> share_{};  // of all weight, what lies below the middle of the step
  int young_ = 100;  // prompts until the cuts follow the interval
};

}  // namespace baton::router
