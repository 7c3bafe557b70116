// Interrupts one connection from outside of the coroutine that uses it: when its deadline passes,
// or when any thread asks. The interruption shuts the socket down, which ends the operation under
// way; the coroutine then asks `reason()`.
//
// Thread-safe. A deadline that moves later costs no timer operation: the timer looks again when it
// fires. Each use of a pooled connection has an epoch, so that a late Cancel of an earlier use
// cannot hit the next one.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/clock.h"
#include "common/status.h"

namespace baton::http {

namespace asio = boost::asio;

class Watchdog : public std::enable_shared_from_this<Watchdog> {
 public:
  explicit Watchdog(const asio::any_io_executor& executor) : timer_(executor) {}

  // The descriptor to shut down; borrowed until Detach.
  void Attach(int fd);
  // Call before the descriptor closes. No interruption happens after it.
  void Detach();

  // TimePoint::max() for none.
  void SetDeadline(TimePoint deadline);
  void Interrupt(uint64_t epoch, Code reason);
  // Looks once, at that time: interrupts with kUnavailable when what was sent is not acknowledged and
  // the peer has been silent for `silence`. A peer that is alive but slow acknowledges all the same.
  void CheckAcks(TimePoint at, std::chrono::milliseconds silence);

  // kOk while nothing has interrupted, else kDeadlineExceeded, kCancelled or kUnavailable.
  Code reason() const;
  // Ends a use: no deadline, and Interrupt of the old epoch does nothing. False when an
  // interruption came first.
  bool EndUse();
  uint64_t epoch() const;

 private:
  void ArmLocked();
  TimePoint NextLocked() const { return std::min(deadline_, ack_check_); }
  void OnTimer();
  void FireLocked(Code reason);

  mutable std::mutex mutex_;
  asio::steady_timer timer_;
  int fd_ = -1;
  TimePoint deadline_ = TimePoint::max();
  TimePoint armed_ = TimePoint::max();
  TimePoint ack_check_ = TimePoint::max();
  std::chrono::milliseconds silence_{};
  Code reason_ = Code::kOk;
  uint64_t epoch_ = 0;
};

}  // namespace baton::http
