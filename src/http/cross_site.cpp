#include "http/cross_site.h"

namespace baton::http {

std::string_view ForeignOrigin(const Request& request) {
  const std::string_view origin = request.headers.Get("Origin");
  const size_t scheme_end = origin.find("://");
  if (scheme_end == std::string_view::npos) return origin;  // none, or "null"
  const std::string_view place = origin.substr(scheme_end + 3);
  const std::string_view host = request.headers.Get("Host");
  return !host.empty() && EqualsIgnoreCase(place, host) ? std::string_view() : origin;
}

bool IsFetchedCrossSite(const Request& request) {
  const std::string_view site = request.headers.Get("Sec-Fetch-Site");
  return EqualsIgnoreCase(site, "cross-site") || EqualsIgnoreCase(site, "same-site");
}

}  // namespace baton::http
