// Everything that is not generation: health, models, info, loads, cache, abort, tokenize, metrics
// (specs/sglang-pd-protocol.md section 2.2).
#pragma once

#include "http/server.h"
#include "server/context.h"

namespace baton::server {

using ControlHandler = boost::asio::awaitable<void> (*)(Context&, http::Request&, http::Responder&);

struct ControlRoute {
  const char* method;
  const char* path;
  ControlHandler handler;
};
// All of them; `deprecated` names are listed beside their present ones.
std::span<const ControlRoute> ControlRoutes();

// A pseudo-random prompt through the whole engine: warm-up and /health_generate. OK when tokens came.
boost::asio::awaitable<Status> ProbeEngine(Context& context, int tokens, Duration limit);

}  // namespace baton::server
