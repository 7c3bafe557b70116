// What a request says about where it wants to go; made once, used by every attempt.
#pragma once

#include <cstdint>
#include <string>

#include "router/policy.h"
#include "router/target_worker.h"

namespace baton::router {

struct Routing {
  PrefixDigest digest;  // empty unless a policy compares prompts
  std::string key;      // header x-smg-routing-key
  TargetWorker target;  // header x-smg-target-worker
  uint64_t prompt_bytes = 0;

  PickHints HintsAt(TimePoint now) const { return {&digest, key, now}; }
};

}  // namespace baton::router
