// POST /generate: SGLang's native API.
#pragma once

#include "http/server.h"
#include "server/context.h"

namespace baton::server {

boost::asio::awaitable<void> HandleGenerate(Context& context, http::Request& request, http::Responder& responder);

}  // namespace baton::server
