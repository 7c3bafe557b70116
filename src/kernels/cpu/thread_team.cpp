#include "kernels/cpu/thread_team.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>

#include <chrono>

#include "common/status.h"

namespace baton::kernels::cpu {
namespace {

using Clock = std::chrono::steady_clock;

// About the gap between two kernels of a step; after it other processes may have the core.
constexpr auto kSpin = std::chrono::microseconds(10);
// When nothing has come by then, nothing is running: sleep.
constexpr auto kPatience = std::chrono::microseconds(60);
// In place of a task number: the fields of this run are being written. More than any tasks_.
constexpr uint64_t kClosed = 0x7fffffff;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns once `value` differs from `old`: spinning first, then yielding, asleep in the end.
void WaitWhile(const std::atomic<uint32_t>& value, uint32_t old) {
  const auto start = Clock::now();
  for (;;) {
    for (int i = 0; i < 16; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      Pause();
    }
    const auto waited = Clock::now() - start;
    if (waited > kPatience) break;
    if (waited > kSpin) sched_yield();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadTeam::ThreadTeam(int threads) : size_(threads) {
  BATON_CHECK(threads >= 1, "{} threads", threads);
  workers_.reserve(threads - 1);
  for (int member = 1; member < threads; ++member) {
    workers_.emplace_back([this, member] { Work(member); });
    pthread_setname_np(workers_.back().native_handle(), fmt::format("kernel-{}", member).c_str());
  }
}

ThreadTeam::~ThreadTeam() {
  stop_.store(true, std::memory_order_relaxed);
  runs_.fetch_add(1, std::memory_order_release);
  runs_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::Start(int tasks, Entry entry, void* context) {
  if (size_ == 1 || tasks <= 1) {
    for (int task = 0; task < tasks; ++task) entry(context, task, 0);
    return;
  }
  const uint32_t run = runs_.load(std::memory_order_relaxed) + 1;
  // Closed first: a late worker may hold the last claim of the run before, whose task number can be
  // within the new tasks_. Whoever sees one of the new fields sees the closed claim, too.
  claim_.store(uint64_t{run} << 32 | kClosed, std::memory_order_relaxed);
  tasks_.store(tasks, std::memory_order_release);
  entry_.store(entry, std::memory_order_release);
  context_.store(context, std::memory_order_release);
  done_.store(0, std::memory_order_relaxed);
  claim_.store(uint64_t{run} << 32, std::memory_order_release);
  runs_.store(run, std::memory_order_release);
  runs_.notify_all();  // no system call unless someone sleeps
  ClaimTasks(0);
  const auto all = static_cast<uint32_t>(tasks);
  for (uint32_t done; (done = done_.load(std::memory_order_acquire)) != all;)
    WaitWhile(done_, done);
}

void ThreadTeam::ClaimTasks(int member) {
  uint64_t claim = claim_.load(std::memory_order_acquire);
  for (;;) {
    const int task = static_cast<int>(claim & 0xffffffffu);
    const int tasks = tasks_.load(std::memory_order_acquire);
    const Entry entry = entry_.load(std::memory_order_acquire);
    void* const context = context_.load(std::memory_order_acquire);
    if (task >= tasks) return;
    if (!claim_.compare_exchange_weak(claim, claim + 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
      continue;
    }
    entry(context, task, member);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(tasks))
      done_.notify_one();
    claim = claim_.load(std::memory_order_acquire);
  }
}

void ThreadTeam::Work(int member) {
  for (uint32_t seen = 0;;) {
    WaitWhile(runs_, seen);
    seen = runs_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    ClaimTasks(member);
  }
}

}  // namespace baton::kernels::cpu
