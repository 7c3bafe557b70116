// Registration of device memory with a provider that takes it (FI_HMEM): by dma-buf where CUDA's
// driver, the device and libfabric (1.20, at build and at run time) have it, else by address.
// Written from the documentation; never run on EFA hardware.
#pragma once

#include <cstdint>
#include <string>

#include "common/memory.h"
#include "transfer/libfabric/handles.h"

namespace baton::transfer {

// How memory of this device will be registered: "hmem-dmabuf" or "hmem".
std::string DeviceMrPath(int device);

// An open, not yet enabled registration. The memory's context is bound to this thread.
Result<Fid<fid_mr>> RegisterDeviceMr(fid_domain* domain, const MemorySpan& memory, uint64_t access, uint64_t key,
                                     const std::string& provider);

}  // namespace baton::transfer
