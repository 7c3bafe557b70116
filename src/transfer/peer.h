// A peer as the worker sees it, and the writes in flight to it.
// Thread: the worker.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "transfer/blob.h"
#include "transfer/fabric.h"
#include "transfer/transfer.h"

namespace baton::transfer {

struct Peer;

// One posted write. The context is first so that a completion's pointer is the operation's.
struct WriteOp {
  static constexpr uint32_t kHello = ~0u;
  OpContext context;
  Peer* peer = nullptr;  // null: the peer is gone, nobody waits for this completion any more
  uint32_t send = kHello;
  uint32_t bytes = 0;
  WriteOp* next = nullptr;
  WriteOp* previous = nullptr;
};

struct Peer {
  enum class Phase : uint8_t {
    kJoining,   // hello not yet delivered
    kReady,
    kDraining,  // lost or disconnected: waits for writes in flight, then is removed
    kGone,      // removed; kept until the user disconnects it
  };

  PeerId id{};
  PeerBlob blob;
  uint64_t address = 0;  // fabric's handle
  Phase phase = Phase::kJoining;
  bool disconnecting = false;  // Disconnect was called: fence, then forget
  bool silent = false;         // ... without an event: it never joined
  bool hello_in_flight = false;
  uint32_t hello_failures = 0;
  bool blocked = false;        // the fabric said kAgain while nothing was in flight
  Status why;                  // of the loss, or the last failed hello
  uint32_t open_slots = 0, live_sends = 0, in_flight = 0;
  uint32_t first_listed = ~0u, last_listed = ~0u;  // sends with runs to post
  TimePoint next_hello{};
  TimePoint heard_at{};        // last sign of life, or start of waiting for one
  TimePoint drain_deadline{};
  WriteOp* ops = nullptr;
};

// Operations never move and are reused; more are made only after a lost peer kept some.
class OpPool {
 public:
  explicit OpPool(uint32_t ops) { Grow(ops); }

  WriteOp* Take() {
    if (!free_) Grow(64);
    WriteOp* op = free_;
    free_ = op->next;
    op->next = op->previous = nullptr;
    return op;
  }
  void Put(WriteOp* op) {
    op->peer = nullptr;
    op->next = free_;
    free_ = op;
  }

 private:
  void Grow(uint32_t ops) {
    chunks_.push_back(std::make_unique<WriteOp[]>(ops));
    for (uint32_t i = 0; i < ops; ++i) Put(&chunks_.back()[i]);
  }
  std::vector<std::unique_ptr<WriteOp[]>> chunks_;
  WriteOp* free_ = nullptr;
};

}  // namespace baton::transfer
