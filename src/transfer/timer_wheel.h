// Deadlines of slots and sends: a hashed wheel over a fixed set of timer ids, so that arming and
// disarming are O(1) and allocate nothing. Resolution is one tick; a timer never fires early.
// Thread: the worker.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "common/clock.h"

namespace baton::transfer {

class TimerWheel {
 public:
  explicit TimerWheel(uint32_t timers) : nodes_(timers) { heads_.fill(kNone); }

  void Arm(uint32_t id, TimePoint deadline) {
    Disarm(id);
    Node& node = nodes_[id];
    node.deadline = deadline;
    // A deadline already passed goes into the bucket that is looked at next.
    const int64_t tick = std::max(TickOf(deadline), next_tick_);
    node.bucket = static_cast<uint32_t>(tick & (kBuckets - 1));
    node.next = heads_[node.bucket];
    node.previous = kNone;
    if (node.next != kNone) nodes_[node.next].previous = id;
    heads_[node.bucket] = id;
    ++armed_;
  }

  void Disarm(uint32_t id) {
    Node& node = nodes_[id];
    if (node.bucket == kNone) return;
    if (node.next != kNone) nodes_[node.next].previous = node.previous;
    if (node.previous != kNone)
      nodes_[node.previous].next = node.next;
    else
      heads_[node.bucket] = node.next;
    node.bucket = kNone;
    --armed_;
  }

  // Disarms and reports every timer whose deadline is at or before `now`. `fire(id)` may arm and
  // disarm timers.
  template <typename Fire>
  void Advance(TimePoint now, Fire fire) {
    const int64_t last = TickOf(now);
    if (armed_ == 0) {
      next_tick_ = last;
      return;
    }
    // The current tick is looked at again next time: part of it is still to come.
    const int64_t first = std::max(next_tick_, last - (kBuckets - 1));
    for (int64_t tick = first; tick <= last; ++tick)
      FireBucket(static_cast<uint32_t>(tick & (kBuckets - 1)), now, fire);
    next_tick_ = last;
  }

  uint32_t armed() const { return armed_; }

 private:
  static constexpr uint32_t kNone = ~0u;
  static constexpr int64_t kBuckets = 1024;
  struct Node {
    TimePoint deadline{};
    uint32_t bucket = kNone, next = kNone, previous = kNone;
  };

  static int64_t TickOf(TimePoint t) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(t.time_since_epoch()).count();
  }

  template <typename Fire>
  void FireBucket(uint32_t bucket, TimePoint now, Fire& fire) {
    // `fire` may unlink any node, so look for a due one from the head again after each.
    for (uint32_t id = heads_[bucket]; id != kNone;) {
      if (nodes_[id].deadline > now) {
        id = nodes_[id].next;
        continue;
      }
      Disarm(id);
      fire(id);
      id = heads_[bucket];
    }
  }

  std::vector<Node> nodes_;
  std::array<uint32_t, kBuckets> heads_;
  int64_t next_tick_ = INT64_MIN / 2;
  uint32_t armed_ = 0;
};

}  // namespace baton::transfer
