// Start-up proof that a fabric moves bytes: writes to itself, checked and timed.
#pragma once

#include "transfer/fabric.h"

namespace baton::transfer {

// 10^9 bytes/s of 16 writes of 1 MiB to this very endpoint, each checked after it arrived.
// kUnavailable says which step failed. The fabric must not be in use by an engine yet.
Result<double> RunSelfTest(Fabric& fabric, TimePoint deadline);

}  // namespace baton::transfer
