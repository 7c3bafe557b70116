// The router's HTTP surface (specs/sglang-pd-protocol.md 3.1) on an http::Server.
//
// Public (no key): /, /liveness, /health, /readiness, /health_generate, /metrics, /v1/models,
// /get_model_info, /model_info, /get_server_info, /server_info, /engine_metrics. Everything else needs the API key
// when there is one. Routes that are not for clients are closed to pages of other origins (access.h). /liveness is
// always 200; /health follows readiness, unlike sglang-router's, which says OK before any worker exists (sglang
// issue 33740).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "http/server.h"
#include "router/services.h"

namespace baton::router {

using RouteHandler = std::function<asio::awaitable<http::Response>(std::shared_ptr<Services>,
                                                                   http::Request&)>;

// Installs filter, error bodies and all routes. Before server.Start().
void InstallRoutes(std::shared_ptr<Services> services, http::Server& server);
// GET /metrics only, for the separate listener.
void InstallMetricsRoute(std::shared_ptr<Services> services, http::Server& server);

// A route that makes one whole response; adds x-request-id and counts it.
void AddRoute(std::shared_ptr<Services> services, http::Server& server, std::string method,
              std::string path, RouteHandler handler);

http::Response JsonResponse(int status, std::string body);

// "chatcmpl-", "cmpl-", "gnt-" or "req-" and 24 letters and digits.
std::string NewRequestId(std::string_view path);

}  // namespace baton::router
