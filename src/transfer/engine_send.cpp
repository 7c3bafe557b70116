// EngineCore's sending half: from pushed runs to posted writes to terminal events.
#include <algorithm>
#include <bit>

#include "transfer/engine_core.h"
#include "transfer/imm.h"

namespace baton::transfer {

Result<SendId> EngineCore::Begin(PeerId peer, Slot remote_slot, RegionId local,
                                 RegionId remote_region, TimePoint deadline, Priority priority) {
  if (remote_slot.index >= kImmSlots)
    return Error(Code::kOutOfRange, "slot {} is not below 2^20", remote_slot.index);
  SendTable::Route route{.peer = peer, .slot = remote_slot, .priority = priority, .deadline = deadline};
  if (Status s = directory_.FillRoute(local, remote_region, route); !s.ok()) return s;
  Result<SendId> send = sends_.Begin(route);
  if (send.ok()) Stats::Add(stats_->sends_live);
  return send;
}

void EngineCore::OnSendRequests(uint32_t index, SendTable::Requests requests) {
  SendTable::Entry& entry = sends_[index];
  if (requests.open) {
    entry.state = SendTable::State::kOpen;
    entry.opened_at = last_step_;
    recorder_.Note(FlightRecorder::What::kSendOpened, entry.route.peer.value, index, entry.route.slot.index, last_step_);
    ++live_sends_;
    entry.owner = FindPeer(entry.route.peer);
    if (entry.owner) ++entry.owner->live_sends;
    timers_.Arm(slots_.size() + index, entry.route.deadline);
    if (!entry.owner || entry.owner->phase != Peer::Phase::kReady)
      return FailSend(index, Error(Code::kUnavailable, "the peer was lost"));
  }
  if (requests.cancel) FailSend(index, Error(Code::kCancelled, "the sender cancelled"));
  // The cancel may have ended and freed the entry: then the finish is nobody's.
  if (entry.state != SendTable::State::kOpen) return;
  if (requests.finish) {
    entry.finishing = true;
    recorder_.Note(FlightRecorder::What::kSendFinishing, entry.route.peer.value, index, entry.writes, last_step_);
  }
  touched_sends_.push_back(index);
}

void EngineCore::Enlist(Peer::Line& line, Place place, uint32_t index) {
  SendTable::Place& own = sends_[index].*place;
  if (own.taken) return;
  own = {.taken = true, .next = Peer::kNone, .previous = line.last};
  (line.last == Peer::kNone ? line.first : (sends_[line.last].*place).next) = index;
  line.last = index;
}

void EngineCore::Delist(Peer::Line& line, Place place, uint32_t index) {
  SendTable::Place& own = sends_[index].*place;
  if (!own.taken) return;
  own.taken = false;
  (own.previous == Peer::kNone ? line.first : (sends_[own.previous].*place).next) = own.next;
  (own.next == Peer::kNone ? line.last : (sends_[own.next].*place).previous) = own.previous;
}

void EngineCore::List(uint32_t index) {
  SendTable::Entry& entry = sends_[index];
  if (!entry.owner) return;
  Enlist(entry.owner->lines[static_cast<size_t>(entry.route.priority)], &SendTable::Entry::turn, index);
}

void EngineCore::Unlist(uint32_t index) {
  SendTable::Entry& entry = sends_[index];
  if (!entry.owner) return;
  Delist(entry.owner->lines[static_cast<size_t>(entry.route.priority)], &SendTable::Entry::turn, index);
}

Stats::Flow& EngineCore::FlowOf(const Peer& peer, Priority priority) {
  return stats_->seats[peer.seat].flows[static_cast<size_t>(priority)];
}

bool EngineCore::MayPost(const Peer& peer, bool control) const {
  const FabricTraits& traits = fabric_->traits();
  const uint32_t room = control ? 0 : std::min(kControlRoom, traits.max_in_flight_peer / 4);
  return peer.in_flight + room < traits.max_in_flight_peer &&
         in_flight_ + room < traits.max_in_flight;
}

uint64_t EngineCore::NextBytes(const SendTable::Entry& entry) const {
  return std::min(entry.rest.bytes, config_.max_write_bytes);
}

bool EngineCore::CanPost(Peer& peer, const SendTable::Entry& entry, TimePoint now) {
  const bool control = entry.route.priority == Priority::kControl;
  if (!MayPost(peer, control)) return false;
  if (!control && !peer.pacer.MayPost(NextBytes(entry))) return false;
  // The blocks that list the writes take credits as well.
  const uint64_t blocks =
      peer.blob.wants_checksums ? 1 + static_cast<uint64_t>(std::popcount(peer.blocks_due)) : 0;
  if (peer.posted + blocks < peer.granted && HasBlock(peer)) return true;
  Stall(peer, now);
  return false;
}

void EngineCore::Stall(Peer& peer, TimePoint now) {
  if (peer.stalled) return;
  peer.stalled = true;
  peer.stalled_at = now;
  // Waiting for an answer begins here, unless we wait for one already.
  if (peer.in_flight == 0) peer.heard_at = std::max(peer.heard_at, now);
  Stats::Bump(stats_->seats[peer.seat].credit_stalls);
  recorder_.Note(FlightRecorder::What::kOutOfCredit, peer.id.value, peer.blob.key_set, peer.posted, now);
}

uint32_t EngineCore::PickClass(const Peer& peer) {
  constexpr auto kControl = static_cast<uint32_t>(Priority::kControl);
  constexpr auto kDecode = static_cast<uint32_t>(Priority::kDecode);
  constexpr auto kBackground = static_cast<uint32_t>(Priority::kBackground);
  if (peer.lines[kControl].first != Peer::kNone) return kControl;
  const bool background = peer.lines[kBackground].first != Peer::kNone;
  if (peer.lines[kDecode].first != Peer::kNone)
    return background && peer.bursts_since_background >= kAgeing ? kBackground : kDecode;
  return background ? kBackground : Peer::kNone;
}

void EngineCore::PostAll(TimePoint now) {
  // Another peer goes first each time, so that a shared limit starves none.
  const size_t count = peers_.size();
  for (size_t i = 0; i < count; ++i) {
    Peer& peer = *peers_[(first_to_post_ + i) % count];
    if (peer.phase != Peer::Phase::kReady) continue;
    TopUp(peer, now);
    SendConsent(peer, now);
    if (peer.repetition.wanted) {
      TendRepetition(peer, now);
      continue;
    }
    if (peer.marks.first != Peer::kNone) PostMarks(peer, now);
    if (peer.HasRuns()) PostPeer(peer, now);
    if (peer.filling) CloseBlock(peer);
    if (peer.blocks_due) PostBlocks(peer, now);
  }
  if (count) first_to_post_ = (first_to_post_ + 1) % count;
}

void EngineCore::PostPeer(Peer& peer, TimePoint now) {
  for (uint32_t chosen; (chosen = PickClass(peer)) != Peer::kNone;) {
    const uint32_t index = peer.lines[chosen].first;
    SendTable::Entry& entry = sends_[index];
    if (!CanPost(peer, entry, now)) return;
    Unlist(index);
    PostResult result = PostResult::kPosted;
    for (uint32_t i = 0; i < kBurst && SendTable::HasRuns(entry); ++i) {
      if (i && !CanPost(peer, entry, now)) break;
      result = PostOne(peer, index, now);
      if (result != PostResult::kPosted) break;
    }
    // To the end of the line with what is left; a send that failed has nothing left.
    if (SendTable::HasRuns(entry)) List(index);
    if (chosen == static_cast<uint32_t>(Priority::kBackground)) peer.bursts_since_background = 0;
    if (chosen == static_cast<uint32_t>(Priority::kDecode)) ++peer.bursts_since_background;
    if (result == PostResult::kAgain) {
      Stats::Add(stats_->fabric_busy);
      recorder_.Note(FlightRecorder::What::kFabricBusy, peer.id.value, index, peer.in_flight, now);
      peer.blocked = peer.in_flight == 0;
      return;
    }
    // Only now may a failed peer have lost its lines.
    if (peer.phase != Peer::Phase::kReady) return;
  }
}

PostResult EngineCore::PostOne(Peer& peer, uint32_t index, TimePoint now) {
  SendTable::Entry& entry = sends_[index];
  Run& run = SendTable::FrontRun(entry);
  const auto bytes = static_cast<uint32_t>(NextBytes(entry));
  WriteOp* op = TakeOp(peer, index, bytes, now);
  const WriteRequest request{.peer = peer.address,
                             .local_region = entry.route.local_region,
                             .local_offset = run.local_offset,
                             .bytes = bytes,
                             .remote_address = entry.route.remote.base + run.remote_offset,
                             .remote_key = entry.route.remote.key,
                             .imm = PackImm({.slot = entry.route.slot.index,
                                             .generation = entry.route.slot.generation,
                                             .kind = DataKind(entry.repetition)}),
                             .context = &op->context};
  Status why;
  const PostResult result = fabric_->Write(request, now, why);
  if (result != PostResult::kPosted) {
    ReturnOp(op);
    if (result == PostResult::kFailed) {
      Stats::Add(stats_->write_errors);
      FailSend(index, std::move(why));
    }
    return result;
  }
  peer.blocked = peer.stalled = false;
  ++peer.posted;
  if (peer.blob.wants_checksums) NoteWrite(peer, entry, request, run.remote_offset);
  if (entry.marks_passed) NoteBehindMarks(entry, op);
  Stats::Flow& flow = FlowOf(peer, entry.route.priority);
  if (entry.writes++ == 0) {
    entry.first_at = now;
    flow.first_wait.Note(now - entry.opened_at);
  }
  if (entry.route.priority != Priority::kControl) peer.pacer.OnPosted(bytes, now);
  Stats::Bump(flow.writes);
  Stats::Bump(flow.bytes, bytes);
  ++entry.in_flight;
  entry.bytes += bytes;
  Stats::Bump(stats_->writes_sent);
  Stats::Bump(stats_->bytes_sent, bytes);
  run.local_offset += bytes;
  run.remote_offset += bytes;
  run.bytes -= bytes;
  if (run.bytes == 0) {
    sends_.PopRun(entry);
    Stats::Bump(flow.runs);
  }
  return result;
}

WriteOp* EngineCore::TakeOp(Peer& peer, uint32_t send, uint32_t bytes, TimePoint now) {
  WriteOp* op = ops_.Take();
  op->peer = &peer;
  op->send = send;
  op->bytes = bytes;
  op->marks_before = 0;
  op->posted_at = now;
  Link(peer.ops, op);
  // The wait for an answer begins with the first write, not with the silence before it.
  if (peer.in_flight++ == 0 && !peer.blocked) peer.heard_at = now;
  if (send <= WriteOp::kBlock) ++peer.bulk_in_flight;
  ++in_flight_;
  Stats::Set(stats_->writes_in_flight, in_flight_);
  return op;
}

void EngineCore::ReturnOp(WriteOp* op) {
  if (Peer* peer = op->peer) {
    Unlink(peer->ops, op);
    --peer->in_flight;
    if (op->send <= WriteOp::kBlock) --peer->bulk_in_flight;
    --in_flight_;
    Stats::Set(stats_->writes_in_flight, in_flight_);
  }
  ops_.Put(op);
}

void EngineCore::OnWriteDone(const Completion& completion, TimePoint now) {
  if (!completion.context) return;
  WriteOp* op = reinterpret_cast<WriteOp*>(completion.context);
  Peer* peer = op->peer;
  const uint32_t index = op->send, bytes = op->bytes;
  const Duration took = now - op->posted_at;
  const bool mark = op->marks_before == WriteOp::kMark;
  if (peer && op->marks_before && !mark) ForgetBehindMarks(sends_[index], op);
  ReturnOp(op);
  if (!peer) return;  // came too late: its send ended with its peer
  const bool failed = completion.kind == Completion::Kind::kFailed;
  if (failed)
    Stats::Add(stats_->write_errors);
  else
    peer->heard_at = now;
  if (index >= WriteOp::kBlock) {
    if (index == WriteOp::kHello) return OnHelloDone(*peer, completion, now);
    if (index == WriteOp::kCredit) OnCreditSent(*peer, failed);
    if (index == WriteOp::kRepeat) peer->repetition.mail_in_flight = false;
    if (index == WriteOp::kConsent) {
      peer->consent_in_flight = false;
      peer->consent_due = peer->consent_due || failed;
    }
    if (index == WriteOp::kBlock) {
      OnBlockSent(*peer, bytes, failed);
      if (failed && completion.in_doubt) ++peer->doubtful, WantRepetition(*peer, now);
    }
    if (failed && completion.peer_lost) LosePeer(*peer, completion.status, now);
    return;
  }
  if (mark) return OnMarkSent(*peer, index, completion, now);
  SendTable::Entry& entry = sends_[index];
  --entry.in_flight;
  if (entry.route.priority != Priority::kControl) peer->pacer.OnDone(bytes, took, now);
  FlowOf(*peer, entry.route.priority).write_time.Note(took);
  entry.last_at = now;
  if (failed && completion.in_doubt) {
    OnDoubt(*peer, index, completion.status, now);
  } else if (failed) {
    recorder_.Note(FlightRecorder::What::kWriteFailed, peer->id.value, index, bytes, now);
    // Without an answer nobody knows whether it landed, or will.
    if (completion.peer_lost) entry.drained = false;
    FailSend(index, completion.status);
    if (completion.peer_lost) LosePeer(*peer, completion.status, now);
  }
  CheckMarks(index);
  CheckSend(index);
}

void EngineCore::FailSend(uint32_t index, Status status) {
  SendTable::Entry& entry = sends_[index];
  if (entry.state != SendTable::State::kOpen) return;
  entry.state = SendTable::State::kDraining;
  entry.status = std::move(status);
  timers_.Disarm(slots_.size() + index);
  sends_.End(entry);
  sends_.DropRuns(entry);
  Unlist(index);
  GiveUpMarks(index);
  // Not only with the next completion: there may be nothing in flight.
  CheckSend(index);
}

bool EngineCore::HasSentAll(const SendTable::Entry& entry) const {
  return entry.state == SendTable::State::kOpen && entry.finishing && entry.in_flight == 0 &&
         !entry.in_doubt && !SendTable::HasRuns(entry) && sends_.AllTaken(entry);
}

void EngineCore::CheckSend(uint32_t index) {
  SendTable::Entry& entry = sends_[index];
  if (entry.in_flight || entry.in_doubt || entry.marks_in_flight) return;
  if (entry.state == SendTable::State::kDraining) {
    EndSend(index, Event::Kind::kSendFailed);
  } else if (HasSentAll(entry) && MarksDue(entry) == 0) {
    EndSend(index, Event::Kind::kSendDone);
  }
}

void EngineCore::EndSend(uint32_t index, Event::Kind kind) {
  SendTable::Entry& entry = sends_[index];
  timers_.Disarm(slots_.size() + index);
  --live_sends_;
  Unlist(index);
  // Where no more could be posted behind its last mark it is still in line.
  if (entry.owner) Delist(entry.owner->marks, &SendTable::Entry::mark_turn, index);
  if (entry.owner) --entry.owner->live_sends;
  Stats::Sub(stats_->sends_live);
  const bool done = kind == Event::Kind::kSendDone;
  Stats::Add(done ? stats_->sends_done : stats_->sends_failed);
  recorder_.Note(done ? FlightRecorder::What::kSendDone : FlightRecorder::What::kSendFailed,
                 entry.route.peer.value, index, entry.writes, last_step_);
  if (entry.owner) {
    Stats::Flow& flow = FlowOf(*entry.owner, entry.route.priority);
    Stats::Bump(done ? flow.sends_done : flow.sends_failed);
  }
  Emit({.kind = kind,
        .slot = entry.route.slot,
        .send = sends_.Name(index),
        .peer = entry.route.peer,
        .status = entry.status,
        .drained = entry.drained,
        .bytes = entry.bytes,
        .writes = entry.writes,
        .first_at = entry.first_at,
        .last_at = entry.last_at});
  sends_.Free(index);
}

}  // namespace baton::transfer
