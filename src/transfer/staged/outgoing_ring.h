// The writer's end of staged writes: a ring of pieces on their way to one peer.
//
// A piece is a frame of writes (wire.h), or one write that the fabric below takes to its place: from
// device memory, or alone in its frame. A frame is open, and takes more writes, until it is full or Post
// is called.
//
// Thread: the fabric's owner. Allocates nothing after Prepare.
#pragma once

#include <array>
#include <memory>

#include "transfer/cuda/copy_stream.h"
#include "transfer/staged/staging.h"
#include "transfer/staged/wire.h"

namespace baton::transfer::staged {

class OutgoingRing final : public Poster {
 public:
  static constexpr uint32_t kMaxWrites = 256;  // that have not ended, of all pieces
  // Where a write's bytes are: host memory, or device memory that `stream` copies from.
  struct Source {
    const std::byte* data = nullptr;
    cuda::CopyStream* stream = nullptr;
  };

  // `writer` and `place`: where its frames say that acknowledgements go.
  // `frame_bytes`: above it a frame holds a single write.
  OutgoingRing(Fabric& inner, StagedAddress address, uint64_t inner_peer, uint64_t writer, uint32_t place,
               uint32_t frame_bytes);

  // Before the first Write. `pin`: null while this side has no device memory.
  Status Prepare(std::unique_ptr<Staging> staging, cuda::Driver* pin);
  bool prepared() const { return staging_ != nullptr; }

  // `framed`: into a frame; else it is a piece of its own. kAgain when the ring is full. Host memory is
  // free again when this returns; the write ends as fabric.h says all the same.
  PostResult Write(const WriteRequest& request, bool framed, Source source, TimePoint now, const Report& report,
                   Status& why);
  // Closes the open frame, hands pieces whose bytes are in the ring to the fabric below, and asks for an
  // acknowledgement that stays away.
  void Post(TimePoint now, const Report& report);
  void OnInner(const Completion& completion, TimePoint now, const Report& report) override;
  void OnAck(const FrameAck& ack, TimePoint now, const Report& report);
  // The peer has fenced what was in doubt: nothing of this ring is under way, and it goes on empty.
  // `area`: the peer's area began anew with it.
  void Resume(bool area);
  // The peer goes: its source memory is free when this returns (copies from devices are waited for,
  // bounded).
  void Close(const Report& report);

  // There is something to post.
  bool HasWork() const { return posted_ != tail_; }
  // Post may have something to do, now or later.
  bool Busy() const { return head_ != tail_ && !dead_; }
  // No operation of the fabric below is left.
  bool Drained() const { return in_flight_ == 0; }
  const StagedAddress& address() const { return address_; }
  std::unique_ptr<Staging> TakeStaging() { return std::move(staging_); }
  // Until copies from device memory that are under way have ended; bounded.
  void WaitForCopies();

  bool listed = false;  // the owner's

 private:
  // Ends when the fabric below is done with it and, as a frame, the peer has acknowledged it.
  struct Piece {
    OpContext context;  // first: what the fabric below gives back
    cuda::CopyStream* stream = nullptr;
    uint64_t ticket = 0;
    uint64_t start = 0, end = 0;            // of its place, as ring_tail_ counts
    uint64_t first_user = 0, users_end = 0;  // its writes' contexts, as users_tail_ counts
    uint64_t sequence = 0;                  // of a frame
    uint64_t remote_address = 0, remote_key = 0;
    uint32_t bytes = 0, imm = 0;            // of what is written: a frame with its header
    uint32_t entries = 0;                   // of a frame
    bool frame = false, open = false, sent = false, landed = false, ended = false;
    bool again = false;  // its header was posted once more
  };

  Piece& PieceAt(uint64_t index) { return pieces_[index % kMaxFrames]; }
  std::byte* PlaceOf(const Piece& piece) { return staging_->data() + piece.start % ring_bytes_; }
  bool Fits(uint64_t start, uint64_t bytes) const;
  Piece* Reserve(uint32_t bytes);
  std::byte* PlaceAlone(const WriteRequest& request);
  std::byte* PlaceInFrame(const WriteRequest& request, cuda::CopyStream* stream);
  bool Grow(Piece& frame, uint32_t span, cuda::CopyStream* stream);
  Piece* BeginFrame(uint32_t span);
  void CloseFrame();
  bool Unframe(Piece& frame);
  FrameHeader HeaderOf(const Piece& frame) const;
  void PostClosed(TimePoint now, const Report& report);
  PostResult PostBelow(Piece& piece, uint32_t bytes, TimePoint now, Status& why);
  void Ask(TimePoint now, const Report& report);
  void Surrender(const Report& report);
  void EndIfDone(Piece& piece, const Report& report);
  void End(Piece& piece, const Report& report, const Status& status, bool in_doubt);
  static Completion EndOf(OpContext* user, const Status& status, bool in_doubt);
  void FreeEnded();
  void Fail(const Status& why, const Report& report);

  Fabric& inner_;
  StagedAddress address_;  // its tag is the area's present one
  const uint64_t inner_peer_, writer_;
  const uint32_t place_, frame_bytes_;
  std::unique_ptr<Staging> staging_;
  uint64_t ring_bytes_ = 0;  // used of it
  bool dead_ = false;
  bool halted_ = false;  // something is in doubt: nothing is posted until Resume
  Status why_;           // of either
  std::array<Piece, kMaxFrames> pieces_{};
  std::array<OpContext*, kMaxWrites> users_{};
  uint64_t head_ = 0, posted_ = 0, tail_ = 0;   // pieces, counted without end; only the last may be open
  uint64_t users_head_ = 0, users_tail_ = 0;    // likewise
  uint64_t ring_head_ = 0, ring_tail_ = 0;      // bytes, likewise
  uint64_t sequence_ = 0, acked_ = 0;           // frames
  uint32_t in_flight_ = 0;
  TimePoint heard_at_{};  // last sign of progress
  uint32_t asked_ = 0;    // since the last acknowledgement
};

}  // namespace baton::transfer::staged
