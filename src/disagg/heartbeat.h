// What an answer to a heartbeat, or none, says about the peer.
#pragma once

#include <cstdint>

#include "http/client.h"

namespace baton::disagg {

enum class Beat : uint8_t {
  kAlive,
  kMissed,     // no answer, or one that says nothing: a proxy's 502, an overloaded server's 503
  kNotAsked,   // nothing went out, for want of a descriptor or port on this machine
  kRestarted,  // it does not know us, or it is another instance: pair anew
  kGone,       // nobody listens there any more
};

// `instance`: whom we paired with.
Beat JudgeBeat(const Result<http::Response>& reply, uint64_t instance);

}  // namespace baton::disagg
