// Writes that go through memory of ours at both ends, over a fabric that knows neither:
// - to and from device memory, where the fabric below knows host memory only (tcp, or libfabric without
//   CUDA);
// - short ones between host memories, where the fabric below moves long messages faster
//   (FabricTraits::gather_below). Only the engine's data (imm.h): its mails never wait behind it.
//
// A decorator: all else passes through untouched. A write is copied into a frame that carries several
// (wire.h), from a device on a stream, while earlier frames are on the network; the receiver copies each
// to its place, and only then it arrives and completes. A write from device memory to host memory that is
// not short has a piece of that ring for itself, and the fabric below takes it to its place.
//
// What is written between two calls of Flush goes together, and at Flush at the latest. The promises of
// fabric.h hold: the receiver copies, so it honours keys and bounds, and Revoke waits (bounded) for copies
// that are under way. The fabric below may be several rails: frames come over any of them, and what is
// in doubt is fenced as anything else is.
//
// Memory: at each end 8 MiB per peer where devices take part, else 2 MiB per peer that short writes went
// to or came from (wire.h). What is in flight is bounded by these rings: a full one makes Write say kAgain.
//
// Both ends must be wrapped (they always are, see engine.cpp), device memory or not, and each must have
// inserted the other: acknowledgements go to the peer's board. CUDA is loaded only by the end that has
// device memory.
#pragma once

#include <memory>
#include <optional>

#include "transfer/fabric.h"

namespace baton::transfer::staged {

// `device`: a CUDA ordinal when device memory is going to be registered; else Register refuses it.
// kUnsupported when CUDA cannot be used. Memory of devices that `inner` can register itself
// (FabricTraits::registers_cuda) is left to it.
Result<std::unique_ptr<Fabric>> Wrap(std::unique_ptr<Fabric> inner, std::optional<int> device);

}  // namespace baton::transfer::staged
