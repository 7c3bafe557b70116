// Both ends of staged writes: a writer's ring of pieces on their way to one peer, and a receiver's
// area for one peer. StagedFabric owns them and moves them on.
//
// Thread: the fabric's owner.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transfer/cuda/copy_stream.h"
#include "transfer/cuda/staged_wire.h"
#include "transfer/fabric.h"

namespace baton::transfer::cuda {

// Memory of a ring or area: registered with the fabric below, pinned once CUDA is in use.
class Staging {
 public:
  static Result<std::unique_ptr<Staging>> Create(const std::shared_ptr<Fabric>& inner);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  Status Pin(Driver& driver);
  std::byte* data() const { return data_; }
  uint32_t region() const { return region_; }

 private:
  explicit Staging(const std::shared_ptr<Fabric>& inner) : inner_(inner) {}
  const std::weak_ptr<Fabric> inner_;  // gone first when everything is closed
  std::byte* data_ = nullptr;
  uint32_t region_ = 0;
  bool registered_ = false, pinned_ = false;
  HostRegistration pin_;
};

// How ends of writes reach the fabric's user.
using Report = std::function<void(Completion)>;

class OutgoingRing {
 public:
  // `writer` and `place`: where its cells say that acknowledgements go.
  OutgoingRing(Fabric& inner, StagedAddress address, uint64_t inner_peer, uint64_t writer, uint32_t place);

  // Before the first Write. `pin`: null while this side has no device memory.
  Status Prepare(std::unique_ptr<Staging> staging, Driver* pin);
  bool prepared() const { return staging_ != nullptr; }
  Staging* staging() { return staging_.get(); }

  // `source`: host memory, or device memory that `stream` copies from. kAgain when the ring is full.
  PostResult Write(const WriteRequest& request, const std::byte* source, CopyStream* stream, Status& why);
  // Hands pieces whose bytes are in the ring to the fabric below, and asks for an acknowledgement that stays away.
  void Post(TimePoint now, const Report& report);
  // An operation of the fabric below ended; false when it is none of this ring's.
  bool OnInner(const Completion& completion, TimePoint now, const Report& report);
  void OnAck(const CellAck& ack, TimePoint now, const Report& report);
  // The peer has fenced what was in doubt: nothing of this ring is under way, and it goes on empty.
  // `area`: the peer's area began anew with it.
  void Resume(bool area);
  void Fail(const Status& why, const Report& report);
  // The peer goes: its source memory is free when this returns (copies from devices are waited for,
  // bounded).
  void Close(const Report& report);

  bool HasWork() const { return posted_ != tail_; }
  // No operation of the fabric below is left.
  bool Drained() const { return in_flight_ == 0; }
  const StagedAddress& address() const { return address_; }
  std::unique_ptr<Staging> TakeStaging() { return std::move(staging_); }
  // Until copies from `region` that are under way have ended; bounded.
  void WaitForCopies();

 private:
  // Ends when the fabric below is done with it and, as a cell, the peer has acknowledged it.
  struct Piece {
    OpContext context;  // first: what the fabric below gives back
    OpContext* user = nullptr;  // null: reported already
    CopyStream* stream = nullptr;
    uint64_t ticket = 0;
    uint64_t end = 0;        // of its place, as ring_tail_ counts
    uint64_t sequence = 0;   // of a cell
    uint64_t remote_address = 0, remote_key = 0;
    uint32_t offset = 0, bytes = 0, imm = 0;      // of what is written: a cell with its header
    bool cell = false, sent = false, landed = false;
    bool again = false;  // its header was posted once more
  };
  bool Reserve(uint32_t bytes, Piece*& piece);
  PostResult PostBelow(Piece& piece, uint32_t bytes, TimePoint now, Status& why);
  void Ask(TimePoint now, const Report& report);
  void Surrender(const Report& report);
  void FinishDone(Piece& piece, const Report& report);
  void Finish(Piece& piece, const Report& report, const Status& status, bool in_doubt);
  void FreeDone();

  Fabric& inner_;
  StagedAddress address_;  // its tag is the area's present one
  const uint64_t inner_peer_, writer_;
  const uint32_t place_;
  std::unique_ptr<Staging> staging_;
  bool dead_ = false;
  bool halted_ = false;  // something is in doubt: nothing is posted until Resume
  Status why_;           // of either
  std::array<Piece, kMaxCells> pieces_{};
  uint64_t head_ = 0, posted_ = 0, tail_ = 0;  // pieces, counted without end
  uint64_t ring_head_ = 0, ring_tail_ = 0;     // bytes, likewise
  uint64_t sequence_ = 0, acked_ = 0;          // cells
  uint32_t in_flight_ = 0;
  TimePoint heard_at_{};  // last sign of progress
  uint32_t asked_ = 0;    // since the last acknowledgement
};

// Where a cell's bytes go: device memory and the stream that copies there, or an errno.
struct CellTarget {
  int error = 0;
  std::byte* place = nullptr;
  CopyStream* stream = nullptr;
};

class IncomingArea {
 public:
  using Locate = std::function<CellTarget(const CellHeader&)>;

  IncomingArea(Fabric& inner, uint32_t index, std::unique_ptr<Staging> staging, std::vector<uint64_t> keys);
  // Exposes it: fills the part of `address` that is about it.
  Status Open(StagedAddress& address);

  uint32_t index() const { return index_; }
  std::vector<uint64_t>& keys() { return keys_; }
  bool Owns(uint64_t key) const;
  // A cell was written at `offset` of the area, or its header again: a question.
  void OnCell(uint32_t offset);
  // Starts the copies of cells whose turn it is.
  void Take(const Locate& locate);
  // Reports what has landed in device memory.
  void Land(const Report& report);
  // The writer is to be told of it.
  bool HasToTell() const {
    return met_ && !ack_in_flight_ && (told_ != reported_ || retell_ || (EndsInError() && !told_error_));
  }
  uint64_t writer() const { return writer_; }
  void Tell(uint64_t inner_peer, const MemoryKey& board, TimePoint now);
  bool OnInner(const Completion& completion);
  // Fences all cells so far and begins anew: after it none of them lands, and copies under way have ended.
  Status Renew();
  // Until copies under way have ended, bounded: after it nothing of `this` lands.
  void WaitForCopies();
  // Takes the peer's key away.
  void Close();

  bool HasCopies() const { return reported_ != next_; }
  bool Drained() const { return !ack_in_flight_; }
  std::unique_ptr<Staging> TakeStaging() { return std::move(staging_); }

 private:
  static constexpr uint32_t kNowhere = ~0u;
  struct Landing {
    CopyStream* stream = nullptr;
    uint64_t ticket = 0;
    uint32_t imm = 0, bytes = 0;
  };
  int TakeCell(const CellHeader& header, uint32_t offset, const Locate& locate, Landing& landing);
  void Refuse(int error);
  bool EndsInError() const { return refused_ && reported_ == next_; }

  Fabric& inner_;
  const uint32_t index_;
  std::unique_ptr<Staging> staging_;
  std::vector<uint64_t> keys_;  // of device memory, open to this peer
  MemoryKey key_;
  uint64_t tag_ = 0;
  std::array<uint32_t, kMaxCells> arrived_;  // by sequence: offsets of cells that wait for their turn
  std::array<Landing, kMaxCells> landings_;  // by sequence
  uint64_t next_ = 0, reported_ = 0, told_ = 0;  // sequences
  int error_ = 0;
  bool refused_ = false, told_error_ = false, open_ = false;
  // The way back.
  bool met_ = false, ack_in_flight_ = false;
  bool retell_ = false;  // what was told may not have come
  uint64_t writer_ = 0;
  uint32_t place_ = 0;
  OpContext ack_context_;
};

}  // namespace baton::transfer::cuda
