// What the engine needs of a network: a dozen calls, so that libfabric, shared memory of one host
// and the simulated network are interchangeable and everything above them is tested once.
//
// A Fabric is one endpoint. Not here: slots, counts, deadlines, retries (engine_core.h).
//
// Thread: one owner. The engine opens, uses and closes a Fabric from its worker; only traits(),
// Address() and wait_fd() may be read elsewhere.
//
// What an implementation promises, whatever its hardware does:
// - A write lands whole before its immediate is reported at the target; nothing is promised about
//   the order of different writes.
// - kDone at the writer means that the bytes are in the target's memory (not merely sent).
// - Every posted write ends in exactly one completion, except that writes to a removed or dead peer
//   may never complete; their context stays the fabric's until it is closed.
// - Write never waits: kAgain means "poll, then try again".
// - After Revoke(key) no write that uses the key lands.
//
// A Fabric may be several (rails/rails.h): then a failed write can be `in_doubt`, and CloseWays, Renew
// and Follow make sure that it does not land later than its repetition.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/memory.h"
#include "common/status.h"
#include "transfer/pacing.h"

namespace baton::transfer {

// First member of every operation in flight: providers scribble on it (FI_CONTEXT2).
struct alignas(16) OpContext {
  std::byte scratch[64];
};

// What a peer needs to write into a region: both travel in the Describe blob.
struct MemoryKey {
  uint64_t base = 0;  // added to the offset: the virtual address, or 0 where offsets are used
  uint64_t key = 0;
  friend bool operator==(const MemoryKey&, const MemoryKey&) = default;
};

// The key that Renew makes of `key`: keys that a fabric chooses come in series of 256, of which the
// writer can name the next one without being told.
constexpr MemoryKey NextKey(MemoryKey key) {
  key.key = (key.key & ~uint64_t{255}) | ((key.key + 1) & 255);
  return key;
}

struct RailsStats;  // rails/rail_stats.h

// Pairs of rails, one of each side: bit writer's * 16 + target's.
struct Ways {
  std::array<uint64_t, 4> bits{};
  void Add(uint32_t writers, uint32_t targets) {
    bits[writers / 4] |= uint64_t{1} << (writers % 4 * 16 + targets);
  }
  bool Has(uint32_t writers, uint32_t targets) const {
    return bits[writers / 4] >> (writers % 4 * 16 + targets) & 1;
  }
};

struct FabricTraits {
  std::string family;    // peers must agree: "tcp", "shm", "efa", "loopback"
  std::string provider;  // as FabricReport
  std::string fabric;
  std::vector<std::string> rails;
  bool hardware_rdma = false;
  std::string write_path;
  std::string version;              // of libfabric; empty where it is not involved
  std::string nixl_version;         // of NIXL; empty where it is not involved
  bool registers_cuda = false;      // Register takes memory of GPUs, without a copy on the way
  std::string device_path = "none"; // of memory of GPUs: "hmem-dmabuf", "hmem", "staged", "ipc"
  uint64_t max_write_bytes = 1 << 20;
  uint32_t max_in_flight = 1024;    // writes posted and not completed, all peers
  uint32_t max_in_flight_peer = 128;
  uint32_t max_invitations = 1024;  // descriptions handed out and not revoked, at most
  // Completions, ours and arrivals, that may wait until Poll before they are lost; the engine sees
  // to it that there are never more. 0: no bound, or the fabric holds writers back itself.
  uint32_t cq_entries = 0;
  // How long after the loss of a peer completions of writes to it may still come and must be waited
  // for before the peer is removed. Zero where removal itself ends them.
  std::chrono::milliseconds drain_timeout{0};
  // Bytes that a peer may always have in flight, so that the way stays full (pacing.h).
  uint64_t least_in_flight = Pacer::kSoftwareFloor;
  // Writes shorter than this are faster gathered in longer ones (staged/staged_fabric.h). 0: none are.
  uint64_t gather_below = 0;
  bool renews_keys = false;  // Renew gives NextKey; else it gives the same key, and fences nothing
};

struct WriteRequest {
  uint64_t peer = 0;          // from Insert
  uint32_t local_region = 0;  // from Register
  uint64_t local_offset = 0;
  uint64_t bytes = 0;         // 1..max_write_bytes
  uint64_t remote_address = 0;  // MemoryKey::base + offset
  uint64_t remote_key = 0;
  uint32_t imm = 0;
  OpContext* context = nullptr;  // valid until the completion
};

enum class PostResult : uint8_t { kPosted, kAgain, kFailed };

struct Completion {
  enum class Kind : uint8_t {
    kDone,     // a write of ours landed: `context`
    kFailed,   // a write of ours did not: `context`, `status`, `peer_lost`
    kArrived,  // a peer's write landed here: `imm`, `bytes` (0 where the provider does not say)
    kPeerGone, // the fabric saw the end of `peer` (not every one can)
  };
  Kind kind = Kind::kDone;
  bool peer_lost = false;  // the failure says that the peer or the way to it is gone
  // The way that it took is gone, another one to the peer is left: nobody knows whether it landed,
  // and it still may until the target renewed its key.
  bool in_doubt = false;
  uint32_t imm = 0;
  uint64_t bytes = 0;
  uint64_t peer = 0;  // from Insert
  OpContext* context = nullptr;
  Status status;
};

class Fabric {
 public:
  virtual ~Fabric() = default;

  virtual const FabricTraits& traits() const = 0;
  // Opaque bytes with which a peer's Insert finds this endpoint.
  virtual std::string Address() const = 0;
  // What Describe sends to one peer instead of Address(), after the Expose calls whose keys it
  // sends along. A fabric without keys of its own opens an endpoint for that peer alone here; it
  // closes when the last of those keys is revoked.
  virtual Result<std::string> Invite() { return Address(); }

  // Makes memory usable as source and, through Expose, as target. Index of later calls.
  virtual Result<uint32_t> Register(MemorySpan memory) = 0;
  virtual void Unregister(uint32_t region) = 0;
  // A key for peers. Fresh on every call where the provider lets us choose keys, so that one
  // peer's access can be revoked without touching the others'; else the region's only key.
  virtual Result<MemoryKey> Expose(uint32_t region) = 0;
  virtual void Revoke(const MemoryKey& key) = 0;

  // At the writer: the ways on which writes to the peer ended in doubt since the last call.
  virtual Ways TakeDoubts(uint64_t /*peer*/) { return {}; }
  // At the target: what is still under way on these, or half received, never lands.
  virtual void CloseWays(uint64_t /*peer*/, const Ways& /*ways*/, TimePoint /*now*/) {}
  // At the target: after it no write that was posted before the writer's Follow begins to land. The key that
  // the peer knows stays good for whoever follows. Where the fabric cannot choose keys nothing
  // changes: there a write that has failed is over by itself (FabricTraits::drain_timeout).
  // The key to give to Revoke from now on.
  virtual Result<MemoryKey> Renew(const MemoryKey& key) { return key; }
  // At the writer: the target has renewed this key of its.
  virtual void Follow(uint64_t /*peer*/, const MemoryKey& /*key*/) {}

  // What a peer's address says to people ("10.0.0.7:41234"); empty when it says nothing.
  virtual std::string NameOf(std::string_view address) const;
  virtual Result<uint64_t> Insert(std::string_view address) = 0;
  virtual void Remove(uint64_t peer) = 0;

  // kFailed fills `why` and means that this write cannot ever work (not that the peer is busy).
  virtual PostResult Write(const WriteRequest& request, TimePoint now, Status& why) = 0;
  // After a round of writes: none of them waits for further ones any more. Poll does so too.
  virtual void Flush(TimePoint /*now*/) {}
  // Makes progress and fills up to out.size() completions.
  virtual size_t Poll(TimePoint now, std::span<Completion> out) = 0;

  // Readable when Poll has something to do; -1 where there is no such thing.
  virtual int wait_fd() const { return -1; }
  // Call before sleeping on wait_fd: false when Poll should be called first.
  virtual bool PrepareSleep() { return true; }

  // What its rails did, where it is made of some; readable from any thread, for ever.
  virtual std::shared_ptr<const RailsStats> rail_stats() const { return nullptr; }
};

}  // namespace baton::transfer
