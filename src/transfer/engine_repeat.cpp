// EngineCore after the loss of a rail: sends of which a write is in doubt are written anew.
//
// A write that failed on one rail while others are left may have landed, or may still: counting its
// repetition would complete a slot too early, and a late landing could hit a page that is another's
// by then. So both sides agree first, over a rail that works:
//
//   Sender                                   Receiver
//   posts nothing more to this peer, waits
//   until all its writes have ended
//   repeat mail: fence n, sends in doubt ->  closes the ways that failed and renews the peer's keys:
//   and the ways that failed                 what was posted cannot land any more; slots that are not
//                                            complete count from nothing, and only writes of the
//                                            next repetition
//   follows the new keys, writes these   <-  consent mail: what became of each slot
//   sends again from their first run
//
// Everything else about a send stays: the seal counts the writes of one repetition, deadlines run on.
// A mail that is lost or torn is asked again; fence numbers make that harmless. When no agreement
// comes within peer_timeout the peer is lost.
#include <algorithm>

#include "common/log.h"
#include "transfer/engine_core.h"
#include "transfer/imm.h"

namespace baton::transfer {
namespace {

constexpr Duration kAskAgain = 50ms;

constexpr uint64_t NameOf(const SendTable::Route& route, uint32_t repetition) {
  return uint64_t{repetition} << 28 | route.slot.index << 8 | route.slot.generation;
}

}  // namespace

// ---- sender ------------------------------------------------------------------------------------

void EngineCore::WantRepetition(Peer& peer, TimePoint now) {
  if (peer.repetition.wanted || peer.phase != Peer::Phase::kReady) return;
  peer.repetition.wanted = true;
  peer.repetition.listed = peer.repetition.asked = false;
  peer.repetition.since = now;
}

// A write of the send failed in doubt.
void EngineCore::OnDoubt(Peer& peer, uint32_t index, const Status& why, TimePoint now) {
  SendTable::Entry& entry = sends_[index];
  recorder_.Note(FlightRecorder::What::kWriteFailed, peer.id.value, index, entry.writes, now);
  ++peer.doubtful;
  if (peer.phase != Peer::Phase::kReady) {
    entry.drained = false;
    return;
  }
  entry.in_doubt = true;
  WantRepetition(peer, now);
  // It too ends only after the fence.
  if (!entry.kept)
    FailSend(index, Error(Code::kUnavailable, "a rail failed, and the transfer is too large to be repeated "
                                              "as a whole: {}", why.message()));
  else if (entry.repetition == kMaxRepetitions)
    FailSend(index, Error(Code::kUnavailable, "rails failed {} times during one transfer: {}",
                          kMaxRepetitions + 1, why.message()));
}

void EngineCore::TendRepetition(Peer& peer, TimePoint now) {
  Peer::Repetition& repetition = peer.repetition;
  if (peer.bulk_in_flight) {
    repetition.since = now;  // their end is the fabric's affair
    return;
  }
  if (repetition.mail_in_flight || (repetition.asked && now - repetition.asked_at < kAskAgain)) return;
  if (!repetition.listed) ListDoubts(peer);
  AskToRepeat(peer, now);
}

void EngineCore::ListDoubts(Peer& peer) {
  peer.repetition.listed = true;
  peer.repetition.count = 0;
  peer.repetition.ways = fabric_->TakeDoubts(peer.address);
  for (uint32_t i = 0; i < sends_.size() && peer.repetition.count < RepeatMail::kSends; ++i)
    if (sends_[i].owner == &peer && sends_[i].in_doubt)
      peer.repetition.sends[peer.repetition.count++] = sends_.Name(i);
}

void EngineCore::AskToRepeat(Peer& peer, TimePoint now) {
  Peer::Repetition& repetition = peer.repetition;
  WriteOp* op = TakeOp(peer, WriteOp::kRepeat, sizeof(RepeatMail), now);
  RepeatMail& mail = outboxes_[peer.outbox].repeat;
  mail = {.epoch = config_.epoch,
          .tag = MailTag(peer.blob.key_set, peer.blob.key_set_generation),
          .fence = repetition.fences + 1,
          .count = repetition.count};
  std::copy(repetition.ways.bits.begin(), repetition.ways.bits.end(), mail.ways);
  for (uint32_t i = 0; i < repetition.count; ++i) {
    const SendTable::Entry& entry = sends_[SendTable::IndexOf(repetition.sends[i])];
    mail.sends[i] = NameOf(entry.route, entry.repetition + 1);
  }
  mail.check = MailCheck(mail);
  Status why;
  const PostResult result = PostMail(peer, op, offsetof(Outbox, repeat), sizeof(RepeatMail),
                                     kRepeatOffset, ImmKind::kRepeat, now, why);
  if (result == PostResult::kFailed) return LosePeer(peer, why, now);
  if (result == PostResult::kAgain) return;
  if (!repetition.asked) Stats::Add(stats_->fences_asked);
  repetition.asked = repetition.mail_in_flight = true;
  repetition.asked_at = now;
}

void EngineCore::OnConsent(Imm imm, TimePoint now) {
  const ConsentMail mail = key_sets_.Consent(imm.slot, imm.generation);
  if (mail.epoch == 0) return Stats::Add(stats_->stray_writes);
  for (auto& peer : peers_) {
    const bool about_us =
        peer->blob.epoch == mail.epoch && peer->phase == Peer::Phase::kReady &&
        mail.tag == MailTag(peer->blob.key_set, peer->blob.key_set_generation);
    Peer::Repetition& repetition = peer->repetition;
    // An answer to an earlier question changes nothing any more.
    if (!about_us || !repetition.wanted || !repetition.asked || mail.fence != repetition.fences + 1) continue;
    peer->heard_at = now;
    repetition.fences = mail.fence;
    repetition.wanted = repetition.asked = false;
    peer->doubtful = 0;
    fabric_->Follow(peer->address, peer->blob.marks);
    for (const RemoteRegion& region : peer->blob.regions) fabric_->Follow(peer->address, region.key);
    if (peer->blob.wants_checksums) fabric_->Follow(peer->address, peer->blob.manifest);
    for (uint32_t i = 0; i < repetition.count; ++i)
      ApplyVerdict(repetition.sends[i], static_cast<Verdict>(mail.verdicts >> 2 * i & 3));
    // More than one mail holds.
    for (uint32_t i = 0; i < sends_.size(); ++i)
      if (sends_[i].owner == peer.get() && sends_[i].in_doubt) WantRepetition(*peer, now);
    log::info("transfer: peer {} fenced the writes of a lost rail; {} sends were in doubt",
              peer->id.value, repetition.count);
  }
}

void EngineCore::ApplyVerdict(SendId send, Verdict verdict) {
  const uint32_t index = SendTable::IndexOf(send);
  SendTable::Entry& entry = sends_[index];
  if (!entry.in_doubt || entry.generation != SendTable::GenerationOf(send)) return;
  entry.in_doubt = false;
  if (entry.state == SendTable::State::kOpen) {
    if (verdict == Verdict::kAgain && sends_.Rewind(entry)) {
      ++entry.repetition;
      entry.writes = 0;
      entry.bytes = 0;
      Stats::Add(stats_->sends_repeated);
      if (SendTable::HasRuns(entry)) List(index);
    } else if (verdict == Verdict::kDone) {
      sends_.DropRuns(entry);
      Unlist(index);
    } else {
      return FailSend(index, Error(Code::kUnavailable, "the receiver gave the transfer up"));
    }
  }
  CheckMarks(index);
  CheckSend(index);
}

// ---- receiver ----------------------------------------------------------------------------------

void EngineCore::OnRepeat(Imm imm, TimePoint now) {
  const RepeatMail mail = key_sets_.Repeat(imm.slot, imm.generation);
  if (mail.epoch == 0) return Stats::Add(stats_->stray_writes);
  for (size_t p = 0; p < peers_.size(); ++p) {
    Peer& peer = *peers_[p];
    if (peer.blob.epoch != mail.epoch || peer.phase != Peer::Phase::kReady) continue;
    peer.heard_at = now;
    const uint64_t fences = key_sets_.fences(imm.slot);
    if (mail.fence != fences && mail.fence != fences + 1) return;  // a late one
    if (mail.fence == fences + 1) {
      // First what is half received, which asks for no key any more; then what has not begun.
      Ways ways;
      std::copy(std::begin(mail.ways), std::end(mail.ways), ways.bits.begin());
      fabric_->CloseWays(peer.address, ways, now);
      if (Status s = key_sets_.Fence(imm.slot); !s.ok())
        return LosePeer(peer, s.Prefixed("fencing writes in doubt"), now);
      uint64_t verdicts = 0;
      for (uint32_t i = 0; i < mail.count; ++i)
        verdicts |= static_cast<uint64_t>(Judge(mail.sends[i], mail.epoch)) << 2 * i;
      key_sets_.NoteVerdicts(imm.slot, verdicts);
    }
    peer.consent_due = true;
    peer.consent_set = imm.slot;
  }
}

Verdict EngineCore::Judge(uint64_t send, uint64_t epoch) {
  const auto index = static_cast<uint32_t>(send >> 8 & (kImmSlots - 1));
  const auto generation = static_cast<uint8_t>(send);
  if (index >= slots_.size()) return Verdict::kGone;
  SlotTable::Entry& entry = slots_[index];
  if (entry.generation == generation) {
    if (entry.state == SlotTable::State::kEnded) return entry.failed ? Verdict::kGone : Verdict::kDone;
    if (entry.state != SlotTable::State::kOpen || !entry.owner || entry.owner->blob.epoch != epoch)
      return Verdict::kGone;
    slots_.Restart(entry, static_cast<uint32_t>(send >> 28));
    if (config_.checksum) entries_[index].clear();
    return Verdict::kAgain;
  }
  const bool predecessor = static_cast<uint8_t>(generation + 1) == entry.generation;
  return predecessor && entry.predecessor_done ? Verdict::kDone : Verdict::kGone;
}

void EngineCore::SendConsent(Peer& peer, TimePoint now) {
  if (!peer.consent_due || peer.consent_in_flight) return;
  WriteOp* op = TakeOp(peer, WriteOp::kConsent, sizeof(ConsentMail), now);
  ConsentMail& mail = outboxes_[peer.outbox].consent;
  mail = {.epoch = config_.epoch,
          .tag = MailTag(peer.consent_set, key_sets_.generation(peer.consent_set)),
          .fence = key_sets_.fences(peer.consent_set),
          .verdicts = key_sets_.verdicts(peer.consent_set)};
  mail.check = MailCheck(mail);
  Status why;
  const PostResult result = PostMail(peer, op, offsetof(Outbox, consent), sizeof(ConsentMail),
                                     kConsentOffset, ImmKind::kConsent, now, why);
  if (result == PostResult::kFailed) return LosePeer(peer, why, now);
  if (result == PostResult::kAgain) return;
  peer.consent_due = false;
  peer.consent_in_flight = true;
}

}  // namespace baton::transfer
