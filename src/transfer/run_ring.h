// Runs on their way from pushing threads to the worker: a bounded ring, many writers, one reader.
//
// A writer reserves with two fetch-and-adds and never waits for another (wait-free, no allocation).
// The bound is on runs in the engine, not in the ring: a place is given back only when its run was
// posted or dropped, so the ring itself cannot be full when a reservation succeeded.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>

#include "transfer/transfer.h"

namespace baton::transfer {

class RunRing {
 public:
  explicit RunRing(uint32_t bound)
      : bound_(bound), mask_(std::bit_ceil(bound) - 1), cells_(std::make_unique<Cell[]>(mask_ + 1)) {}

  // Any thread. Room for `count` runs, or false.
  bool Reserve(uint32_t count, uint64_t& position) {
    if (held_.fetch_add(count, std::memory_order_acq_rel) + count > bound_) {
      held_.fetch_sub(count, std::memory_order_acq_rel);
      return false;
    }
    position = tail_.fetch_add(count, std::memory_order_acq_rel);
    return true;
  }
  // Fills one reserved place; each must be filled once.
  void Put(uint64_t position, SendId send, const Run& run) {
    Cell& cell = cells_[position & mask_];
    cell.send = send;
    cell.run = run;
    cell.sequence.store(position + 1, std::memory_order_release);
  }

  // Worker: everything reserved so far. What a writer did before it reserved is visible after.
  uint64_t Snapshot() const { return tail_.load(std::memory_order_acquire); }
  // Worker: the next run in order, or false when it is past `limit` or not filled yet.
  bool Take(uint64_t limit, SendId& send, Run& run) {
    if (head_ == limit) return false;
    Cell& cell = cells_[head_ & mask_];
    if (cell.sequence.load(std::memory_order_acquire) != head_ + 1) return false;
    send = cell.send;
    run = cell.run;
    ++head_;
    return true;
  }
  // Worker: `count` runs left the engine.
  void GiveBack(uint32_t count) { held_.fetch_sub(count, std::memory_order_acq_rel); }

  bool HasWork() const { return tail_.load(std::memory_order_seq_cst) != head_; }
  uint64_t held() const { return held_.load(std::memory_order_relaxed); }
  uint32_t bound() const { return bound_; }

 private:
  struct Cell {
    std::atomic<uint64_t> sequence{0};
    SendId send{};
    Run run{};
  };
  const uint32_t bound_;
  const uint64_t mask_;
  std::unique_ptr<Cell[]> cells_;
  alignas(64) std::atomic<uint64_t> held_{0};
  alignas(64) std::atomic<uint64_t> tail_{0};
  alignas(64) uint64_t head_ = 0;
};

}  // namespace baton::transfer
