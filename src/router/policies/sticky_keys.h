// Routing keys and the worker each of them stays with (policy `manual`).
//
// A key is kept as 64 bits of its hash. It is forgotten `max_idle` after its last use, or when
// `max_keys` others were used since: memory is bounded. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>

#include "common/clock.h"

namespace baton::router {

class StickyKeys {
 public:
  StickyKeys(Duration max_idle, size_t max_keys) : max_idle_(max_idle), max_keys_(max_keys) {}

  // The worker of `key`; a hit counts as a use.
  std::optional<uint64_t> Find(uint64_t key, TimePoint now);
  void Assign(uint64_t key, uint64_t worker, TimePoint now);
  // Forgets every key of `worker`.
  void Forget(uint64_t worker);

  size_t KeysOf(uint64_t worker) const;
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    uint64_t key = 0;
    uint64_t worker = 0;
    TimePoint used{};
  };
  void Erase(std::list<Entry>::iterator entry);
  void DropOld(TimePoint now);

  const Duration max_idle_;
  const size_t max_keys_;
  std::list<Entry> by_use_;  // oldest first
  std::unordered_map<uint64_t, std::list<Entry>::iterator> entries_;
  std::unordered_map<uint64_t, size_t> counts_;  // keys by worker
};

}  // namespace baton::router
