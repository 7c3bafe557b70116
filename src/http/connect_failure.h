// What it says that no connection came about: about the peer, the way to it, or this machine.
#pragma once

#include <boost/asio/ip/tcp.hpp>

#include "http/client.h"

namespace baton::http {

// kResourceExhausted, with the way out in words, when errno `error` means that this machine lacks what a
// connection needs; else OK. EADDRNOTAVAIL counts as a lack of ports.
Status ShortageOf(const Origin& origin, int error);
// Is there a descriptor to be had? As ShortageOf, for callers that were not told why they failed.
Status DescriptorShortage(const Origin& origin);

// kRefused, kUnreachable or kResourceExhausted. `error`: errno of socket(2) or connect(2).
Status ConnectFailure(const Origin& origin, const asio::ip::tcp::endpoint& endpoint, int error);

// Of two failures (or OK) the one that proves less against the peer, which may be at either's address.
Status LesserProof(Status a, Status b);

}  // namespace baton::http
