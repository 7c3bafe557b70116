// The last events of an engine, kept in a fixed ring, for the moment when a deadline fires and
// somebody asks what happened before. Noting is a few stores: always on.
// Thread: the worker.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/clock.h"

namespace baton::transfer {

class FlightRecorder {
 public:
  enum class What : uint8_t {
    kSlotOpened, kSlotSealed, kSlotDone, kSlotFailed, kSlotFreed, kStray,
    kSendOpened, kSendFinishing, kSendDone, kSendFailed, kWriteFailed,
    kHelloSent, kHelloSeen, kCreditSent, kCreditSeen, kOutOfCredit, kFabricBusy,
    kPeerAdded, kPeerReady, kPeerLost, kPeerGone, kDeadline,
  };
  static constexpr size_t kKept = 1024;
  static std::string_view NameOf(What what);

  // `subject`: slot, send or key set index; `value` as NameOf's text says. The same again is no new note.
  void Note(What what, uint32_t peer, uint64_t subject, uint64_t value, TimePoint now) {
    const Entry note{now, subject, value, peer, 1, what};
    Entry& last = ring_[(next_ - 1) % kKept];
    if (last.times && last.Same(note))
      last.at = now, ++last.times;
    else
      ring_[next_++ % kKept] = note;
  }

  // The newest `most` notes, oldest first, a line each, with times before `now`. Allocates.
  std::string Dump(size_t most, TimePoint now) const;
  // True when a dump may be written to the log: once in a while, so that a storm of deadlines does
  // not become a storm of logs.
  bool MayDump(TimePoint now) {
    if (now < next_dump_) return false;
    next_dump_ = now + kDumpInterval;
    return true;
  }
  uint64_t notes() const { return next_; }

 private:
  static constexpr Duration kDumpInterval = 10s;
  struct Entry {
    TimePoint at{};
    uint64_t subject = 0, value = 0;
    uint32_t peer = 0, times = 0;
    What what{};
    bool Same(const Entry& other) const {
      return what == other.what && peer == other.peer && subject == other.subject && value == other.value;
    }
  };
  std::array<Entry, kKept> ring_{};
  uint64_t next_ = 0;
  TimePoint next_dump_{};
};

}  // namespace baton::transfer
