// The Fabric over NIXL, for clusters that have its plugins and settings already.
//
// NIXL is loaded at run time and used as it comes: one agent writes; each description (Invite) gets
// an agent of its own that receives, because NIXL's keys are the same for every peer. Revoking the
// keys of a description closes its agent: registrations, connections and receive queues with it, so
// that nothing of that peer can land any more and no other peer notices. The price is one more
// registration of the pool per peer.
//
// Writes are gathered: those to one peer between two calls of Poll become one request with many
// descriptors and one notification, which NIXL delivers after their data (UCX: it is sent when the
// flush of the endpoint has ended; LIBFABRIC: the target holds it back until all writes came). It
// carries the immediates. A request is done when NIXL says so, which for UCX is after that flush,
// so the bytes are in the target's memory.
//
// What NIXL cannot tell: which devices and transports its backend took, and whether they are RDMA;
// so require_rdma is refused. Backends that NIXL makes shake hands (all but UCX) get the writer's
// connection loaded into every receiving agent; that path and CUDA memory have never run.
#pragma once

#include <memory>

#include "transfer/fabric.h"
#include "transfer/transfer.h"

namespace baton::transfer {

// kUnsupported says what to install when the library or the backend's plugin is missing.
Result<std::unique_ptr<Fabric>> OpenNixl(const Options& options);

}  // namespace baton::transfer
