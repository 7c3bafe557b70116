#include "router/health.h"

#include <algorithm>

namespace baton::router {

HealthState::Change HealthState::OnProbe(bool good, Duration took, TimePoint now) {
  const bool before = healthy_;
  if (good) {
    failures_ = 0;
    ++successes_;
    const Duration most = rules_.timeout;
    patience_ = std::min(most, std::max(kLeastPatience, 3 * took));
    if (successes_ >= rules_.success_threshold) healthy_ = true;
  } else {
    successes_ = 0;
    ++failures_;
    if (failures_ >= rules_.failure_threshold) healthy_ = false;
  }
  const Duration interval = rules_.interval;
  // A first miss is checked again soon as well: it decides.
  const Duration wait = healthy_ && good ? interval : std::min(interval, kRetryInterval);
  next_probe_ = now + wait;
  return {healthy_ != before, !good && failures_ == rules_.failure_threshold};
}

bool HealthState::OnConnectionFailure(bool gone, TimePoint now) {
  if (!rules_.enabled) return false;  // nothing would bring it back
  const bool before = healthy_;
  if (gone) healthy_ = false;
  else if (failures_ + 1 < rules_.failure_threshold) ++failures_;
  successes_ = 0;
  next_probe_ = now;
  return healthy_ != before;
}

}  // namespace baton::router
