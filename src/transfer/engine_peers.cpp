// EngineCore's peers: joining, signs of life, loss and fences.
#include <algorithm>

#include "common/log.h"
#include "transfer/engine_core.h"
#include "transfer/rails/rails.h"

namespace baton::transfer {
namespace {

constexpr Duration kTendInterval = 1ms;
constexpr uint32_t kMostHelloFailures = 3;
constexpr Duration kStallPatience = 5ms;  // without credits and without anything in flight

}  // namespace

Peer* EngineCore::FindPeer(PeerId id) const {
  for (const auto& peer : peers_)
    if (peer->id == id) return peer.get();
  return nullptr;
}

Result<PeerId> EngineCore::AddPeer(PeerBlob blob, TimePoint now) {
  const FabricTraits& traits = fabric_->traits();
  if (blob.family != traits.family && (RailsFamily(blob.family) == traits.family ||
                                       RailsFamily(traits.family) == blob.family))
    return Error(Code::kUnsupported,
                 "the peer uses transfer provider \"{}\", this side \"{}\": give --transfer-rails to both, "
                 "one name is enough, or to none",
                 blob.family, traits.family);
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
  if (blob.wants_checksums)
    if (Status s = PrepareChecksums(); !s.ok()) return s;
  const std::optional<uint32_t> outbox = free_outboxes_.Take();
  if (!outbox)
    return Error(Code::kResourceExhausted, "{} peers are connected, which is the most", config_.max_peers);
  Result<uint64_t> address = fabric_->Insert(blob.address);
  if (!address) {
    free_outboxes_.Put(*outbox);
    return address.status();
  }
  auto peer = std::make_unique<Peer>(Pacer(config_.control_wait, config_.least_in_flight));
  peer->outbox = *outbox;
  peer->seat = TakeSeat();
  stats_->seats[peer->seat].name.Set(fabric_->NameOf(blob.address));
  peer->granted = blob.credits == CreditBook::kUnlimited ? ~uint64_t{0} : blob.credits;
  peer->inbound = key_sets_.ClaimedBy(blob.epoch);
  peer->id = {next_peer_++};
  peer->blob = std::move(blob);
  peer->address = *address;
  peer->heard_at = peer->next_hello = now;
  peer->why = Error(Code::kUnavailable, "the peer does not answer");
  recorder_.Note(FlightRecorder::What::kPeerAdded, peer->id.value, peer->blob.key_set, peer->blob.key_set, now);
  peers_.push_back(std::move(peer));
  Stats::Add(stats_->peers);
  next_tending_ = now;
  return peers_.back()->id;
}

uint32_t EngineCore::TakeSeat() {
  for (uint32_t i = 0; i < Stats::kSeats; ++i) {
    Stats::Seat& seat = stats_->seats[i];
    if (seat.taken) continue;
    seat.taken = seat.used = true;
    return i;
  }
  return Stats::kSeats - 1;  // shared by all that come too many
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

void EngineCore::OnHelloDone(Peer& peer, const Completion& completion, TimePoint now) {
  peer.hello_in_flight = false;
  if (completion.kind == Completion::Kind::kDone) {
    if (peer.phase != Peer::Phase::kJoining) return;
    peer.phase = Peer::Phase::kReady;
    peer.why = Status::Ok();
    peer.answer_due = peer.inbound < kMailboxCells;
    directory_.AddPeer(peer.id, peer.blob.regions);
    recorder_.Note(FlightRecorder::What::kPeerReady, peer.id.value, peer.blob.key_set, peer.granted, now);
    return;
  }
  // While joining nothing is lost yet: the peer may still be starting, or (efa-direct) must insert
  // us first, and the caller's deadline ends it. But one that turns us away again and again has
  // revoked its description.
  peer.next_hello = now + kHelloRetry;
  peer.why = completion.status;
  const bool joining = peer.phase == Peer::Phase::kJoining;
  if (completion.in_doubt) {  // another rail is left; whoever still needs an answer asks again
    peer.unanswered = 0;
    return;
  }
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
  recorder_.Note(FlightRecorder::What::kPeerLost, peer.id.value, peer.blob.key_set, peer.in_flight, now);
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
  recorder_.Note(FlightRecorder::What::kPeerGone, peer.id.value, peer.blob.key_set, peer.in_flight, last_step_);
  fabric_->Remove(peer.address);
  // What has not completed by now never counts: its contexts return when the fabric gives them up.
  for (WriteOp* op = peer.ops; op;) {
    WriteOp* next = op->next;
    op->peer = nullptr;
    op = next;
  }
  peer.ops = nullptr;
  in_flight_ -= peer.in_flight;
  Stats::Set(stats_->writes_in_flight, in_flight_);
  peer.in_flight = peer.bulk_in_flight = 0;
  peer.pacer.Forget();
  peer.blocks_due = 0;
  peer.repetition.wanted = peer.consent_due = false;
  for (uint32_t i = 0; i < sends_.size() && peer.live_sends; ++i) {
    if (sends_[i].owner != &peer) continue;
    // Not when a write of it has failed with the peer just now, though it was the last.
    sends_[i].drained = sends_[i].drained && sends_[i].in_flight == 0 && !sends_[i].in_doubt;
    sends_[i].in_flight = sends_[i].marks_in_flight = sends_[i].behind_marks = 0;
    sends_[i].oldest = sends_[i].newest = nullptr;
    sends_[i].in_doubt = false;
    CheckSend(i);
  }
  if (peer.disconnecting && !peer.silent)
    Emit({.kind = Event::Kind::kFenced, .peer = peer.id, .status = peer.why});
}

bool EngineCore::AskForLife(const Peer& peer, TimePoint now) const {
  const bool needed = peer.open_slots || peer.live_sends || peer.stalled;
  if (!needed || peer.hello_in_flight || peer.unanswered >= kMostUnanswered) return false;
  // Writes that hang on one rail say nothing of the peer, which another one may still reach.
  if (peer.in_flight && has_rails_) return now - peer.heard_at >= 2 * config_.probe_interval;
  if (peer.in_flight) return false;
  // All that we posted has ended, so the hello tells the peer that it may count it as consumed. Other
  // signs of life from it do not: it cannot know that we wait.
  if (peer.stalled) return now - std::max(peer.stalled_at, peer.asked_at) >= kStallPatience;
  if (peer.HasToPost()) return false;
  return peer.blocked || now - peer.heard_at >= config_.probe_interval;
}

void EngineCore::TendPeers(TimePoint now) {
  next_tending_ = now + kTendInterval;
  for (size_t i = 0; i < peers_.size(); ++i) TendPeer(*peers_[i], now);
  std::erase_if(peers_, [this](const auto& peer) {
    const bool forget = peer->phase == Peer::Phase::kGone && peer->disconnecting;
    if (forget) {
      Stats::Sub(stats_->peers);
      stats_->seats[peer->seat].taken = false;
      free_outboxes_.Put(peer->outbox);
    }
    return forget;
  });
}

void EngineCore::TendPeer(Peer& peer, TimePoint now) {
  switch (peer.phase) {
    case Peer::Phase::kJoining:
      if (!peer.hello_in_flight && now >= peer.next_hello) SayHello(peer, now);
      return;
    case Peer::Phase::kReady: {
      const bool to_post = peer.HasToPost();
      const bool needed = peer.open_slots || peer.live_sends;
      if (!to_post) peer.stalled = false;
      if (!to_post && !needed) peer.blocked = false;
      // A network card may answer for an engine that does not: then its credits stay away.
      const bool mute = needed && peer.answers && peer.unanswered &&
                        now - peer.unanswered_since > config_.peer_timeout;
      const bool waiting = peer.in_flight || peer.blocked || peer.stalled;
      if (mute || (waiting && now - peer.heard_at > config_.peer_timeout))
        return LosePeer(peer,
                        Error(Code::kUnavailable, "the peer gave no sign of life for {:.1f} s",
                              Seconds(now - (mute ? peer.unanswered_since : peer.heard_at))),
                        now);
      if (peer.repetition.wanted && now - peer.repetition.since > config_.peer_timeout)
        return LosePeer(peer,
                        Error(Code::kUnavailable,
                              "a rail failed, and the peer did not agree to go on without it in {:.1f} s",
                              Seconds(now - peer.repetition.since)),
                        now);
      if (AskForLife(peer, now)) SayHello(peer, now);
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
