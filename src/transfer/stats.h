// What the engine counts. Written by the worker (and, for slots and sends, by the calls that take
// them), read by anyone; shared so that exported metrics outlive the engine safely.
#pragma once

#include <atomic>
#include <cstdint>

namespace baton::transfer {

struct Stats {
  using Count = std::atomic<uint64_t>;
  // Levels: zero when idle.
  Count slots_held{0}, sends_live{0}, peers{0}, writes_in_flight{0};
  // Totals.
  Count stray_writes{0}, bytes_sent{0}, bytes_received{0}, writes_sent{0}, writes_received{0};
  Count receives_done{0}, receives_failed{0}, sends_done{0}, sends_failed{0};
  Count peers_lost{0}, write_errors{0}, fabric_busy{0}, hellos_sent{0};
  Count steps{0};  // turns of the worker: few when idle

  static void Add(Count& count, uint64_t n = 1) { count.fetch_add(n, std::memory_order_relaxed); }
  static void Sub(Count& count, uint64_t n = 1) { count.fetch_sub(n, std::memory_order_relaxed); }
  static uint64_t Get(const Count& count) { return count.load(std::memory_order_relaxed); }
};

}  // namespace baton::transfer
