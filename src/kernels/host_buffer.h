// Host memory for activations, weights and KV pools: zeroed, 64-byte aligned, and on huge pages
// where the system gives them (large buffers are mapped and advised). Shared by host backends.
#pragma once

#include <memory>

#include "common/status.h"
#include "kernels/ops.h"

namespace baton::kernels {

// kResourceExhausted when the system has no memory for it.
Result<std::unique_ptr<Buffer>> AllocateHostBuffer(size_t bytes);
// SharedMemory on huge pages, all of it taken at once.
Result<std::unique_ptr<Buffer>> AllocateSharedHostBuffer(size_t bytes);

}  // namespace baton::kernels
