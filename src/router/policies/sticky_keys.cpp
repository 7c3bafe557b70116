#include "router/policies/sticky_keys.h"

namespace baton::router {

void StickyKeys::Erase(std::list<Entry>::iterator entry) {
  const auto count = counts_.find(entry->worker);
  if (--count->second == 0) counts_.erase(count);
  entries_.erase(entry->key);
  by_use_.erase(entry);
}

void StickyKeys::DropOld(TimePoint now) {
  while (!by_use_.empty() &&
         (by_use_.size() > max_keys_ || now - by_use_.front().used >= max_idle_)) {
    Erase(by_use_.begin());
  }
}

std::optional<uint64_t> StickyKeys::Find(uint64_t key, TimePoint now) {
  DropOld(now);
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  found->second->used = now;
  by_use_.splice(by_use_.end(), by_use_, found->second);
  return found->second->worker;
}

void StickyKeys::Assign(uint64_t key, uint64_t worker, TimePoint now) {
  if (const auto found = entries_.find(key); found != entries_.end()) Erase(found->second);
  by_use_.push_back({key, worker, now});
  entries_[key] = std::prev(by_use_.end());
  ++counts_[worker];
  DropOld(now);
}

void StickyKeys::Forget(uint64_t worker) {
  for (auto entry = by_use_.begin(); entry != by_use_.end();) {
    const auto next = std::next(entry);
    if (entry->worker == worker) Erase(entry);
    entry = next;
  }
}

size_t StickyKeys::KeysOf(uint64_t worker) const {
  const auto found = counts_.find(worker);
  return found == counts_.end() ? 0 : found->second;
}

}  // namespace baton::router
