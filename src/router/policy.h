// Load-balancing policies: choice among the workers that may take a request now.
//
// Each role has its own instance (specs/sglang-pd-protocol.md 1.2 and 3.7). A choice has three
// steps, so that no tree is walked under the registry's lock: Look (any thread, own short locks),
// Pick (under the registry's lock; arithmetic over the candidates only), Placed (any thread).
// What differs from sglang-router: cache_aware compares the whole conversation and breaks ties by
// load; "least loaded" means the load that workers report while every candidate's report is fresh,
// and the router's own count otherwise; a worker whose poll failed is taken last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <shared_mutex>
#include <span>
#include <string_view>

#include <boost/container/small_vector.hpp>

#include "common/clock.h"
#include "common/status.h"
#include "router/policies/length_buckets.h"
#include "router/policies/prefix_digest.h"
#include "router/policies/prefix_tree.h"
#include "router/policies/sticky_keys.h"
#include "router/worker_load.h"

namespace baton::router {

enum class PolicyKind : uint8_t {
  kRandom,
  kRoundRobin,
  kPowerOfTwo,
  kLeastLoad,
  kCacheAware,
  kPrefixHash,
  kConsistentHashing,
  kManual,
  kBucket,
};

// By sglang-router's names, and least_load. kInvalidArgument lists them.
Result<PolicyKind> ParsePolicy(std::string_view name);
std::string_view PolicyName(PolicyKind kind);
// Does the policy compare prompts?
bool WantsPrompt(PolicyKind kind);

// How `manual` gives a new key a worker.
enum class Assignment : uint8_t { kRandom, kMinLoad, kMinGroup };
Result<Assignment> ParseAssignment(std::string_view name);

struct PolicyRules {
  // cache_aware: a match counts when it covers more than this share of the prompt.
  double cache_threshold = 0.3;
  // cache_aware and bucket: the fleet is out of balance when the most and the least requests in
  // flight differ by more than `abs` and by more than the factor `rel`; then the least loaded is
  // taken.
  int64_t balance_abs = 64;
  double balance_rel = 1.5;
  uint64_t max_tree_bytes = uint64_t{1} << 26;  // of text, for each worker
  // prefix_hash: bytes of the prompt that choose the worker (some 256 tokens).
  uint64_t prefix_bytes = 1024;
  // prefix_hash and consistent_hashing: no worker gets more than this times its fair share.
  double hash_load_factor = 1.25;
  Duration max_idle = std::chrono::seconds(14'400);  // manual
  size_t max_keys = size_t{1} << 20;                 // manual
  Assignment assignment = Assignment::kRandom;
  Duration bucket_interval = std::chrono::seconds(5);
};

struct Candidate {
  uint64_t order = 0;  // grows with registration, so that round robin survives changes of the set
  int64_t load = 0;    // the router's own requests in flight
  uint64_t hash = 0;   // of the URL: the same in every router and run
  LoadEstimate reported;
};

// What a policy may know of a request. `digest` may be null; `key` is the routing key or empty.
struct PickHints {
  const PrefixDigest* digest = nullptr;
  std::string_view key;
  TimePoint now{};
};

class Policy {
 public:
  Policy(PolicyKind kind, uint64_t seed, const PolicyRules& rules = {});

  // How much of a prompt workers have seen: (order, leading keys), those with the most included.
  using Matches = boost::container::small_vector<std::pair<uint64_t, size_t>, 16>;
  // Thread-safe.
  void Look(const PickHints& hints, Matches* matches) const;

  // Index into `candidates` (not empty; ascending by order). Not thread-safe.
  size_t Pick(std::span<const Candidate> candidates, const PickHints& hints = {},
              const Matches& matches = {});

  // A worker came; what is placed on an order that has not joined is not remembered. Thread-safe.
  void Join(uint64_t order);
  // The request went to that worker. Thread-safe.
  void Placed(const PickHints& hints, uint64_t order);
  // The worker's caches are gone (restarted, flushed), and with `left` the worker too. Thread-safe
  // against Look and Placed; with `left` under the lock of Pick.
  void Forget(uint64_t order, bool left);

  PolicyKind kind() const { return kind_; }
  // Memory of the trees, bytes. Thread-safe.
  size_t TreeMemory() const;

 private:
  using Candidates = std::span<const Candidate>;
  struct Tree {
    explicit Tree(uint64_t max_bytes) : prefixes(max_bytes) {}
    mutable std::mutex mutex;
    PrefixTree prefixes;
  };

  size_t Below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random_); }
  size_t Choose(Candidates candidates, const PickHints& hints, const Matches& matches);
  size_t PickNext(Candidates candidates);
  size_t PickTwo(Candidates candidates);
  size_t PickLeast(Candidates candidates);
  size_t PickCached(Candidates candidates, const PickHints& hints, const Matches& matches);
  size_t PickHashed(Candidates candidates, uint64_t key);
  size_t PickManual(Candidates candidates, const PickHints& hints);
  size_t PickBucket(Candidates candidates, const PickHints& hints);
  // The least loaded of those for which `allowed` holds; the one after the last pick among equals.
  template <typename Allowed>
  size_t LeastOf(Candidates candidates, const Allowed& allowed);
  bool OutOfBalance(Candidates candidates) const;

  const PolicyKind kind_;
  const PolicyRules rules_;
  std::mt19937_64 random_;
  std::optional<uint64_t> last_;  // order of the worker picked last
  StickyKeys sticky_;
  LengthBuckets buckets_;
  mutable std::shared_mutex trees_mutex_;  // the map; each tree has its own lock
  std::map<uint64_t, std::shared_ptr<Tree>> trees_;
};

}  // namespace baton::router
