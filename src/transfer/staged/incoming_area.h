// The receiver's end of staged writes: an area for one peer, which fills it with frames (wire.h).
//
// What its entries hold is copied to its place: to a device by a stream, to host memory at once. Only then
// it arrives, in the order of the frames.
//
// Thread: the fabric's owner. Allocates nothing after Open.
#pragma once

#include <array>
#include <functional>
#include <memory>

#include "transfer/cuda/copy_stream.h"
#include "transfer/staged/staging.h"
#include "transfer/staged/wire.h"

namespace baton::transfer::staged {

// Where an entry's bytes go, or an errno.
struct EntryTarget {
  int error = 0;
  std::byte* place = nullptr;
  cuda::CopyStream* stream = nullptr;  // null: to host memory
};

class IncomingArea final : public Poster {
 public:
  // Must look at key and bounds: nobody else does.
  using Locate = std::function<EntryTarget(const FrameEntry&)>;

  IncomingArea(Fabric& inner, uint32_t index, std::unique_ptr<Staging> staging);
  // Exposes it: fills the part of `address` that is about it, but for what it takes.
  Status Open(StagedAddress& address);

  uint32_t index() const { return index_; }
  // A frame was written at `offset` of the area, or its header again: a question.
  void OnFrame(uint32_t offset);
  // Starts the copies of frames whose turn it is.
  void Take(const Locate& locate);
  // Reports what has landed.
  void Land(const Report& report);
  // The writer is to be told of it.
  bool HasToTell() const {
    return met_ && !ack_in_flight_ && (told_ != landed_ || retell_ || (EndsInError() && !told_error_));
  }
  uint64_t writer() const { return writer_; }
  void Tell(uint64_t inner_peer, const MemoryKey& board, TimePoint now);
  void OnInner(const Completion& completion, TimePoint now, const Report& report) override;
  // Fences all frames so far and begins anew: after it none of them lands, and copies under way have ended.
  Status Renew();
  // Until copies under way have ended, bounded: after it nothing of `this` lands.
  void WaitForCopies();
  // Takes the peer's key away.
  void Close();

  bool HasCopies() const { return first_landing_ != last_landing_; }
  // There is or may soon be something to report or tell.
  bool Busy() const { return HasCopies() || HasToTell() || ack_in_flight_; }
  bool Drained() const { return !ack_in_flight_; }
  std::unique_ptr<Staging> TakeStaging() { return std::move(staging_); }

  bool listed = false;  // the owner's

 private:
  static constexpr uint32_t kNowhere = ~0u;
  static constexpr uint32_t kMaxLandings = 512;  // entries taken and not reported
  struct Landing {
    cuda::CopyStream* stream = nullptr;  // null: it is in its place
    uint64_t ticket = 0;
    uint32_t imm = 0, bytes = 0;
    bool ends_frame = false;
  };
  static_assert(kMaxLandings >= kMaxEntries);

  const std::byte* At(uint32_t offset) const { return staging_->data() + offset; }
  int TakeFrame(uint32_t offset, const Locate& locate);
  int TakeEntry(FrameReader& frame, const Locate& locate);
  void Refuse(int error);
  bool EndsInError() const { return refused_ && !HasCopies(); }

  Fabric& inner_;
  const uint32_t index_;
  std::unique_ptr<Staging> staging_;
  MemoryKey key_;
  uint64_t tag_ = 0;
  std::array<uint32_t, kMaxFrames> arrived_;  // by sequence: offsets of frames that wait for their turn
  std::array<Landing, kMaxLandings> landings_{};
  uint64_t first_landing_ = 0, last_landing_ = 0;  // counted without end
  uint64_t next_ = 0, landed_ = 0, told_ = 0;      // sequences of frames
  int error_ = 0;
  bool refused_ = false, told_error_ = false, open_ = false;
  // The way back.
  bool met_ = false, ack_in_flight_ = false;
  bool retell_ = false;  // what was told may not have come
  uint64_t writer_ = 0;
  uint32_t place_ = 0;
  OpContext ack_context_;
};

}  // namespace baton::transfer::staged
