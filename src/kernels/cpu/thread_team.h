// A persistent team of threads for the kernels of one backend: fork and join in about a
// microsecond.
//
// Run() cuts work into tasks that the caller (member 0) and the workers claim one by one, and
// returns when all are done. It never waits for a worker that has claimed nothing, so on a busy
// machine a worker without a core costs its help and not the time until it gets one.
// Between runs the workers spin for a few microseconds, since the next kernel of a step follows at
// once, then offer their core to others, and after some tens of microseconds sleep on a futex: an
// idle server uses no CPU. Not for blocking work. Run() is for one thread at a time, not nested.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace baton::kernels::cpu {

class ThreadTeam {
 public:
  explicit ThreadTeam(int threads);  // >= 1, the caller included
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return size_; }

  // Calls f(task, member) once for each task in [0, tasks); member in [0, size()) is the thread.
  template <typename F>
  void Run(int tasks, F&& f) {
    using Function = std::remove_reference_t<F>;
    Start(
        tasks,
        [](void* context, int task, int member) {
          (*static_cast<Function*>(context))(task, member);
        },
        const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  using Entry = void (*)(void* context, int task, int member);

  void Start(int tasks, Entry entry, void* context);
  void Work(int member);
  void ClaimTasks(int member);

  const int size_;
  // The run at hand. claim_ = run number << 32 | next task. A thread reads the other fields, then
  // claims by compare-and-swap on claim_: success means that the run it read about is not over, for
  // a run ends only when all its tasks are claimed and done, and so the fields it read are of it.
  // Start closes claim_ before it writes the fields, so that no claim of an ended run can match
  // them.
  alignas(64) std::atomic<uint64_t> claim_{0};
  std::atomic<int> tasks_{0};
  std::atomic<Entry> entry_{nullptr};
  std::atomic<void*> context_{nullptr};
  alignas(64) std::atomic<uint32_t> done_{0};  // tasks of this run that are finished
  alignas(64) std::atomic<uint32_t> runs_{0};  // what workers wait on; wraps around
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

// Part `index` of `count` of [0, total).
struct Share {
  int64_t begin, end;
};
inline Share ShareOf(int64_t total, int index, int count) {
  return {total * index / count, total * (index + 1) / count};
}

}  // namespace baton::kernels::cpu
