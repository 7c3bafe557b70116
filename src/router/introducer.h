// Introduces decode servers to prefill servers as they come up, so that pairs are connected and warm
// before the first request needs them. Only Batons know the route (POST /baton/v1/pair); other
// workers find each other by their first request.
#pragma once

#include <memory>

#include "router/services.h"

namespace baton::router {

// `worker` has just become healthy: introduces it to every healthy worker of the other role, in the
// background. What fails is left to the first request, which pairs by itself.
void Introduce(std::shared_ptr<Services> services, WorkerPtr worker);

}  // namespace baton::router
