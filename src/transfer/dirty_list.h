// Which table entries the worker must look at: any thread marks, the worker takes all.
//
// Every entry is in the list at most once, so it never overflows and marking never fails. That is
// why seals, cancels and releases go through it and not through a bounded queue.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace baton::transfer {

class DirtyList {
 public:
  explicit DirtyList(uint32_t entries) : nodes_(std::make_unique<Node[]>(entries)) {}

  // Any thread. What was written before is seen by the worker when it takes `index`.
  void Mark(uint32_t index) {
    Node& node = nodes_[index];
    if (node.marked.exchange(true, std::memory_order_acq_rel)) return;
    uint32_t head = head_.load(std::memory_order_relaxed);
    do {
      node.next = head;
    } while (!head_.compare_exchange_weak(head, index, std::memory_order_release,
                                          std::memory_order_relaxed));
  }

  bool empty() const { return head_.load(std::memory_order_seq_cst) == kNone; }

  // Worker: visits every marked entry once, newest first. An entry marked again during the visit
  // comes with the next call.
  template <typename Visit>
  void TakeAll(Visit visit) {
    if (head_.load(std::memory_order_relaxed) == kNone) return;
    uint32_t index = head_.exchange(kNone, std::memory_order_acquire);
    while (index != kNone) {
      const uint32_t next = nodes_[index].next;
      // From here on a marker links the entry anew, so its flags must be read after this.
      nodes_[index].marked.exchange(false, std::memory_order_acq_rel);
      visit(index);
      index = next;
    }
  }

 private:
  static constexpr uint32_t kNone = ~0u;
  struct Node {
    std::atomic<bool> marked{false};
    uint32_t next = kNone;
  };
  std::unique_ptr<Node[]> nodes_;
  std::atomic<uint32_t> head_{kNone};
};

}  // namespace baton::transfer
