#include "transfer/cuda/staging.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <random>

#include "common/log.h"

namespace baton::transfer::cuda {
namespace {

constexpr Duration kCopyWait = 2s;  // for copies under way when their memory is taken back
constexpr Duration kAskAgain = 50ms;

uint64_t RandomTag() {
  std::random_device random;
  return (uint64_t{random()} << 32 | random()) | 1;
}

void WaitForCopy(CopyStream& stream, uint64_t ticket, TimePoint deadline) {
  if (const Status s = stream.Wait(ticket, deadline); s.code() == Code::kDeadlineExceeded)
    log::error("transfer: memory is taken back under a copy: {}", s.message());
}

}  // namespace

Result<std::unique_ptr<Staging>> Staging::Create(const std::shared_ptr<Fabric>& inner) {
  void* const data =
      mmap(nullptr, kStagingBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    return Error(Code::kResourceExhausted, "{} bytes to stage device memory: {}", kStagingBytes, strerror(errno));
  std::unique_ptr<Staging> staging(new Staging(inner));
  staging->data_ = static_cast<std::byte*>(data);
  const Result<uint32_t> region = inner->Register({staging->data_, kStagingBytes});
  if (!region.ok()) return region.status();
  staging->region_ = *region;
  staging->registered_ = true;
  return staging;
}

Staging::~Staging() {
  if (const auto inner = inner_.lock(); inner && registered_) inner->Unregister(region_);
  pin_ = HostRegistration();
  if (data_) munmap(data_, kStagingBytes);
}

Status Staging::Pin(Driver& driver) {
  if (pinned_) return Status::Ok();
  Result<HostRegistration> pin = HostRegistration::Create(driver, data_, kStagingBytes, false);
  if (!pin.ok()) return pin.status().Prefixed("pinning memory to stage device memory");
  pin_ = *std::move(pin);
  pinned_ = true;
  return Status::Ok();
}

OutgoingRing::OutgoingRing(Fabric& inner, StagedAddress address, uint64_t inner_peer, uint64_t writer, uint32_t place)
    : inner_(inner), address_(std::move(address)), inner_peer_(inner_peer), writer_(writer), place_(place) {}

Status OutgoingRing::Prepare(std::unique_ptr<Staging> staging, Driver* pin) {
  if (pin)
    if (Status s = staging->Pin(*pin); !s.ok()) return s;
  staging_ = std::move(staging);
  return Status::Ok();
}

// The next place in the ring, in one piece. False when it is taken.
bool OutgoingRing::Reserve(uint32_t bytes, Piece*& piece) {
  if (tail_ - head_ == kMaxCells) return false;
  const uint64_t size = (bytes + kCellUnit - 1) / kCellUnit * kCellUnit;
  const uint64_t left = kRingBytes - ring_tail_ % kRingBytes;
  const uint64_t start = size <= left ? ring_tail_ : ring_tail_ + left;
  if (start + size - ring_head_ > kRingBytes) return false;
  piece = &pieces_[tail_ % kMaxCells];
  *piece = {};
  piece->offset = static_cast<uint32_t>(start % kRingBytes);
  piece->bytes = bytes;
  piece->end = ring_tail_ = start + size;
  ++tail_;
  return true;
}

PostResult OutgoingRing::Write(const WriteRequest& request, const std::byte* source, CopyStream* stream, Status& why) {
  const bool cell = IsStaged(request.remote_address);
  if (dead_)
    why = why_;
  else if (!staging_ || request.bytes > kMaxStagedBytes || (cell && !address_.has_area))
    why = Error(Code::kInternal, "a write of {} bytes that cannot be staged", request.bytes);
  if (!why.ok()) return PostResult::kFailed;
  if (halted_) return PostResult::kAgain;
  Piece* piece = nullptr;
  const auto bytes = static_cast<uint32_t>(request.bytes);
  if (!Reserve(cell ? bytes + sizeof(CellHeader) : bytes, piece)) return PostResult::kAgain;
  std::byte* place = staging_->data() + piece->offset;
  piece->user = request.context;
  piece->cell = cell;
  if (cell) {
    const CellHeader header{.tag = address_.tag,
                            .sequence = sequence_++,
                            .key = request.remote_key,
                            .offset = request.remote_address - kStagedBase,
                            .writer = writer_,
                            .place = place_,
                            .bytes = bytes,
                            .imm = request.imm};
    std::memcpy(place, &header, sizeof header);
    place += sizeof header;
    piece->sequence = header.sequence;
    piece->remote_address = address_.key.base + piece->offset;
    piece->remote_key = address_.key.key;
    piece->imm = CellImm(address_.area, piece->offset);
  } else {
    piece->remote_address = request.remote_address;
    piece->remote_key = request.remote_key;
    piece->imm = request.imm;
  }
  if (stream) {
    piece->stream = stream;
    piece->ticket = stream->Add(AsDevice(place), AsDevice(source), bytes);
  } else {
    std::memcpy(place, source, bytes);
  }
  return PostResult::kPosted;
}

void OutgoingRing::Post(TimePoint now, const Report& report) {
  if (halted_) return Surrender(report);
  while (posted_ != tail_) {
    Piece& piece = pieces_[posted_ % kMaxCells];
    if (piece.stream && !piece.stream->Done(piece.ticket)) return;
    if (piece.stream && !piece.stream->status().ok()) return Fail(piece.stream->status(), report);
    Status why;
    const PostResult result = PostBelow(piece, piece.bytes, now, why);
    if (result == PostResult::kAgain) return;
    if (result == PostResult::kFailed) return Fail(why, report);
    ++posted_;
  }
  if (in_flight_ == 0 && head_ != tail_ && !dead_) Ask(now, report);
}

PostResult OutgoingRing::PostBelow(Piece& piece, uint32_t bytes, TimePoint now, Status& why) {
  const PostResult result = inner_.Write({.peer = inner_peer_,
                                          .local_region = staging_->region(),
                                          .local_offset = piece.offset,
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
  if (asked_ == kMostAsked || now - heard_at_ < kAskAgain) return;
  Status why;
  Piece& piece = pieces_[head_ % kMaxCells];
  constexpr uint32_t kYes = 1;
  std::memcpy(staging_->data() + piece.offset + offsetof(CellHeader, again), &kYes, sizeof kYes);
  const PostResult result = PostBelow(piece, sizeof(CellHeader), now, why);
  if (result == PostResult::kFailed) Fail(why, report);
  if (result != PostResult::kPosted) return;
  piece.again = true;
  ++asked_;
}

bool OutgoingRing::OnInner(const Completion& completion, TimePoint now, const Report& report) {
  const auto place = reinterpret_cast<uintptr_t>(completion.context);
  const auto first = reinterpret_cast<uintptr_t>(pieces_.data());
  if (place < first || place >= first + sizeof pieces_) return false;
  Piece& piece = *reinterpret_cast<Piece*>(completion.context);
  --in_flight_;
  heard_at_ = now;
  piece.sent = true;
  const bool again = std::exchange(piece.again, false);
  if (completion.kind == Completion::Kind::kDone) {
    piece.landed = piece.landed || !piece.cell;
    FinishDone(piece, report);
  } else if (piece.landed && !again) {
    FinishDone(piece, report);  // once is all that it can land
  } else if (!completion.in_doubt) {
    Fail(completion.status, report);
  } else if (!halted_ && !dead_) {
    halted_ = true;
    why_ = completion.status;
  }
  FreeDone();
  if (halted_) Surrender(report);
  return true;
}

// Everything that is left is in doubt, once nothing of it is under way: cells behind the one that was lost
// wait for it at the peer.
void OutgoingRing::Surrender(const Report& report) {
  if (in_flight_ || dead_) return;
  for (uint64_t i = posted_; i != tail_; ++i)
    if (const Piece& piece = pieces_[i % kMaxCells]; piece.stream && !piece.stream->Done(piece.ticket)) return;
  for (uint64_t i = head_; i != tail_; ++i) Finish(pieces_[i % kMaxCells], report, why_, true);
  posted_ = tail_;
}

void OutgoingRing::Resume(bool area) {
  BATON_CHECK(in_flight_ == 0, "{} staged writes are under way behind a fence", in_flight_);
  if (dead_) return;
  halted_ = false;
  head_ = posted_ = tail_;
  ring_head_ = ring_tail_;
  if (!area) return;
  address_.tag = NextTag(address_.tag);
  sequence_ = acked_ = 0;
  asked_ = 0;
}

void OutgoingRing::OnAck(const CellAck& ack, TimePoint now, const Report& report) {
  if (!staging_ || dead_ || halted_) return;  // in doubt is in doubt: the engine waits for it to be told
  if (ack != MakeAck(address_.tag, ack.landed, ack.error) || ack.landed > sequence_) return;
  heard_at_ = now;
  asked_ = 0;
  for (uint64_t i = head_; i != tail_ && acked_ < ack.landed; ++i) {
    Piece& piece = pieces_[i % kMaxCells];
    if (!piece.cell || piece.sequence < acked_) continue;
    acked_ = piece.sequence + 1;
    piece.landed = true;
    FinishDone(piece, report);
  }
  if (ack.error)
    Fail(Error(Code::kUnavailable, "the peer refused a write to device memory: {}",
               strerror(static_cast<int>(ack.error & 0xFFFF))), report);
  FreeDone();
}

void OutgoingRing::FinishDone(Piece& piece, const Report& report) {
  if (piece.sent && piece.landed) Finish(piece, report, Status::Ok(), false);
}

void OutgoingRing::Finish(Piece& piece, const Report& report, const Status& status, bool in_doubt) {
  if (!piece.user) return;
  Completion completion;
  completion.kind = status.ok() ? Completion::Kind::kDone : Completion::Kind::kFailed;
  completion.peer_lost = !status.ok() && !in_doubt;
  completion.in_doubt = in_doubt;
  completion.context = piece.user;
  completion.status = status;
  piece.user = nullptr;
  report(std::move(completion));
}

void OutgoingRing::FreeDone() {
  for (; head_ != posted_; ++head_) {
    const Piece& piece = pieces_[head_ % kMaxCells];
    if (piece.user) return;
    ring_head_ = piece.end;
  }
}

void OutgoingRing::Fail(const Status& why, const Report& report) {
  if (dead_) return;
  dead_ = true;
  why_ = why;
  WaitForCopies();  // the sources are free once their writes have failed
  for (uint64_t i = head_; i != tail_; ++i) Finish(pieces_[i % kMaxCells], report, why, false);
  posted_ = tail_;
}

void OutgoingRing::Close(const Report& report) {
  Fail(Error(Code::kUnavailable, "the peer was removed"), report);
}

void OutgoingRing::WaitForCopies() {
  const TimePoint deadline = Now() + kCopyWait;
  for (uint64_t i = posted_; i != tail_; ++i)
    if (const Piece& piece = pieces_[i % kMaxCells]; piece.stream) WaitForCopy(*piece.stream, piece.ticket, deadline);
}

IncomingArea::IncomingArea(Fabric& inner, uint32_t index, std::unique_ptr<Staging> staging, std::vector<uint64_t> keys)
    : inner_(inner), index_(index), staging_(std::move(staging)), keys_(std::move(keys)) {
  arrived_.fill(kNowhere);
}

Status IncomingArea::Open(StagedAddress& address) {
  const Result<MemoryKey> key = inner_.Expose(staging_->region());
  if (!key.ok()) return key.status();
  address.key = key_ = *key;
  open_ = true;
  address.tag = tag_ = RandomTag();
  address.has_area = true;
  address.area = index_;
  return Status::Ok();
}

bool IncomingArea::Owns(uint64_t key) const {
  for (const uint64_t one : keys_)
    if (one == key) return true;
  return false;
}

void IncomingArea::OnCell(uint32_t offset) {
  if (offset > kRingBytes - sizeof(CellHeader)) return;
  CellHeader header;
  std::memcpy(&header, staging_->data() + offset, sizeof header);
  if (header.tag != tag_) return;  // of an area that had this number before
  if (header.again && (refused_ || header.sequence < next_)) {
    retell_ = true;
    return;
  }
  if (header.sequence < next_) return Refuse(EPROTO);
  if (header.sequence - reported_ >= kMaxCells) return Refuse(EPROTO);
  arrived_[header.sequence % kMaxCells] = offset;
}

void IncomingArea::Take(const Locate& locate) {
  while (!refused_ && next_ - reported_ < kMaxCells) {
    uint32_t& offset = arrived_[next_ % kMaxCells];
    if (offset == kNowhere) return;
    CellHeader header;  // read once: the writer could change it between check and use
    std::memcpy(&header, staging_->data() + offset, sizeof header);
    Landing& landing = landings_[next_ % kMaxCells];
    landing = {};
    if (const int error = TakeCell(header, offset, locate, landing)) return Refuse(error);
    offset = kNowhere;
    ++next_;
  }
}

int IncomingArea::TakeCell(const CellHeader& header, uint32_t offset, const Locate& locate, Landing& landing) {
  const uint64_t room = kRingBytes - sizeof(CellHeader) - offset;
  if (header.tag != tag_ || header.sequence != next_ || header.bytes == 0 || header.bytes > kMaxStagedBytes ||
      header.bytes > room || header.place >= kMaxRings)
    return EPROTO;
  if (met_ && (header.writer != writer_ || header.place != place_)) return EPROTO;
  writer_ = header.writer;
  place_ = header.place;
  met_ = true;
  const CellTarget target = locate(header);
  if (target.error) return target.error;
  landing = {.stream = target.stream, .imm = header.imm, .bytes = header.bytes};
  landing.ticket =
      target.stream->Add(AsDevice(target.place), AsDevice(staging_->data() + offset + sizeof header), header.bytes);
  return 0;
}

void IncomingArea::Refuse(int error) {
  if (refused_) return;
  refused_ = true;
  error_ = error;
}

void IncomingArea::Land(const Report& report) {
  for (; reported_ != next_; ++reported_) {
    const Landing& landing = landings_[reported_ % kMaxCells];
    if (!landing.stream->Done(landing.ticket)) return;
    if (!landing.stream->status().ok()) {
      Refuse(EIO);
      next_ = reported_;
      return;
    }
    Completion arrived;
    arrived.kind = Completion::Kind::kArrived;
    arrived.imm = landing.imm;
    arrived.bytes = landing.bytes;
    report(std::move(arrived));
  }
}

void IncomingArea::Tell(uint64_t inner_peer, const MemoryKey& board, TimePoint now) {
  const bool error = EndsInError();
  const CellAck ack = MakeAck(tag_, reported_, error ? static_cast<uint64_t>(error_) : 0);
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
  told_ = reported_;
  told_error_ = error;
}

bool IncomingArea::OnInner(const Completion& completion) {
  if (completion.context != &ack_context_) return false;
  ack_in_flight_ = false;
  // A writer that is lost may come back, and asks then.
  if (completion.kind == Completion::Kind::kFailed && !completion.peer_lost) retell_ = true;
  return true;
}

Status IncomingArea::Renew() {
  WaitForCopies();
  const Result<MemoryKey> next = inner_.Renew(key_);
  if (!next.ok()) return next.status();
  key_ = *next;
  tag_ = NextTag(tag_);
  arrived_.fill(kNowhere);
  next_ = reported_ = told_ = 0;
  retell_ = told_error_ = false;
  return Status::Ok();
}

void IncomingArea::WaitForCopies() {
  const TimePoint deadline = Now() + kCopyWait;
  for (uint64_t i = reported_; i != next_; ++i)
    WaitForCopy(*landings_[i % kMaxCells].stream, landings_[i % kMaxCells].ticket, deadline);
}

void IncomingArea::Close() {
  WaitForCopies();
  if (open_) inner_.Revoke(key_);
  open_ = met_ = false;
  refused_ = true;
}

}  // namespace baton::transfer::cuda
