// EngineCore's watermarks: which part of a transfer is in the receiver's memory already.
//
// A mark stands for all that was pushed before it. When that has landed (every write of it is done, and
// done means in the target's memory) the sender posts one small write whose immediate names the slot and
// nothing else; the receiver counts them. That they overtake each other does no harm: as many as came
// were posted at least, and the k-th is posted only when the first k parts have landed.
//
// What has landed is read off the oldest write under way: with k marks before it, the first k parts are
// there. So writes that were posted behind a mark are held in the order of posting, and sends without
// marks pay for nothing.
//
// A mark is never posted twice, not even when it failed: it may have come all the same. Then the count
// stays behind by one. It is no less true when the transfer is written anew after the loss of a rail
// (engine_repeat.cpp): what had landed stays, as the same bytes go to the same places. The sender passes
// its marks again then, and posts those that it never had.
#include <algorithm>

#include "transfer/engine_core.h"
#include "transfer/imm.h"

namespace baton::transfer {

// ---- sender ------------------------------------------------------------------------------------

void EngineCore::NoteBehindMarks(SendTable::Entry& entry, WriteOp* op) {
  op->marks_before = entry.marks_passed;
  op->older = entry.newest;
  op->newer = nullptr;
  (entry.newest ? entry.newest->newer : entry.oldest) = op;
  entry.newest = op;
  ++entry.behind_marks;
}

void EngineCore::ForgetBehindMarks(SendTable::Entry& entry, WriteOp* op) {
  (op->older ? op->older->newer : entry.oldest) = op->newer;
  (op->newer ? op->newer->older : entry.newest) = op->older;
  --entry.behind_marks;
}

// How many could be posted now. While a write is in doubt nothing is, and then from the beginning.
uint32_t EngineCore::MarksDue(const SendTable::Entry& entry) {
  if (entry.in_flight > entry.behind_marks) return 0;  // one from before the first mark
  const uint32_t landed = entry.oldest ? entry.oldest->marks_before : entry.marks_passed;
  return landed > entry.marks_posted ? landed - entry.marks_posted : 0;
}

void EngineCore::CheckMarks(uint32_t index) {
  const SendTable::Entry& entry = sends_[index];
  if (entry.marks_passed == 0 || entry.state != SendTable::State::kOpen) return;
  if (entry.owner && MarksDue(entry)) Enlist(entry.owner->marks, &SendTable::Entry::mark_turn, index);
}

void EngineCore::PostMarks(Peer& peer, TimePoint now) {
  while (peer.marks.first != Peer::kNone && MayPost(peer, true)) {
    const uint32_t index = peer.marks.first;
    SendTable::Entry& entry = sends_[index];
    if (MarksDue(entry) == 0) {
      Delist(peer.marks, &SendTable::Entry::mark_turn, index);
      continue;
    }
    if (peer.OutOfCredit()) return Stall(peer, now);
    WriteOp* op = TakeOp(peer, index, kMarkBytes, now);
    op->marks_before = WriteOp::kMark;
    const WriteRequest request{
        .peer = peer.address,
        .local_region = outbox_region_,
        .local_offset = uint64_t{peer.outbox} * sizeof(Outbox) + offsetof(Outbox, mark),
        .bytes = kMarkBytes,
        .remote_address = peer.blob.marks.base,
        .remote_key = peer.blob.marks.key,
        .imm = PackImm({.slot = entry.route.slot.index,
                        .generation = entry.route.slot.generation,
                        .kind = ImmKind::kMark}),
        .context = &op->context};
    Status why;
    const PostResult result = fabric_->Write(request, now, why);
    if (result != PostResult::kPosted) {
      ReturnOp(op);
      if (result == PostResult::kFailed) return LosePeer(peer, why, now);
      peer.blocked = peer.in_flight == 0;
      return;
    }
    ++peer.posted;
    peer.blocked = peer.stalled = false;
    ++entry.marks_posted;
    ++entry.marks_in_flight;
  }
}

void EngineCore::OnMarkSent(Peer& peer, uint32_t index, const Completion& completion, TimePoint now) {
  --sends_[index].marks_in_flight;
  const bool failed = completion.kind == Completion::Kind::kFailed;
  // Fenced like data, so that it neither counts nor takes a credit at a time when nobody expects it.
  if (failed && completion.in_doubt) ++peer.doubtful, WantRepetition(peer, now);
  if (failed && completion.peer_lost) LosePeer(peer, completion.status, now);
  CheckSend(index);
}

// Those that were not posted never are.
void EngineCore::GiveUpMarks(uint32_t index) {
  SendTable::Entry& entry = sends_[index];
  entry.marks_posted = std::max(entry.marks_posted, entry.marks_passed);
  if (entry.owner) Delist(entry.owner->marks, &SendTable::Entry::mark_turn, index);
}

// ---- receiver ----------------------------------------------------------------------------------

void EngineCore::OnMark(Imm imm, TimePoint now) {
  SlotTable::Entry* entry = imm.slot < slots_.size() ? &slots_[imm.slot] : nullptr;
  ConsumeCredit(entry, imm);
  const bool applies = entry && entry->state != SlotTable::State::kFree &&
                       entry->generation == imm.generation;
  if (!applies) {
    recorder_.Note(FlightRecorder::What::kStray, 0, imm.slot, PackImm(imm), now);
    return Stats::Add(stats_->stray_writes);
  }
  slots_.NoteMark(*entry);
  if (entry->owner) entry->owner->heard_at = now;
}

}  // namespace baton::transfer
