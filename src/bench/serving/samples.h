// Latency samples: exact while they fit, an HDR-like histogram beyond.
//
// Up to `exact_limit` values are kept as they are and percentiles are numpy's (linear between the
// neighbouring ranks). Past that everything moves into log-linear buckets of 1/1024 of an octave
// (relative error below 0.05 %), so memory is bounded however long the run. count, mean, deviation,
// min and max stay exact. Values are finite and >= 0, in any one unit. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace baton::bench::serving {

class Samples {
 public:
  Samples() = default;
  explicit Samples(size_t exact_limit) : exact_limit_(exact_limit) {}

  void Add(double value);
  uint64_t count() const { return count_; }
  double mean() const { return count_ ? sum_ / static_cast<double>(count_) : 0; }
  double deviation() const;  // of the population
  double min() const { return count_ ? min_ : 0; }
  double max() const { return count_ ? max_ : 0; }
  // p in [0, 100]; 0 when there are no samples.
  double Percentile(double p) const;
  bool exact() const { return buckets_.empty(); }

 private:
  static constexpr int kSubBuckets = 1024, kMinExponent = -40, kMaxExponent = 40;

  static size_t BucketOf(double value);
  static double MiddleOf(size_t bucket);
  double AtRank(uint64_t rank) const;  // of the histogram

  size_t exact_limit_ = size_t{1} << 20;
  mutable std::vector<float> values_;  // sorted by Percentile
  mutable bool sorted_ = true;
  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  double sum_ = 0, min_ = 0, max_ = 0;
  double running_mean_ = 0, squares_ = 0;  // Welford
};

}  // namespace baton::bench::serving
