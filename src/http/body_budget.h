// The bytes of request bodies that one server holds, over all its connections, and their bound.
//
// What counts is what has come (or has room made for it), not what a Content-Length announces: a
// client that announces much and sends little keeps nobody else out. Thread-safe.
#pragma once

#include <atomic>
#include <cstddef>
#include <utility>

#include "common/memory_limit.h"

namespace baton::http {

// What to hold when the operator asked for `asked` bytes; 0: a quarter of the memory.
inline size_t BodyBytesToHold(size_t asked) { return asked ? asked : MemoryLimitBytes() / 4; }

class BodyBudget {
 public:
  explicit BodyBudget(size_t limit_bytes) : limit_(limit_bytes) {}

  size_t held() const { return held_.load(std::memory_order_relaxed); }
  size_t limit() const { return limit_; }
  bool HasRoom(size_t bytes) const { return bytes <= limit_ - held(); }

  // False, and nothing is taken, when it would go past the bound.
  bool Take(size_t bytes) {
    size_t before = held();
    do {
      if (bytes > limit_ - before) return false;
    } while (!held_.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
    return true;
  }
  void Give(size_t bytes) { held_.fetch_sub(bytes, std::memory_order_relaxed); }

 private:
  const size_t limit_;
  std::atomic<size_t> held_{0};
};

// One request's share of a budget, given back at the latest when this ends. Not thread-safe.
class BodyShare {
 public:
  explicit BodyShare(BodyBudget& budget) : budget_(budget) {}
  ~BodyShare() { Release(); }
  BodyShare(const BodyShare&) = delete;
  BodyShare& operator=(const BodyShare&) = delete;

  // Makes it `bytes` in all; never less than it was. False when the budget has no room.
  bool GrowTo(size_t bytes) {
    if (bytes <= bytes_) return true;
    if (!budget_.Take(bytes - bytes_)) return false;
    bytes_ = bytes;
    return true;
  }
  void Release() {
    if (bytes_ > 0) budget_.Give(std::exchange(bytes_, 0));
  }

 private:
  BodyBudget& budget_;
  size_t bytes_ = 0;
};

}  // namespace baton::http
