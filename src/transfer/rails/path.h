// One way to a peer: a local rail and a remote one. How fast it is, what is in flight on it, and
// whether it may be used (a breaker).
//
//   kUntried -> kTrying -> kOpen -> kClosed -> kTrying ...
//
// Only a path that a probe has proven carries the engine's writes; a probe goes to a pad of the
// remote rail where it hurts nobody. Paths that can never work are so learnt as closed.
// Thread: the worker.
#pragma once

#include <algorithm>
#include <cstdint>

#include "transfer/fabric.h"
#include "transfer/op_list.h"

namespace baton::transfer {

struct Path;

// One write on one rail. The context is first so that a completion's pointer is the operation's.
struct RailOp {
  OpContext context;
  OpContext* owner = nullptr;  // the engine's; null: a probe
  Path* path = nullptr;        // null: given up, nobody waits for this completion any more
  uint64_t bytes = 0;
  uint64_t ahead = 0;          // bytes in flight on the path with it
  TimePoint posted_at{};
  RailOp* next = nullptr;
  RailOp* previous = nullptr;

  void Forget() {
    owner = nullptr;
    path = nullptr;
  }
};

struct Path {
  enum class State : uint8_t { kUntried, kTrying, kOpen, kClosed };

  uint32_t peer = 0, local = 0, remote = 0;
  State state = State::kUntried;
  bool inserted = false;   // `handle` is the local rail's
  uint32_t failed_tries = 0;  // before the first path of the peer was open
  bool not_yet = false;    // the last probe was turned away, but the peer is there: it may not know us yet
  bool owed = false;       // a try, since the peer's last open path was lost
  uint64_t handle = 0;
  uint64_t bytes_in_flight = 0;
  uint32_t in_flight = 0;  // probes not counted
  RailOp* ops = nullptr;
  RailOp* probe = nullptr;
  TimePoint heard_at{};    // last completion, or when it began to be waited for
  TimePoint opened_at{}, tried_at{}, retry_at{};
  Duration backoff{0};

  // Bytes per second as a write sees it that waits behind `bytes_in_flight`.
  double Rate() const { return rate_ > 0 ? rate_ : kUnknownRate; }
  bool measured() const { return rate_ > 0; }
  Duration PredictFor(uint64_t bytes) const {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
        static_cast<double>(bytes_in_flight + bytes) / Rate()));
  }
  void NoteTime(uint64_t bytes_ahead, Duration took) {
    if (bytes_ahead < kLeastMeasured || took <= Duration(0)) return;  // tells of latency, not of rate
    const double seen = static_cast<double>(bytes_ahead) / Seconds(took);
    rate_ = rate_ > 0 ? rate_ + (seen - rate_) * kWeight : seen;
  }

 private:
  static constexpr uint64_t kLeastMeasured = 32 << 10;
  static constexpr double kWeight = 1.0 / 16, kUnknownRate = 1e9;
  double rate_ = 0;
};

}  // namespace baton::transfer
