#include "kernels/cpu/thread_team.h"

#include <pthread.h>

#include <chrono>

#include <fmt/format.h>

#include "common/status.h"

namespace baton::kernels::cpu {
namespace {

// Longer than the gap between two kernels of a step, far shorter than anything a person notices.
constexpr auto kSpin = std::chrono::microseconds(50);

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns once `value` differs from `old`: spinning first, asleep after that.
void WaitWhile(const std::atomic<int>& value, int old) {
  const auto give_up = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < give_up);
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
  stop_ = true;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::Start(Entry entry, void* context) {
  if (size_ == 1) return entry(context, 0);
  entry_ = entry;
  context_ = context;
  pending_.store(size_ - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();  // no system call unless someone sleeps
  entry(context, 0);
  for (int left; (left = pending_.load(std::memory_order_acquire)) != 0;) WaitWhile(pending_, left);
}

void ThreadTeam::Work(int member) {
  for (int seen = 0;; ++seen) {
    WaitWhile(epoch_, seen);
    if (stop_) return;
    entry_(context_, member);
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_one();
  }
}

}  // namespace baton::kernels::cpu
