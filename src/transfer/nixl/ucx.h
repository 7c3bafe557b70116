// UCX_TLS, seen from the fence.
//
// Some of UCX's ways between two processes of one host write into the target's memory without its
// help (cma, knem: the kernel copies; xpmem, cuda_ipc: the memory stays mapped), so nothing that
// the target does can stop a writer that it gave up on. All others end with the target's endpoint.
#pragma once

#include <string_view>

#include "common/status.h"

namespace baton::transfer::nixl {

// What Baton sets where UCX_TLS is not set.
inline constexpr const char* kFencedTransports = "^cma,knem,xpmem,cuda_ipc,rocm_ipc";

// Whether a value of UCX_TLS allows one of those ways.
bool AllowsUnfenced(std::string_view transports);

// Sets UCX_TLS or checks what is set: kInvalidArgument for a value that cannot be fenced. Before the
// first agent is made, while nothing else touches the environment.
Status FenceTransports();

}  // namespace baton::transfer::nixl
