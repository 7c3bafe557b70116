#include "transfer/slots.h"

namespace baton::transfer {
namespace {

constexpr uint64_t kOpenBit = 1ull << 48;
constexpr uint64_t kSealBit = 1ull << 49;
constexpr uint64_t kCancelBit = 1ull << 50;
constexpr uint64_t kReleaseBit = 1ull << 51;
constexpr uint64_t kRequestBits = kOpenBit | kSealBit | kCancelBit | kReleaseBit;
constexpr uint64_t kWritesMask = 0xFFFFFFFFu;
constexpr uint64_t kHeldBit = 1ull << 52;  // between Acquire and Release

constexpr uint64_t GenerationBits(uint8_t generation) { return uint64_t{generation} << 56; }

}  // namespace

SlotTable::SlotTable(uint32_t slots)
    : size_(slots), entries_(std::make_unique<Entry[]>(slots)), dirty_(slots), free_(slots) {}

Result<Slot> SlotTable::Acquire(PeerId from, TimePoint deadline) {
  const std::optional<uint32_t> index = free_.Take();
  if (!index)
    return Error(Code::kResourceExhausted,
                 "all {} transfer slots are held: raise max_slots or admit fewer requests", size_);
  Entry& entry = entries_[*index];
  entry.peer = from;
  entry.deadline = deadline;
  const Slot slot{*index, entry.generation};
  entry.control.store(GenerationBits(slot.generation) | kHeldBit | kOpenBit,
                      std::memory_order_release);
  dirty_.Mark(*index);
  return slot;
}

void SlotTable::Ask(Slot slot, uint64_t bits) {
  if (slot.index >= size_) return;
  std::atomic<uint64_t>& control = entries_[slot.index].control;
  uint64_t seen = control.load(std::memory_order_acquire);
  uint64_t wanted;
  do {
    const bool current = (seen >> 56) == slot.generation && (seen & kHeldBit);
    if (!current) return;
    wanted = seen | (bits & ~kWritesMask);
    // The first seal stands; a second one would be a bug of the caller that must not move the goal.
    if ((bits & kSealBit) && !(seen & kWritesMask)) wanted |= bits & kWritesMask;
    if (bits & kReleaseBit) wanted &= ~kHeldBit;
  } while (!control.compare_exchange_weak(seen, wanted, std::memory_order_acq_rel));
  dirty_.Mark(slot.index);
}

void SlotTable::Seal(Slot slot, uint32_t writes) { Ask(slot, kSealBit | writes); }
void SlotTable::Cancel(Slot slot) { Ask(slot, kCancelBit); }
void SlotTable::Release(Slot slot) { Ask(slot, kReleaseBit); }

uint32_t SlotTable::Landed(Slot slot) const {
  if (slot.index >= size_) return 0;
  const uint64_t seen = entries_[slot.index].watermark.load(std::memory_order_acquire);
  return (seen >> 32) == slot.generation ? static_cast<uint32_t>(seen) : 0;
}

SlotTable::Requests SlotTable::TakeRequests(uint32_t index) {
  const uint64_t bits =
      entries_[index].control.fetch_and(~kRequestBits, std::memory_order_acq_rel);
  return {.open = (bits & kOpenBit) != 0,
          .seal = (bits & kSealBit) != 0,
          .cancel = (bits & kCancelBit) != 0,
          .release = (bits & kReleaseBit) != 0,
          .writes = static_cast<uint32_t>(bits & kWritesMask)};
}

void SlotTable::Free(uint32_t index) {
  Entry& entry = entries_[index];
  entry.state = State::kFree;
  ++entry.generation;  // wraps after 256 reuses of this index; IndexPool keeps reuses apart
  entry.predecessor_done = !entry.failed;
  entry.predecessor = entry.peer;
  entry.sealed = entry.failed = false;
  entry.repetition = 0;
  entry.watermark.store(uint64_t{entry.generation} << 32, std::memory_order_release);
  entry.expected = entry.arrived = 0;
  entry.bytes = 0;
  entry.first_at = entry.last_at = {};
  entry.control.store(GenerationBits(entry.generation), std::memory_order_release);
  free_.Put(index);
}

}  // namespace baton::transfer
