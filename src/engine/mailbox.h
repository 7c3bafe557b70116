// Messages from any thread to one reader that sleeps while there are none. Posting is one
// compare-and-swap (a lock only to wake a sleeper) and never fails: leases must find their way home
// from destructors. So it has no bound of its own; Engine bounds requests by max_queued, and every
// lease, start and abort belongs to a request.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>

#include "common/clock.h"

namespace baton::engine {

template <typename T>
class Mailbox {
 public:
  Mailbox() = default;
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox() {
    TakeAll([](T&&) {});
  }

  // Any thread.
  void Post(T message) {
    Node* const node = new Node{std::move(message), head_.load(std::memory_order_relaxed)};
    while (!head_.compare_exchange_weak(node->next, node)) {
    }
    // Sequentially consistent on both sides: either we see the sleeper or it sees our message.
    if (sleeping_.load()) {
      const std::lock_guard lock(mutex_);
      wake_.notify_one();
    }
  }

  // Reader: calls `handle(T&&)` for each message, in the order of posting.
  template <typename Handle>
  void TakeAll(Handle&& handle) {
    Node* newest = head_.load(std::memory_order_relaxed) ? head_.exchange(nullptr) : nullptr;
    Node* oldest = nullptr;
    while (newest != nullptr) {
      Node* const next = std::exchange(newest->next, oldest);
      oldest = std::exchange(newest, next);
    }
    while (oldest != nullptr) {
      const std::unique_ptr<Node> node(oldest);
      oldest = node->next;
      handle(std::move(node->message));
    }
  }

  // Reader: sleeps until there is a message or `deadline`.
  void Wait(TimePoint deadline) {
    std::unique_lock lock(mutex_);
    sleeping_.store(true);
    const auto has_mail = [this] { return head_.load() != nullptr; };
    if (deadline == TimePoint::max()) {
      wake_.wait(lock, has_mail);
    } else {
      wake_.wait_until(lock, deadline, has_mail);
    }
    sleeping_.store(false);
  }

 private:
  struct Node {
    T message;
    Node* next;
  };

  std::atomic<Node*> head_{nullptr};  // newest first
  std::atomic<bool> sleeping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace baton::engine
