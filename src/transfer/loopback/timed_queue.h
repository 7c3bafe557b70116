// What happens at a time: a queue that is a plain ring while times come in order, as they do on a
// perfect network, and a heap beside it for the rest. Allocates only to grow.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "common/clock.h"

namespace baton::transfer {

template <typename T>
class TimedQueue {
 public:
  // Equal times come out in the order in which they went in.
  void Push(TimePoint at, T value) {
    Item item{at, next_++, std::move(value)};
    if (size_ == 0 || !(at < ring_[(head_ + size_ - 1) % ring_.size()].at)) {
      if (size_ == ring_.size()) Grow();
      ring_[(head_ + size_++) % ring_.size()] = std::move(item);
      return;
    }
    heap_.push_back(std::move(item));
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }

  bool empty() const { return size_ == 0 && heap_.empty(); }
  size_t size() const { return size_ + heap_.size(); }
  bool Due(TimePoint now) const { return !empty() && !(now < Front().at); }

  // The first one. Call when not empty.
  T Pop() {
    if (FrontIsHeaped()) {
      std::pop_heap(heap_.begin(), heap_.end(), Later);
      T value = std::move(heap_.back().value);
      heap_.pop_back();
      return value;
    }
    T value = std::move(ring_[head_].value);
    head_ = (head_ + 1) % ring_.size();
    --size_;
    return value;
  }

  size_t CountDue(TimePoint now) const {
    size_t count = 0;
    while (count < size_ && !(now < ring_[(head_ + count) % ring_.size()].at)) ++count;
    for (const Item& item : heap_) count += !(now < item.at);
    return count;
  }
  // Visits all, in no order: `visit(at, value)` returns true for those to remove.
  template <typename Visit>
  void RemoveIf(Visit visit) {
    std::vector<Item> kept;
    for (; size_; --size_, head_ = (head_ + 1) % ring_.size())
      if (Item& item = ring_[head_]; !visit(item.at, item.value)) kept.push_back(std::move(item));
    for (Item& item : heap_)
      if (!visit(item.at, item.value)) kept.push_back(std::move(item));
    heap_.clear();
    std::sort(kept.begin(), kept.end(), [](const Item& a, const Item& b) { return Later(b, a); });
    for (Item& item : kept) {
      if (size_ == ring_.size()) Grow();
      ring_[(head_ + size_++) % ring_.size()] = std::move(item);
    }
  }
  void Clear() {
    heap_.clear();
    for (; size_; --size_, head_ = (head_ + 1) % ring_.size()) ring_[head_].value = T{};
  }

 private:
  struct Item {
    TimePoint at{};
    uint64_t sequence = 0;
    T value{};
  };
  static bool Later(const Item& a, const Item& b) {
    return a.at != b.at ? b.at < a.at : a.sequence > b.sequence;
  }
  bool FrontIsHeaped() const {
    return !heap_.empty() && (size_ == 0 || Later(ring_[head_], heap_.front()));
  }
  const Item& Front() const { return FrontIsHeaped() ? heap_.front() : ring_[head_]; }
  void Grow() {
    std::vector<Item> larger(std::max<size_t>(16, 2 * ring_.size()));
    for (size_t i = 0; i < size_; ++i) larger[i] = std::move(ring_[(head_ + i) % ring_.size()]);
    ring_.swap(larger);
    head_ = 0;
  }

  std::vector<Item> ring_, heap_;
  size_t head_ = 0, size_ = 0;
  uint64_t next_ = 0;
};

}  // namespace baton::transfer
