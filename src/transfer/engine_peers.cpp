// EngineCore's peers: joining, signs of life, loss and fences.
#include <algorithm>

#include "common/log.h"
#include "transfer/engine_core.h"

namespace baton::transfer {
namespace {

constexpr Duration kTendInterval = 1ms;
constexpr Duration kHelloRetry = 10ms;
constexpr uint32_t kMostHelloFailures = 3;

}  // namespace

Peer* EngineCore::FindPeer(PeerId id) const {
  for (const auto& peer : peers_)
    if (peer->id == id) return peer.get();
  return nullptr;
}

Result<PeerId> EngineCore::AddPeer(PeerBlob blob, TimePoint now) {
  const FabricTraits& traits = fabric_->traits();
  if (blob.family != traits.family)
    return Error(Code::kUnsupported,
                 "the peer uses transfer provider \"{}\", this side \"{}\": start both with the same",
                 blob.family, traits.family);
  for (const auto& peer : peers_) {
    if (peer->blob.epoch != blob.epoch) continue;
    const bool here = peer->phase == Peer::Phase::kJoining || peer->phase == Peer::Phase::kReady;
    const bool same = peer->blob.key_set == blob.key_set &&
                      peer->blob.key_set_generation == blob.key_set_generation;
    if (here && same) return peer->id;
    // It described itself anew, so it has given up on what we know of it.
    if (here) LosePeer(*peer, Error(Code::kUnavailable, "the peer connected again"), now);
    if (peer->phase == Peer::Phase::kDraining)
      return Error(Code::kUnavailable, "the peer was lost and is still being removed: try again");
  }
  Result<uint64_t> address = fabric_->Insert(blob.address);
  if (!address) return address.status();
  auto peer = std::make_unique<Peer>();
  peer->id = {next_peer_++};
  peer->blob = std::move(blob);
  peer->address = *address;
  peer->heard_at = peer->next_hello = now;
  peer->why = Error(Code::kUnavailable, "the peer does not answer");
  peers_.push_back(std::move(peer));
  Stats::Add(stats_->peers);
  next_tending_ = now;
  return peers_.back()->id;
}

EngineCore::PeerState EngineCore::GetPeerState(PeerId id, Status& why) const {
  const Peer* peer = FindPeer(id);
  if (!peer) {
    why = Error(Code::kUnavailable, "the peer was disconnected");
    return PeerState::kLost;
  }
  if (peer->phase == Peer::Phase::kReady) return PeerState::kReady;
  why = peer->why;
  return peer->phase == Peer::Phase::kJoining ? PeerState::kJoining : PeerState::kLost;
}

void EngineCore::RemovePeer(PeerId id, TimePoint now, bool silent) {
  Peer* peer = FindPeer(id);
  if (!peer || peer->disconnecting) return;
  peer->disconnecting = true;
  peer->silent = silent;
  if (peer->phase == Peer::Phase::kGone) {
    if (!silent) Emit({.kind = Event::Kind::kFenced, .peer = peer->id, .status = peer->why});
  } else {
    LosePeer(*peer, Error(Code::kCancelled, "the peer was disconnected"), now);
  }
  next_tending_ = now;
}

void EngineCore::SayHello(Peer& peer, TimePoint now) {
  WriteOp* op = TakeOp(peer, WriteOp::kHello, sizeof hello_, now);
  const WriteRequest request{
      .peer = peer.address,
      .local_region = hello_region_,
      .bytes = sizeof hello_,
      .remote_address =
          peer.blob.mailbox.base + uint64_t{peer.blob.key_set} * kMailboxCellBytes,
      .remote_key = peer.blob.mailbox.key,
      .imm = PackImm({.slot = peer.blob.key_set,
                      .generation = peer.blob.key_set_generation,
                      .kind = ImmKind::kHello}),
      .context = &op->context};
  Status why;
  const PostResult result = fabric_->Write(request, now, why);
  if (result == PostResult::kPosted) {
    peer.hello_in_flight = true;
    peer.blocked = false;
    Stats::Add(stats_->hellos_sent);
    return;
  }
  ReturnOp(op);
  if (result == PostResult::kAgain) {
    peer.blocked = peer.in_flight == 0;
    return;
  }
  peer.next_hello = now + kHelloRetry;
  peer.why = why;
  if (peer.phase == Peer::Phase::kReady) LosePeer(peer, why, now);
}

void EngineCore::OnHelloDone(Peer& peer, const Completion& completion, TimePoint now) {
  peer.hello_in_flight = false;
  if (completion.kind == Completion::Kind::kDone) {
    if (peer.phase != Peer::Phase::kJoining) return;
    peer.phase = Peer::Phase::kReady;
    peer.why = Status::Ok();
    directory_.AddPeer(peer.id, peer.blob.regions);
    return;
  }
  // While joining nothing is lost yet: the peer may still be starting, or (efa-direct) must insert
  // us first, and the caller's deadline ends it. But one that turns us away again and again has
  // revoked its description.
  peer.next_hello = now + kHelloRetry;
  peer.why = completion.status;
  const bool joining = peer.phase == Peer::Phase::kJoining;
  if (!joining || (completion.peer_lost && ++peer.hello_failures == kMostHelloFailures))
    LosePeer(peer, completion.status, now);
}

void EngineCore::OnPeerGone(const Completion& completion, TimePoint now) {
  for (auto& peer : peers_)
    if (peer->address == completion.peer) LosePeer(*peer, completion.status, now);
}

void EngineCore::LosePeer(Peer& peer, Status why, TimePoint now) {
  if (peer.phase == Peer::Phase::kDraining || peer.phase == Peer::Phase::kGone) return;
  const bool was_ready = peer.phase == Peer::Phase::kReady;
  peer.phase = Peer::Phase::kDraining;
  peer.why = why;
  peer.blocked = false;
  peer.drain_deadline = now + fabric_->traits().drain_timeout;
  directory_.RemovePeer(peer.id);
  key_sets_.RevokeOwner(peer.blob.epoch);
  // A set that nobody claimed may be this peer's, whose hello is still to come, and with it writes
  // for what it was granted. Others who are just joining with one must ask anew.
  if (was_ready) key_sets_.RevokeUnclaimed();
  for (uint32_t i = 0; i < slots_.size() && peer.open_slots; ++i)
    if (slots_[i].state == SlotTable::State::kOpen && slots_[i].owner == &peer) EndSlot(i, why);
  for (uint32_t i = 0; i < sends_.size() && peer.live_sends; ++i)
    if (sends_[i].owner == &peer) FailSend(i, why);
  if (was_ready && !peer.disconnecting) {
    Stats::Add(stats_->peers_lost);
    log::warn("transfer: peer {} lost: {}", peer.id.value, why.message());
    Emit({.kind = Event::Kind::kPeerLost, .peer = peer.id, .status = why});
  }
  if (peer.in_flight == 0 || fabric_->traits().drain_timeout.count() == 0) FinishRemoval(peer);
}

void EngineCore::FinishRemoval(Peer& peer) {
  if (peer.phase == Peer::Phase::kGone) return;
  peer.phase = Peer::Phase::kGone;
  fabric_->Remove(peer.address);
  // What has not completed by now never counts: its contexts return when the fabric gives them up.
  for (WriteOp* op = peer.ops; op;) {
    WriteOp* next = op->next;
    op->peer = nullptr;
    op = next;
  }
  peer.ops = nullptr;
  in_flight_ -= peer.in_flight;
  Stats::Sub(stats_->writes_in_flight, peer.in_flight);
  peer.in_flight = 0;
  for (uint32_t i = 0; i < sends_.size() && peer.live_sends; ++i) {
    if (sends_[i].owner != &peer) continue;
    sends_[i].drained = sends_[i].in_flight == 0;
    sends_[i].in_flight = 0;
    CheckSend(i);
  }
  if (peer.disconnecting && !peer.silent)
    Emit({.kind = Event::Kind::kFenced, .peer = peer.id, .status = peer.why});
}

void EngineCore::TendPeers(TimePoint now) {
  next_tending_ = now + kTendInterval;
  for (size_t i = 0; i < peers_.size(); ++i) TendPeer(*peers_[i], now);
  std::erase_if(peers_, [this](const auto& peer) {
    const bool forget = peer->phase == Peer::Phase::kGone && peer->disconnecting;
    if (forget) Stats::Sub(stats_->peers);
    return forget;
  });
}

void EngineCore::TendPeer(Peer& peer, TimePoint now) {
  switch (peer.phase) {
    case Peer::Phase::kJoining:
      if (!peer.hello_in_flight && now >= peer.next_hello) SayHello(peer, now);
      return;
    case Peer::Phase::kReady: {
      const bool to_post = peer.first_listed != SendTable::kNone;
      const bool needed = peer.open_slots || peer.live_sends;
      if (!to_post && !needed) peer.blocked = false;
      if ((peer.in_flight || peer.blocked) && now - peer.heard_at > config_.peer_timeout)
        return LosePeer(peer,
                        Error(Code::kUnavailable, "the peer gave no sign of life for {:.1f} s",
                              Seconds(now - peer.heard_at)),
                        now);
      if (needed && peer.in_flight == 0 && !to_post &&
          (peer.blocked || now - peer.heard_at >= config_.probe_interval))
        SayHello(peer, now);
      return;
    }
    case Peer::Phase::kDraining:
      if (peer.in_flight == 0 || now >= peer.drain_deadline) FinishRemoval(peer);
      return;
    case Peer::Phase::kGone:
      return;
  }
}

}  // namespace baton::transfer
