#include "router/routes.h"

#include <algorithm>
#include <random>

#include "common/json.h"
#include "common/printable.h"
#include "router/access.h"
#include "router/access_log.h"
#include "router/errors.h"
#include "router/fan_out.h"
#include "router/proxy.h"
#include "router/worker_api.h"

namespace baton::router {
namespace {

// An id that can go into a header and a log line as it is.
bool IsSaneId(std::string_view id) {
  return !id.empty() && id.size() <= 256 &&
         std::all_of(id.begin(), id.end(), [](char c) { return c > ' ' && c < 0x7F; });
}

// Gives the request its id, once.
void SettleRequestId(const RouterOptions& options, http::Request& request) {
  if (!request.id.empty()) return;
  for (const std::string& name : options.request_id_headers) {
    const std::string_view given = request.headers.Get(name);
    if (!IsSaneId(given)) continue;
    request.id = given;
    break;
  }
  if (request.id.empty()) request.id = NewRequestId(request.path);
  request.headers.Set("x-request-id", request.id);
}

RouterError ErrorFor(int status, std::string code, std::string message) {
  RouterError error;
  error.status = status;
  error.code = std::move(code);
  error.message = std::move(message);
  return error;
}

http::Response NoAccess(Access access, const http::Request& request) {
  if (access == Access::kForeign) {
    const std::string_view origin = request.headers.Get("Origin");
    return ToResponse(ErrorFor(403, "foreign_origin",
                               fmt::format("{} is not for pages of {}: name the page's origin with --cors-allowed-origins to "
                                           "let it in (\"*\" does not)", request.path,
                                           origin.empty() ? std::string_view("another site") : origin)));
  }
  if (access == Access::kForbidden)
    return ToResponse(ErrorFor(403, "forbidden", "this key's role may not use admin routes"));
  http::Response response = ToResponse(
      ErrorFor(401, "unauthorized", "send the router's key as \"Authorization: Bearer KEY\""));
  response.headers.Set("WWW-Authenticate", "Bearer");
  return response;
}

void NoteErrorCode(http::Responder& responder, std::string_view code) {
  if (code.empty()) return;
  responder.note() += ",\"error_code\":";
  AppendJsonString(responder.note(), code);
}

// Answers what needs no route: preflights and requests that may not pass.
std::optional<http::Response> Screen(Services& services, http::Request& request, http::Responder& responder) {
  SettleRequestId(services.options, request);
  const bool client_route = IsClientRoute(request.path);
  if (client_route) services.cors.Prepare(request, responder);
  std::optional<http::Response> answer;
  if (client_route && Cors::IsPreflight(request)) {  // carries no key
    answer = services.cors.AnswerPreflight(request);
  } else if (const Access access = AccessOf(services.options, services.cors, request); access != Access::kGranted) {
    answer = NoAccess(access, request);
  }
  if (!answer) return std::nullopt;
  const std::string code(answer->headers.Get("X-SMG-Error-Code"));
  NoteErrorCode(responder, code);
  answer->headers.Set("x-request-id", request.id);
  services.metrics.CountResponse(answer->status, code);
  return answer;
}

http::Response ServerMadeError(const std::shared_ptr<Services>& services, http::Request& request, int status,
                               std::string_view message) {
  const char* code = status == 404   ? "not_found"
                     : status == 405 ? "method_not_allowed"
                     : status == 413 ? "payload_too_large"
                     : status == 503 ? "overloaded"
                     : status >= 500 ? "internal_error"
                                     : "bad_request";
  std::string text(message);
  if (status == 413) {
    text += fmt::format(" (--max-payload-size {})", services->options.max_payload_bytes);
  }
  http::Response response = ToResponse(ErrorFor(status, code, std::move(text)));
  SettleRequestId(services->options, request);
  response.headers.Set("x-request-id", request.id);
  services->metrics.CountResponse(status, code);
  return response;
}

http::Response TextResponse(int status, std::string body, std::string type = "text/plain") {
  http::Response response;
  response.status = status;
  response.headers.Set("Content-Type", std::move(type));
  response.body = std::move(body);
  return response;
}

asio::awaitable<http::Response> Liveness(std::shared_ptr<Services>, http::Request&) {
  co_return TextResponse(200, "OK");
}

asio::awaitable<http::Response> Health(std::shared_ptr<Services> services, http::Request&) {
  const bool ready = services->Ready();
  co_return TextResponse(ready ? 200 : 503, ready ? "OK" : "Not ready");
}

asio::awaitable<http::Response> Readiness(std::shared_ptr<Services> services, http::Request&) {
  PoolCounts all;
  std::string roles;
  for (Role role : {Role::kPrefill, Role::kDecode, Role::kRegular}) {
    const PoolCounts counts = services->registry->Counts(role);
    all.healthy += counts.healthy;
    all.total += counts.total;
    if (counts.total > 0) {
      roles += fmt::format(",\"healthy_{0}\":{1},\"total_{0}\":{2}", RoleName(role), counts.healthy, counts.total);
    }
  }
  const bool ready = services->Ready();
  const char* state = services->draining       ? "draining"
                      : ready                  ? "ready"
                      : services->unsynced > 0 ? "waiting for discovery"
                                               : "not ready";
  co_return JsonResponse(ready ? 200 : 503,
                         fmt::format(R"({{"status":"{}","healthy_workers":{},"total_workers":{}{}}})",
                                     state, all.healthy, all.total, roles));
}

asio::awaitable<http::Response> Metrics(std::shared_ptr<Services> services, http::Request&) {
  co_return TextResponse(200, services->metrics.Render(), "text/plain; version=0.0.4; charset=utf-8");
}

// Routes of sglang-router that nothing behind this one can serve. It answers the first three alike
// when it routes to prefill and decode workers.
asio::awaitable<http::Response> NotImplemented(std::shared_ptr<Services>, http::Request& request) {
  const bool tokenizers = request.path.starts_with("/v1/tokenizers");
  co_return ToResponse(ErrorFor(501, "not_implemented",
                                fmt::format("{} is not served by this router{}", request.path,
                                            tokenizers ? ": it has no tokenizers of its own, and none to add or remove; POST /v1/tokenize "
                                                         "and /v1/detokenize ask a worker's"
                                                       : "")));
}

asio::awaitable<http::Response> Index(std::shared_ptr<Services> services, http::Request&) {
  co_return TextResponse(200, std::string(services->options.index_html), "text/html; charset=utf-8");
}

}  // namespace

http::Response JsonResponse(int status, std::string body) {
  http::Response response;
  response.status = status;
  response.headers.Set("Content-Type", "application/json");
  response.body = std::move(body);
  return response;
}

std::string NewRequestId(std::string_view path) {
  static constexpr std::string_view kLetters =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  thread_local std::mt19937_64 random(std::random_device{}());
  std::string id = path == PathOf(Api::kChat)          ? "chatcmpl-"
                   : path == PathOf(Api::kCompletions) ? "cmpl-"
                   : path == PathOf(Api::kGenerate)    ? "gnt-"
                                                       : "req-";
  uint64_t bits = 0;
  for (int i = 0; i < 24; ++i) {
    if (i % 10 == 0) bits = random();  // ten letters out of 64 bits: the bias is below 2^-4
    id += kLetters[bits % kLetters.size()];
    bits /= kLetters.size();
  }
  return id;
}

void AddRoute(std::shared_ptr<Services> services, http::Server& server, std::string method,
              std::string path, RouteHandler handler) {
  const std::string label = path;
  server.Route(std::move(method), std::move(path),
               [services, handler = std::move(handler), label](
                   http::Request& request, http::Responder& responder) -> asio::awaitable<void> {
                 const TimePoint started = Now();
                 http::Response response = co_await handler(services, request);
                 response.headers.Set("x-request-id", request.id);
                 const std::string code(response.headers.Get("X-SMG-Error-Code"));
                 services->metrics.CountResponse(response.status, code);
                 NoteErrorCode(responder, code);
                 (void)co_await responder.Send(std::move(response));
                 services->metrics.CountHttpSeries(request.method, label, Seconds(Now() - started));
               });
}

void InstallMetricsRoute(std::shared_ptr<Services> services, http::Server& server) {
  server.SetFilter([services](http::Request& request, http::Responder& responder) -> std::optional<http::Response> {
    SettleRequestId(services->options, request);
    responder.AddToHead("x-request-id", request.id);
    return std::nullopt;
  });
  server.Route("GET", "/metrics",
               [services](http::Request& request, http::Responder& responder) -> asio::awaitable<void> {
                 (void)co_await responder.Send(co_await Metrics(services, request));
               });
}

void InstallRoutes(std::shared_ptr<Services> services, http::Server& server) {
  server.SetFilter([services](http::Request& request, http::Responder& responder) {
    return Screen(*services, request, responder);
  });
  server.SetErrorBody([services](http::Request& request, int status, std::string_view message) {
    return ServerMadeError(services, request, status, message);
  });
  if (services->access_log) {
    server.SetObserver([services](const http::Request& request, const http::Outcome& outcome) {
      if (IsLogged(request, outcome)) services->access_log->Write(AccessLine(request, outcome, UnixSeconds()));
    });
  }
  const auto proxy = [&](Api api, std::string path) {
    server.Route("POST", std::move(path), [services, api](http::Request& request, http::Responder& responder) {
      return ProxyRequest(services, api, request, responder);
    });
  };
  for (Api api : kAllApis) proxy(api, std::string(PathOf(api)));
  proxy(Api::kRerank, "/rerank");
  for (const char* path : {"/v1/embeddings", "/v1/classify", "/v1/responses", "/v1/responses/*", "/v1/conversations",
                           "/v1/conversations/*", "/v1/tokenizers", "/v1/tokenizers/*", "/parse/*"}) {
    AddRoute(services, server, "*", path, NotImplemented);
  }
  AddRoute(services, server, "GET", "/liveness", Liveness);
  AddRoute(services, server, "GET", "/health", Health);
  AddRoute(services, server, "GET", "/readiness", Readiness);
  AddRoute(services, server, "GET", "/metrics", Metrics);
  if (!services->options.index_html.empty()) AddRoute(services, server, "GET", "/", Index);
  InstallFanOut(services, server);
  InstallWorkerApi(services, server);
}

}  // namespace baton::router
