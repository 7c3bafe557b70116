// The transfer engine: one-sided writes from a sender's region into a receiver's granted slots,
// completed by counting. Knows regions, runs, slots and counts; nothing of models or requests.
// Design: specs/transfer-engine.md section 6, design.md section 4.
//
// Receiver              Sender
//   Expect(peer) -> Slot      (slot and page list travel in the caller's control message)
//                           Begin(peer, slot) -> SendId
//                           Push(send, runs) ... as data becomes ready; returns writes to expect
//   Seal(slot, writes)        (the total travels in the caller's control message, in any order)
//   event kReceiveDone      Finish(send) -> event kSendDone: the source memory is free again
//
// Optional, for a receiver that begins before all is there: Mark(send) behind the pushes of a layer, and
// Landed(slot) says how many such parts have landed.
//
// Every write carries a 32-bit immediate: 20-bit slot | 8-bit generation | 4-bit kind. The receiver
// counts arrivals per slot; when count and seal agree the slot is done. Nothing relies on order.
// An immediate of another generation is counted as stray and never applied.
//
// Ownership: a slot belongs to its holder until Release; after a cancel or failure the memory
// behind it may still be written by the peer, so the holder releases slot and pages only after the
// peer confirmed that it stopped (its kSendFailed or kSendDone came, with `drained`), or after event
// kFenced of that peer.
//
// Sessions: Describe() hands out keys of its own each time, so call it once per peer and exchange
// the two results; losing or disconnecting a peer takes its keys away (that is the fence). To join a
// lost peer again: Disconnect, then Describe and Connect on both sides. A grant is good only in the
// session in which it was made: a sender drops those of an earlier one, whose pages may be others'.
//
// Threads: one worker owns the fabric objects and calls `on_event`; all methods may be called from
// any thread, take O(1) and never block on the network (Open, Register and Connect excepted: they
// have deadlines). Push is wait-free for its caller and allocates nothing.
// Every Expect and Begin ends in exactly one terminal event.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/ids.h"
#include "common/memory.h"
#include "common/metrics.h"
#include "common/status.h"

namespace baton::transfer {

struct RegionTag;
struct PeerTag;
struct SendTag;
using RegionId = StrongId<RegionTag, uint32_t>;  // index in Register order: 0, 1 ...
using PeerId = StrongId<PeerTag, uint32_t>;
using SendId = StrongId<SendTag, uint64_t>;

struct Slot {
  uint32_t index = 0;      // < 2^20
  uint8_t generation = 0;  // of that index; grows with each reuse
  friend bool operator==(Slot, Slot) = default;
};

// Bytes [local_offset, +bytes) of the sender's region go to remote_offset of the receiver's.
struct Run {
  uint64_t local_offset = 0;
  uint64_t remote_offset = 0;
  uint64_t bytes = 0;
};

enum class ProviderKind : uint8_t { kAuto, kEfa, kTcp, kShm, kLoopback, kNixl };
// "auto", "efa", "tcp", "shm", "nixl"
Result<ProviderKind> ParseProvider(std::string_view name);

// Which writes go first. Control writes pass everything, KV that a decode waits for passes background
// moves, which still get one turn in sixteen.
enum class Priority : uint8_t { kControl, kDecode, kBackground };
std::string_view PriorityName(Priority priority);  // "control", "decode", "background"
Result<Priority> ParsePriority(std::string_view name);

// How bytes come to the target: written by the sender, or read by the target after a word from the
// sender (for hardware that reads natively but would emulate writes; both sides must do the same).
// kAuto: written, unless the endpoint says that writes are emulated and reads are not.
enum class WriteMode : uint8_t { kAuto, kWrite, kRead };
// "auto", "write", "read"
Result<WriteMode> ParseWriteMode(std::string_view name);

class LoopbackNetwork;  // loopback/loopback.h: in-process, injects faults from a seed

// The data plane of another project, loaded at run time (nixl/nixl.h, docs/nixl.md).
struct NixlOptions {
  std::string backend;  // its plugin; empty: BATON_NIXL_BACKEND, then UCX
  std::string path;     // of the library or a folder around it; empty: BATON_NIXL_PATH, then
                        // Python environments and system folders are searched
};

struct Options {
  ProviderKind provider = ProviderKind::kAuto;  // efa when an EFA device is usable, else tcp
  // Which way of that provider: "efa" or "efa-direct", "rxm" or "native" (tcp); "auto" chooses.
  std::string fabric = "auto";
  WriteMode write_mode = WriteMode::kAuto;  // efa and tcp
  bool require_rdma = false;       // refuse anything but hardware RDMA
  std::string host = "127.0.0.1";  // interface that tcp listens on; 0.0.0.0 picks the routed one
  // Network cards to use, all at once: interfaces or their IPv4 addresses (tcp), domains or devices
  // (efa). Empty: all EFA domains, or for tcp the one of `host`, without rails. Peers must both have
  // rails or both have none; their numbers may differ. One that cannot be opened is left out with a
  // warning.
  std::vector<std::string> rails;
  uint32_t max_slots = 4096;
  uint32_t max_sends = 1024;
  uint32_t max_queued_runs = 1 << 16;  // bound of pushed but unposted runs; Push fails above it
  uint64_t max_write_bytes = 1 << 20;  // longer runs are cut
  std::chrono::milliseconds idle_poll{10};  // progress period while nothing is expected; five of
                                            // them where the fabric has a descriptor to wake us
  std::chrono::milliseconds peer_timeout{1500};  // a needed peer silent for so long is lost
  bool self_test = true;
  // Data in flight per peer is held to what moves in this time (and what fills the way), so that a
  // control write waits no longer. 0: no bound but the fabric's.
  std::chrono::microseconds control_wait{1000};
  // Peers send a CRC-32C of every write; it is verified here before kReceiveDone, else the slot
  // fails with kDataCorrupt. Host memory on both sides; costs one pass over the bytes on each.
  bool checksum = false;
  // A CUDA ordinal when memory of GPUs is going to be registered (of this one; others may follow).
  // Open fails where that is not possible; the report says by which way it goes.
  std::optional<int> cuda_device;
  std::shared_ptr<LoopbackNetwork> loopback;  // for kLoopback
  NixlOptions nixl;                           // for kNixl
};

// What was chosen and measured at Open: printed, exported, never silent.
struct FabricReport {
  std::string provider;      // "efa", "tcp;ofi_rxm", "shm", "loopback"
  std::string fabric;        // fabric attribute name, e.g. "efa-direct", "127.0.0.0/8"
  std::vector<std::string> rails;  // as asked, else domain names: "rdmap0s6-rdm", "lo"
  bool hardware_rdma = false;
  std::string write_path;    // "native", "emulated", "software", "read"
  double self_test_gb_per_s = 0;  // 10^9 bytes/s over 16 MiB in 1 MiB writes; 0 when not run
  // How memory of GPUs moves: "hmem-dmabuf" and "hmem" (by the network card itself), "ipc" (between
  // processes of a host, without the processor), "staged" (through pinned host memory), "none".
  std::string device_path;
  std::string libfabric_version;
  std::string nixl_version;  // with the file that it was loaded from; empty without NIXL
  std::string ToString() const;  // one log line
};

struct Event {
  enum class Kind : uint8_t {
    kReceiveDone,    // slot: every byte of the sealed transfer has landed
    kReceiveFailed,  // slot: expired, cancelled, or its peer was lost (status says which)
    kSendDone,       // send: all writes completed locally and Finish was called
    kSendFailed,     // send: cancelled, expired or failed; its source memory is free again
    kFenced,         // peer: after Disconnect; none of its writes can land from now on
    kPeerLost,       // peer: the fabric reported it dead; all its slots and sends fail
  };
  Kind kind;
  Slot slot{};
  SendId send{};
  PeerId peer{};
  Status status;
  // kSendFailed: every write that it posted has ended, so nothing can land from now on. False when
  // the peer was lost or disconnected in between: then only the receiver's fence settles it.
  bool drained = true;
  uint64_t bytes = 0;       // kSend*: bytes written; kReceiveDone: where the provider tells
  uint32_t writes = 0;      // kReceiveDone, kSend*: writes counted
  TimePoint first_at{};     // first write seen / posted
  TimePoint last_at{};
};

class Engine {
 public:
  // Opens the fabric, starts the worker, runs the self-test. kUnsupported / kUnavailable name
  // provider, fi_* call and errno. `on_event` is called from the worker and must not block.
  static Result<std::unique_ptr<Engine>> Open(Options options, std::function<void(const Event&)> on_event);
  virtual ~Engine() = default;  // fails everything outstanding, then joins the worker

  virtual const FabricReport& report() const = 0;

  // Registers memory that outlives the engine. Both senders' and receivers' pools.
  virtual Result<RegionId> Register(MemorySpan memory) = 0;

  // A versioned blob that lets one peer write into all regions registered so far (addresses, fresh
  // keys, epoch, provider). Once per peer. Empty when the worker is stuck (logged).
  virtual std::string Describe() const = 0;

  // Makes a peer reachable and warm: waits until a small write has reached it, which needs its
  // engine running but not its Connect. The same blob again gives the same peer; a new blob of a
  // connected engine replaces it (kPeerLost for the old id). Not from the event handler.
  // kDataCorrupt for a bad blob, kUnsupported for another protocol version or provider (names both),
  // kDeadlineExceeded with the last error when it cannot be reached, kUnavailable when it refuses
  // (its blob was revoked in between: exchange new ones).
  virtual Result<PeerId> Connect(std::string_view blob, TimePoint deadline) = 0;
  // Ends the peer: its slots and sends fail, then kFenced.
  virtual void Disconnect(PeerId peer) = 0;

  // Receiver. kResourceExhausted when all slots are held.
  virtual Result<Slot> Expect(PeerId from, TimePoint deadline) = 0;
  virtual void Seal(Slot slot, uint32_t writes) = 0;
  // The watermark: all that was pushed before the sender's k-th Mark is in this slot's memory. Never
  // falls while the slot is held, not even when a rail was lost and the sender writes all of it anew
  // (the same bytes go to the same places); 0 when the slot is another's by now. It may lag: a mark
  // comes after its writes, so kReceiveDone may come first, and one that fails on its way is not sent
  // again, so that the watermark then stays one behind to the end. Says that the bytes landed, not that
  // they are right: checksums are compared once, before kReceiveDone. Any thread, one atomic load.
  virtual uint32_t Landed(Slot slot) const = 0;
  virtual void Cancel(Slot slot) = 0;    // -> kReceiveFailed unless it ended already
  virtual void Release(Slot slot) = 0;   // after its terminal event: the index may be reused

  // Sender. `remote_region` indexes the peer's Register order.
  virtual Result<SendId> Begin(PeerId peer, Slot remote_slot, RegionId local, RegionId remote_region,
                               TimePoint deadline, Priority priority = Priority::kDecode) = 0;
  // Returns how many writes the runs become; the caller sums them for its seal. Zero-byte runs are
  // skipped. kResourceExhausted when max_queued_runs is reached, kOutOfRange outside of a region,
  // kCancelled when the send has ended.
  virtual Result<uint32_t> Push(SendId send, std::span<const Run> runs) = 0;
  // What was pushed so far (by calls that returned before this one) is all there when Landed of the
  // receiver says so. Costs a place of max_queued_runs, and one small control write that Seal does not
  // count; kSendDone waits for that one, though not beyond the deadline. kResourceExhausted and
  // kCancelled as Push; allocates nothing.
  virtual Status Mark(SendId send) = 0;
  virtual void Finish(SendId send) = 0;
  virtual void CancelSend(SendId send) = 0;  // stops posting; kSendFailed once drained

  // Held slots, live sends, bytes in flight ...: zero when idle; tests and /metrics watch it.
  struct Usage { uint32_t slots_held = 0, sends_live = 0, peers = 0; uint64_t stray_writes = 0,
                 bytes_sent = 0, bytes_received = 0; };
  virtual Usage usage() const = 0;
  // The registry must outlive every Connect that follows: new peers add series.
  virtual void ExportMetrics(metrics::Registry& registry) = 0;
};

}  // namespace baton::transfer
