// The engine without its thread: all rules of slots, sends, peers and deadlines over a Fabric.
//
// Calls of the first group come from any thread; those of the second from the one that calls Step.
// Time enters as an argument, so that the seeded simulation (simulation_test.cpp) runs this very
// code, single-threaded, through thousands of schedules.
//
// Invariants:
// - every Expect and Begin ends in exactly one terminal event;
// - an arrival counts only for the slot, generation and open state that it names, else it is stray;
// - a send ends only when none of its writes can still read the source memory;
// - ... and says `drained` only when none can still land;
// - a peer never has more arrivals outstanding here than its credits, which together fit the
//   fabric's completion queue (credits.h);
// - data in flight never holds up a control write for longer than Config::control_wait (pacing.h);
// - a write whose end is unknown is repeated only when it can no longer land (engine_repeat.cpp);
// - a mark is posted only when all before it has landed, and never twice (engine_marks.cpp);
// - a peer is fenced only when its keys are revoked and it is removed from the fabric.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "transfer/checksums.h"
#include "transfer/credits.h"
#include "transfer/directory.h"
#include "transfer/fabric.h"
#include "transfer/flight_recorder.h"
#include "transfer/imm.h"
#include "transfer/key_sets.h"
#include "transfer/peer.h"
#include "transfer/sends.h"
#include "transfer/slots.h"
#include "transfer/stats.h"
#include "transfer/timer_wheel.h"
#include "transfer/transfer.h"

namespace baton::transfer {

class EngineCore {
 public:
  struct Config {
    uint32_t max_slots = 4096, max_sends = 1024, max_queued_runs = 1 << 16;
    uint32_t max_kept_runs = 1 << 18;  // posted runs of live sends kept for repetition, with rails
    uint64_t max_write_bytes = 1 << 20;
    Duration probe_interval = 250ms;  // silence after which a peer that we need is asked for life
    Duration peer_timeout = 1500ms;   // silence after which it is lost
    uint64_t epoch = 0;               // not 0; random per process start
    Duration control_wait = 1ms;      // see Options
    uint64_t least_in_flight = Pacer::kFloor;  // bytes of data that a peer may always have in flight
    bool checksum = false;
    uint32_t max_peers = kMailboxCells;  // descriptions in use at a time; at most kMailboxCells
  };
  enum class PeerState : uint8_t { kJoining, kReady, kLost };
  struct StepResult {
    bool progressed = false;    // something happened: step again soon
    bool outstanding = false;   // slots or sends are open, or a peer is joining or leaving
  };

  // `fabric` must be open. Call Open before anything else.
  EngineCore(std::unique_ptr<Fabric> fabric, const Config& config,
             std::function<void(const Event&)> on_event);
  ~EngineCore();
  EngineCore(const EngineCore&) = delete;
  EngineCore& operator=(const EngineCore&) = delete;

  // Any thread: see transfer.h.
  Result<Slot> Expect(PeerId from, TimePoint deadline);
  void Seal(Slot slot, uint32_t writes) { slots_.Seal(slot, writes); }
  uint32_t Landed(Slot slot) const { return slots_.Landed(slot); }
  void Cancel(Slot slot) { slots_.Cancel(slot); }
  void Release(Slot slot) { slots_.Release(slot); }
  Result<SendId> Begin(PeerId peer, Slot remote_slot, RegionId local, RegionId remote_region,
                       TimePoint deadline, Priority priority = Priority::kDecode);
  Result<uint32_t> Push(SendId send, std::span<const Run> runs) { return sends_.Push(send, runs); }
  Status Mark(SendId send) { return sends_.Mark(send); }
  void Finish(SendId send) { sends_.Finish(send); }
  void CancelSend(SendId send) { sends_.Cancel(send); }
  Engine::Usage usage() const;
  const std::shared_ptr<Stats>& stats() const { return stats_; }
  bool has_requests() const { return slots_.dirty() || sends_.dirty(); }
  const Config& config() const { return config_; }

  // Owner thread only.
  Status Open();
  Result<RegionId> Register(MemorySpan memory);
  Result<std::string> Describe();
  // Starts to join; its state changes during Step. The same description again gives the same peer,
  // another one of the same epoch replaces it (the old one is lost).
  Result<PeerId> AddPeer(PeerBlob blob, TimePoint now);
  PeerState GetPeerState(PeerId id, Status& why) const;
  // The peer's slots and sends fail, then kFenced (unless `silent`: a join that was given up).
  void RemovePeer(PeerId id, TimePoint now, bool silent = false);
  StepResult Step(TimePoint now);
  // Fails everything outstanding and emits the events. No Step after it.
  void Shutdown(TimePoint now);
  Fabric& fabric() { return *fabric_; }
  const FlightRecorder& recorder() const { return recorder_; }

 private:
  static constexpr size_t kPollBatch = 256;
  static constexpr uint32_t kBurst = 16;  // writes of one send before the next one's turn
  static constexpr uint32_t kAgeing = 15;  // decode's bursts before one of background's
  static constexpr uint32_t kControlRoom = 4;  // places in flight that data leaves free
  static constexpr uint32_t kMostUnanswered = 4;  // hellos without an answer, then no more
  static constexpr Duration kHelloRetry = 10ms;

  // engine_core.cpp: the loop, receiving
  void TakeRequests();
  void ApplyCompletions(size_t count, TimePoint now);
  void OnArrival(const Completion& completion, TimePoint now);
  void OnSlotRequests(uint32_t index, SlotTable::Requests requests);
  void ConsumeCredit(const SlotTable::Entry* entry, Imm imm);
  void OpenSlot(uint32_t index);
  void CheckSlot(uint32_t index);
  void EndSlot(uint32_t index, Status status);
  void FreeSlot(uint32_t index);
  void OnTimer(uint32_t id, TimePoint now);
  void Emit(Event event) { events_.push_back(std::move(event)); }
  void EmitEvents();
  bool Outstanding() const;

  // engine_send.cpp: sending
  void OnSendRequests(uint32_t index, SendTable::Requests requests);
  void OnWriteDone(const Completion& completion, TimePoint now);
  void PostAll(TimePoint now);
  void PostPeer(Peer& peer, TimePoint now);
  PostResult PostOne(Peer& peer, uint32_t index, TimePoint now);
  bool MayPost(const Peer& peer, bool control) const;
  bool CanPost(Peer& peer, const SendTable::Entry& entry, TimePoint now);
  static uint32_t PickClass(const Peer& peer);
  uint64_t NextBytes(const SendTable::Entry& entry) const;
  void Stall(Peer& peer, TimePoint now);
  Stats::Flow& FlowOf(const Peer& peer, Priority priority);
  using Place = SendTable::Place SendTable::Entry::*;
  void Enlist(Peer::Line& line, Place place, uint32_t index);
  void Delist(Peer::Line& line, Place place, uint32_t index);
  void List(uint32_t index);
  void Unlist(uint32_t index);
  void FailSend(uint32_t index, Status status);
  bool HasSentAll(const SendTable::Entry& entry) const;  // and the user has finished it
  void CheckSend(uint32_t index);
  void EndSend(uint32_t index, Event::Kind kind);
  WriteOp* TakeOp(Peer& peer, uint32_t send, uint32_t bytes, TimePoint now);
  void ReturnOp(WriteOp* op);

  // engine_peers.cpp: joining, liveness, loss, fences
  Peer* FindPeer(PeerId id) const;
  uint32_t TakeSeat();
  bool AskForLife(const Peer& peer, TimePoint now) const;
  void OnHelloDone(Peer& peer, const Completion& completion, TimePoint now);
  void OnPeerGone(const Completion& completion, TimePoint now);
  void LosePeer(Peer& peer, Status why, TimePoint now);
  void TendPeers(TimePoint now);
  void TendPeer(Peer& peer, TimePoint now);
  void FinishRemoval(Peer& peer);

  // engine_mail.cpp: hellos and credits, both directions
  PostResult PostMail(Peer& peer, WriteOp* op, size_t source, uint32_t bytes, uint32_t offset,
                      ImmKind kind, TimePoint now, Status& why);
  void SayHello(Peer& peer, TimePoint now);
  void OnHello(Imm imm, TimePoint now);
  void TopUp(Peer& peer, TimePoint now);
  void OnCreditSent(Peer& peer, bool failed);
  void OnCredit(Imm imm, TimePoint now);

  // engine_repeat.cpp: sends of which a write is in doubt, both ends
  void WantRepetition(Peer& peer, TimePoint now);
  void OnDoubt(Peer& peer, uint32_t index, const Status& why, TimePoint now);
  void TendRepetition(Peer& peer, TimePoint now);
  void ListDoubts(Peer& peer);
  void AskToRepeat(Peer& peer, TimePoint now);
  void OnRepeat(Imm imm, TimePoint now);
  Verdict Judge(uint64_t send, uint64_t epoch);
  void SendConsent(Peer& peer, TimePoint now);
  void OnConsent(Imm imm, TimePoint now);
  void ApplyVerdict(SendId send, Verdict verdict);

  // engine_marks.cpp: watermarks, both ends
  static void NoteBehindMarks(SendTable::Entry& entry, WriteOp* op);
  static void ForgetBehindMarks(SendTable::Entry& entry, WriteOp* op);
  static uint32_t MarksDue(const SendTable::Entry& entry);
  void CheckMarks(uint32_t index);
  void PostMarks(Peer& peer, TimePoint now);
  void OnMarkSent(Peer& peer, uint32_t index, const Completion& completion, TimePoint now);
  void GiveUpMarks(uint32_t index);
  void OnMark(Imm imm, TimePoint now);

  // engine_checksum.cpp
  Status PrepareChecksums();
  bool HasBlock(const Peer& peer) const;
  void NoteWrite(Peer& peer, const SendTable::Entry& entry, const WriteRequest& request,
                 uint64_t remote_offset);
  void CloseBlock(Peer& peer);
  void PostBlocks(Peer& peer, TimePoint now);
  void OnBlockSent(Peer& peer, uint32_t sequence, bool failed);
  void OnBlock(Imm imm, TimePoint now);
  void TakeEntry(const ManifestEntry& entry, uint64_t epoch);
  Status Verify(uint32_t slot) const;

  std::unique_ptr<Fabric> fabric_;
  const bool has_rails_;  // so that writes can be in doubt
  const Config config_;
  std::function<void(const Event&)> on_event_;
  std::shared_ptr<Stats> stats_ = std::make_shared<Stats>();
  Directory directory_;
  SlotTable slots_;
  SendTable sends_;
  TimerWheel timers_;  // ids: slots, then sends
  CreditBook credits_;
  KeySets key_sets_;
  FlightRecorder recorder_;
  OpPool<WriteOp> ops_;
  std::vector<std::unique_ptr<Peer>> peers_;
  uint32_t next_peer_ = 1;
  size_t first_to_post_ = 0;
  uint32_t in_flight_ = 0;
  uint32_t open_slots_ = 0, live_sends_ = 0;
  std::vector<uint32_t> touched_sends_;
  std::vector<Completion> completions_;
  std::vector<Event> events_, emitting_;
  std::vector<Outbox> outboxes_;            // by Peer::outbox
  std::vector<BlockOutbox> block_outboxes_;  // likewise; made when a peer wants checksums
  uint32_t outbox_region_ = 0, block_region_ = 0;
  IndexPool free_outboxes_;
  std::vector<MemorySpan> memories_;         // by fabric region
  std::vector<std::vector<ManifestEntry>> entries_;  // by slot, in checksum mode
  TimePoint last_step_{};
  TimePoint next_tending_{};
};

}  // namespace baton::transfer
