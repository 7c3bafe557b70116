// One writer's descriptors while device memory is involved on either side: the copies run on
// streams, so their ends come later, in the order of the descriptors.
//
// Device to device the target's device reads the writer's memory (over NVLink where there is one).
// Between host and device memory the copy is direct where the host memory is pinned, else by a
// detour through a pinned ring of 8 MiB. A revoked key is a fence: Settle waits for its copies.
// Thread: the fabric's owner.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "transfer/shm/channel.h"
#include "transfer/shm/devices.h"
#include "transfer/shm/peer_memory.h"
#include "transfer/shm/targets.h"

namespace baton::transfer::shm {

class DevicePull {
 public:
  // Where the writer's host memory is: mapped here, or to be read from its process.
  struct Writer {
    const PeerMemory& memory;
    int pid = 0, refusal = 0;
  };
  struct Ended {
    int error = 0;
    uint32_t imm = 0, bytes = 0;
  };

  explicit DevicePull(Devices& devices) : devices_(devices) {}

  // The writer's region `number` is in device memory; `own`: the writer is this very process.
  Status AddRegion(uint32_t number, const DeviceShare& share, bool own);

  bool HasRoom() const { return taken_ - ended_ < kEntries; }
  // Starts one copy. False: not now (its region is not known yet, or the detour is full).
  bool Take(const Entry& entry, const Targets& targets, const Writer& writer, TimePoint now);
  // The oldest descriptor, when it has ended; Pop it then.
  bool Front(Ended& ended);
  void Pop();
  // Waits, bounded, for copies under way of `key` (0: all), and makes sure that none follows.
  void Settle(uint64_t key);
  bool Idle();

 private:
  struct Region {
    DeviceShare share;
    bool known = false, own = false;
    std::map<int, std::shared_ptr<Import>> imports;  // by accessor; null: cannot be opened
  };
  struct Piece {
    uint64_t key = 0;
    uint32_t imm = 0, bytes = 0;
    int error = 0;
    cuda::CopyStream* stream = nullptr;
    uint64_t ticket = 0;
    std::byte* to = nullptr;  // host memory that gets the bytes from `detour`, when they are there
    const std::byte* detour = nullptr;
    uint64_t detour_end = 0;
  };
  static constexpr uint64_t kDetourBytes = 8 << 20;

  int Copy(const Entry& entry, uint64_t source, std::byte* place, const MemorySpan& target, const Writer& writer,
           Piece& piece, bool& later);
  int FromDevice(Region& region, uint64_t offset, std::byte* place, const MemorySpan& target, Piece& piece, bool& later);
  int FromHost(const Entry& entry, uint64_t source, std::byte* place, const MemorySpan& target, const Writer& writer,
               Piece& piece, bool& later);
  int Fetch(const Entry& entry, uint64_t source, std::byte* to, uint32_t bytes, const Writer& writer);
  bool Known(uint32_t number) const { return number < regions_.size() && regions_[number].known; }
  std::byte* TakeDetour(Piece& piece, int& error);
  // Address for a copy by `accessor`; 0 when it cannot reach the region. `by_engine`: not by kernels.
  cuda::DevicePtr Reach(Region& region, int accessor, bool& by_engine);

  Devices& devices_;
  std::vector<Region> regions_;  // by number
  std::array<Piece, kEntries> pieces_{};
  uint64_t ended_ = 0, taken_ = 0;
  cuda::PinnedBuffer detour_;
  uint64_t detour_head_ = 0, detour_tail_ = 0;
  TimePoint unknown_since_{};
};

}  // namespace baton::transfer::shm
