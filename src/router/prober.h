// Active health checks: one coroutine per worker. Asks /health at the times that its HealthState
// says, and reads the worker's metadata when it comes up, asking until it is told. Ends when the worker
// is removed or the router stops.
#pragma once

#include <memory>

#include "router/services.h"

namespace baton::router {

// Starts probing `worker`; a worker without health checks only has its metadata read.
void StartProber(std::shared_ptr<Services> services, WorkerPtr worker);

// The metadata in the bodies of /server_info and /model_info; fields of another type are skipped
// one by one.
WorkerMetadata ReadMetadata(std::string_view server_info);

}  // namespace baton::router
