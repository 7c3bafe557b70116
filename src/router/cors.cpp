#include "router/cors.h"

#include <algorithm>

namespace baton::router {
namespace {

constexpr std::string_view kExposed = "x-request-id, X-SMG-Error-Code, Retry-After, WWW-Authenticate, Location";

}  // namespace

Cors::Cors(std::vector<std::string> origins) : origins_(std::move(origins)) {
  for (std::string& origin : origins_) {
    if (origin.ends_with('/')) origin.pop_back();  // browsers send none
  }
  any_ = origins_.empty() || std::erase(origins_, "*") > 0;
}

bool Cors::Lists(std::string_view origin) const {
  return std::any_of(origins_.begin(), origins_.end(),
                     [&](const std::string& allowed) { return http::EqualsIgnoreCase(allowed, origin); });
}

std::string_view Cors::Allowed(std::string_view origin) const {
  if (any_) return "*";
  return Lists(origin) ? origin : std::string_view();
}

void Cors::Prepare(const http::Request& request, http::Responder& responder) const {
  const std::string_view origin = request.headers.Get("Origin");
  if (origin.empty()) return;
  if (!any_) responder.AddToHead("Vary", "Origin");
  const std::string_view allowed = Allowed(origin);
  if (allowed.empty()) return;
  responder.AddToHead("Access-Control-Allow-Origin", allowed);
  responder.AddToHead("Access-Control-Expose-Headers", kExposed);
}

bool Cors::IsPreflight(const http::Request& request) {
  return request.method == "OPTIONS" && request.headers.Has("Origin") &&
         request.headers.Has("Access-Control-Request-Method");
}

http::Response Cors::AnswerPreflight(const http::Request& request) const {
  http::Response response;
  response.status = 204;
  if (Allowed(request.headers.Get("Origin")).empty()) {
    response.status = 403;
    response.headers.Set("Content-Type", "text/plain");
    response.body = "pages of this origin may not call (--cors-allowed-origins)\n";
    return response;
  }
  response.headers.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS");
  // Authorization is not covered by "*" (Fetch standard), so what is asked for is named.
  const std::string_view wanted = request.headers.Get("Access-Control-Request-Headers");
  response.headers.Set("Access-Control-Allow-Headers", std::string(wanted.empty() ? "*" : wanted));
  response.headers.Set("Access-Control-Max-Age", "3600");
  return response;
}

}  // namespace baton::router
