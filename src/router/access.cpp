#include "router/access.h"

#include <algorithm>
#include <array>

#include "http/cross_site.h"
#include "router/bootstrap.h"

namespace baton::router {
namespace {

template <size_t N>
bool IsOneOf(const std::array<std::string_view, N>& paths, std::string_view path) {
  return std::find(paths.begin(), paths.end(), path) != paths.end();
}

// No key is wanted.
constexpr std::array<std::string_view, 12> kPublic = {
    "/",          "/liveness",       "/health",     "/readiness",       "/metrics",     "/health_generate",
    "/v1/models", "/get_model_info", "/model_info", "/get_server_info", "/server_info", "/engine_metrics"};

// Besides the generating routes.
constexpr std::array<std::string_view, 15> kClient = {
    "/rerank",     "/v1/models",      "/get_model_info", "/model_info",   "/tokenize",
    "/v1/tokenize", "/detokenize",     "/v1/detokenize",  "/liveness",     "/health",
    "/readiness",  "/health_generate", "/v1/embeddings",  "/v1/classify", "/v1/responses"};

// What changes the fleet or shows how it is made up.
bool IsAdmin(std::string_view path) {
  constexpr std::array<std::string_view, 6> kAdmin = {"/workers",      "/add_worker",  "/remove_worker",
                                                      "/list_workers", "/flush_cache", "/get_loads"};
  return path.starts_with("/workers/") || IsOneOf(kAdmin, path);
}

bool IsForeign(const Cors& cors, const http::Request& request) {
  const std::string_view origin = http::ForeignOrigin(request);
  if (!origin.empty()) return !cors.Lists(origin);
  if (request.headers.Has("Origin")) return false;
  // A link from elsewhere may show what there is; it may not change it.
  const bool changes = (request.method != "GET" && request.method != "HEAD") || request.path == "/flush_cache";
  return changes && http::IsFetchedCrossSite(request);
}

}  // namespace

bool IsClientRoute(std::string_view path) {
  for (Api api : kAllApis) {
    if (path == PathOf(api)) return true;
  }
  return IsOneOf(kClient, path);
}

Access AccessOf(const RouterOptions& options, const Cors& cors, const http::Request& request) {
  if (!IsClientRoute(request.path) && IsForeign(cors, request)) return Access::kForeign;
  const std::string_view given = request.headers.Get("Authorization");
  if (!options.control_keys.empty() && IsAdmin(request.path)) {
    Access access = Access::kUnknown;
    for (const ControlKey& key : options.control_keys) {  // all of them, so that time tells nothing
      if (http::IsBearer(given, key.key)) access = key.admin ? Access::kGranted : Access::kForbidden;
    }
    return access;
  }
  if (options.api_key.empty() || IsOneOf(kPublic, request.path)) return Access::kGranted;
  return http::IsBearer(given, options.api_key) ? Access::kGranted : Access::kUnknown;
}

}  // namespace baton::router
