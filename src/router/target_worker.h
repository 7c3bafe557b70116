// Header `x-smg-target-worker`: the client names the worker (specs/sglang-pd-protocol.md 3.7).
//
// sglang-router knows an index only, and only under consistent_hashing. Here it holds under every
// policy, and the value may be an index (counted from 0 in order of registration, in the list of
// each role), "PREFILL,DECODE" with one index for each, or a worker's id or URL. There is no
// fallback to another worker. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace baton::router {

struct TargetWorker {
  std::optional<size_t> prefill;  // index
  std::optional<size_t> other;    // index among decode or regular workers
  std::string name;               // id or URL, when it is not an index
  bool given() const { return prefill || other || !name.empty(); }
};

// An empty value is no target. kInvalidArgument for what can be neither index nor name.
Result<TargetWorker> ParseTargetWorker(std::string_view value);

}  // namespace baton::router
