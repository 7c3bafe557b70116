// A persistent team of threads for the kernels of one backend: fork and join in about a microsecond.
//
// Run() hands the same function to every member, the caller being member 0, and returns when all
// are done. Between runs the workers spin for a few tens of microseconds, since the next kernel of
// a step follows at once, and then sleep on a futex: an idle server uses no CPU. The caller waits
// in the same way. Not for blocking work. Run() is for one thread at a time and does not nest.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
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

  // Calls f(member) for member in [0, size()), each on its own thread.
  template <typename F>
  void Run(F&& f) {
    using Function = std::remove_reference_t<F>;
    Start([](void* context, int member) { (*static_cast<Function*>(context))(member); },
          const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  using Entry = void (*)(void* context, int member);

  void Start(Entry entry, void* context);
  void Work(int member);

  const int size_;
  Entry entry_ = nullptr;     // written before epoch_ moves, read after
  void* context_ = nullptr;
  bool stop_ = false;
  alignas(64) std::atomic<int> epoch_{0};    // counts runs
  alignas(64) std::atomic<int> pending_{0};  // workers that have not finished this run
  std::vector<std::thread> workers_;
};

// Part `index` of `count` of [0, total).
struct Share { int64_t begin, end; };
inline Share ShareOf(int64_t total, int index, int count) {
  return {total * index / count, total * (index + 1) / count};
}

}  // namespace baton::kernels::cpu
