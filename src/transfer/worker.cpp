#include "transfer/worker.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>

namespace baton::transfer {
namespace {

constexpr Duration kSpin = 50us;
constexpr Duration kShortestNap = 20us, kLongestNap = 250us;
constexpr Duration kPatience = 1ms;       // of a fabric that has work and completes nothing
constexpr Duration kWatchfulSleep = 2ms;  // with a descriptor to wake us, only timers need this
constexpr int kIdleStretch = 5;           // times idle_poll, when a descriptor would wake us
constexpr long kTimerSlackNs = 5000;      // the default of 50 us would double the short naps

timespec ToTimespec(Duration d) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(d).count();
  return {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
}

}  // namespace

struct Worker::Task {
  std::function<void()> run;
  bool abandoned = false, started = false, done = false;
};

Worker::Worker(std::unique_ptr<EngineCore> core, std::chrono::milliseconds idle_poll)
    : core_(std::move(core)), idle_poll_(std::max(idle_poll, std::chrono::milliseconds(1))) {
  wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  BATON_CHECK(wake_fd_ >= 0, "eventfd: {}", errno);
}

Worker::~Worker() {
  stop_.store(true);
  Signal();
  if (thread_.joinable()) thread_.join();
  close(wake_fd_);
}

void Worker::Start() {
  thread_ = std::thread([this] { Loop(); });
}

void Worker::Signal() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake_fd_, &one, sizeof one);  // full counts as signalled
}

bool Worker::Run(std::function<void()> run, TimePoint deadline) {
  if (OnWorker()) {
    run();
    return true;
  }
  auto task = std::make_shared<Task>();
  task->run = std::move(run);
  std::unique_lock lock(mutex_);
  if (stop_.load()) return false;
  tasks_.push_back(task);
  has_tasks_.store(true);
  Wake();
  task_done_.wait_until(lock, deadline, [&] { return task->done || task->abandoned; });
  if (!task->started) {
    task->abandoned = true;
    return false;
  }
  // It refers to the caller's variables, so it must end before we return; tasks are short.
  task_done_.wait(lock, [&] { return task->done; });
  return true;
}

void Worker::RunTasks() {
  if (!has_tasks_.load()) return;
  std::unique_lock lock(mutex_);
  while (!tasks_.empty()) {
    const std::shared_ptr<Task> task = tasks_.front();
    tasks_.pop_front();
    if (task->abandoned) continue;
    task->started = true;
    lock.unlock();
    task->run();
    lock.lock();
    task->done = true;
    task_done_.notify_all();
  }
  has_tasks_.store(false);
}

void Worker::Loop() {
  worker_id_.store(std::this_thread::get_id());
  pthread_setname_np(pthread_self(), "baton-transfer");
  prctl(PR_SET_TIMERSLACK, kTimerSlackNs, 0, 0, 0);
  TimePoint active_at = Now();
  while (!stop_.load(std::memory_order_relaxed)) {
    RunTasks();
    const TimePoint now = Now();
    const EngineCore::StepResult result = core_->Step(now);
    if (result.progressed)
      active_at = now;
    else if (Sleep(result.outstanding, now - active_at))
      active_at = Now();  // what came may take a while to complete something: no naps meanwhile
  }
  core_->Shutdown(Now());
  // Nobody runs what is left.
  std::lock_guard lock(mutex_);
  for (const auto& task : tasks_) task->abandoned = true;
  tasks_.clear();
  task_done_.notify_all();
}

bool Worker::Sleep(bool outstanding, Duration quiet) {
  if (outstanding && quiet < kSpin) {
    std::this_thread::yield();
    return false;
  }
  pollfd fds[2] = {{.fd = wake_fd_, .events = POLLIN},
                   {.fd = core_->fabric().wait_fd(), .events = POLLIN}};
  Duration longest = idle_poll_;
  sleeping_.store(true, std::memory_order_seq_cst);
  const bool idle_fabric = core_->fabric().PrepareSleep();
  if (!idle_fabric && quiet < kPatience) {
    // Bytes of a long write are coming in: progress, though nothing is complete yet.
    sleeping_.store(false, std::memory_order_relaxed);
    std::this_thread::yield();
    return false;
  }
  if (!idle_fabric || (outstanding && fds[1].fd < 0))
    longest = std::clamp<Duration>(quiet / 16, kShortestNap, kLongestNap);
  else if (outstanding)
    longest = std::min<Duration>(kWatchfulSleep, idle_poll_);
  else if (fds[1].fd >= 0)
    longest *= kIdleStretch;
  if (!core_->has_requests() && !has_tasks_.load() && !stop_.load()) {
    const timespec timeout = ToTimespec(longest);
    ppoll(fds, 2, &timeout, nullptr);
  }
  sleeping_.store(false, std::memory_order_relaxed);
  if (fds[0].revents & POLLIN) {
    uint64_t count;
    [[maybe_unused]] const ssize_t n = read(wake_fd_, &count, sizeof count);
  }
  return fds[1].revents != 0;
}

}  // namespace baton::transfer
