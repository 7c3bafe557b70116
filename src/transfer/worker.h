// The engine's thread: drives an EngineCore, sleeps when there is nothing to do.
//
// While writes come or go it polls; after 50 us of quiet, which the fabric's descriptor ends, it yields its core to
// sleep on the fabric's descriptor where there is one, else in naps that grow with the quiet. With nothing
// outstanding it wakes every `idle_poll` (five of them where a descriptor would wake it), or at once
// when a call needs it.
// The model's compute threads share the cores, so it never spins longer than that.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "transfer/engine_core.h"

namespace baton::transfer {

class Worker {
 public:
  Worker(std::unique_ptr<EngineCore> core, std::chrono::milliseconds idle_poll);
  ~Worker();  // fails everything outstanding, emits the events, joins
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void Start();
  EngineCore& core() { return *core_; }

  // After a call that the worker must notice. Any thread; a system call only when it sleeps.
  void Wake() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_relaxed)) Signal();
  }
  bool OnWorker() const { return std::this_thread::get_id() == worker_id_.load(); }

  // Runs `task` on the worker, between steps, and waits for it. False when it did not start by
  // `deadline`; it never runs then. At once when called on the worker (from an event handler).
  bool Run(std::function<void()> task, TimePoint deadline);

 private:
  struct Task;
  void Loop();
  void RunTasks();
  bool Sleep(bool outstanding, Duration quiet);  // whether the fabric ended it
  void Signal();

  std::unique_ptr<EngineCore> core_;
  const std::chrono::milliseconds idle_poll_;
  int wake_fd_ = -1;
  std::atomic<bool> stop_{false}, sleeping_{false}, has_tasks_{false};
  std::mutex mutex_;
  std::condition_variable task_done_;
  std::deque<std::shared_ptr<Task>> tasks_;
  std::atomic<std::thread::id> worker_id_{};
  std::thread thread_;
};

}  // namespace baton::transfer
