// The limit of open files of this process.
#pragma once

#include <cstdint>

namespace baton {

// Raises the soft limit to the hard one: a stream through a router holds three sockets, and the usual
// soft limit of 1024 ends at some 300 of them. Returns the limit that is in force now, UINT64_MAX for
// none. Never fails: what cannot be raised stays.
uint64_t RaiseFileLimit();

}  // namespace baton
