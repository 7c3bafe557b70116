// A peer as the worker sees it, and the writes in flight to it.
// Thread: the worker.
#pragma once

#include <array>
#include <cstdint>

#include "transfer/blob.h"
#include "transfer/checksums.h"
#include "transfer/fabric.h"
#include "transfer/op_list.h"
#include "transfer/pacing.h"
#include "transfer/stats.h"
#include "transfer/transfer.h"

namespace baton::transfer {

struct Peer;

// One posted write. The context is first so that a completion's pointer is the operation's.
struct WriteOp {
  // `send` of writes that are no send's.
  static constexpr uint32_t kHello = ~0u, kCredit = ~0u - 1, kRepeat = ~0u - 2, kConsent = ~0u - 3,
                            kBlock = ~0u - 4;
  OpContext context;
  Peer* peer = nullptr;  // null: the peer is gone, nobody waits for this completion any more
  uint32_t send = kHello;
  uint32_t bytes = 0;    // kBlock: its sequence
  // Of a send's: how many of its marks were passed before it was posted; kMark: it is one.
  static constexpr uint32_t kMark = ~0u;
  uint32_t marks_before = 0;
  WriteOp *older = nullptr, *newer = nullptr;  // of its send, posted behind a mark
  TimePoint posted_at{};
  WriteOp* next = nullptr;
  WriteOp* previous = nullptr;

  void Forget() { peer = nullptr; }
};

// Source memory of what we write to one peer's mailbox and manifest; registered, never moves.
struct Outbox {
  Mail hello, credit;
  RepeatMail repeat;
  ConsentMail consent;
  std::byte mark[kMarkBytes]{};
};
struct BlockOutbox {
  ManifestBlock blocks[kManifestBlocks];
};

struct Peer {
  enum class Phase : uint8_t {
    kJoining,   // hello not yet delivered
    kReady,
    kDraining,  // lost or disconnected: waits for writes in flight, then is removed
    kGone,      // removed; kept until the user disconnects it
  };
  static constexpr uint32_t kNone = ~0u;
  // Sends of one class with runs to post, in turn.
  struct Line {
    uint32_t first = kNone, last = kNone;
  };

  explicit Peer(Pacer pacing) : pacer(pacing) {}

  bool HasRuns() const {
    return lines[0].first != kNone || lines[1].first != kNone || lines[2].first != kNone;
  }
  bool HasToPost() const { return HasRuns() || marks.first != kNone || blocks_due; }
  bool OutOfCredit() const { return posted >= granted; }

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
  std::array<Line, kPriorities> lines;
  Line marks;                  // sends with a mark to post
  uint32_t bursts_since_background = 0;
  Pacer pacer;
  TimePoint next_hello{};
  TimePoint heard_at{};        // last sign of life, or start of waiting for one
  TimePoint drain_deadline{};
  WriteOp* ops = nullptr;

  // Credits that it granted us: arrivals that we caused, and may cause.
  uint64_t posted = 0, granted = 0;
  bool stalled = false;        // something to post and no credit (or no free block)
  TimePoint stalled_at{};
  TimePoint asked_at{};        // last hello, which asks for credit
  uint32_t unanswered = 0;     // hellos since the last credit mail
  bool answers = false;        // a credit mail came: it knows us
  TimePoint unanswered_since{};
  // Credits that we grant it.
  uint32_t inbound = kMailboxCells;  // key set that it claimed
  bool credit_in_flight = false, answer_due = false;

  // Writes of ours whose end nobody knows (engine_repeat.cpp).
  struct Repetition {
    bool wanted = false;       // nothing but mails is posted until the peer has fenced them
    bool listed = false, asked = false, mail_in_flight = false;
    uint64_t fences = 0;       // that the peer has made
    TimePoint since{}, asked_at{};
    Ways ways;
    uint32_t count = 0;
    std::array<SendId, RepeatMail::kSends> sends{};  // in the order of the question
  };
  Repetition repetition;
  uint32_t bulk_in_flight = 0;  // of in_flight, those that are no mails
  uint64_t doubtful = 0;        // of posted, those that failed and may land all the same
  // ... and of its writes.
  bool consent_due = false, consent_in_flight = false;
  uint32_t consent_set = 0;    // key set that it is about

  // Checksums of what we write.
  uint64_t blocks_begun = 0;   // the last one may still be filling
  uint64_t blocks_free = kManifestBlocks;  // before which blocks may be begun
  uint32_t filling = 0;        // entries in the block that is being filled
  uint32_t blocks_due = 0;     // bit per block of the ring that waits to be posted
  uint32_t blocks_in_flight = 0;  // ... that was posted and has not ended

  uint32_t outbox = 0;
  uint32_t seat = 0;           // in the metrics
};

}  // namespace baton::transfer
