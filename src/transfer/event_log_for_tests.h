// For tests: collects an engine's events and waits for them with a deadline.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <vector>

#include "transfer/transfer.h"

namespace baton::transfer {

class EventLog {
 public:
  std::function<void(const Event&)> Sink() {
    return [this](const Event& event) {
      std::lock_guard lock(mutex_);
      events_.push_back(event);
      changed_.notify_all();
    };
  }

  // The first event for which `match` holds, waiting at most `timeout`.
  template <typename Match>
  std::optional<Event> Wait(Match match, Duration timeout = 10s) {
    std::unique_lock lock(mutex_);
    std::optional<Event> found;
    changed_.wait_for(lock, timeout, [&] {
      for (const Event& event : events_) {
        if (!match(event)) continue;
        found = event;
        return true;
      }
      return false;
    });
    return found;
  }
  std::optional<Event> WaitSlot(Slot slot, Duration timeout = 10s) {
    return Wait([&](const Event& e) { return IsReceive(e) && e.slot == slot; }, timeout);
  }
  std::optional<Event> WaitSend(SendId send, Duration timeout = 10s) {
    return Wait([&](const Event& e) { return IsSend(e) && e.send == send; }, timeout);
  }
  std::optional<Event> WaitPeer(Event::Kind kind, PeerId peer, Duration timeout = 10s) {
    return Wait([&](const Event& e) { return e.kind == kind && e.peer == peer; }, timeout);
  }

  // How many terminal events there were for it: must be one.
  size_t CountSlot(Slot slot) const {
    return Count([&](const Event& e) { return IsReceive(e) && e.slot == slot; });
  }
  size_t CountSend(SendId send) const {
    return Count([&](const Event& e) { return IsSend(e) && e.send == send; });
  }
  void Clear() {
    std::lock_guard lock(mutex_);
    events_.clear();
  }

  static bool IsReceive(const Event& e) {
    return e.kind == Event::Kind::kReceiveDone || e.kind == Event::Kind::kReceiveFailed;
  }
  static bool IsSend(const Event& e) {
    return e.kind == Event::Kind::kSendDone || e.kind == Event::Kind::kSendFailed;
  }

 private:
  template <typename Match>
  size_t Count(Match match) const {
    std::lock_guard lock(mutex_);
    size_t count = 0;
    for (const Event& event : events_) count += match(event);
    return count;
  }
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Event> events_;
};

}  // namespace baton::transfer
