#include "http/watchdog.h"

#include <sys/socket.h>

#include "http/socket_io.h"

namespace baton::http {

void Watchdog::Attach(int fd) {
  const std::lock_guard lock(mutex_);
  fd_ = fd;
  if (reason_ != Code::kOk) ::shutdown(fd_, SHUT_RDWR);
}

void Watchdog::Detach() {
  const std::lock_guard lock(mutex_);
  fd_ = -1;
  deadline_ = ack_check_ = TimePoint::max();
  timer_.cancel();
}

void Watchdog::SetDeadline(TimePoint deadline) {
  const std::lock_guard lock(mutex_);
  deadline_ = deadline;
  if (deadline < armed_) ArmLocked();
}

void Watchdog::ArmLocked() {
  armed_ = NextLocked();
  timer_.expires_at(armed_);
  timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& ec) {
    if (ec) return;  // armed anew, or detached
    if (const auto self = weak.lock()) self->OnTimer();
  });
}

void Watchdog::OnTimer() {
  const std::lock_guard lock(mutex_);
  // A timer that was armed anew while this call was on its way will come again.
  if (Now() < armed_) return;
  armed_ = TimePoint::max();
  const TimePoint now = Now();
  if (now >= deadline_) return FireLocked(Code::kDeadlineExceeded);
  if (now >= ack_check_) {
    ack_check_ = TimePoint::max();
    if (fd_ >= 0 && IsUnacknowledged(fd_, silence_)) return FireLocked(Code::kUnavailable);
  }
  if (NextLocked() != TimePoint::max()) ArmLocked();
}

void Watchdog::CheckAcks(TimePoint at, std::chrono::milliseconds silence) {
  const std::lock_guard lock(mutex_);
  ack_check_ = at;
  silence_ = silence;
  if (at < armed_) ArmLocked();
}

void Watchdog::Interrupt(uint64_t epoch, Code reason) {
  const std::lock_guard lock(mutex_);
  if (epoch == epoch_) FireLocked(reason);
}

void Watchdog::FireLocked(Code reason) {
  if (reason_ == Code::kOk) reason_ = reason;
  if (fd_ >= 0) ::shutdown(fd_, SHUT_RDWR);
}

Code Watchdog::reason() const {
  const std::lock_guard lock(mutex_);
  return reason_;
}

bool Watchdog::EndUse() {
  const std::lock_guard lock(mutex_);
  if (reason_ != Code::kOk) return false;
  deadline_ = ack_check_ = TimePoint::max();
  ++epoch_;
  return true;
}

uint64_t Watchdog::epoch() const {
  const std::lock_guard lock(mutex_);
  return epoch_;
}

}  // namespace baton::http
