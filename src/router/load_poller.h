// Asks one worker how busy it is, once per --load-poll-interval-secs while it is healthy.
//
// GET /v1/loads, or /get_load for workers without it; a worker that knows neither is not asked again
// for a minute, and the router's own count has to do for it. Ends with the worker or the router.
#pragma once

#include <memory>

#include "router/services.h"

namespace baton::router {

// Runs beside the worker's prober. `timer` is cancelled when there is something new to look at
// (the worker was removed, the router stops).
asio::awaitable<void> PollLoads(std::shared_ptr<Services> services, WorkerPtr worker,
                                std::shared_ptr<asio::steady_timer> timer);

}  // namespace baton::router
