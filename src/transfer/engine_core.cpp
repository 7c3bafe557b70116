#include "transfer/engine_core.h"

#include <algorithm>

#include "transfer/imm.h"

namespace baton::transfer {

EngineCore::EngineCore(std::unique_ptr<Fabric> fabric, const Config& config,
                       std::function<void(const Event&)> on_event)
    : fabric_(std::move(fabric)),
      config_(config),
      on_event_(std::move(on_event)),
      slots_(config.max_slots),
      sends_(config.max_sends, config.max_queued_runs, config.max_write_bytes),
      timers_(config.max_slots + config.max_sends),
      key_sets_(*fabric_),
      ops_(fabric_->traits().max_in_flight + 64),
      completions_(kPollBatch) {
  BATON_CHECK(config.max_slots <= kImmSlots, "{} slots do not fit into the immediate",
              config.max_slots);
  BATON_CHECK(config.epoch != 0);
  events_.reserve(1024);
  emitting_.reserve(1024);
  touched_sends_.reserve(config.max_sends);
  hello_ = {config.epoch, ~config.epoch};
}

EngineCore::~EngineCore() = default;

Status EngineCore::Open() {
  if (Status s = key_sets_.Open(); !s.ok()) return s;
  Result<uint32_t> region =
      fabric_->Register({reinterpret_cast<std::byte*>(hello_.data()), sizeof hello_});
  if (!region) return region.status();
  hello_region_ = *region;
  return Status::Ok();
}

Result<RegionId> EngineCore::Register(MemorySpan memory) {
  if (memory.data == nullptr || memory.size_bytes == 0)
    return Error(Code::kInvalidArgument, "cannot register an empty region");
  if (directory_.Regions().size() >= kMaxRegions)
    return Error(Code::kResourceExhausted, "{} regions are registered, which is the most",
                 kMaxRegions);
  Result<uint32_t> region = fabric_->Register(memory);
  if (!region) return region.status();
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
  timers_.Advance(now, [this](uint32_t id) { OnTimer(id); });
  PostAll(now);
  if (now >= next_tending_) TendPeers(now);
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
    List(index);
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
  SlotTable::Entry* entry = imm.slot < slots_.size() ? &slots_[imm.slot] : nullptr;
  const bool applies = imm.kind == ImmKind::kData && entry &&
                       entry->state == SlotTable::State::kOpen &&
                       entry->generation == imm.generation;
  if (!applies) return Stats::Add(stats_->stray_writes);
  Stats::Add(stats_->writes_received);
  Stats::Add(stats_->bytes_received, completion.bytes);
  if (entry->arrived++ == 0) entry->first_at = now;
  entry->bytes += completion.bytes;
  entry->last_at = now;
  entry->owner->heard_at = now;
  CheckSlot(imm.slot);
}

void EngineCore::OnHello(Imm imm, TimePoint now) {
  const uint64_t epoch = key_sets_.Claim(imm.slot, imm.generation);
  if (epoch == 0) return Stats::Add(stats_->stray_writes);
  for (auto& peer : peers_)
    if (peer->blob.epoch == epoch) peer->heard_at = now;
}

void EngineCore::OnSlotRequests(uint32_t index, SlotTable::Requests requests) {
  SlotTable::Entry& entry = slots_[index];
  if (requests.open) OpenSlot(index);
  if (requests.seal && entry.state == SlotTable::State::kOpen && !entry.sealed) {
    entry.sealed = true;
    entry.expected = requests.writes;
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
  timers_.Arm(index, entry.deadline);
}

void EngineCore::CheckSlot(uint32_t index) {
  SlotTable::Entry& entry = slots_[index];
  if (!entry.sealed || entry.arrived < entry.expected) return;
  if (entry.arrived > entry.expected)
    return EndSlot(index, Error(Code::kDataCorrupt, "{} writes arrived where the peer sealed {}",
                                entry.arrived, entry.expected));
  EndSlot(index, Status::Ok());
}

void EngineCore::EndSlot(uint32_t index, Status status) {
  SlotTable::Entry& entry = slots_[index];
  entry.state = SlotTable::State::kEnded;
  timers_.Disarm(index);
  --open_slots_;
  if (entry.owner) --entry.owner->open_slots;
  entry.owner = nullptr;
  Stats::Add(status.ok() ? stats_->receives_done : stats_->receives_failed);
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
  slots_.Free(index);
  Stats::Sub(stats_->slots_held);
}

void EngineCore::OnTimer(uint32_t id) {
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
    return peer->phase == Peer::Phase::kJoining || peer->phase == Peer::Phase::kDraining;
  });
}

}  // namespace baton::transfer
