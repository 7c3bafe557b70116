// POST /v1/completions and POST /v1/chat/completions.
#pragma once

#include "http/server.h"
#include "server/context.h"

namespace baton::server {

boost::asio::awaitable<void> HandleCompletions(Context& context, http::Request& request, http::Responder& responder);
boost::asio::awaitable<void> HandleChat(Context& context, http::Request& request, http::Responder& responder);

}  // namespace baton::server
