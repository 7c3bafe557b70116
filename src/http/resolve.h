// Host names to addresses, with a deadline. The system's resolver cannot be interrupted; when it
// is late the caller goes on and the answer is dropped.
#pragma once

#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "common/clock.h"
#include "http/client.h"

namespace baton::http {

// In the system's order of preference. Literal addresses cost no look-up. kUnreachable: no such name, or
// no answer; kResourceExhausted: this machine has no descriptor to ask with.
asio::awaitable<Result<std::vector<asio::ip::tcp::endpoint>>> Resolve(
    asio::any_io_executor executor, const Origin& origin, TimePoint deadline);

}  // namespace baton::http
