// The router as one object: `baton router` and `baton up` start it in their own process.
//
// Links no engine. All work runs on the executor given to Start (an io_context with any number of
// threads), except that requests run on `loops` when there are any; no thread is made here. To end:
// Withdraw(), time for load balancers to notice, Drain(), wait for OpenRequests() == 0 or the grace
// period, Stop(), let the executor run dry, destroy.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "common/status.h"
#include "http/server.h"
#include "router/options.h"

namespace baton::router {

class Discovery;
class OwnedWorkers;
struct Services;

class Router {
 public:
  // Validates, registers the workers, binds both listeners. Returns at once: workers take requests
  // when their first health check succeeds (GET /readiness tells). kInvalidArgument names a bad
  // option or workers file, kUnavailable the address that cannot be bound.
  // `loops`: as of http::ServerOptions; a client's request and its workers' connections share one.
  static Result<std::unique_ptr<Router>> Start(boost::asio::any_io_executor executor,
                                               RouterOptions options,
                                               std::vector<boost::asio::any_io_executor> loops = {});
  ~Router();  // Stop()

  uint16_t port() const;             // of the main listener
  uint16_t prometheus_port() const;  // 0 when there is none
  bool Ready() const;                // a healthy worker of each needed role, and not draining

  // Makes the workers of `prefill`, `decode` and `worker_urls` those of `fresh`, of which nothing else is
  // used; other workers stay. kInvalidArgument, and nothing is changed, when Start would refuse them.
  Status ReplaceListed(const RouterOptions& fresh);
  // Reads the workers file now, if there is one. A failure changes nothing.
  Status ReloadWorkersFile();

  // Readiness and health turn 503; requests are served as before.
  void Withdraw();
  // Also, no connection is accepted any more, running requests go on.
  void Drain();
  size_t OpenRequests() const;
  // Closes everything now. Safe to call twice. Thread-safe, like all of the above.
  void Stop();
  // Opens the access log's file again, for tools that moved it away.
  void ReopenLogs();

 private:
  Router() = default;
  std::shared_ptr<Services> services_;
  std::shared_ptr<http::Server> server_;  // shared with the gauge of its connections
  std::unique_ptr<http::Server> metrics_server_;
  std::shared_ptr<OwnedWorkers> listed_;  // of the options
  std::unique_ptr<Discovery> discovery_;
};

}  // namespace baton::router
