// What an answer to a heartbeat, or none, says about the peer.
#pragma once

#include <cstdint>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "common/clock.h"
#include "http/client.h"

namespace baton::disagg {

enum class Beat : uint8_t {
  kAlive,
  kMissed,     // an answer that says nothing: a proxy's 502, an overloaded server's 503
  kRestarted,  // it does not know us, or it is another instance: pair anew
};

// `instance`: whom we paired with.
Beat JudgeBeat(int http_status, std::string_view body, uint64_t instance);

// Every address of `origin` answers a connection with ECONNREFUSED: nobody listens there. False for
// everything else that keeps a connection from being made (no address, no descriptor, a time-out).
boost::asio::awaitable<bool> IsRefused(http::Origin origin, TimePoint deadline);

}  // namespace baton::disagg
