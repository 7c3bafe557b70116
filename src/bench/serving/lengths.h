// Distributions of prompt and answer lengths, in tokens.
//
//   512                          always 512            fixed:512          the same
//   uniform:LOW,HIGH             both included
//   normal:MEAN,SD[,LOW,HIGH]    rounded and clamped; LOW is 1 and HIGH 2^20 when not given
//   lognormal:MEAN,SD[,LOW,HIGH] mean and deviation of the lengths, not of their logarithm
//   zipf:S,LOW,HIGH              P(LOW + i) ~ (i + 1)^-S
//
// Pure and immutable after parsing; Draw may be called from any thread with an Rng of its own.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bench/serving/rng.h"
#include "common/status.h"

namespace baton::bench::serving {

class LengthDistribution {
 public:
  // kInvalidArgument says what is wrong with `text`.
  static Result<LengthDistribution> Parse(std::string_view text);
  static LengthDistribution Fixed(int tokens);
  static LengthDistribution Uniform(int low, int high);

  int Draw(Rng& rng) const;
  // As written, for reports.
  const std::string& text() const { return text_; }
  bool fixed() const { return kind_ == Kind::kFixed; }
  int high() const { return high_; }

 private:
  enum class Kind : uint8_t { kFixed, kUniform, kNormal, kLogNormal, kZipf };

  static Result<LengthDistribution> Make(std::string_view name, const std::vector<double>& numbers);
  Status ReadBounds(const std::vector<double>& numbers, size_t at);

  Kind kind_ = Kind::kFixed;
  int low_ = 1, high_ = 1;
  double a_ = 0, b_ = 0;  // mean and deviation (of the logarithm for kLogNormal)
  std::shared_ptr<const std::vector<double>> zipf_;  // cumulative probabilities
  std::string text_;
};

}  // namespace baton::bench::serving
