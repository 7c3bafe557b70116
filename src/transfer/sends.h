// Sender's side of transfers: what was pushed, posted and completed of each.
//
// Any thread begins a send, pushes runs into the ring, finishes or cancels; the worker owns the
// rest. Push touches only atomics of its entry and the ring: no lock, no allocation.
//
// A mark goes through the ring as a run of no bytes. It is passed when it comes to be posted: then all
// before it was.
//
// Where writes can be in doubt (several rails) the runs of a live send are kept after they were
// posted, so that all of it can be posted again; a send that found no room for that cannot.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transfer/dirty_list.h"
#include "transfer/fabric.h"
#include "transfer/index_pool.h"
#include "transfer/run_ring.h"
#include "transfer/transfer.h"

namespace baton::transfer {

struct Peer;
struct WriteOp;

class SendTable {
 public:
  static constexpr uint32_t kNone = ~0u;
  static constexpr uint32_t kTakenAtOnce = 4096;  // 0.1 ms
  enum class State : uint8_t {
    kFree,
    kOpen,      // runs may come
    kDraining,  // failed or cancelled: posts nothing more, waits for what is in flight
  };

  // What Begin knows of both ends.
  struct Route {
    PeerId peer{};
    Slot slot{};
    uint32_t local_region = 0;  // fabric's index
    uint64_t local_bytes = 0;
    MemoryKey remote{};
    uint64_t remote_bytes = 0;
    uint32_t remote_region_id = 0;  // as the peer numbers it
    Priority priority = Priority::kDecode;
    TimePoint deadline{};
  };

  // In a line of its peer's sends.
  struct Place {
    bool taken = false;
    uint32_t next = kNone, previous = kNone;
  };

  struct Entry {
    // generation << 32 | flags
    std::atomic<uint64_t> control{0};
    // generation << 32 | runs and marks pushed, so that a push for an earlier send changes nothing
    std::atomic<uint64_t> pushed{0};
    // For Push's bounds check; atomics because a late push may read them while Begin writes.
    std::atomic<uint64_t> local_bytes{0}, remote_bytes{0};
    // Constant from the first mark until the end.
    Route route;
    // Worker's.
    State state = State::kFree;
    bool finishing = false;
    bool drained = true;        // false: its peer went with writes of it under way
    uint32_t generation = 1;
    uint32_t taken = 0;         // runs received from the ring
    uint32_t first_run = kNone, last_run = kNone;
    uint32_t next_run = kNone;  // first that is not posted; those before it are kept
    Run rest;                   // of that one
    uint32_t at = 0, returned = 0;  // runs before next_run; whose place in the ring was given back
    bool kept = false;          // all its runs still are there
    bool in_doubt = false;      // a write of it failed and may land all the same (engine_repeat.cpp)
    uint32_t repetition = 0;
    uint32_t in_flight = 0, writes = 0;
    Place turn;                 // with something to post
    Place mark_turn;            // ... with a mark to post
    Peer* owner = nullptr;      // null once ended
    uint64_t bytes = 0;         // of writes posted
    // Marks (engine_marks.cpp).
    uint32_t marks_passed = 0;  // this time; from nothing when all is written again
    uint32_t marks_posted = 0;  // at any time
    uint32_t marks_in_flight = 0;
    uint32_t behind_marks = 0;  // of in_flight, writes that were posted behind a mark
    WriteOp *oldest = nullptr, *newest = nullptr;  // of these
    Status status;
    TimePoint opened_at{}, first_at{}, last_at{};
  };

  struct Requests {
    bool open = false, finish = false, cancel = false;
  };

  // A pushed run, waiting or kept.
  struct RunNode {
    Run run;
    uint32_t next = kNone;
  };

  // `kept_runs`: how many posted ones are kept, of all sends together; 0: none.
  SendTable(uint32_t sends, uint32_t queued_runs, uint64_t max_write_bytes, uint32_t kept_runs = 0);

  // Any thread.
  Result<SendId> Begin(const Route& route);
  Result<uint32_t> Push(SendId send, std::span<const Run> runs);
  Status Mark(SendId send);
  void Finish(SendId send);
  void Cancel(SendId send);
  bool dirty() const { return !dirty_.empty() || ring_.HasWork(); }
  uint32_t size() const { return size_; }

  // Worker.
  template <typename Visit>
  void TakeDirty(Visit visit) {
    dirty_.TakeAll([&](uint32_t index) { visit(index, TakeRequests(index)); });
  }
  // Taken before TakeDirty and given to TakeRuns, so that no run is looked at before the Begin of
  // its send was.
  uint64_t RunsSoFar() const { return ring_.Snapshot(); }
  // Moves pushed runs to their sends; `touched(index)` for each send that got some. Not more than
  // kTakenAtOnce: the first of many go out before the last of them are taken (dirty() tells).
  template <typename Touched>
  void TakeRuns(uint64_t limit, Touched touched) {
    SendId id;
    Run run;
    for (uint32_t taken = 0; taken < kTakenAtOnce && ring_.Take(limit, id, run); ++taken) {
      const uint32_t index = IndexOf(id);
      Entry& entry = entries_[index];
      if (GenerationOf(id) != entry.generation || entry.state != State::kOpen) {
        ring_.GiveBack(1);
        continue;
      }
      ++entry.taken;
      AppendRun(entry, run);
      touched(index);
    }
  }
  // True when every run that Push accepted has come out of the ring.
  bool AllTaken(const Entry& entry) const {
    return static_cast<uint32_t>(entry.pushed.load(std::memory_order_acquire)) == entry.taken;
  }
  static bool HasRuns(const Entry& entry) { return entry.next_run != kNone; }
  // What is left of the next run; shrinks as its writes are posted. Call when HasRuns.
  static Run& FrontRun(Entry& entry) { return entry.rest; }
  void PopRun(Entry& entry);  // and the marks behind it
  void DropRuns(Entry& entry);
  // From its first run again; false when they are not all there any more.
  bool Rewind(Entry& entry);
  // No call by the user has effect from here on; the entry stays the worker's until Free.
  void End(Entry& entry);
  void Free(uint32_t index);

  Entry& operator[](uint32_t index) { return entries_[index]; }
  SendId Name(uint32_t index) const {
    return {(uint64_t{entries_[index].generation} << 32) | index};
  }
  static uint32_t IndexOf(SendId id) { return static_cast<uint32_t>(id.value); }
  static uint32_t GenerationOf(SendId id) { return static_cast<uint32_t>(id.value >> 32); }
  uint64_t queued_runs() const { return ring_.held(); }

 private:
  Result<Entry*> FindOpen(SendId send);
  Status CheckRun(const Entry& entry, const Run& run) const;
  Status Reserve(Entry& entry, SendId send, uint32_t count, uint64_t& position);
  static bool AddPushed(Entry& entry, uint64_t generation, uint64_t count);
  void Ask(SendId send, uint64_t bits);
  Requests TakeRequests(uint32_t index);
  void AppendRun(Entry& entry, const Run& run);
  void SetNext(Entry& entry, uint32_t node);
  void Advance(Entry& entry);
  void PassMarks(Entry& entry);
  void FreeFirst(Entry& entry);

  const uint32_t size_;
  const uint64_t max_write_bytes_;
  std::unique_ptr<Entry[]> entries_;
  DirtyList dirty_;
  IndexPool free_;
  RunRing ring_;
  std::vector<RunNode> nodes_;
  uint32_t free_node_ = kNone;
  const uint32_t most_kept_;
  uint32_t kept_ = 0;  // nodes before a send's next_run
};

}  // namespace baton::transfer
