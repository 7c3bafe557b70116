// Device memory over a fabric that knows host memory only (tcp, or libfabric without CUDA).
//
// A decorator: what has host memory on both sides passes through untouched. A write from device
// memory is first copied into pinned memory, on a stream, while earlier ones are on the network; one
// to device memory goes into a cell of the peer's pinned memory, is copied from there by the peer's
// stream, and only then arrives and completes. The promises of fabric.h hold: the receiver copies,
// so it honours keys and bounds, and Revoke waits (bounded) for copies that are under way. The fabric
// below may be several rails: cells come over any of them, and what is in doubt is fenced as anything else is.
//
// Memory: 8 MiB per peer that we write to or that writes to our device memory. What is in flight is
// bounded by these rings: a full one makes Write say kAgain.
//
// Both ends must be wrapped (they always are, see engine.cpp), device memory or not, and each must have
// inserted the other: acknowledgements go to the peer's board. CUDA is loaded
// only by the end that has device memory.
#pragma once

#include <memory>
#include <optional>

#include "transfer/fabric.h"

namespace baton::transfer::cuda {

// `device`: a CUDA ordinal when device memory is going to be registered; else Register refuses it.
// kUnsupported when CUDA cannot be used. Memory of devices that `inner` can register itself
// (FabricTraits::registers_cuda) is left to it.
Result<std::unique_ptr<Fabric>> WrapForDeviceMemory(std::unique_ptr<Fabric> inner, std::optional<int> device);

}  // namespace baton::transfer::cuda
