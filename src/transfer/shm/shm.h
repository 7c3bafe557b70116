// The Fabric between processes of one host: descriptors in shared memory, bytes copied by the
// target out of the writer's memory.
//
// The target copies: it checks key and bounds of each descriptor, so a revoked key is a fence
// without help of the writer, also of a stopped one. A region that is SharedMemory
// (common/shared_memory.h) is mapped by the target read-only: then a page costs one plain copy and
// no system call. Other regions are read by process_vm_readv, many descriptors per call.
//
// Device memory is lent by CUDA's IPC handles and copied by the target's device (device_pull.h).
//
// libfabric's own shm provider is not used: in 1.17 a process that is killed while it holds the
// spin lock of its region leaves its peers spinning for ever, and its region files stay behind in
// /dev/shm. Here nothing is locked and nothing has a name that outlives its process.
//
// Needs: one host, one network and pid namespace, the same user; for regions that are not shared
// also leave to read each other's memory (ptrace_scope 0, or 1: then each endpoint opens itself with
// PR_SET_PTRACER). Where that is denied writes from them fail with a message that says so.
#pragma once

#include <memory>
#include <optional>

#include "transfer/fabric.h"

namespace baton::transfer {

// `device`: a CUDA ordinal when this endpoint or peers of it have device memory. Then CUDA is loaded
// now, and host memory is pinned as it is registered; else copies between it and devices take a
// detour.
Result<std::unique_ptr<Fabric>> OpenShm(std::optional<int> device = std::nullopt);

}  // namespace baton::transfer
