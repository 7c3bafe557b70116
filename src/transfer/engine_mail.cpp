// EngineCore's mails: hellos (who writes, and how much of it has landed) and credits (how much more
// may come). mail.h says what they hold, credits.h how much is granted.
#include <algorithm>

#include "transfer/engine_core.h"

namespace baton::transfer {

// Writes the mail at `source` of the peer's outbox into its cell.
PostResult EngineCore::PostMail(Peer& peer, WriteOp* op, size_t source, uint32_t bytes,
                                uint32_t offset, ImmKind kind, TimePoint now, Status& why) {
  const WriteRequest request{
      .peer = peer.address,
      .local_region = outbox_region_,
      .local_offset = uint64_t{peer.outbox} * sizeof(Outbox) + source,
      .bytes = bytes,
      .remote_address =
          peer.blob.mailbox.base + uint64_t{peer.blob.key_set} * kMailboxCellBytes + offset,
      .remote_key = peer.blob.mailbox.key,
      .imm = PackImm({.slot = peer.blob.key_set,
                      .generation = peer.blob.key_set_generation,
                      .kind = kind}),
      .context = &op->context};
  const PostResult result = fabric_->Write(request, now, why);
  if (result != PostResult::kPosted) ReturnOp(op);
  return result;
}

void EngineCore::SayHello(Peer& peer, TimePoint now) {
  WriteOp* op = TakeOp(peer, WriteOp::kHello, sizeof(Mail), now);
  outboxes_[peer.outbox].hello =
      MakeMail(config_.epoch, peer.posted - peer.doubtful - peer.bulk_in_flight,
               MailTag(peer.blob.key_set, peer.blob.key_set_generation));
  Status why;
  const PostResult result = PostMail(peer, op, offsetof(Outbox, hello), sizeof(Mail), kHelloOffset,
                                     ImmKind::kHello, now, why);
  if (result == PostResult::kPosted) {
    peer.hello_in_flight = true;
    peer.asked_at = now;
    peer.blocked = false;
    if (peer.phase == Peer::Phase::kReady && peer.unanswered++ == 0) peer.unanswered_since = now;
    Stats::Add(stats_->hellos_sent);
    recorder_.Note(FlightRecorder::What::kHelloSent, peer.id.value, peer.blob.key_set, peer.posted, now);
    return;
  }
  if (result == PostResult::kAgain) {
    peer.blocked = peer.in_flight == 0;
    return;
  }
  peer.next_hello = now + kHelloRetry;
  peer.why = why;
  if (peer.phase == Peer::Phase::kReady) LosePeer(peer, why, now);
}

void EngineCore::OnHello(Imm imm, TimePoint now) {
  const Mail mail = key_sets_.Claim(imm.slot, imm.generation);
  if (mail.epoch == 0) return Stats::Add(stats_->stray_writes);
  recorder_.Note(FlightRecorder::What::kHelloSeen, 0, imm.slot, mail.value, now);
  credits_.NoteLanded(imm.slot, mail.value);
  for (auto& peer : peers_) {
    if (peer->blob.epoch != mail.epoch) continue;
    peer->heard_at = now;
    peer->inbound = imm.slot;
    peer->answer_due = true;
  }
}

// Tells the peer what it may cause, when that has grown enough or it asked.
void EngineCore::TopUp(Peer& peer, TimePoint now) {
  if (peer.inbound >= kMailboxCells || peer.credit_in_flight) return;
  const uint64_t granted = credits_.TopUp(peer.inbound, peer.answer_due);
  if (granted == 0) return;
  peer.answer_due = true;  // until it is posted
  WriteOp* op = TakeOp(peer, WriteOp::kCredit, sizeof(Mail), now);
  outboxes_[peer.outbox].credit =
      MakeMail(config_.epoch, granted, MailTag(peer.inbound, key_sets_.generation(peer.inbound)),
               key_sets_.blocks(peer.inbound) + kManifestBlocks);
  Status why;
  const PostResult result = PostMail(peer, op, offsetof(Outbox, credit), sizeof(Mail),
                                     kCreditOffset, ImmKind::kCredit, now, why);
  if (result == PostResult::kPosted) {
    peer.answer_due = false;
    peer.credit_in_flight = true;
    Stats::Add(stats_->credits_sent);
    recorder_.Note(FlightRecorder::What::kCreditSent, peer.id.value, peer.inbound, granted, now);
  } else if (result == PostResult::kFailed) {
    LosePeer(peer, why, now);
  }
}

void EngineCore::OnCreditSent(Peer& peer, bool failed) {
  peer.credit_in_flight = false;
  if (failed) peer.answer_due = true;
}

void EngineCore::OnCredit(Imm imm, TimePoint now) {
  const Mail mail = key_sets_.Credit(imm.slot, imm.generation);
  if (mail.epoch == 0) {
    // Damaged on its way, but an answer: the question may be asked again. Without this a writer that
    // had asked as often as it may would wait for its deadline.
    const uint64_t owner = key_sets_.Owner(imm.slot, imm.generation);
    for (auto& peer : peers_)
      if (owner && peer->blob.epoch == owner) peer->unanswered = 0;
    return Stats::Add(stats_->stray_writes);
  }
  for (auto& peer : peers_) {
    const bool about_us =
        peer->blob.epoch == mail.epoch &&
        mail.tag == MailTag(peer->blob.key_set, peer->blob.key_set_generation);
    if (!about_us) continue;
    if (mail.value == CreditBook::kUnlimited)
      peer->granted = ~uint64_t{0};
    else
      peer->granted = std::max(peer->granted, mail.value);
    peer->blocks_free = std::max(peer->blocks_free, mail.blocks);
    peer->heard_at = now;
    peer->unanswered = 0;
    peer->answers = true;
    if (peer->stalled) {
      peer->stalled = false;
      Stats::Bump(stats_->seats[peer->seat].credit_stalled_us,
                  static_cast<uint64_t>(Seconds(now - peer->stalled_at) * 1e6));
    }
    recorder_.Note(FlightRecorder::What::kCreditSeen, peer->id.value, imm.slot, mail.value, now);
  }
}

}  // namespace baton::transfer
