// The sessions of one side of PD, with how many are in each phase and when each must be looked at next.
// Both follow from the item's own phase() and due(): whoever changed an item calls Update, and nothing
// else moves a count. So neither costs a walk over all sessions.
//
// An Item has an enum Phase with values 0 .. kPhases - 1, Phase phase() const and TimePoint due() const
// (TimePoint::max(): never). Items stay where they are until erased. One strand; counts: any thread.
#pragma once

#include <array>
#include <atomic>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/clock.h"

namespace baton::disagg {

template <typename Key, typename Item>
class SessionTable {
 public:
  using Phase = typename Item::Phase;

  // The item of `key`, and whether it was made just now. Update it once it is filled in.
  std::pair<Item*, bool> Open(const Key& key) {
    const auto [it, is_new] = entries_.try_emplace(key);
    if (is_new) Count(it->second.phase = it->second.item.phase(), 1);
    return {&it->second.item, is_new};
  }

  // nullptr: there is none.
  Item* Find(const Key& key) {
    const auto it = entries_.find(key);
    return it == entries_.end() ? nullptr : &it->second.item;
  }

  // After every change.
  void Update(const Key& key) {
    const auto it = entries_.find(key);
    if (it == entries_.end()) return;
    Entry& entry = it->second;
    if (const Phase now = entry.item.phase(); now != entry.phase) {
      Count(entry.phase, -1);
      Count(entry.phase = now, 1);
    }
    SetDue(key, entry, entry.item.due());
  }

  void Erase(const Key& key) {
    const auto it = entries_.find(key);
    if (it == entries_.end()) return;
    Count(it->second.phase, -1);
    SetDue(key, it->second, TimePoint::max());
    entries_.erase(it);
  }

  // The one that has been due for longest, or nullptr. It comes again until an Update finds a later
  // time, or Erase.
  Item* NextDue(TimePoint now) { return queue_.empty() || queue_.begin()->first > now ? nullptr : Find(queue_.begin()->second); }

  template <typename Predicate>
  std::vector<Key> KeysWhere(Predicate predicate) const {
    std::vector<Key> keys;
    for (const auto& [key, entry] : entries_) {
      if (predicate(entry.item)) keys.push_back(key);
    }
    return keys;
  }

  bool empty() const { return entries_.empty(); }
  void Clear() {
    while (!entries_.empty()) Erase(entries_.begin()->first);
  }
  int count(Phase phase) const { return counts_[static_cast<size_t>(phase)].load(std::memory_order_relaxed); }

 private:
  struct Entry {
    Item item;
    Phase phase{};
    TimePoint due = TimePoint::max();  // as it stands in queue_
  };

  void Count(Phase phase, int by) { counts_[static_cast<size_t>(phase)].fetch_add(by, std::memory_order_relaxed); }

  void SetDue(const Key& key, Entry& entry, TimePoint due) {
    if (due == entry.due) return;
    if (entry.due != TimePoint::max()) queue_.erase({entry.due, key});
    if (due != TimePoint::max()) queue_.emplace(due, key);
    entry.due = due;
  }

  std::unordered_map<Key, Entry> entries_;
  std::set<std::pair<TimePoint, Key>> queue_;
  std::array<std::atomic<int>, Item::kPhases> counts_{};
};

}  // namespace baton::disagg
