// The Fabric between processes of one host: descriptors in shared memory, bytes by
// process_vm_readv.
//
// The target copies: it checks key and bounds of each descriptor and pulls the bytes out of the
// writer's memory, many descriptors per system call, so scattered small pages cost little more than
// large ones, and a revoked key is a fence without help of the writer.
//
// libfabric's own shm provider is not used: in 1.17 a process that is killed while it holds the
// spin lock of its region leaves its peers spinning for ever, and its region files stay behind in
// /dev/shm. Here nothing is locked and nothing has a name that outlives its process.
//
// Needs: one host, one pid namespace, the same user, and leave to read each other's memory
// (ptrace_scope 0, or 1: then each endpoint opens itself with PR_SET_PTRACER). Where that is denied
// connecting fails with a message that says so.
#pragma once

#include <memory>

#include "transfer/fabric.h"

namespace baton::transfer {

Result<std::unique_ptr<Fabric>> OpenShm();

}  // namespace baton::transfer
