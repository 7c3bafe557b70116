// Load-balancing policies: pure choice among the workers that may take a request now.
//
// Each role has its own instance (specs/sglang-pd-protocol.md 1.2). `load` is what the router
// itself has in flight on the worker. Not thread-safe: the registry's lock guards it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string_view>

#include "common/status.h"

namespace baton::router {

enum class PolicyKind : uint8_t { kRandom, kRoundRobin, kPowerOfTwo, kLeastLoad };

// "random", "round_robin", "power_of_two", "least_load". kInvalidArgument lists them.
Result<PolicyKind> ParsePolicy(std::string_view name);
std::string_view PolicyName(PolicyKind kind);

struct Candidate {
  uint64_t order = 0;  // grows with registration, so that round robin survives changes of the set
  int64_t load = 0;
};

class Policy {
 public:
  Policy(PolicyKind kind, uint64_t seed) : kind_(kind), random_(seed) {}

  // Index into `candidates` (not empty; ascending by order).
  size_t Pick(std::span<const Candidate> candidates);
  PolicyKind kind() const { return kind_; }

 private:
  size_t Below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random_); }
  size_t PickNext(std::span<const Candidate> candidates);
  size_t PickLeast(std::span<const Candidate> candidates);

  PolicyKind kind_;
  std::mt19937_64 random_;
  std::optional<uint64_t> last_;  // order of the worker picked last
};

}  // namespace baton::router
