// The prefill side of PD: the bootstrap server that decode servers talk to, and the sessions that
// push KV layer by layer into the pages that decode granted. Request walk-through: docs.
//
// All methods from any thread. Runs on a strand of the given executor; KV pushes happen on the
// engine thread and only enqueue.
#pragma once

#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "api/generate.h"
#include "common/metrics.h"
#include "disagg/link.h"

namespace baton::disagg {

struct PrefillOptions {
  LinkOptions link;
  std::string host = "127.0.0.1";   // the bootstrap server binds here
  uint16_t bootstrap_port = 8998;   // 0 picks one (tests)
};

struct PrefillCounts {
  int bootstrapping = 0;  // one half waits for the other
  int inflight = 0;       // computing or sending
};

class PrefillService {
 public:
  // Opens the fabric and the bootstrap server. kUnavailable: port in use; others from the fabric.
  static Result<std::unique_ptr<PrefillService>> Start(boost::asio::any_io_executor executor,
                                                       engine::Engine& engine, PrefillOptions options);
  ~PrefillService();

  // The request's sink gets exactly one event, when the KV has been handed over or when that
  // failed. kInvalidArgument without a room. Host kFakeBootstrapHost computes without handing over.
  Status Submit(engine::Request request, const api::Bootstrap& bootstrap);
  void Abort(RequestId id);

  uint16_t bootstrap_port() const;
  const transfer::FabricReport& fabric() const;
  PrefillCounts counts() const;
  // The same for code that may outlive this object.
  std::function<PrefillCounts()> CountsReader() const;
  transfer::Engine::Usage transfer_usage() const;
  void ExportMetrics(metrics::Registry& registry);
  void Stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace baton::disagg
