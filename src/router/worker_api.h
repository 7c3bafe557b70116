// Adding, changing and removing workers at run time, in the three generations of
// specs/sglang-pd-protocol.md 3.9: /workers with UUIDs, the same with URL-encoded URLs, and
// /add_worker, /remove_worker, /list_workers with ?url=.
#pragma once

#include <memory>

#include "http/server.h"
#include "router/services.h"

namespace baton::router {

void InstallWorkerApi(std::shared_ptr<Services> services, http::Server& server);

}  // namespace baton::router
