// What libfabric leaves at the system's default for its TCP sockets and should not be so between
// processes of one machine. It hands no socket out, so they are found by their addresses among the
// descriptors of this process.
//
// BBR sends at a rate that it estimates. Between two processes of one machine there is no network to
// be kind to, and what it measures is how busy the cores were: it held transfers of a busy machine
// down to a third for tens of milliseconds at a time (docs/benchmarks.md). Such sockets are given the
// window of Reno, which every kernel has. Sockets to other machines keep what the system chose.
//
// Thread: any. A descriptor that another thread closes and opens anew in the midst of a call may be
// taken for the one it was: then a stranger's socket goes on with Reno, which does no harm.
#pragma once

#include <string_view>

namespace baton::transfer {

// Addresses are those of endpoints (sockaddr_in as bytes); others are never on one machine.
bool OnOneMachine(std::string_view one, std::string_view other);

// Looks for the sockets between the endpoint `own` and the one of `peer`, and for the one that `own`
// listens on when only this machine can reach it. Returns how many were changed.
int UnpaceLocalSockets(std::string_view own, std::string_view peer);

// A connected socket that the caller has. False when there was nothing to change.
bool UnpaceLocalSocket(int fd);

}  // namespace baton::transfer
