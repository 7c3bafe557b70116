#include "router/policy.h"

#include <array>

namespace baton::router {
namespace {

struct Row {
  PolicyKind kind;
  std::string_view name;
};
constexpr std::array kRows = {
    Row{PolicyKind::kRandom, "random"},
    Row{PolicyKind::kRoundRobin, "round_robin"},
    Row{PolicyKind::kPowerOfTwo, "power_of_two"},
    Row{PolicyKind::kLeastLoad, "least_load"},
};

}  // namespace

Result<PolicyKind> ParsePolicy(std::string_view name) {
  for (const Row& row : kRows) {
    if (row.name == name) return row.kind;
  }
  return Error(Code::kInvalidArgument,
               "unknown policy '{}': use random, round_robin, power_of_two or least_load", name);
}

std::string_view PolicyName(PolicyKind kind) {
  for (const Row& row : kRows) {
    if (row.kind == kind) return row.name;
  }
  return "";
}

size_t Policy::Pick(std::span<const Candidate> candidates) {
  BATON_CHECK(!candidates.empty());
  if (candidates.size() == 1) {
    last_ = candidates[0].order;
    return 0;
  }
  switch (kind_) {
    case PolicyKind::kRandom: return Below(candidates.size());
    case PolicyKind::kRoundRobin: return PickNext(candidates);
    case PolicyKind::kLeastLoad: return PickLeast(candidates);
    case PolicyKind::kPowerOfTwo: {
      const size_t a = Below(candidates.size());
      size_t b = Below(candidates.size() - 1);
      b += b >= a;  // two distinct ones
      return candidates[b].load < candidates[a].load ? b : a;
    }
  }
  return 0;
}

size_t Policy::PickNext(std::span<const Candidate> candidates) {
  size_t next = 0;
  while (last_ && next < candidates.size() && candidates[next].order <= *last_) ++next;
  if (next == candidates.size()) next = 0;
  last_ = candidates[next].order;
  return next;
}

// Among equals the one after the last pick, so that an idle fleet is used evenly.
size_t Policy::PickLeast(std::span<const Candidate> candidates) {
  int64_t least = candidates[0].load;
  for (const Candidate& c : candidates) least = std::min(least, c.load);
  std::optional<size_t> first, next;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].load != least) continue;
    if (!first) first = i;
    if (!next && last_ && candidates[i].order > *last_) next = i;
  }
  const size_t picked = next.value_or(*first);
  last_ = candidates[picked].order;
  return picked;
}

}  // namespace baton::router
