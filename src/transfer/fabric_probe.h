// Start-up proof that a fabric moves bytes: writes to itself, checked and timed.
#pragma once

#include <optional>

#include "transfer/fabric.h"

namespace baton::transfer {

// 10^9 bytes/s of 16 writes of 1 MiB to this very endpoint, each checked after it arrived: in host
// memory, or from and to memory of CUDA device `device`.
// kUnavailable says which step failed. The fabric must not be in use by an engine yet.
Result<double> RunSelfTest(Fabric& fabric, std::optional<int> device, TimePoint deadline);

}  // namespace baton::transfer
