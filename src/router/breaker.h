// Circuit breaker of one worker: a pure state machine over (outcomes, time).
//
// Closed -> Open after `failure_threshold` failures in a row, all within `window`. Open -> HalfOpen
// after `open_time`. HalfOpen admits at most `success_threshold` requests at a time; that many
// successes close it, one failure opens it again. Only failures that the worker itself is guilty of
// belong here: cancels, 4xx, overload (429, 503) and the twin's failures are released without an
// outcome, so they neither open the breaker nor keep a half-open permit for ever
// (sglang issues 12355 and 31206). Not thread-safe: the registry's lock guards it.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string_view>

#include "common/clock.h"

namespace baton::router {

struct BreakerRules {
  bool enabled = true;
  int failure_threshold = 10;
  int success_threshold = 3;
  Duration open_time = std::chrono::seconds(60);
  Duration window = std::chrono::seconds(120);
};

class Breaker {
 public:
  enum class State : uint8_t { kClosed = 0, kOpen = 1, kHalfOpen = 2 };
  enum class Outcome : uint8_t { kSuccess, kFailure, kNone };

  explicit Breaker(BreakerRules rules) : rules_(rules) {}

  // Would Admit say yes? Turns Open into HalfOpen when its time has come.
  bool Admits(TimePoint now);
  // Takes a permit; each must come back through Settle exactly once.
  void Admit();
  // The end of an admitted request. `epoch` is epoch() at its Admit: outcomes of requests that
  // were admitted before the last state change say nothing about the present state.
  void Settle(Outcome outcome, uint64_t epoch, TimePoint now);

  // Health checks found the worker back after they had found it gone: it was restarted, so what it
  // did before says little. An open breaker becomes half-open at once.
  void OnRecovered() {
    if (state_ == State::kOpen) Become(State::kHalfOpen);
  }

  State state() const { return state_; }
  uint64_t epoch() const { return epoch_; }
  int consecutive_failures() const { return static_cast<int>(failures_.size()); }
  int64_t consecutive_successes() const { return successes_; }

 private:
  void Become(State state);

  BreakerRules rules_;
  State state_ = State::kClosed;
  uint64_t epoch_ = 0;
  std::deque<TimePoint> failures_;  // since the last success; at most failure_threshold
  TimePoint opened_{};
  int64_t successes_ = 0;  // since the last failure
  int half_open_running_ = 0;
  int half_open_successes_ = 0;
};

std::string_view BreakerStateName(Breaker::State state);

}  // namespace baton::router
