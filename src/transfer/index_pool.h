// Free indices of a fixed table, handed out oldest first: an index rests as long as possible before
// it is used again, which keeps generations apart. Allocates nothing after construction.
// Thread-safe; the lock is held for a few instructions.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace baton::transfer {

class IndexPool {
 public:
  explicit IndexPool(uint32_t size) : ring_(size), free_(size) {
    for (uint32_t i = 0; i < size; ++i) ring_[i] = i;
  }

  std::optional<uint32_t> Take() {
    std::lock_guard lock(mutex_);
    if (free_ == 0) return std::nullopt;
    const uint32_t index = ring_[head_];
    head_ = (head_ + 1) % ring_.size();
    --free_;
    return index;
  }

  void Put(uint32_t index) {
    std::lock_guard lock(mutex_);
    ring_[(head_ + free_) % ring_.size()] = index;
    ++free_;
  }

 private:
  std::mutex mutex_;
  std::vector<uint32_t> ring_;
  size_t head_ = 0, free_;
};

}  // namespace baton::transfer
