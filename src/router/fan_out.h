// Routes that ask workers and tell what they said: model and server information from one of them,
// health_generate on a pair, flush_cache and loads on all.
#pragma once

#include <memory>

#include "http/server.h"
#include "router/services.h"

namespace baton::router {

void InstallFanOut(std::shared_ptr<Services> services, http::Server& server);

}  // namespace baton::router
