// When requests are sent in an open loop: seconds since the start of the run, one after another.
//
// Pure: no clock. The gamma process is the one of SGLang's and vLLM's benchmarks: `burstiness` is
// the shape of the gaps, 1 is Poisson, below 1 comes in bursts, above 1 is more even; the mean gap
// is 1 / rate whatever the shape.
#pragma once

#include <string_view>

#include "bench/serving/rng.h"
#include "common/status.h"

namespace baton::bench::serving {

enum class ArrivalKind : uint8_t { kPoisson, kConstant, kGamma };

// "poisson", "constant", "gamma". kInvalidArgument names the choices.
Result<ArrivalKind> ParseArrivalKind(std::string_view text);
std::string_view ArrivalKindName(ArrivalKind kind);

class Arrivals {
 public:
  // rate_per_s > 0, burstiness > 0 (used by kGamma only).
  Arrivals(ArrivalKind kind, double rate_per_s, double burstiness, uint64_t seed)
      : kind_(kind), rate_(rate_per_s), shape_(burstiness), rng_(seed) {}

  // The time of the next arrival; the first one is at 0.
  double Next();

 private:
  double Gap();

  ArrivalKind kind_;
  double rate_;
  double shape_;
  Rng rng_;
  uint64_t count_ = 0;
  double at_ = 0;
};

}  // namespace baton::bench::serving
