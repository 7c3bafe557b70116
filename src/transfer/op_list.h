// Operations in flight: a pool that hands them out, and lists of those that belong together (a peer's,
// a path's). An Op has `next`, `previous` and Forget(), which says that it is nobody's.
// Thread: the worker.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace baton::transfer {

template <typename Op>
void Link(Op*& first, Op* op) {
  op->next = first;
  if (first) first->previous = op;
  first = op;
}
template <typename Op>
void Unlink(Op*& first, Op* op) {
  (op->previous ? op->previous->next : first) = op->next;
  if (op->next) op->next->previous = op->previous;
}

// Operations never move and are reused; more are made only after a lost peer or path kept some.
template <typename Op>
class OpPool {
 public:
  explicit OpPool(uint32_t ops) { Grow(ops); }

  Op* Take() {
    if (!free_) Grow(kMore);
    Op* const op = free_;
    free_ = op->next;
    op->next = op->previous = nullptr;
    return op;
  }
  void Put(Op* op) {
    op->Forget();
    op->next = free_;
    free_ = op;
  }

 private:
  static constexpr uint32_t kMore = 64;
  void Grow(uint32_t ops) {
    chunks_.push_back(std::make_unique<Op[]>(ops));
    for (uint32_t i = 0; i < ops; ++i) Put(&chunks_.back()[i]);
  }
  std::vector<std::unique_ptr<Op[]>> chunks_;
  Op* free_ = nullptr;
};

}  // namespace baton::transfer
