#include "router/breaker.h"

namespace baton::router {

std::string_view BreakerStateName(Breaker::State state) {
  switch (state) {
    case Breaker::State::kClosed: return "closed";
    case Breaker::State::kOpen: return "open";
    case Breaker::State::kHalfOpen: return "half_open";
  }
  return "";
}

void Breaker::Become(State state) {
  state_ = state;
  ++epoch_;
  failures_.clear();
  half_open_running_ = 0;
  half_open_successes_ = 0;
}

bool Breaker::Admits(TimePoint now) {
  if (!rules_.enabled) return true;
  if (state_ == State::kOpen && now - opened_ >= rules_.open_time) Become(State::kHalfOpen);
  if (state_ == State::kOpen) return false;
  if (state_ == State::kHalfOpen) {
    return half_open_running_ + half_open_successes_ < rules_.success_threshold;
  }
  return true;
}

void Breaker::Admit() {
  if (state_ == State::kHalfOpen) ++half_open_running_;
}

void Breaker::Settle(Outcome outcome, uint64_t epoch, TimePoint now) {
  if (!rules_.enabled || epoch != epoch_) return;
  if (state_ == State::kHalfOpen && half_open_running_ > 0) --half_open_running_;
  if (outcome == Outcome::kNone) return;
  if (outcome == Outcome::kSuccess) {
    failures_.clear();
    ++successes_;
    if (state_ == State::kHalfOpen && ++half_open_successes_ >= rules_.success_threshold) {
      Become(State::kClosed);
    }
    return;
  }
  successes_ = 0;
  if (state_ == State::kClosed) {
    failures_.push_back(now);
    while (now - failures_.front() > rules_.window) failures_.pop_front();
    if (static_cast<int>(failures_.size()) < rules_.failure_threshold) return;
  }
  Become(State::kOpen);
  opened_ = now;
}

}  // namespace baton::router
