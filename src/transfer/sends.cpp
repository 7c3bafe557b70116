#include "transfer/sends.h"

namespace baton::transfer {
namespace {

constexpr uint64_t kOpenBit = 1, kFinishBit = 2, kCancelBit = 4;  // requests
constexpr uint64_t kLiveBit = 8;                                  // between Begin and the end
constexpr uint64_t kFinishedBit = 16;                             // Finish was called
constexpr uint64_t kRequestBits = kOpenBit | kFinishBit | kCancelBit;

}  // namespace

SendTable::SendTable(uint32_t sends, uint32_t queued_runs, uint64_t max_write_bytes,
                     uint32_t kept_runs)
    : size_(sends),
      max_write_bytes_(max_write_bytes),
      entries_(std::make_unique<Entry[]>(sends)),
      dirty_(sends),
      free_(sends),
      ring_(queued_runs),
      nodes_(size_t{queued_runs} + kept_runs),
      most_kept_(kept_runs) {
  for (uint32_t i = 0; i < nodes_.size(); ++i) nodes_[i].next = i + 1 < nodes_.size() ? i + 1 : kNone;
  free_node_ = nodes_.empty() ? kNone : 0;
}

Result<SendId> SendTable::Begin(const Route& route) {
  const std::optional<uint32_t> index = free_.Take();
  if (!index)
    return Error(Code::kResourceExhausted,
                 "all {} sends are live: raise max_sends or admit fewer requests", size_);
  Entry& entry = entries_[*index];
  entry.route = route;
  entry.local_bytes.store(route.local_bytes, std::memory_order_relaxed);
  entry.remote_bytes.store(route.remote_bytes, std::memory_order_relaxed);
  entry.kept = most_kept_ > 0;
  entry.pushed.store(uint64_t{entry.generation} << 32, std::memory_order_relaxed);
  entry.control.store((uint64_t{entry.generation} << 32) | kLiveBit | kOpenBit,
                      std::memory_order_release);
  const SendId send = Name(*index);
  dirty_.Mark(*index);  // from here on the worker may end it and name the next one
  return send;
}

Status SendTable::CheckRun(const Entry& entry, const Run& run) const {
  const uint64_t local = entry.local_bytes.load(std::memory_order_relaxed);
  const uint64_t remote = entry.remote_bytes.load(std::memory_order_relaxed);
  if (run.bytes > local || run.local_offset > local - run.bytes)
    return Error(Code::kOutOfRange, "run of {} bytes at {} leaves the local region of {} bytes",
                 run.bytes, run.local_offset, local);
  if (run.bytes > remote || run.remote_offset > remote - run.bytes)
    return Error(Code::kOutOfRange, "run of {} bytes at {} leaves the peer's region of {} bytes",
                 run.bytes, run.remote_offset, remote);
  return Status::Ok();
}

// False, and nothing is changed, when the entry is another send's by now.
bool SendTable::AddPushed(Entry& entry, uint64_t generation, uint64_t count) {
  uint64_t seen = entry.pushed.load(std::memory_order_relaxed);
  do {
    if ((seen >> 32) != generation) return false;
  } while (!entry.pushed.compare_exchange_weak(seen, seen + count, std::memory_order_acq_rel,
                                               std::memory_order_relaxed));
  return true;
}

Result<SendTable::Entry*> SendTable::FindOpen(SendId send) {
  if (IndexOf(send) >= size_) return Error(Code::kInvalidArgument, "no such send");
  Entry& entry = entries_[IndexOf(send)];
  const uint64_t control = entry.control.load(std::memory_order_acquire);
  if ((control >> 32) != GenerationOf(send) || !(control & kLiveBit))
    return Error(Code::kCancelled, "the send has ended");
  if (control & kFinishedBit) return Error(Code::kCancelled, "the send was finished");
  return &entry;
}

// Places in the ring, each of which must be filled.
Status SendTable::Reserve(Entry& entry, SendId send, uint32_t count, uint64_t& position) {
  // Announce before publishing: the worker ends a finished send only when it has taken all.
  if (!AddPushed(entry, GenerationOf(send), count)) return Error(Code::kCancelled, "the send has ended");
  if (ring_.Reserve(count, position)) return Status::Ok();
  (void)AddPushed(entry, GenerationOf(send), uint64_t{0} - count);
  dirty_.Mark(IndexOf(send));  // the worker may have seen the higher count: let it look again
  return Error(Code::kResourceExhausted,
               "{} runs more than the {} that may wait: push again when some were sent", count,
               ring_.bound());
}

Result<uint32_t> SendTable::Push(SendId send, std::span<const Run> runs) {
  const Result<Entry*> entry = FindOpen(send);
  if (!entry) return entry.status();
  uint32_t count = 0;
  uint64_t writes = 0;
  for (const Run& run : runs) {
    if (run.bytes == 0) continue;
    if (Status s = CheckRun(**entry, run); !s.ok()) return s;
    ++count;
    writes += (run.bytes + max_write_bytes_ - 1) / max_write_bytes_;
  }
  if (count == 0) return uint32_t{0};
  if (writes > ~0u) return Error(Code::kOutOfRange, "{} writes in one push", writes);
  uint64_t position;
  if (Status s = Reserve(**entry, send, count, position); !s.ok()) return s;
  for (const Run& run : runs)
    if (run.bytes) ring_.Put(position++, send, run);
  return static_cast<uint32_t>(writes);
}

Status SendTable::Mark(SendId send) {
  const Result<Entry*> entry = FindOpen(send);
  if (!entry) return entry.status();
  uint64_t position;
  if (Status s = Reserve(**entry, send, 1, position); !s.ok()) return s;
  ring_.Put(position, send, Run{});
  return Status::Ok();
}

void SendTable::Ask(SendId send, uint64_t bits) {
  const uint32_t index = IndexOf(send);
  if (index >= size_) return;
  std::atomic<uint64_t>& control = entries_[index].control;
  uint64_t seen = control.load(std::memory_order_acquire);
  do {
    if ((seen >> 32) != GenerationOf(send) || !(seen & kLiveBit)) return;
  } while (!control.compare_exchange_weak(seen, seen | bits, std::memory_order_acq_rel));
  dirty_.Mark(index);
}

void SendTable::Finish(SendId send) { Ask(send, kFinishBit | kFinishedBit); }
void SendTable::Cancel(SendId send) { Ask(send, kCancelBit); }

SendTable::Requests SendTable::TakeRequests(uint32_t index) {
  const uint64_t bits =
      entries_[index].control.fetch_and(~kRequestBits, std::memory_order_acq_rel);
  return {.open = (bits & kOpenBit) != 0,
          .finish = (bits & kFinishBit) != 0,
          .cancel = (bits & kCancelBit) != 0};
}

void SendTable::AppendRun(Entry& entry, const Run& run) {
  const uint32_t node = free_node_;
  BATON_CHECK(node != kNone, "more runs than the ring admits");
  free_node_ = nodes_[node].next;
  nodes_[node] = {run, kNone};
  if (entry.first_run == kNone)
    entry.first_run = node;
  else
    nodes_[entry.last_run].next = node;
  entry.last_run = node;
  if (entry.next_run != kNone) return;
  SetNext(entry, node);
  PassMarks(entry);
}

void SendTable::SetNext(Entry& entry, uint32_t node) {
  entry.next_run = node;
  if (node != kNone) entry.rest = nodes_[node].run;
}

void SendTable::FreeFirst(Entry& entry) {
  const uint32_t node = entry.first_run;
  entry.first_run = nodes_[node].next;
  if (entry.first_run == kNone) entry.last_run = kNone;
  nodes_[node].next = free_node_;
  free_node_ = node;
}

void SendTable::PopRun(Entry& entry) {
  Advance(entry);
  PassMarks(entry);
}

void SendTable::PassMarks(Entry& entry) {
  while (entry.next_run != kNone && entry.rest.bytes == 0) {
    ++entry.marks_passed;
    Advance(entry);
  }
}

void SendTable::Advance(Entry& entry) {
  const uint32_t next = nodes_[entry.next_run].next;
  if (entry.at++ == entry.returned) {
    ++entry.returned;
    ring_.GiveBack(1);
    if (entry.kept) ++kept_;
  }
  SetNext(entry, next);
  if (entry.kept && kept_ <= most_kept_) return;
  // Not kept, or too many are: this send's go, and it cannot be repeated any more.
  if (entry.kept) kept_ -= entry.returned;
  entry.kept = false;
  while (entry.first_run != next) FreeFirst(entry);
}

void SendTable::DropRuns(Entry& entry) {
  if (entry.kept) kept_ -= entry.returned;
  entry.kept = false;
  ring_.GiveBack(entry.taken - entry.returned);
  entry.returned = entry.at = entry.taken;
  while (entry.first_run != kNone) FreeFirst(entry);
  entry.next_run = kNone;
}

bool SendTable::Rewind(Entry& entry) {
  if (!entry.kept) return false;
  SetNext(entry, entry.first_run);
  entry.at = entry.marks_passed = 0;
  PassMarks(entry);
  return true;
}

void SendTable::End(Entry& entry) {
  entry.control.fetch_and(~(kLiveBit | kRequestBits), std::memory_order_acq_rel);
}

void SendTable::Free(uint32_t index) {
  Entry& entry = entries_[index];
  End(entry);
  DropRuns(entry);
  entry.state = State::kFree;
  entry.owner = nullptr;
  entry.finishing = false;
  entry.drained = true;
  if (++entry.generation == 0) entry.generation = 1;  // SendId{} names no send
  entry.taken = entry.returned = entry.at = entry.in_flight = entry.writes = entry.repetition = 0;
  entry.marks_passed = entry.marks_posted = 0;
  entry.in_doubt = false;
  entry.bytes = 0;
  entry.status = Status::Ok();
  entry.opened_at = entry.first_at = entry.last_at = {};
  free_.Put(index);
}

}  // namespace baton::transfer
