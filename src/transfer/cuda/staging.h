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
  // `writer`: what acknowledgements to this ring name.
  OutgoingRing(Fabric& inner, StagedAddress address, uint64_t inner_peer, uint32_t writer);

  // Before the first Write. `pin`: null while this side has no device memory.
  Status Prepare(std::unique_ptr<Staging> staging, Driver* pin);
  bool prepared() const { return staging_ != nullptr; }
  Staging* staging() { return staging_.get(); }

  // `source`: host memory, or device memory that `stream` copies from. kAgain when the ring is full.
  PostResult Write(const WriteRequest& request, const std::byte* source, CopyStream* stream, Status& why);
  // Hands pieces whose bytes are in the ring to the fabric below.
  void Post(TimePoint now, const Report& report);
  // An operation of the fabric below ended; false when it is none of this ring's.
  bool OnInner(const Completion& completion, const Report& report);
  void OnAck(const Report& report);
  void Fail(const Status& why, const Report& report);
  // The peer goes: its source memory is free when this returns (copies from devices are waited for,
  // bounded), and nobody acknowledges into the ring any more.
  void Close(const Report& report);

  bool HasWork() const { return posted_ != tail_; }
  // No operation of the fabric below is left.
  bool Drained() const { return in_flight_ == 0; }
  bool dead() const { return dead_; }
  uint64_t inner_peer() const { return inner_peer_; }
  std::unique_ptr<Staging> TakeStaging() { return std::move(staging_); }
  // Until copies from `region` that are under way have ended; bounded.
  void WaitForCopies();

 private:
  struct Piece {
    OpContext context;  // first: what the fabric below gives back
    OpContext* user = nullptr;  // null: of ours (the introduction), or reported already
    CopyStream* stream = nullptr;
    uint64_t ticket = 0;
    uint64_t end = 0;        // of its place, as ring_tail_ counts
    uint64_t sequence = 0;   // of a cell
    uint64_t remote_address = 0, remote_key = 0;  // where no cell is needed
    uint32_t offset = 0, bytes = 0, imm = 0;      // of what is written: a cell with its header
    bool cell = false, sent = false, landed = false;
  };
  bool Reserve(uint32_t bytes, Piece*& piece);
  bool Introduce(Status& why);
  void Finish(Piece& piece, const Report& report, const Status& status);
  void FreeDone();

  Fabric& inner_;
  const StagedAddress address_;
  const uint64_t inner_peer_;
  const uint32_t writer_;
  uint64_t tag_ = 0;
  std::unique_ptr<Staging> staging_;
  MemoryKey ack_key_;
  bool introduced_ = false, dead_ = false;
  Status why_;  // of its death
  std::array<Piece, kMaxCells> pieces_{};
  uint64_t head_ = 0, posted_ = 0, tail_ = 0;  // pieces, counted without end
  uint64_t ring_head_ = 0, ring_tail_ = 0;     // bytes, likewise
  uint64_t sequence_ = 0, acked_ = 0;          // cells
  uint32_t in_flight_ = 0;
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
  Result<StagedAddress> Open();

  std::vector<uint64_t>& keys() { return keys_; }
  bool Owns(uint64_t key) const;
  // A cell was written at `offset` of the area.
  void OnCell(uint32_t offset);
  // Starts the copies of cells whose turn it is.
  void Take(const Locate& locate);
  // Reports what has landed in device memory, and tells the writer.
  void Land(const Report& report, TimePoint now);
  bool OnInner(const Completion& completion);
  // Until copies under way have ended, bounded: after it nothing of `this` lands.
  void WaitForCopies();
  // Takes the peer's key away.
  void Close();

  bool HasWork() const { return reported_ != next_ || (told_ != reported_ && introduced_ && !ack_in_flight_ && !dead_); }
  bool Drained() const { return !ack_in_flight_; }
  std::unique_ptr<Staging> TakeStaging() { return std::move(staging_); }

 private:
  static constexpr uint32_t kNowhere = ~0u;
  struct Landing {
    CopyStream* stream = nullptr;
    uint64_t ticket = 0;
    uint32_t imm = 0, bytes = 0;
    bool data = false;
  };
  int TakeCell(const CellHeader& header, uint32_t offset, const Locate& locate, Landing& landing);
  int Meet(std::string_view introduction);
  void Refuse(int error);

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
  bool refused_ = false, told_error_ = false;
  // The way back.
  bool introduced_ = false, dead_ = false, open_ = false, ack_in_flight_ = false;
  Introduction writer_;
  uint64_t writer_peer_ = 0;
  OpContext ack_context_;
};

}  // namespace baton::transfer::cuda
