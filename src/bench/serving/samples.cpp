#include "bench/serving/samples.h"

#include <algorithm>
#include <cmath>

namespace baton::bench::serving {

size_t Samples::BucketOf(double value) {
  if (value <= 0) return 0;
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);  // in [0.5, 1)
  exponent = std::clamp(exponent, kMinExponent, kMaxExponent);
  const auto sub =
      static_cast<size_t>(std::clamp((mantissa - 0.5) * 2 * kSubBuckets, 0.0, kSubBuckets - 1.0));
  return 1 + static_cast<size_t>(exponent - kMinExponent) * kSubBuckets + sub;
}

double Samples::MiddleOf(size_t bucket) {
  if (bucket == 0) return 0;
  const int exponent = static_cast<int>((bucket - 1) / kSubBuckets) + kMinExponent;
  const double sub = static_cast<double>((bucket - 1) % kSubBuckets) + 0.5;
  return std::ldexp(0.5 + sub / (2 * kSubBuckets), exponent);
}

void Samples::Add(double value) {
  min_ = count_ == 0 ? value : std::min(min_, value);
  max_ = count_ == 0 ? value : std::max(max_, value);
  ++count_;
  sum_ += value;
  const double delta = value - running_mean_;
  running_mean_ += delta / static_cast<double>(count_);
  squares_ += delta * (value - running_mean_);
  if (!exact()) {
    ++buckets_[BucketOf(value)];
    return;
  }
  values_.push_back(static_cast<float>(value));
  sorted_ = false;
  if (values_.size() <= exact_limit_) return;
  buckets_.assign(1 + static_cast<size_t>(kMaxExponent - kMinExponent + 1) * kSubBuckets, 0);
  for (const float v : values_) ++buckets_[BucketOf(v)];
  values_ = {};
}

double Samples::deviation() const {
  return count_ ? std::sqrt(squares_ / static_cast<double>(count_)) : 0;
}

double Samples::AtRank(uint64_t rank) const {
  uint64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen > rank) return std::clamp(MiddleOf(i), min_, max_);
  }
  return max_;
}

double Samples::Percentile(double p) const {
  if (count_ == 0) return 0;
  if (p <= 0) return min_;
  if (p >= 100) return max_;
  const double at = p / 100 * static_cast<double>(count_ - 1);
  const auto below = static_cast<uint64_t>(at);
  const double part = at - static_cast<double>(below);
  if (!exact()) {
    const double low = AtRank(below);
    return part == 0 ? low : low + part * (AtRank(below + 1) - low);
  }
  if (!sorted_) std::sort(values_.begin(), values_.end());
  sorted_ = true;
  const double low = values_[below];
  return part == 0 ? low : low + part * (static_cast<double>(values_[below + 1]) - low);
}

}  // namespace baton::bench::serving
