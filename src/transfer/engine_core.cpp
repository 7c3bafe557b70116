#include "transfer/engine_core.h"

#include <algorithm>

#include "common/log.h"
#include "common/log_lines.h"
#include "transfer/imm.h"

namespace baton::transfer {

EngineCore::EngineCore(std::unique_ptr<Fabric> fabric, const Config& config,
                       std::function<void(const Event&)> on_event)
    : fabric_(std::move(fabric)),
      has_rails_(fabric_->rail_stats() != nullptr),
      config_(config),
      on_event_(std::move(on_event)),
      slots_(config.max_slots),
      sends_(config.max_sends, config.max_queued_runs, config.max_write_bytes,
             has_rails_ ? config.max_kept_runs : 0),
      timers_(config.max_slots + config.max_sends),
      credits_(fabric_->traits().cq_entries, fabric_->traits().max_in_flight, config.max_peers, has_rails_),
      key_sets_(*fabric_, credits_, config.checksum, config.max_peers),
      ops_(fabric_->traits().max_in_flight + 64),
      completions_(kPollBatch),
      outboxes_(config.max_peers),
      free_outboxes_(config.max_peers) {
  BATON_CHECK(config.max_slots <= kImmSlots, "{} slots do not fit into the immediate",
              config.max_slots);
  BATON_CHECK(config.epoch != 0 && config.max_peers > 0 && config.max_peers <= kMailboxCells);
  events_.reserve(1024);
  emitting_.reserve(1024);
  touched_sends_.reserve(config.max_sends);
  if (config.checksum) entries_.resize(config.max_slots);
}

// The fabric goes before the memory that it may read from and write into, and the operations that it still has.
EngineCore::~EngineCore() { fabric_.reset(); }

Status EngineCore::Open() {
  if (Status s = key_sets_.Open(); !s.ok()) return s;
  Result<uint32_t> region =
      fabric_->Register({reinterpret_cast<std::byte*>(outboxes_.data()),
                         outboxes_.size() * sizeof(Outbox)});
  if (!region) return region.status();
  outbox_region_ = *region;
  return Status::Ok();
}

Result<RegionId> EngineCore::Register(MemorySpan memory) {
  if (memory.data == nullptr || memory.size_bytes == 0)
    return Error(Code::kInvalidArgument, "cannot register an empty region");
  if (directory_.Regions().size() >= kMaxRegions)
    return Error(Code::kResourceExhausted, "{} regions are registered, which is the most",
                 kMaxRegions);
  if (config_.checksum && memory.device != DeviceKind::kHost)
    return Error(Code::kUnsupported, "checksums of device memory are not possible: --kv-checksum "
                                     "works on host memory only");
  const TimePoint start = Now();
  Result<uint32_t> region = fabric_->Register(memory);
  if (!region) return region.status();
  if (memories_.size() <= *region) memories_.resize(*region + 1);
  memories_[*region] = memory;
  Stats::Add(stats_->registrations);
  Stats::Add(stats_->registration_us, static_cast<uint64_t>(Seconds(Now() - start) * 1e6));
  return directory_.AddRegion({*region, memory.size_bytes});
}

Result<std::string> EngineCore::Describe() {
  PeerBlob blob;
  blob.family = fabric_->traits().family;
  blob.epoch = config_.epoch;
  const auto in_use = [this](uint64_t epoch) {
    return std::any_of(peers_.begin(), peers_.end(),
                       [&](const auto& peer) { return peer->blob.epoch == epoch; });
  };
  if (Status s = key_sets_.HandOut(directory_.Regions(), in_use, blob); !s.ok()) return s;
  Result<std::string> address = fabric_->Invite();
  if (!address) return address.status();  // the key set is taken back like any that nobody claims
  blob.address = *std::move(address);
  return EncodeBlob(blob);
}

Result<Slot> EngineCore::Expect(PeerId from, TimePoint deadline) {
  if (Status s = directory_.CheckPeer(from); !s.ok()) return s;
  Result<Slot> slot = slots_.Acquire(from, deadline);
  if (slot.ok()) Stats::Add(stats_->slots_held);
  return slot;
}

Engine::Usage EngineCore::usage() const {
  const Stats& s = *stats_;
  return {.slots_held = static_cast<uint32_t>(Stats::Get(s.slots_held)),
          .sends_live = static_cast<uint32_t>(Stats::Get(s.sends_live)),
          .peers = static_cast<uint32_t>(Stats::Get(s.peers)),
          .stray_writes = Stats::Get(s.stray_writes),
          .bytes_sent = Stats::Get(s.bytes_sent),
          .bytes_received = Stats::Get(s.bytes_received)};
}

EngineCore::StepResult EngineCore::Step(TimePoint now) {
  Stats::Add(stats_->steps);
  // Poll first, requests next, completions last: whatever a completion is about was asked for
  // before the peer could cause it, so its request has been seen by the time it is applied.
  const size_t count = fabric_->Poll(now, completions_);
  TakeRequests();
  ApplyCompletions(count, now);
  // The revoked keys and the hellos of earlier steps are older than this poll.
  if (count < completions_.size()) credits_.OnQueueEmpty();
  if (!credits_.unlimited()) Stats::Set(stats_->credits_held, credits_.held());
  timers_.Advance(now, [this, now](uint32_t id) { OnTimer(id, now); });
  PostAll(now);
  if (now >= next_tending_) TendPeers(now);
  fabric_->Flush(now);
  StepResult result;
  result.progressed = count > 0 || !events_.empty() || has_requests();
  EmitEvents();
  result.outstanding = Outstanding();
  last_step_ = now;
  return result;
}

void EngineCore::Shutdown(TimePoint now) {
  TakeRequests();
  const Status why(Code::kCancelled, "the transfer engine is closing");
  for (auto& peer : peers_) {
    peer->disconnecting = peer->silent = true;  // nobody will use it any more: no word of it
    LosePeer(*peer, why, now);
    FinishRemoval(*peer);
  }
  EmitEvents();
}

void EngineCore::TakeRequests() {
  const uint64_t runs = sends_.RunsSoFar();
  slots_.TakeDirty([this](uint32_t index, SlotTable::Requests r) { OnSlotRequests(index, r); });
  touched_sends_.clear();
  sends_.TakeDirty([this](uint32_t index, SendTable::Requests r) { OnSendRequests(index, r); });
  sends_.TakeRuns(runs, [this](uint32_t index) {
    if (SendTable::HasRuns(sends_[index])) List(index);
    CheckMarks(index);
    if (sends_[index].finishing) touched_sends_.push_back(index);
  });
  for (const uint32_t index : touched_sends_) CheckSend(index);
}

void EngineCore::ApplyCompletions(size_t count, TimePoint now) {
  for (size_t i = 0; i < count; ++i) {
    const Completion& completion = completions_[i];
    if (completion.kind == Completion::Kind::kArrived)
      OnArrival(completion, now);
    else if (completion.kind == Completion::Kind::kPeerGone)
      OnPeerGone(completion, now);
    else
      OnWriteDone(completion, now);
  }
}

void EngineCore::OnArrival(const Completion& completion, TimePoint now) {
  const Imm imm = UnpackImm(completion.imm);
  if (imm.kind == ImmKind::kHello) return OnHello(imm, now);
  if (imm.kind == ImmKind::kCredit) return OnCredit(imm, now);
  if (imm.kind == ImmKind::kManifest) return OnBlock(imm, now);
  if (imm.kind == ImmKind::kRepeat) return OnRepeat(imm, now);
  if (imm.kind == ImmKind::kConsent) return OnConsent(imm, now);
  if (imm.kind == ImmKind::kMark) return OnMark(imm, now);
  SlotTable::Entry* entry = imm.slot < slots_.size() ? &slots_[imm.slot] : nullptr;
  const bool applies = IsData(imm.kind) && entry && entry->state == SlotTable::State::kOpen &&
                       entry->generation == imm.generation &&
                       entry->repetition == RepetitionOf(imm.kind);
  ConsumeCredit(entry, imm);
  if (!applies) {
    recorder_.Note(FlightRecorder::What::kStray, 0, imm.slot, completion.imm, now);
    return Stats::Add(stats_->stray_writes);
  }
  Stats::Add(stats_->writes_received);
  Stats::Add(stats_->bytes_received, completion.bytes);
  if (entry->arrived == 0) entry->first_at = now;
  ++entry->arrived;
  Stats::Seat& seat = stats_->seats[entry->owner->seat];
  Stats::Bump(seat.writes_received);
  Stats::Bump(seat.bytes_received, completion.bytes);
  entry->bytes += completion.bytes;
  entry->last_at = now;
  entry->owner->heard_at = now;
  CheckSlot(imm.slot);
}

void EngineCore::OnSlotRequests(uint32_t index, SlotTable::Requests requests) {
  SlotTable::Entry& entry = slots_[index];
  if (requests.open) OpenSlot(index);
  if (requests.seal && entry.state == SlotTable::State::kOpen && !entry.sealed) {
    entry.sealed = true;
    entry.expected = requests.writes;
    recorder_.Note(FlightRecorder::What::kSlotSealed, entry.peer.value, index, entry.expected, last_step_);
    CheckSlot(index);
  }
  // Releasing an open slot gives up on it first, so that it too ends in one event.
  if ((requests.cancel || requests.release) && entry.state == SlotTable::State::kOpen)
    EndSlot(index, Error(Code::kCancelled, "the receiver cancelled"));
  if (requests.release && entry.state == SlotTable::State::kEnded) FreeSlot(index);
}

void EngineCore::OpenSlot(uint32_t index) {
  SlotTable::Entry& entry = slots_[index];
  entry.state = SlotTable::State::kOpen;
  Peer* peer = FindPeer(entry.peer);
  entry.owner = peer;
  ++open_slots_;
  if (peer) {
    // Waiting starts now: silence before this did not matter.
    if (peer->open_slots++ == 0) peer->heard_at = std::max(peer->heard_at, last_step_);
  }
  if (!peer || peer->phase != Peer::Phase::kReady)
    return EndSlot(index, Error(Code::kUnavailable, "the peer was lost"));
  recorder_.Note(FlightRecorder::What::kSlotOpened, entry.peer.value, index, entry.generation, last_step_);
  timers_.Arm(index, entry.deadline);
}

void EngineCore::ConsumeCredit(const SlotTable::Entry* entry, Imm imm) {
  if (credits_.unlimited() || !entry) return;
  const Peer* peer = nullptr;
  // The last marks of a transfer often come when its slot was released.
  if (entry->generation == static_cast<uint8_t>(imm.generation + 1)) peer = FindPeer(entry->predecessor);
  // What names a slot before it was opened comes from nobody who was told of it; and whoever takes the
  // slot now may be writing the peer.
  if (entry->generation == imm.generation && entry->state != SlotTable::State::kFree)
    peer = entry->owner ? entry->owner : FindPeer(entry->peer);
  if (peer && peer->inbound < kMailboxCells) credits_.Consume(peer->inbound);
}

void EngineCore::CheckSlot(uint32_t index) {
  SlotTable::Entry& entry = slots_[index];
  if (!entry.sealed || entry.arrived < entry.expected) return;
  if (entry.arrived > entry.expected)
    return EndSlot(index, Error(Code::kDataCorrupt, "{} writes arrived where the peer sealed {}",
                                entry.arrived, entry.expected));
  if (config_.checksum) {
    if (entries_[index].size() < entry.expected) return;
    return EndSlot(index, Verify(index));
  }
  EndSlot(index, Status::Ok());
}

void EngineCore::EndSlot(uint32_t index, Status status) {
  SlotTable::Entry& entry = slots_[index];
  entry.state = SlotTable::State::kEnded;
  timers_.Disarm(index);
  --open_slots_;
  if (entry.owner) --entry.owner->open_slots;
  entry.owner = nullptr;
  if (config_.checksum) entries_[index].clear();
  Stats::Add(status.ok() ? stats_->receives_done : stats_->receives_failed);
  entry.failed = !status.ok();
  if (entry.failed) Stats::Add(stats_->slots_quarantined);
  recorder_.Note(entry.failed ? FlightRecorder::What::kSlotFailed : FlightRecorder::What::kSlotDone,
                 entry.peer.value, index, entry.arrived, last_step_);
  Emit({.kind = status.ok() ? Event::Kind::kReceiveDone : Event::Kind::kReceiveFailed,
        .slot = slots_.Name(index),
        .peer = entry.peer,
        .status = std::move(status),
        .bytes = entry.bytes,
        .writes = entry.arrived,
        .first_at = entry.first_at,
        .last_at = entry.last_at});
}

void EngineCore::FreeSlot(uint32_t index) {
  const SlotTable::Entry& entry = slots_[index];
  if (entry.failed) Stats::Sub(stats_->slots_quarantined);
  recorder_.Note(FlightRecorder::What::kSlotFreed, entry.peer.value, index, entry.generation, last_step_);
  slots_.Free(index);
  Stats::Sub(stats_->slots_held);
}

void EngineCore::OnTimer(uint32_t id, TimePoint now) {
  const bool slot = id < slots_.size();
  if (!slot && HasSentAll(sends_[id - slots_.size()])) {  // only marks are left
    GiveUpMarks(id - slots_.size());
    return CheckSend(id - slots_.size());
  }
  recorder_.Note(FlightRecorder::What::kDeadline,
                 slot ? slots_[id].peer.value : sends_[id - slots_.size()].route.peer.value, id,
                 slot ? slots_[id].arrived : sends_[id - slots_.size()].writes, now);
  Stats::Add(stats_->deadlines);
  if (spdlog::should_log(spdlog::level::warn) && recorder_.MayDump(now)) {
    log::warn("transfer: a deadline fired; what happened before:");
    log::WarnLines(recorder_.Dump(64, now));
  }
  if (id < slots_.size())
    return EndSlot(id, Error(Code::kDeadlineExceeded,
                             "the transfer was not complete by its deadline: {} of {} writes came",
                             slots_[id].arrived,
                             slots_[id].sealed ? std::to_string(slots_[id].expected) : "unsealed"));
  FailSend(id - slots_.size(),
           Error(Code::kDeadlineExceeded, "the transfer was not sent by its deadline"));
}

void EngineCore::EmitEvents() {
  if (events_.empty()) return;
  // A handler may call into the engine; what that causes comes with the next step.
  emitting_.swap(events_);
  for (const Event& event : emitting_) on_event_(event);
  emitting_.clear();
}

bool EngineCore::Outstanding() const {
  if (open_slots_ || live_sends_ || in_flight_) return true;
  return std::any_of(peers_.begin(), peers_.end(), [](const auto& peer) {
    return peer->phase == Peer::Phase::kJoining || peer->phase == Peer::Phase::kDraining ||
           peer->repetition.wanted || peer->consent_due;
  });
}

}  // namespace baton::transfer
