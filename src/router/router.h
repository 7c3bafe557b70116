// The router as one object: `baton router` and `baton up` start it in their own process.
//
// Links no engine. All work runs on the executor given to Start (an io_context with any number of
// threads), except that requests run on `loops` when there are any; no thread is made here. To end: Drain(), wait for OpenRequests() == 0 or the grace
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

struct Services;

class Router {
 public:
  // Validates, registers the workers, binds both listeners. Returns at once: workers take requests
  // when their first health check succeeds (GET /readiness tells). kInvalidArgument names a bad
  // option, kUnavailable the address that cannot be bound.
  // `loops`: as of http::ServerOptions; a client's request and its workers' connections share one.
  static Result<std::unique_ptr<Router>> Start(boost::asio::any_io_executor executor,
                                               RouterOptions options,
                                               std::vector<boost::asio::any_io_executor> loops = {});
  ~Router();  // Stop()

  uint16_t port() const;             // of the main listener
  uint16_t prometheus_port() const;  // 0 when there is none
  bool Ready() const;                // a healthy worker of each needed role, and not draining

  // Readiness turns 503, no connection is accepted any more, running requests go on.
  void Drain();
  size_t OpenRequests() const;
  // Closes everything now. Safe to call twice. Thread-safe, like all of the above.
  void Stop();

 private:
  Router() = default;
  std::shared_ptr<Services> services_;
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<http::Server> metrics_server_;
};

}  // namespace baton::router
