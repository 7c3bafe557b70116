// Is one worker fit for requests: a pure state machine over (probe results, request failures, time).
//
// A worker starts unhealthy. A request's connection that is refused or breaks takes it out at once; one that
// did not come about is a miss. Either asks for a probe now; `success_threshold` good probes bring it back. While it is out it is probed every
// kRetryInterval, so a restarted worker is back well within a second of being ready.
//
// How long a probe may take: SGLang's /health runs a generation and never answers within a second,
// Baton's answers at once. So the patience follows what the worker has shown (three times its last
// good answer, at least one second, at most the flag), and a frozen worker of the fast kind is out
// after two seconds. Not thread-safe: the registry's lock guards it.
#pragma once

#include <chrono>

#include "common/clock.h"
#include "router/options.h"

namespace baton::router {

class HealthState {
 public:
  static constexpr Duration kRetryInterval = std::chrono::milliseconds(300);
  static constexpr Duration kLeastPatience = std::chrono::seconds(1);

  explicit HealthState(const HealthRules& rules)
      : rules_(rules), healthy_(!rules.enabled), patience_(rules.timeout) {}

  bool healthy() const { return healthy_; }
  // As by Change::dead, and nothing good since.
  bool dead() const { return failures_ >= rules_.failure_threshold; }
  // When to probe next; a time in the past means now.
  TimePoint next_probe() const { return next_probe_; }
  Duration patience() const { return patience_; }

  struct Change {
    bool flipped = false;  // healthy() changed
    bool dead = false;     // this probe was the failure_threshold-th bad one in a row
  };
  Change OnProbe(bool good, Duration took, TimePoint now);
  // Asked, but nothing went out: as if it had not been time yet.
  void OnNoProbe(TimePoint now) { next_probe_ = now + kRetryInterval; }
  // `gone`: out at once. Else a miss, but only a probe decides. True when healthy() changed.
  bool OnConnectionFailure(bool gone, TimePoint now);

 private:
  HealthRules rules_;
  bool healthy_;
  int failures_ = 0;   // in a row
  int successes_ = 0;  // in a row
  Duration patience_;
  TimePoint next_probe_{};
};

}  // namespace baton::router
