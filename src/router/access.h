// Who may send what, decided by a request's head alone: keys, and which routes pages of other
// origins may use.
#pragma once

#include <cstdint>
#include <string_view>

#include "http/message.h"
#include "router/cors.h"
#include "router/options.h"

namespace baton::router {

// What clients of the models use, and pages of other origins therefore may too: generation, models,
// health, tokens. Any other route may change this router or its workers, or show how they are made up.
bool IsClientRoute(std::string_view path);

enum class Access : uint8_t {
  kGranted,
  kUnknown,    // no key, or one that nobody has
  kForbidden,  // the key of a user where an admin's is wanted
  kForeign,    // a control route, asked for by a page of another origin
};
Access AccessOf(const RouterOptions& options, const Cors& cors, const http::Request& request);

}  // namespace baton::router
