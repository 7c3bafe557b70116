#include "bench/serving/lengths.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace baton::bench::serving {
namespace {

constexpr double kMaxLength = 1 << 20;  // tokens; a bound on what a typing error can ask for

Result<double> ParseNumber(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return Error(Code::kInvalidArgument, "\"{}\" is not a number", text);
  }
  return value;
}

bool IsLength(double v) {
  return v >= 0 && v <= kMaxLength && v == std::floor(v);
}

}  // namespace

LengthDistribution LengthDistribution::Fixed(int tokens) {
  LengthDistribution d;
  d.low_ = d.high_ = tokens;
  d.text_ = std::to_string(tokens);
  return d;
}

LengthDistribution LengthDistribution::Uniform(int low, int high) {
  LengthDistribution d;
  d.kind_ = Kind::kUniform;
  d.low_ = low;
  d.high_ = high;
  d.text_ = fmt::format("uniform:{},{}", low, high);
  return d;
}

Status LengthDistribution::ReadBounds(const std::vector<double>& numbers, size_t at) {
  low_ = 1;
  high_ = static_cast<int>(kMaxLength);
  if (numbers.size() == at) return Status::Ok();
  if (numbers.size() != at + 2) return Error(Code::kInvalidArgument, "takes LOW and HIGH together");
  if (!IsLength(numbers[at]) || !IsLength(numbers[at + 1]) || numbers[at] > numbers[at + 1]) {
    return Error(Code::kInvalidArgument, "LOW and HIGH must be whole, in [0, {}], LOW <= HIGH",
                 kMaxLength);
  }
  low_ = static_cast<int>(numbers[at]);
  high_ = static_cast<int>(numbers[at + 1]);
  return Status::Ok();
}

Result<LengthDistribution> LengthDistribution::Make(std::string_view name,
                                                    const std::vector<double>& n) {
  LengthDistribution d;
  const auto wrong = [&](std::string_view shape) {
    return Error(Code::kInvalidArgument, "expected {}", shape);
  };
  if (name == "fixed") {
    if (n.size() != 1 || !IsLength(n[0])) return wrong("fixed:TOKENS");
    return Fixed(static_cast<int>(n[0]));
  }
  if (name == "uniform") {
    d.kind_ = Kind::kUniform;
    if (n.size() != 2) return wrong("uniform:LOW,HIGH");
    if (Status s = d.ReadBounds(n, 0); !s.ok()) return s;
  } else if (name == "normal" || name == "lognormal") {
    d.kind_ = name == "normal" ? Kind::kNormal : Kind::kLogNormal;
    if (n.size() < 2 || n[1] < 0) return wrong("MEAN,SD[,LOW,HIGH] with SD >= 0");
    if (Status s = d.ReadBounds(n, 2); !s.ok()) return s;
    d.a_ = n[0];
    d.b_ = n[1];
    if (d.kind_ == Kind::kLogNormal) {
      if (n[0] <= 0) return wrong("a MEAN above 0");
      const double variance = std::log1p((n[1] / n[0]) * (n[1] / n[0]));
      d.a_ = std::log(n[0]) - variance / 2;
      d.b_ = std::sqrt(variance);
    }
  } else if (name == "zipf") {
    d.kind_ = Kind::kZipf;
    if (n.size() != 3 || n[0] < 0 || n[0] > 100) return wrong("zipf:S,LOW,HIGH with S in [0, 100]");
    if (Status s = d.ReadBounds(n, 1); !s.ok()) return s;
    auto table = std::make_shared<std::vector<double>>(static_cast<size_t>(d.high_ - d.low_) + 1);
    double sum = 0;
    for (size_t i = 0; i < table->size(); ++i)
      (*table)[i] = sum += std::pow(static_cast<double>(i + 1), -n[0]);
    for (double& v : *table) v /= sum;
    d.zipf_ = std::move(table);
  } else {
    return Error(Code::kInvalidArgument, "\"{}\" is not fixed, uniform, normal, lognormal or zipf",
                 name);
  }
  return d;
}

Result<LengthDistribution> LengthDistribution::Parse(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view name = colon == std::string_view::npos ? "fixed" : text.substr(0, colon);
  std::string_view rest = colon == std::string_view::npos ? text : text.substr(colon + 1);
  std::vector<double> numbers;
  while (true) {
    const size_t comma = rest.find(',');
    auto number = ParseNumber(rest.substr(0, comma));
    if (!number.ok()) return number.status().Prefixed(fmt::format("length \"{}\"", text));
    numbers.push_back(*number);
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  auto made = Make(name, numbers);
  if (!made.ok()) return made.status().Prefixed(fmt::format("length \"{}\"", text));
  made->text_ = text;
  return made;
}

int LengthDistribution::Draw(Rng& rng) const {
  const auto clamp = [this](double v) {
    return static_cast<int>(
        std::clamp(std::round(v), static_cast<double>(low_), static_cast<double>(high_)));
  };
  switch (kind_) {
    case Kind::kFixed:
      return low_;
    case Kind::kUniform:
      return static_cast<int>(rng.Between(low_, high_));
    case Kind::kNormal:
      return clamp(a_ + b_ * rng.Normal());
    case Kind::kLogNormal:
      return clamp(std::exp(a_ + b_ * rng.Normal()));
    case Kind::kZipf: {
      const auto at = std::upper_bound(zipf_->begin(), zipf_->end(), rng.Uniform());
      return std::min(low_ + static_cast<int>(at - zipf_->begin()), high_);
    }
  }
  return low_;
}

}  // namespace baton::bench::serving
