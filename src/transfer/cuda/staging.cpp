#include "transfer/cuda/staging.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <random>

#include "common/log.h"

namespace baton::transfer::cuda {
namespace {

constexpr Duration kCopyWait = 2s;  // for copies under way when their memory is taken back

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
      mmap(nullptr, kStagingBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
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

OutgoingRing::OutgoingRing(Fabric& inner, StagedAddress address, uint64_t inner_peer, uint32_t writer)
    : inner_(inner), address_(std::move(address)), inner_peer_(inner_peer), writer_(writer) {}

Status OutgoingRing::Prepare(std::unique_ptr<Staging> staging, Driver* pin) {
  if (pin)
    if (Status s = staging->Pin(*pin); !s.ok()) return s;
  std::memset(staging->data() + kRingBytes, 0, sizeof(CellAck));
  tag_ = RandomTag();
  if (address_.has_area) {
    const Result<MemoryKey> key = inner_.Expose(staging->region());
    if (!key.ok()) return key.status();
    ack_key_ = *key;
  }
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

bool OutgoingRing::Introduce(Status& why) {
  const std::string text =
      EncodeIntroduction({.inner = inner_.Address(), .writer = writer_, .tag = tag_, .key = ack_key_});
  if (text.size() > kMaxStagedBytes) {
    why = Error(Code::kInternal, "an address of {} bytes is too long to stage with", text.size());
    return false;
  }
  Piece* piece = nullptr;
  if (!Reserve(static_cast<uint32_t>(sizeof(CellHeader) + text.size()), piece)) return false;
  const CellHeader header{.tag = address_.tag,
                          .sequence = sequence_++,
                          .kind = CellHeader::Kind::kIntroduction,
                          .bytes = static_cast<uint32_t>(text.size())};
  std::byte* const place = staging_->data() + piece->offset;
  std::memcpy(place, &header, sizeof header);
  std::memcpy(place + sizeof header, text.data(), text.size());
  piece->cell = true;
  piece->sequence = header.sequence;
  piece->remote_address = address_.key.base + piece->offset;
  piece->remote_key = address_.key.key;
  piece->imm = CellImm(address_.area, piece->offset);
  introduced_ = true;
  return true;
}

PostResult OutgoingRing::Write(const WriteRequest& request, const std::byte* source, CopyStream* stream, Status& why) {
  const bool cell = IsStaged(request.remote_address);
  if (dead_)
    why = why_;
  else if (!staging_ || request.bytes > kMaxStagedBytes || (cell && !address_.has_area))
    why = Error(Code::kInternal, "a write of {} bytes that cannot be staged", request.bytes);
  if (!why.ok()) return PostResult::kFailed;
  if (cell && !introduced_ && !Introduce(why)) return why.ok() ? PostResult::kAgain : PostResult::kFailed;
  Piece* piece = nullptr;
  const auto bytes = static_cast<uint32_t>(request.bytes);
  if (!Reserve(cell ? bytes + sizeof(CellHeader) : bytes, piece)) return PostResult::kAgain;
  std::byte* place = staging_->data() + piece->offset;
  piece->user = request.context;
  piece->cell = cell;
  if (cell) {
    const CellHeader header{.tag = address_.tag,
                            .sequence = sequence_++,
                            .kind = CellHeader::Kind::kData,
                            .bytes = bytes,
                            .key = request.remote_key,
                            .offset = request.remote_address - kStagedBase,
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
  while (posted_ != tail_) {
    Piece& piece = pieces_[posted_ % kMaxCells];
    if (piece.stream && !piece.stream->Done(piece.ticket)) return;
    if (piece.stream && !piece.stream->status().ok()) return Fail(piece.stream->status(), report);
    Status why;
    const PostResult result = inner_.Write({.peer = inner_peer_,
                                            .local_region = staging_->region(),
                                            .local_offset = piece.offset,
                                            .bytes = piece.bytes,
                                            .remote_address = piece.remote_address,
                                            .remote_key = piece.remote_key,
                                            .imm = piece.imm,
                                            .context = &piece.context},
                                           now, why);
    if (result == PostResult::kAgain) return;
    if (result == PostResult::kFailed) return Fail(why, report);
    ++in_flight_;
    ++posted_;
  }
}

bool OutgoingRing::OnInner(const Completion& completion, const Report& report) {
  const auto place = reinterpret_cast<uintptr_t>(completion.context);
  const auto first = reinterpret_cast<uintptr_t>(pieces_.data());
  if (place < first || place >= first + sizeof pieces_) return false;
  Piece& piece = *reinterpret_cast<Piece*>(completion.context);
  --in_flight_;
  piece.sent = true;
  if (completion.kind == Completion::Kind::kFailed) {
    Fail(completion.status, report);
  } else if (!piece.cell) {
    piece.landed = true;
    Finish(piece, report, Status::Ok());
  }
  FreeDone();
  return true;
}

void OutgoingRing::OnAck(const Report& report) {
  if (!staging_ || dead_) return;
  CellAck ack;
  std::memcpy(&ack, staging_->data() + kRingBytes, sizeof ack);
  if (ack != MakeAck(tag_, ack.landed, ack.error) || ack.landed > sequence_) return;
  for (uint64_t i = head_; i != tail_ && acked_ < ack.landed; ++i) {
    Piece& piece = pieces_[i % kMaxCells];
    if (!piece.cell || piece.sequence < acked_) continue;
    acked_ = piece.sequence + 1;
    piece.landed = true;
    Finish(piece, report, Status::Ok());
  }
  if (ack.error)
    Fail(Error(Code::kUnavailable, "the peer refused a write to device memory: {}",
               strerror(static_cast<int>(ack.error & 0xFFFF))), report);
  FreeDone();
}

void OutgoingRing::Finish(Piece& piece, const Report& report, const Status& status) {
  if (!piece.user) return;
  Completion completion;
  completion.kind = status.ok() ? Completion::Kind::kDone : Completion::Kind::kFailed;
  completion.peer_lost = !status.ok();
  completion.context = piece.user;
  completion.status = status;
  piece.user = nullptr;
  report(std::move(completion));
}

void OutgoingRing::FreeDone() {
  for (; head_ != posted_; ++head_) {
    const Piece& piece = pieces_[head_ % kMaxCells];
    if (!piece.sent || !piece.landed) return;
    ring_head_ = piece.end;
  }
}

void OutgoingRing::Fail(const Status& why, const Report& report) {
  if (dead_) return;
  dead_ = true;
  why_ = why;
  WaitForCopies();  // the sources are free once their writes have failed
  for (uint64_t i = head_; i != tail_; ++i) Finish(pieces_[i % kMaxCells], report, why);
  posted_ = tail_;
}

void OutgoingRing::Close(const Report& report) {
  Fail(Error(Code::kUnavailable, "the peer was removed"), report);
  if (ack_key_.key || ack_key_.base) inner_.Revoke(ack_key_);
  ack_key_ = {};
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

Result<StagedAddress> IncomingArea::Open() {
  const Result<MemoryKey> key = inner_.Expose(staging_->region());
  if (!key.ok()) return key.status();
  key_ = *key;
  open_ = true;
  tag_ = RandomTag();
  return StagedAddress{.has_area = true, .area = index_, .tag = tag_, .key = key_};
}

bool IncomingArea::Owns(uint64_t key) const {
  for (const uint64_t one : keys_)
    if (one == key) return true;
  return false;
}

void IncomingArea::OnCell(uint32_t offset) {
  if (refused_ || offset > kRingBytes - sizeof(CellHeader)) return;
  CellHeader header;
  std::memcpy(&header, staging_->data() + offset, sizeof header);
  if (header.tag != tag_) return;  // of an area that had this number before
  if (header.sequence < next_ || header.sequence - reported_ >= kMaxCells) return Refuse(EPROTO);
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
      header.bytes > room)
    return EPROTO;
  const std::byte* const bytes = staging_->data() + offset + sizeof header;
  if (header.kind == CellHeader::Kind::kIntroduction)
    return Meet({reinterpret_cast<const char*>(bytes), header.bytes});
  if (header.kind != CellHeader::Kind::kData || !introduced_) return EPROTO;
  const CellTarget target = locate(header);
  if (target.error) return target.error;
  landing.data = true;
  landing.imm = header.imm;
  landing.bytes = header.bytes;
  landing.stream = target.stream;
  landing.ticket = target.stream->Add(AsDevice(target.place), AsDevice(bytes), header.bytes);
  return 0;
}

int IncomingArea::Meet(std::string_view text) {
  const std::string copy(text);  // the writer could change it meanwhile
  Result<Introduction> introduction = ParseIntroduction(copy);
  if (!introduction.ok() || introduced_) return EPROTO;
  const Result<uint64_t> peer = inner_.Insert(introduction->inner);
  if (!peer.ok()) {
    log::warn("transfer: no way back to a writer of device memory: {}", peer.status().message());
    return EHOSTUNREACH;
  }
  writer_ = *std::move(introduction);
  writer_peer_ = *peer;
  introduced_ = true;
  return 0;
}

void IncomingArea::Refuse(int error) {
  if (refused_) return;
  refused_ = true;
  error_ = error;
}

void IncomingArea::Land(const Report& report, TimePoint now) {
  for (; reported_ != next_; ++reported_) {
    const Landing& landing = landings_[reported_ % kMaxCells];
    if (landing.stream && !landing.stream->Done(landing.ticket)) break;
    if (landing.stream && !landing.stream->status().ok()) {
      Refuse(EIO);
      next_ = reported_;
      break;
    }
    if (!landing.data) continue;
    Completion arrived;
    arrived.kind = Completion::Kind::kArrived;
    arrived.imm = landing.imm;
    arrived.bytes = landing.bytes;
    report(std::move(arrived));
  }
  const bool tell_error = refused_ && !told_error_ && reported_ == next_;
  if (!introduced_ || dead_ || ack_in_flight_ || (told_ == reported_ && !tell_error)) return;
  const CellAck ack = MakeAck(writer_.tag, reported_, tell_error ? static_cast<uint64_t>(error_) : 0);
  std::memcpy(staging_->data() + kRingBytes, &ack, sizeof ack);
  Status why;
  const PostResult result = inner_.Write({.peer = writer_peer_,
                                          .local_region = staging_->region(),
                                          .local_offset = kRingBytes,
                                          .bytes = sizeof ack,
                                          .remote_address = writer_.key.base + kRingBytes,
                                          .remote_key = writer_.key.key,
                                          .imm = AckImm(writer_.writer),
                                          .context = &ack_context_},
                                         now, why);
  if (result == PostResult::kAgain) return;
  dead_ = result == PostResult::kFailed;
  if (dead_) return;
  ack_in_flight_ = true;
  told_ = reported_;
  told_error_ = tell_error || told_error_;
}

bool IncomingArea::OnInner(const Completion& completion) {
  if (completion.context != &ack_context_) return false;
  ack_in_flight_ = false;
  if (completion.kind == Completion::Kind::kFailed) dead_ = true;  // the writer is gone; its peer says so
  return true;
}

void IncomingArea::WaitForCopies() {
  const TimePoint deadline = Now() + kCopyWait;
  for (uint64_t i = reported_; i != next_; ++i)
    if (const Landing& landing = landings_[i % kMaxCells]; landing.stream)
      WaitForCopy(*landing.stream, landing.ticket, deadline);
}

void IncomingArea::Close() {
  WaitForCopies();
  if (open_) inner_.Revoke(key_);
  if (introduced_) inner_.Remove(writer_peer_);
  open_ = introduced_ = false;
  refused_ = true;
}

}  // namespace baton::transfer::cuda
