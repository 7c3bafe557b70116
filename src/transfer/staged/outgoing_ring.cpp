#include "transfer/staged/outgoing_ring.h"

#include <cerrno>
#include <cstring>

namespace baton::transfer::staged {
namespace {

constexpr Duration kAskAgain = 50ms;

constexpr uint64_t RoundUp(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

OutgoingRing::OutgoingRing(Fabric& inner, StagedAddress address, uint64_t inner_peer, uint64_t writer, uint32_t place,
                           uint32_t frame_bytes)
    : inner_(inner),
      address_(std::move(address)),
      inner_peer_(inner_peer),
      writer_(writer),
      place_(place),
      frame_bytes_(frame_bytes) {}

Status OutgoingRing::Prepare(std::unique_ptr<Staging> staging, cuda::Driver* pin) {
  if (pin)
    if (Status s = staging->Pin(*pin); !s.ok()) return s;
  staging_ = std::move(staging);
  ring_bytes_ = pin || address_.takes & StagedAddress::kDevice ? kRingBytes : kHostRingBytes;
  return Status::Ok();
}

// ---- what is to be written -------------------------------------------------------------------------

PostResult OutgoingRing::Write(const WriteRequest& request, bool framed, Source source, TimePoint now,
                               const Report& report, Status& why) {
  if (dead_) {
    // The way is gone, and so is the peer: kFailed would say that of this write alone.
    report(EndOf(request.context, why_, false));
    return PostResult::kPosted;
  }
  if (!staging_ || request.bytes > kMaxStagedBytes || (framed && !address_.takes))
    why = Error(Code::kInternal, "a write of {} bytes that cannot be staged", request.bytes);
  if (!why.ok()) return PostResult::kFailed;
  if (halted_ || users_tail_ - users_head_ == kMaxWrites) return PostResult::kAgain;
  std::byte* const place = framed ? PlaceInFrame(request, source.stream) : PlaceAlone(request);
  if (place) {
    Piece& piece = PieceAt(tail_ - 1);
    users_[users_tail_++ % kMaxWrites] = request.context;
    piece.users_end = users_tail_;
    if (source.stream) {
      piece.stream = source.stream;
      piece.ticket = source.stream->Add(cuda::AsDevice(place), cuda::AsDevice(source.data), request.bytes);
    } else {
      std::memcpy(place, source.data, request.bytes);
    }
    // Another one of its size would not fit.
    if (piece.open && (piece.entries == kMaxEntries || piece.bytes + EntrySpan(request.bytes) > frame_bytes_))
      CloseFrame();
  }
  PostClosed(now, report);
  return place ? PostResult::kPosted : PostResult::kAgain;
}

// A place lies in one piece.
bool OutgoingRing::Fits(uint64_t start, uint64_t bytes) const {
  return start % ring_bytes_ + bytes <= ring_bytes_ && start + bytes - ring_head_ <= ring_bytes_;
}

// The next place in the ring; null when it is taken.
OutgoingRing::Piece* OutgoingRing::Reserve(uint32_t bytes) {
  if (tail_ - head_ == kMaxFrames) return nullptr;
  // An empty ring begins at its beginning: few writes touch little memory.
  if (head_ == tail_) ring_head_ = ring_tail_ = RoundUp(ring_tail_, ring_bytes_);
  const uint64_t size = RoundUp(bytes, kFrameUnit);
  uint64_t start = ring_tail_;
  if (start % ring_bytes_ + size > ring_bytes_) start = RoundUp(start, ring_bytes_);
  if (!Fits(start, size)) return nullptr;
  Piece& piece = PieceAt(tail_++);
  piece = {};
  piece.start = start;
  piece.end = ring_tail_ = start + size;
  piece.bytes = bytes;
  piece.first_user = piece.users_end = users_tail_;
  return &piece;
}

std::byte* OutgoingRing::PlaceAlone(const WriteRequest& request) {
  CloseFrame();
  Piece* const piece = Reserve(static_cast<uint32_t>(request.bytes));
  if (!piece) return nullptr;
  piece->remote_address = request.remote_address;
  piece->remote_key = request.remote_key;
  piece->imm = request.imm;
  return PlaceOf(*piece);
}

std::byte* OutgoingRing::PlaceInFrame(const WriteRequest& request, cuda::CopyStream* stream) {
  const auto bytes = static_cast<uint32_t>(request.bytes);
  const uint32_t span = EntrySpan(bytes);
  Piece* frame = tail_ != posted_ && PieceAt(tail_ - 1).open ? &PieceAt(tail_ - 1) : nullptr;
  if (frame && !Grow(*frame, span, stream)) frame = nullptr;
  if (!frame) {
    CloseFrame();
    frame = BeginFrame(span);
  }
  if (!frame) return nullptr;
  ++frame->entries;
  FrameEntry entry{.address = request.remote_address, .key = request.remote_key, .bytes = bytes, .imm = request.imm};
  entry.check = EntryCheck(HeaderOf(*frame), entry);
  std::byte* const place = PlaceOf(*frame) + frame->bytes - span;
  std::memcpy(place, &entry, sizeof entry);
  // What lies behind the bytes may be another peer's.
  if (const uint32_t rest = span - sizeof entry - bytes) std::memset(place + span - rest, 0, rest);
  return place + sizeof entry;
}

// Takes room for one entry more; false when it has none.
bool OutgoingRing::Grow(Piece& frame, uint32_t span, cuda::CopyStream* stream) {
  const uint32_t bytes = frame.bytes + span;
  const uint64_t size = RoundUp(bytes, kFrameUnit);
  // The ticket of one stream tells of all before it.
  const bool one_stream = !stream || !frame.stream || frame.stream == stream;
  if (frame.entries == kMaxEntries || bytes > frame_bytes_ || !one_stream || !Fits(frame.start, size)) return false;
  frame.bytes = bytes;
  frame.end = ring_tail_ = frame.start + size;
  return true;
}

OutgoingRing::Piece* OutgoingRing::BeginFrame(uint32_t span) {
  Piece* const frame = Reserve(sizeof(FrameHeader) + span);
  if (!frame) return nullptr;
  const auto offset = static_cast<uint32_t>(frame->start % ring_bytes_);
  frame->frame = frame->open = true;
  frame->sequence = sequence_++;
  frame->remote_address = address_.key.base + offset;
  frame->remote_key = address_.key.key;
  frame->imm = FrameImm(address_.area, offset);
  return frame;
}

FrameHeader OutgoingRing::HeaderOf(const Piece& frame) const {
  FrameHeader header{.tag = address_.tag,
                     .sequence = frame.sequence,
                     .writer = writer_,
                     .place = place_,
                     .entries = frame.entries,
                     .bytes = frame.bytes - static_cast<uint32_t>(sizeof header)};
  return header;
}

void OutgoingRing::CloseFrame() {
  if (tail_ == posted_ || !PieceAt(tail_ - 1).open) return;
  Piece& frame = PieceAt(tail_ - 1);
  frame.open = false;
  if (frame.entries == 1 && Unframe(frame)) return;
  FrameHeader header = HeaderOf(frame);
  header.check = HeaderCheck(header);
  std::memcpy(PlaceOf(frame), &header, sizeof header);
}

// A lone write to host memory goes to its place by itself: it is done without an acknowledgement.
bool OutgoingRing::Unframe(Piece& frame) {
  FrameEntry entry;
  std::memcpy(&entry, PlaceOf(frame) + sizeof(FrameHeader), sizeof entry);
  if (IsStaged(entry.address)) return false;
  frame.frame = false;
  --sequence_;
  frame.start += sizeof(FrameHeader) + sizeof entry;
  frame.bytes = entry.bytes;
  frame.remote_address = entry.address;
  frame.remote_key = entry.key;
  frame.imm = entry.imm;
  return true;
}

// ---- on its way --------------------------------------------------------------------------------------

void OutgoingRing::Post(TimePoint now, const Report& report) {
  if (halted_) return Surrender(report);
  CloseFrame();
  PostClosed(now, report);
  if (in_flight_ == 0 && head_ != tail_ && !dead_) Ask(now, report);
}

void OutgoingRing::PostClosed(TimePoint now, const Report& report) {
  while (posted_ != tail_) {
    Piece& piece = PieceAt(posted_);
    if (piece.open || (piece.stream && !piece.stream->Done(piece.ticket))) return;
    if (piece.stream && !piece.stream->status().ok()) return Fail(piece.stream->status(), report);
    Status why;
    const PostResult result = PostBelow(piece, piece.bytes, now, why);
    if (result == PostResult::kAgain) return;
    if (result == PostResult::kFailed) return Fail(why, report);
    ++posted_;
  }
}

PostResult OutgoingRing::PostBelow(Piece& piece, uint32_t bytes, TimePoint now, Status& why) {
  const PostResult result = inner_.Write({.peer = inner_peer_,
                                          .local_region = staging_->region(),
                                          .local_offset = piece.start % ring_bytes_,
                                          .bytes = bytes,
                                          .remote_address = piece.remote_address,
                                          .remote_key = piece.remote_key,
                                          .imm = piece.imm,
                                          .context = &piece.context},
                                         now, why);
  if (result != PostResult::kPosted) return result;
  ++in_flight_;
  piece.sent = false;
  heard_at_ = now;
  return result;
}

// All is there, and the peer does not say so: its word may be lost.
void OutgoingRing::Ask(TimePoint now, const Report& report) {
  Piece& piece = PieceAt(head_);
  if (posted_ == head_ || !piece.frame || asked_ == kMostAsked || now - heard_at_ < kAskAgain) return;
  Status why;
  constexpr uint32_t kYes = 1;
  std::memcpy(PlaceOf(piece) + offsetof(FrameHeader, again), &kYes, sizeof kYes);
  const PostResult result = PostBelow(piece, sizeof(FrameHeader), now, why);
  if (result == PostResult::kFailed) Fail(why, report);
  if (result != PostResult::kPosted) return;
  piece.again = true;
  ++asked_;
}

void OutgoingRing::OnInner(const Completion& completion, TimePoint now, const Report& report) {
  Piece& piece = *reinterpret_cast<Piece*>(completion.context);
  --in_flight_;
  heard_at_ = now;
  piece.sent = true;
  const bool again = std::exchange(piece.again, false);
  if (completion.kind == Completion::Kind::kDone) {
    piece.landed = piece.landed || !piece.frame;
    EndIfDone(piece, report);
  } else if (piece.landed && !again) {
    EndIfDone(piece, report);  // once is all that it can land
  } else if (!completion.in_doubt) {
    Fail(completion.status, report);
  } else if (!halted_ && !dead_) {
    halted_ = true;
    why_ = completion.status;
  }
  FreeEnded();
  if (halted_) Surrender(report);
}

// Everything that is left is in doubt, once nothing of it is under way: frames behind the one that was lost
// wait for it at the peer.
void OutgoingRing::Surrender(const Report& report) {
  if (in_flight_ || dead_) return;
  for (uint64_t i = posted_; i != tail_; ++i)
    if (const Piece& piece = PieceAt(i); piece.stream && !piece.stream->Done(piece.ticket)) return;
  for (uint64_t i = head_; i != tail_; ++i) End(PieceAt(i), report, why_, true);
  posted_ = tail_;
}

void OutgoingRing::Resume(bool area) {
  BATON_CHECK(in_flight_ == 0, "{} staged writes are under way behind a fence", in_flight_);
  if (dead_) return;
  halted_ = false;
  head_ = posted_ = tail_;
  ring_head_ = ring_tail_;
  users_head_ = users_tail_;
  if (!area) return;
  address_.tag = NextTag(address_.tag);
  sequence_ = acked_ = 0;
  asked_ = 0;
}

void OutgoingRing::OnAck(const FrameAck& ack, TimePoint now, const Report& report) {
  if (!staging_ || dead_ || halted_) return;  // in doubt is in doubt: the engine waits for it to be told
  if (ack != MakeAck(address_.tag, ack.landed, ack.error) || ack.landed > sequence_) return;
  heard_at_ = now;
  asked_ = 0;
  for (uint64_t i = head_; i != posted_ && acked_ < ack.landed; ++i) {
    Piece& piece = PieceAt(i);
    if (!piece.frame || piece.sequence < acked_) continue;
    acked_ = piece.sequence + 1;
    piece.landed = true;
    EndIfDone(piece, report);
  }
  if (ack.error)
    Fail(Error(Code::kUnavailable, "the peer refused a staged write: {}",
               strerror(static_cast<int>(ack.error & 0xFFFF))), report);
  FreeEnded();
}

// ---- ends --------------------------------------------------------------------------------------------

void OutgoingRing::EndIfDone(Piece& piece, const Report& report) {
  if (piece.sent && piece.landed) End(piece, report, Status::Ok(), false);
}

void OutgoingRing::End(Piece& piece, const Report& report, const Status& status, bool in_doubt) {
  if (std::exchange(piece.ended, true)) return;
  for (uint64_t i = piece.first_user; i != piece.users_end; ++i)
    report(EndOf(users_[i % kMaxWrites], status, in_doubt));
}

Completion OutgoingRing::EndOf(OpContext* user, const Status& status, bool in_doubt) {
  Completion completion;
  completion.kind = status.ok() ? Completion::Kind::kDone : Completion::Kind::kFailed;
  completion.peer_lost = !status.ok() && !in_doubt;
  completion.in_doubt = in_doubt;
  completion.context = user;
  completion.status = status;
  return completion;
}

void OutgoingRing::FreeEnded() {
  for (; head_ != posted_; ++head_) {
    const Piece& piece = PieceAt(head_);
    if (!piece.ended) return;
    ring_head_ = piece.end;
    users_head_ = piece.users_end;
  }
}

void OutgoingRing::Fail(const Status& why, const Report& report) {
  if (dead_) return;
  dead_ = true;
  why_ = why;
  WaitForCopies();  // the sources are free once their writes have failed
  for (uint64_t i = head_; i != tail_; ++i) End(PieceAt(i), report, why, false);
  posted_ = tail_;
}

void OutgoingRing::Close(const Report& report) {
  Fail(Error(Code::kUnavailable, "the peer was removed"), report);
}

void OutgoingRing::WaitForCopies() {
  const TimePoint deadline = Now() + kCopyWait;
  for (uint64_t i = posted_; i != tail_; ++i)
    if (const Piece& piece = PieceAt(i); piece.stream) WaitForCopy(*piece.stream, piece.ticket, deadline);
}

}  // namespace baton::transfer::staged
