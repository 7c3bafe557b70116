// EngineCore's sending half: from pushed runs to posted writes to terminal events.
#include "transfer/engine_core.h"
#include "transfer/imm.h"

namespace baton::transfer {

Result<SendId> EngineCore::Begin(PeerId peer, Slot remote_slot, RegionId local,
                                 RegionId remote_region, TimePoint deadline) {
  if (remote_slot.index >= kImmSlots)
    return Error(Code::kOutOfRange, "slot {} is not below 2^20", remote_slot.index);
  SendTable::Route route{.peer = peer, .slot = remote_slot, .deadline = deadline};
  if (Status s = directory_.FillRoute(local, remote_region, route); !s.ok()) return s;
  Result<SendId> send = sends_.Begin(route);
  if (send.ok()) Stats::Add(stats_->sends_live);
  return send;
}

void EngineCore::OnSendRequests(uint32_t index, SendTable::Requests requests) {
  SendTable::Entry& entry = sends_[index];
  if (requests.open) {
    entry.state = SendTable::State::kOpen;
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
  if (requests.finish) entry.finishing = true;
  touched_sends_.push_back(index);
}

void EngineCore::List(uint32_t index) {
  SendTable::Entry& entry = sends_[index];
  if (entry.listed || !entry.owner) return;
  Peer& peer = *entry.owner;
  entry.listed = true;
  entry.next_listed = SendTable::kNone;
  entry.previous_listed = peer.last_listed;
  if (peer.last_listed == SendTable::kNone)
    peer.first_listed = index;
  else
    sends_[peer.last_listed].next_listed = index;
  peer.last_listed = index;
}

void EngineCore::Unlist(uint32_t index) {
  SendTable::Entry& entry = sends_[index];
  if (!entry.listed) return;
  entry.listed = false;
  Peer& peer = *entry.owner;
  const uint32_t next = entry.next_listed, previous = entry.previous_listed;
  (previous == SendTable::kNone ? peer.first_listed : sends_[previous].next_listed) = next;
  (next == SendTable::kNone ? peer.last_listed : sends_[next].previous_listed) = previous;
}

bool EngineCore::MayPost(const Peer& peer) const {
  const FabricTraits& traits = fabric_->traits();
  return peer.in_flight < traits.max_in_flight_peer && in_flight_ < traits.max_in_flight;
}

void EngineCore::PostAll(TimePoint now) {
  // Another peer goes first each time, so that a shared limit starves none.
  const size_t count = peers_.size();
  for (size_t i = 0; i < count; ++i) {
    Peer& peer = *peers_[(first_to_post_ + i) % count];
    if (peer.phase == Peer::Phase::kReady && peer.first_listed != SendTable::kNone)
      PostPeer(peer, now);
  }
  if (count) first_to_post_ = (first_to_post_ + 1) % count;
}

void EngineCore::PostPeer(Peer& peer, TimePoint now) {
  while (peer.first_listed != SendTable::kNone && MayPost(peer)) {
    const uint32_t index = peer.first_listed;
    SendTable::Entry& entry = sends_[index];
    Unlist(index);
    PostResult result = PostResult::kPosted;
    for (uint32_t i = 0; i < kBurst && entry.first_run != SendTable::kNone && MayPost(peer); ++i) {
      result = PostOne(peer, index, now);
      if (result != PostResult::kPosted) break;
    }
    // To the end of the line with what is left; a send that failed has nothing left.
    if (entry.first_run != SendTable::kNone) List(index);
    if (result == PostResult::kAgain) {
      Stats::Add(stats_->fabric_busy);
      peer.blocked = peer.in_flight == 0;
      return;
    }
  }
}

PostResult EngineCore::PostOne(Peer& peer, uint32_t index, TimePoint now) {
  SendTable::Entry& entry = sends_[index];
  SendTable::RunNode& node = sends_.FrontRun(entry);
  const uint32_t bytes = static_cast<uint32_t>(std::min(node.run.bytes, config_.max_write_bytes));
  WriteOp* op = TakeOp(peer, index, bytes, now);
  const WriteRequest request{.peer = peer.address,
                             .local_region = entry.route.local_region,
                             .local_offset = node.run.local_offset,
                             .bytes = bytes,
                             .remote_address = entry.route.remote.base + node.run.remote_offset,
                             .remote_key = entry.route.remote.key,
                             .imm = PackImm({.slot = entry.route.slot.index,
                                             .generation = entry.route.slot.generation,
                                             .kind = ImmKind::kData}),
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
  peer.blocked = false;
  if (entry.writes++ == 0) entry.first_at = now;
  ++entry.in_flight;
  entry.bytes += bytes;
  Stats::Add(stats_->writes_sent);
  Stats::Add(stats_->bytes_sent, bytes);
  node.run.local_offset += bytes;
  node.run.remote_offset += bytes;
  node.run.bytes -= bytes;
  if (node.run.bytes == 0) sends_.PopRun(entry);
  return result;
}

WriteOp* EngineCore::TakeOp(Peer& peer, uint32_t send, uint32_t bytes, TimePoint now) {
  WriteOp* op = ops_.Take();
  op->peer = &peer;
  op->send = send;
  op->bytes = bytes;
  op->next = peer.ops;
  if (peer.ops) peer.ops->previous = op;
  peer.ops = op;
  // The wait for an answer begins with the first write, not with the silence before it.
  if (peer.in_flight++ == 0 && !peer.blocked) peer.heard_at = now;
  ++in_flight_;
  Stats::Add(stats_->writes_in_flight);
  return op;
}

void EngineCore::ReturnOp(WriteOp* op) {
  if (Peer* peer = op->peer) {
    if (op->previous)
      op->previous->next = op->next;
    else
      peer->ops = op->next;
    if (op->next) op->next->previous = op->previous;
    --peer->in_flight;
    --in_flight_;
    Stats::Sub(stats_->writes_in_flight);
  }
  ops_.Put(op);
}

void EngineCore::OnWriteDone(const Completion& completion, TimePoint now) {
  if (!completion.context) return;
  WriteOp* op = reinterpret_cast<WriteOp*>(completion.context);
  Peer* peer = op->peer;
  const uint32_t index = op->send;
  ReturnOp(op);
  if (!peer) return;  // came too late: its send ended with its peer
  const bool failed = completion.kind == Completion::Kind::kFailed;
  if (failed)
    Stats::Add(stats_->write_errors);
  else
    peer->heard_at = now;
  if (index == WriteOp::kHello) return OnHelloDone(*peer, completion, now);
  SendTable::Entry& entry = sends_[index];
  --entry.in_flight;
  entry.last_at = now;
  if (failed) {
    // Without an answer nobody knows whether it landed, or will.
    if (completion.peer_lost) entry.drained = false;
    FailSend(index, completion.status);
    if (completion.peer_lost) LosePeer(*peer, completion.status, now);
  }
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
  // Not only with the next completion: there may be nothing in flight.
  CheckSend(index);
}

void EngineCore::CheckSend(uint32_t index) {
  SendTable::Entry& entry = sends_[index];
  if (entry.in_flight) return;
  if (entry.state == SendTable::State::kDraining) {
    EndSend(index, Event::Kind::kSendFailed);
  } else if (entry.state == SendTable::State::kOpen && entry.finishing &&
             entry.first_run == SendTable::kNone && sends_.AllTaken(entry)) {
    EndSend(index, Event::Kind::kSendDone);
  }
}

void EngineCore::EndSend(uint32_t index, Event::Kind kind) {
  SendTable::Entry& entry = sends_[index];
  timers_.Disarm(slots_.size() + index);
  --live_sends_;
  Unlist(index);
  if (entry.owner) --entry.owner->live_sends;
  Stats::Sub(stats_->sends_live);
  Stats::Add(kind == Event::Kind::kSendDone ? stats_->sends_done : stats_->sends_failed);
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
