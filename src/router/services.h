// What every request of one router shares. Lives as long as any of its coroutines.
#pragma once

#include <atomic>
#include <memory>

#include "common/line_writer.h"
#include "http/client.h"
#include "router/admission.h"
#include "router/cors.h"
#include "router/metrics.h"
#include "router/options.h"
#include "router/registry.h"

namespace baton::router {

namespace asio = boost::asio;

struct Services {
  Services(asio::any_io_executor run_on, RouterOptions settings)
      : executor(run_on),
        options(std::move(settings)),
        metrics(options.pd_disaggregation, options.duration_buckets),
        registry(std::make_shared<Registry>(options, metrics)),
        admission(std::make_shared<Admission>(options.admission, metrics, WorkersFullOf(options, registry))),
        cors(options.cors_origins),
        client(run_on, ClientOptionsOf(options)) {}

  static http::ClientOptions ClientOptionsOf(const RouterOptions& o) {
    http::ClientOptions c;
    c.connect_timeout = o.connect_timeout;
    // Below the 5 s after which uvicorn closes, and far below what load balancers and NAT tables keep: a
    // new connection costs a round trip, a dead one a request.
    c.idle_timeout = std::chrono::seconds(4);
    c.tls = o.worker_tls;
    return c;
  }

  static std::function<bool()> WorkersFullOf(const RouterOptions& o,
                                             const std::shared_ptr<Registry>& registry) {
    if (o.worker_queue_limit <= 0 && o.worker_kv_limit <= 0) return {};
    return [registry] { return registry->WorkersFull(Now()); };
  }

  bool Ready() const { return !draining && unsynced == 0 && registry->Ready(); }

  const asio::any_io_executor executor;
  const RouterOptions options;
  RouterMetrics metrics;
  const std::shared_ptr<Registry> registry;
  const std::shared_ptr<Admission> admission;
  const Cors cors;
  std::unique_ptr<LineWriter> access_log;  // nullptr: none; set before the server starts
  http::Client client;
  std::atomic<TimePoint> last_pair{TimePoint{}};  // when workers for a request were found last
  std::atomic<int> unsynced{0};  // sources of discovery that have not told their first set
  std::atomic<bool> draining{false};
  std::atomic<bool> stopped{false};
};

}  // namespace baton::router
