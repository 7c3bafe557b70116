// One client request from body to answer: inspects it, picks workers, tries, retries, tells.
//
// Retries (specs/sglang-pd-protocol.md 3.4) happen before the first byte has gone to the client,
// each with new rooms and, while there is a choice, other workers. After the first byte a stream
// migrates instead: the next pair goes on behind what the client has (docs/migration.md). Runs on
// the connection's strand.
#pragma once

#include <memory>

#include "http/server.h"
#include "router/bootstrap.h"
#include "router/services.h"

namespace baton::router {

asio::awaitable<void> ProxyRequest(std::shared_ptr<Services> services, Api api,
                                   http::Request& request, http::Responder& responder);

// Delay before attempt number `attempt` + 1 (the first attempt is 1); `unit` is uniform in [0, 1).
Duration BackoffDelay(const RetryRules& rules, int attempt, double unit);

}  // namespace baton::router
