#include "transfer/staged/incoming_area.h"

#include <cerrno>
#include <cstring>
#include <random>

namespace baton::transfer::staged {
namespace {

uint64_t RandomTag() {
  std::random_device random;
  return (uint64_t{random()} << 32 | random()) | 1;
}

}  // namespace

IncomingArea::IncomingArea(Fabric& inner, uint32_t index, std::unique_ptr<Staging> staging)
    : inner_(inner), index_(index), staging_(std::move(staging)) {
  arrived_.fill(kNowhere);
}

Status IncomingArea::Open(StagedAddress& address) {
  const Result<MemoryKey> key = inner_.Expose(staging_->region());
  if (!key.ok()) return key.status();
  address.key = key_ = *key;
  open_ = true;
  address.tag = tag_ = RandomTag();
  address.area = index_;
  return Status::Ok();
}

void IncomingArea::OnFrame(uint32_t offset) {
  const FrameReader frame(At(offset), kRingBytes - offset);
  const FrameHeader& header = frame.header();
  // One that was damaged is asked about, and comes again; a foreign tag is of an area that had this
  // number before.
  if (!frame.sound() || header.tag != tag_) return;
  if (header.again && (refused_ || header.sequence < next_)) {
    retell_ = true;
    return;
  }
  if (header.sequence < next_ || header.sequence - landed_ >= kMaxFrames) return Refuse(EPROTO);
  arrived_[header.sequence % kMaxFrames] = offset;
}

void IncomingArea::Take(const Locate& locate) {
  while (!refused_ && last_landing_ - first_landing_ <= kMaxLandings - kMaxEntries) {
    uint32_t& offset = arrived_[next_ % kMaxFrames];
    if (offset == kNowhere) return;
    if (const int error = TakeFrame(offset, locate)) return Refuse(error);
    offset = kNowhere;
    ++next_;
  }
}

int IncomingArea::TakeFrame(uint32_t offset, const Locate& locate) {
  FrameReader frame(At(offset), kRingBytes - offset);
  const FrameHeader& header = frame.header();
  if (!frame.sound() || header.tag != tag_ || header.sequence != next_) return EPROTO;
  if (met_ && (header.writer != writer_ || header.place != place_)) return EPROTO;
  writer_ = header.writer;
  place_ = header.place;
  met_ = true;
  while (!frame.AtEnd())
    if (const int error = TakeEntry(frame, locate)) return error;
  landings_[(last_landing_ - 1) % kMaxLandings].ends_frame = true;
  return 0;
}

int IncomingArea::TakeEntry(FrameReader& frame, const Locate& locate) {
  FrameEntry entry;
  const std::byte* bytes = nullptr;
  if (!frame.Next(entry, bytes)) return EPROTO;
  const EntryTarget target = locate(entry);
  if (target.error) return target.error;
  Landing& landing = landings_[last_landing_++ % kMaxLandings];
  landing = {.stream = target.stream, .imm = entry.imm, .bytes = entry.bytes};
  if (target.stream)
    landing.ticket = target.stream->Add(cuda::AsDevice(target.place), cuda::AsDevice(bytes), entry.bytes);
  else
    std::memcpy(target.place, bytes, entry.bytes);
  return 0;
}

void IncomingArea::Refuse(int error) {
  if (refused_) return;
  refused_ = true;
  error_ = error;
}

void IncomingArea::Land(const Report& report) {
  for (; first_landing_ != last_landing_; ++first_landing_) {
    const Landing& landing = landings_[first_landing_ % kMaxLandings];
    if (landing.stream && !landing.stream->Done(landing.ticket)) return;
    if (landing.stream && !landing.stream->status().ok()) {
      Refuse(EIO);
      last_landing_ = first_landing_;
      return;
    }
    Completion arrived;
    arrived.kind = Completion::Kind::kArrived;
    arrived.imm = landing.imm;
    arrived.bytes = landing.bytes;
    report(std::move(arrived));
    landed_ += landing.ends_frame;
  }
}

void IncomingArea::Tell(uint64_t inner_peer, const MemoryKey& board, TimePoint now) {
  const bool error = EndsInError();
  const FrameAck ack = MakeAck(tag_, landed_, error ? static_cast<uint64_t>(error_) : 0);
  std::memcpy(staging_->data() + kRingBytes, &ack, sizeof ack);
  Status why;
  const PostResult result = inner_.Write({.peer = inner_peer,
                                          .local_region = staging_->region(),
                                          .local_offset = kRingBytes,
                                          .bytes = sizeof ack,
                                          .remote_address = board.base + uint64_t{place_} * sizeof ack,
                                          .remote_key = board.key,
                                          .imm = AckImm(place_),
                                          .context = &ack_context_},
                                         now, why);
  if (result == PostResult::kAgain) return;
  ack_in_flight_ = result == PostResult::kPosted;  // else until the writer asks
  retell_ = false;
  told_ = landed_;
  told_error_ = error;
}

void IncomingArea::OnInner(const Completion& completion, TimePoint, const Report&) {
  ack_in_flight_ = false;
  // A writer that is lost may come back, and asks then.
  if (completion.kind == Completion::Kind::kFailed && !completion.peer_lost) retell_ = true;
}

Status IncomingArea::Renew() {
  WaitForCopies();
  const Result<MemoryKey> next = inner_.Renew(key_);
  if (!next.ok()) return next.status();
  key_ = *next;
  tag_ = NextTag(tag_);
  arrived_.fill(kNowhere);
  next_ = landed_ = told_ = 0;
  first_landing_ = last_landing_;
  retell_ = told_error_ = false;
  return Status::Ok();
}

void IncomingArea::WaitForCopies() {
  const TimePoint deadline = Now() + kCopyWait;
  for (uint64_t i = first_landing_; i != last_landing_; ++i)
    if (const Landing& landing = landings_[i % kMaxLandings]; landing.stream)
      WaitForCopy(*landing.stream, landing.ticket, deadline);
}

void IncomingArea::Close() {
  WaitForCopies();
  if (open_) inner_.Revoke(key_);
  open_ = met_ = false;
  refused_ = true;
}

}  // namespace baton::transfer::staged
