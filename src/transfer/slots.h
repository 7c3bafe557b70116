// Receiver's slots: who may write, how many writes came, how many are to come, how many marks have.
//
// Any thread acquires a slot and asks for things (seal, cancel, release) by setting bits in the
// entry's control word and marking it; the worker reads them and owns everything else. A request
// for another generation than the entry's is ignored, so a late call by a former holder is harmless.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "transfer/dirty_list.h"
#include "transfer/index_pool.h"
#include "transfer/transfer.h"

namespace baton::transfer {

struct Peer;

class SlotTable {
 public:
  enum class State : uint8_t { kFree, kOpen, kEnded };

  struct Entry {
    // generation << 56 | requests << 48 | sealed writes
    std::atomic<uint64_t> control{0};
    // generation << 32 | marks that came, for anyone who asks
    std::atomic<uint64_t> watermark{0};
    // Written by Acquire before the first mark, then constant until released.
    PeerId peer{};
    TimePoint deadline{};
    // Worker's.
    State state = State::kFree;
    Peer* owner = nullptr;  // while open
    uint8_t generation = 0;
    bool sealed = false;
    bool failed = false;
    bool predecessor_done = false;  // how the generation before ended
    PeerId predecessor{};           // ... and whose it was
    uint32_t repetition = 0;        // whose writes count (imm.h)
    uint32_t expected = 0;
    uint32_t arrived = 0;
    uint64_t bytes = 0;
    TimePoint first_at{}, last_at{};
  };

  // What was asked of an entry since it was last looked at.
  struct Requests {
    bool open = false, seal = false, cancel = false, release = false;
    uint32_t writes = 0;
  };

  explicit SlotTable(uint32_t slots);

  // Any thread.
  Result<Slot> Acquire(PeerId from, TimePoint deadline);
  void Seal(Slot slot, uint32_t writes);
  void Cancel(Slot slot);
  void Release(Slot slot);
  uint32_t Landed(Slot slot) const;
  bool dirty() const { return !dirty_.empty(); }
  uint32_t size() const { return size_; }

  // Worker.
  template <typename Visit>
  void TakeDirty(Visit visit) {
    dirty_.TakeAll([&](uint32_t index) { visit(index, TakeRequests(index)); });
  }
  Entry& operator[](uint32_t index) { return entries_[index]; }
  Slot Name(uint32_t index) const { return {index, entries_[index].generation}; }
  void NoteMark(Entry& entry) {
    const uint64_t before = entry.watermark.load(std::memory_order_relaxed);  // nobody else writes it
    entry.watermark.store(before + 1, std::memory_order_release);
  }
  // Counts writes from nothing: the sender writes all of it again. What has landed stays landed.
  void Restart(Entry& entry, uint32_t repetition) {
    entry.repetition = repetition;
    entry.arrived = 0;
    entry.bytes = 0;
  }
  // Back to the free list, with the next generation.
  void Free(uint32_t index);

 private:
  void Ask(Slot slot, uint64_t bits);
  Requests TakeRequests(uint32_t index);

  const uint32_t size_;
  std::unique_ptr<Entry[]> entries_;
  DirtyList dirty_;
  IndexPool free_;
};

}  // namespace baton::transfer
