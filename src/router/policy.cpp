#include "router/policy.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace baton::router {
namespace {

template <typename Kind>
struct Row {
  Kind kind;
  std::string_view name;
};
constexpr std::array kPolicies = {
    Row<PolicyKind>{PolicyKind::kCacheAware, "cache_aware"},
    Row<PolicyKind>{PolicyKind::kRandom, "random"},
    Row<PolicyKind>{PolicyKind::kRoundRobin, "round_robin"},
    Row<PolicyKind>{PolicyKind::kPowerOfTwo, "power_of_two"},
    Row<PolicyKind>{PolicyKind::kLeastLoad, "least_load"},
    Row<PolicyKind>{PolicyKind::kPrefixHash, "prefix_hash"},
    Row<PolicyKind>{PolicyKind::kConsistentHashing, "consistent_hashing"},
    Row<PolicyKind>{PolicyKind::kManual, "manual"},
    Row<PolicyKind>{PolicyKind::kBucket, "bucket"},
};
constexpr std::array kAssignments = {
    Row<Assignment>{Assignment::kRandom, "random"},
    Row<Assignment>{Assignment::kMinLoad, "min_load"},
    Row<Assignment>{Assignment::kMinGroup, "min_group"},
};

template <typename Rows>
auto Parse(const Rows& rows, std::string_view what, std::string_view name)
    -> Result<decltype(rows[0].kind)> {
  std::string known;
  for (const auto& row : rows) {
    if (row.name == name) return row.kind;
    known += known.empty() ? "" : ", ";
    known += row.name;
  }
  return Error(Code::kInvalidArgument, "unknown {} '{}': use one of {}", what, name, known);
}

enum class Measure : uint8_t { kUsage, kTokens, kOwn };

// The finest measure that holds for every candidate whose polls succeed: comparing one worker's
// tokens with another's requests would say nothing.
Measure MeasureFor(std::span<const Candidate> candidates) {
  Measure measure = Measure::kUsage;
  bool any = false;
  for (const Candidate& c : candidates) {
    if (c.reported.failing) continue;
    if (!c.reported.fresh) return Measure::kOwn;
    any = true;
    if (c.reported.usage < 0) measure = Measure::kTokens;
  }
  return any ? measure : Measure::kOwn;
}

struct Cost {
  bool failing;
  double reported;
  int64_t own;
  friend auto operator<=>(const Cost&, const Cost&) = default;
};

Cost CostOf(const Candidate& c, Measure measure) {
  const double reported = measure == Measure::kUsage    ? c.reported.usage
                          : measure == Measure::kTokens ? c.reported.tokens
                                                        : 0;
  return {c.reported.failing, c.reported.failing ? 0 : reported, c.load};
}

}  // namespace

Result<PolicyKind> ParsePolicy(std::string_view name) { return Parse(kPolicies, "policy", name); }

std::string_view PolicyName(PolicyKind kind) {
  for (const auto& row : kPolicies) {
    if (row.kind == kind) return row.name;
  }
  return "";
}

bool WantsPrompt(PolicyKind kind) {
  return kind == PolicyKind::kCacheAware || kind == PolicyKind::kPrefixHash ||
         kind == PolicyKind::kBucket;
}

Result<Assignment> ParseAssignment(std::string_view name) {
  return Parse(kAssignments, "assignment mode", name);
}

Policy::Policy(PolicyKind kind, uint64_t seed, const PolicyRules& rules)
    : kind_(kind),
      rules_(rules),
      random_(seed),
      sticky_(rules.max_idle, rules.max_keys),
      buckets_(rules.bucket_interval) {}

void Policy::Look(const PickHints& hints, Matches* matches) const {
  matches->clear();
  if (kind_ != PolicyKind::kCacheAware || !hints.digest || hints.digest->empty()) return;
  const auto keys = hints.digest->keys();
  // Whoever has less than the best so far does not matter: most trees cost one look.
  size_t best = 1;
  std::shared_lock lock(trees_mutex_);
  for (const auto& [order, tree] : trees_) {
    std::lock_guard tree_lock(tree->mutex);
    const size_t depth = tree->prefixes.Match(keys, best);
    if (depth == 0) continue;
    matches->emplace_back(order, depth);
    best = depth;
  }
}

void Policy::Placed(const PickHints& hints, uint64_t order) {
  if (kind_ != PolicyKind::kCacheAware || !hints.digest || hints.digest->empty()) return;
  std::shared_ptr<Tree> tree;
  {
    std::shared_lock lock(trees_mutex_);
    if (const auto found = trees_.find(order); found != trees_.end()) tree = found->second;
  }
  if (!tree) return;
  std::lock_guard lock(tree->mutex);
  tree->prefixes.Insert(*hints.digest);
}

void Policy::Join(uint64_t order) {
  if (kind_ != PolicyKind::kCacheAware) return;
  std::lock_guard lock(trees_mutex_);
  trees_.emplace(order, std::make_shared<Tree>(rules_.max_tree_bytes));
}

void Policy::Forget(uint64_t order, bool left) {
  if (left) sticky_.Forget(order);
  std::lock_guard lock(trees_mutex_);
  const auto found = trees_.find(order);
  if (found == trees_.end()) return;
  if (left) {
    trees_.erase(found);
    return;
  }
  std::lock_guard tree_lock(found->second->mutex);
  found->second->prefixes.Clear();
}

size_t Policy::TreeMemory() const {
  size_t sum = 0;
  std::shared_lock lock(trees_mutex_);
  for (const auto& [order, tree] : trees_) {
    std::lock_guard tree_lock(tree->mutex);
    sum += tree->prefixes.MemoryBytes();
  }
  return sum;
}

size_t Policy::Pick(Candidates candidates, const PickHints& hints, const Matches& matches) {
  BATON_CHECK(!candidates.empty());
  const size_t picked = Choose(candidates, hints, matches);
  last_ = candidates[picked].order;
  return picked;
}

size_t Policy::Choose(Candidates candidates, const PickHints& hints, const Matches& matches) {
  switch (kind_) {
    case PolicyKind::kRandom: return Below(candidates.size());
    case PolicyKind::kRoundRobin: return PickNext(candidates);
    case PolicyKind::kPowerOfTwo: return PickTwo(candidates);
    case PolicyKind::kLeastLoad: return PickLeast(candidates);
    case PolicyKind::kCacheAware: return PickCached(candidates, hints, matches);
    case PolicyKind::kPrefixHash:
      if (!hints.digest || hints.digest->empty()) return PickLeast(candidates);
      return PickHashed(candidates, hints.digest->KeyAt(rules_.prefix_bytes));
    case PolicyKind::kConsistentHashing:
      if (hints.key.empty()) return PickLeast(candidates);
      return PickHashed(candidates, HashText(hints.key));
    case PolicyKind::kManual: return PickManual(candidates, hints);
    case PolicyKind::kBucket: return PickBucket(candidates, hints);
  }
  return 0;
}

size_t Policy::PickNext(Candidates candidates) {
  size_t next = 0;
  while (last_ && next < candidates.size() && candidates[next].order <= *last_) ++next;
  return next == candidates.size() ? 0 : next;
}

size_t Policy::PickTwo(Candidates candidates) {
  if (candidates.size() == 1) return 0;
  const size_t a = Below(candidates.size());
  size_t b = Below(candidates.size() - 1);
  b += b >= a;  // two distinct ones
  const std::array pair = {candidates[a], candidates[b]};
  const Measure measure = MeasureFor(pair);
  return CostOf(candidates[b], measure) < CostOf(candidates[a], measure) ? b : a;
}

// So that an idle fleet is used evenly.
template <typename Allowed>
size_t Policy::LeastOf(Candidates candidates, const Allowed& allowed) {
  const Measure measure = MeasureFor(candidates);
  std::optional<size_t> first, next;
  Cost least{};
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (!allowed(i)) continue;
    const Cost cost = CostOf(candidates[i], measure);
    if (!first || cost < least) {
      first = i;
      next.reset();
      least = cost;
    } else if (cost != least) {
      continue;
    }
    if (!next && last_ && candidates[i].order > *last_) next = i;
  }
  return next.value_or(first.value_or(0));
}

size_t Policy::PickLeast(Candidates candidates) {
  return LeastOf(candidates, [](size_t) { return true; });
}

bool Policy::OutOfBalance(Candidates candidates) const {
  int64_t least = candidates[0].load, most = candidates[0].load;
  for (const Candidate& c : candidates) {
    least = std::min(least, c.load);
    most = std::max(most, c.load);
  }
  return most - least > rules_.balance_abs &&
         static_cast<double>(most) > static_cast<double>(least) * rules_.balance_rel;
}

size_t Policy::PickCached(Candidates candidates, const PickHints& hints, const Matches& matches) {
  if (matches.empty() || OutOfBalance(candidates)) return PickLeast(candidates);
  boost::container::small_vector<size_t, 32> depths(candidates.size(), 0);
  size_t deepest = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].reported.failing) continue;
    for (const auto& [order, depth] : matches) {
      if (order == candidates[i].order) depths[i] = depth;
    }
    deepest = std::max(deepest, depths[i]);
  }
  const PrefixDigest& digest = *hints.digest;
  const double share =
      static_cast<double>(digest.BytesUpTo(deepest)) / static_cast<double>(digest.bytes());
  if (deepest == 0 || share <= rules_.cache_threshold) return PickLeast(candidates);
  return LeastOf(candidates, [&](size_t i) { return depths[i] == deepest; });
}

// Rendezvous hashing (Thaler and Ravishankar 1998): every worker bids for the key, the highest bid
// wins, so that a worker that comes or goes moves only the keys that it wins or had won. With
// bounded loads as in Mirrokni, Thorup and Zadimoghaddam 2018: who has more than its share passes.
size_t Policy::PickHashed(Candidates candidates, uint64_t key) {
  int64_t total = 1;
  for (const Candidate& c : candidates) total += c.load;
  const double share = static_cast<double>(total) / static_cast<double>(candidates.size());
  const auto most = static_cast<int64_t>(std::ceil(share * rules_.hash_load_factor));
  std::optional<size_t> best;
  uint64_t best_bid = 0;
  const auto bids = [&](bool failing_too) {
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (candidates[i].load >= most || (candidates[i].reported.failing && !failing_too)) continue;
      const uint64_t bid = HashText({reinterpret_cast<const char*>(&key), sizeof(key)}, candidates[i].hash);
      if (best && bid <= best_bid) continue;
      best = i;
      best_bid = bid;
    }
  };
  bids(false);
  if (!best) bids(true);
  return best.value_or(0);  // someone is always below its share
}

size_t Policy::PickManual(Candidates candidates, const PickHints& hints) {
  if (hints.key.empty()) return PickLeast(candidates);
  const uint64_t key = HashText(hints.key);
  if (const auto worker = sticky_.Find(key, hints.now)) {
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (candidates[i].order == *worker) return i;
    }
  }
  size_t picked = 0;
  switch (rules_.assignment) {
    case Assignment::kRandom: picked = Below(candidates.size()); break;
    case Assignment::kMinLoad: picked = PickLeast(candidates); break;
    case Assignment::kMinGroup: {
      size_t fewest = SIZE_MAX;
      for (size_t i = 0; i < candidates.size(); ++i) {
        const size_t keys = sticky_.KeysOf(candidates[i].order);
        if (keys >= fewest) continue;
        fewest = keys;
        picked = i;
      }
      break;
    }
  }
  sticky_.Assign(key, candidates[picked].order, hints.now);
  return picked;
}

size_t Policy::PickBucket(Candidates candidates, const PickHints& hints) {
  const uint64_t length = hints.digest ? hints.digest->bytes() : 0;
  const size_t bucket = buckets_.Place(length, candidates.size(), hints.now);
  return OutOfBalance(candidates) ? PickLeast(candidates) : bucket;
}

}  // namespace baton::router
