// Routes that ask workers and tell what they said: model and server information from one of them,
// health_generate on a pair, flush_cache and loads on all.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "common/status.h"
#include "http/server.h"
#include "router/services.h"

namespace baton::router {

void InstallFanOut(std::shared_ptr<Services> services, http::Server& server);

// A worker's JSON with "***" for every text whose name says that it is a key, password, secret or
// token, at any depth. kInvalidArgument when it is no JSON.
Result<std::string> WithoutSecrets(std::string_view body);

}  // namespace baton::router
