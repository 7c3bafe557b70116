#include "bench/serving/arrivals.h"

namespace baton::bench::serving {

Result<ArrivalKind> ParseArrivalKind(std::string_view text) {
  if (text == "poisson") return ArrivalKind::kPoisson;
  if (text == "constant") return ArrivalKind::kConstant;
  if (text == "gamma") return ArrivalKind::kGamma;
  return Error(Code::kInvalidArgument, "arrival \"{}\" is not poisson, constant or gamma", text);
}

std::string_view ArrivalKindName(ArrivalKind kind) {
  switch (kind) {
    case ArrivalKind::kPoisson:
      return "poisson";
    case ArrivalKind::kConstant:
      return "constant";
    case ArrivalKind::kGamma:
      return "gamma";
  }
  return "?";
}

double Arrivals::Gap() {
  switch (kind_) {
    case ArrivalKind::kPoisson:
      return rng_.Exponential() / rate_;
    case ArrivalKind::kGamma:
      return rng_.Gamma(shape_) / (shape_ * rate_);
    case ArrivalKind::kConstant:
      break;
  }
  return 1 / rate_;
}

double Arrivals::Next() {
  const uint64_t index = count_++;
  if (index == 0) return 0;
  // A multiple, not a sum: a constant rate must not drift.
  if (kind_ == ArrivalKind::kConstant) return static_cast<double>(index) / rate_;
  return at_ += Gap();
}

}  // namespace baton::bench::serving
