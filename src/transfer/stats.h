// What the engine counts. Written by the worker (and, for slots and sends, by the calls that take
// them), read by anyone; shared so that exported metrics outlive the engine safely.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <mutex>
#include <string>

#include "common/clock.h"

namespace baton::transfer {

inline constexpr size_t kPriorities = 3;

struct Stats {
  using Count = std::atomic<uint64_t>;

  // Times by powers of two: bucket i counts those below 2^i microseconds, the last one the rest.
  // One writer.
  struct Times {
    static constexpr size_t kBuckets = 24;
    std::array<Count, kBuckets> buckets{};
    Count sum_us{0};

    void Note(Duration d) {
      const auto us = static_cast<uint64_t>(
          std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::microseconds>(d).count()));
      Bump(buckets[std::min<size_t>(std::bit_width(us), kBuckets - 1)]);
      Bump(sum_us, us);
    }
  };

  // What went to one peer in one class.
  struct Flow {
    Count bytes{0}, writes{0}, runs{0}, sends_done{0}, sends_failed{0};
    Times write_time;  // post to completion
    Times first_wait;  // Begin seen to first write
  };
  // Of the peer that has a seat.
  class Name {
   public:
    void Set(std::string text) {
      std::lock_guard lock(mutex_);
      text_ = std::move(text);
    }
    std::string Get() const {
      std::lock_guard lock(mutex_);
      return text_;
    }

   private:
    mutable std::mutex mutex_;
    std::string text_;
  };
  // A peer's place in the metrics; taken by its successor when it is gone, so that series are few.
  struct Seat {
    std::atomic<bool> used{false}, taken{false};  // ever, now
    Name name;
    std::array<Flow, kPriorities> flows;
    Count credit_stalls{0}, credit_stalled_us{0};
    Count bytes_received{0}, writes_received{0};
    Count data_in_flight{0}, data_limit{0};
  };
  static constexpr size_t kSeats = 32;

  // Levels: zero when idle.
  Count slots_held{0}, sends_live{0}, peers{0}, writes_in_flight{0};
  Count slots_quarantined{0};  // failed and not released: their pages may still be written to
  // Totals.
  Count stray_writes{0}, bytes_sent{0}, bytes_received{0}, writes_sent{0}, writes_received{0};
  Count receives_done{0}, receives_failed{0}, sends_done{0}, sends_failed{0};
  Count peers_lost{0}, write_errors{0}, fabric_busy{0}, hellos_sent{0};
  Count credits_sent{0}, credits_held{0};
  Count checksums_checked{0}, checksum_errors{0};
  Count deadlines{0};
  Count fences_asked{0}, sends_repeated{0};
  Count registrations{0}, registration_us{0};
  Count steps{0};  // turns of the worker: few when idle
  std::array<Seat, kSeats> seats;

  static void Add(Count& count, uint64_t n = 1) { count.fetch_add(n, std::memory_order_relaxed); }
  static void Sub(Count& count, uint64_t n = 1) { count.fetch_sub(n, std::memory_order_relaxed); }
  static uint64_t Get(const Count& count) { return count.load(std::memory_order_relaxed); }
  // Add by the only writer: no locked instruction.
  static void Bump(Count& count, uint64_t n = 1) {
    count.store(count.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  static void Set(Count& count, uint64_t n) { count.store(n, std::memory_order_relaxed); }
};

}  // namespace baton::transfer
