// The decode side of PD: reserves pages, grants them to the prefill server that the router chose,
// and starts the request when every byte has landed.
//
// All methods from any thread; runs on a strand of the given executor.
#pragma once

#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "api/generate.h"
#include "common/metrics.h"
#include "disagg/link.h"

namespace baton::disagg {

struct DecodeOptions {
  LinkOptions link;
  uint16_t default_bootstrap_port = 8998;  // when a request carries none
};

struct DecodeCounts {
  int prealloc = 0;      // waiting for peer or pages
  int transfer = 0;      // granted, waiting for KV
  int quarantined = 0;   // failed, pages held until prefill confirms or is fenced
  int prefills = 0;      // addresses of prefill servers that are known
};

// What the hand-over of one request cost: shown on the chat page, summed in /metrics.
struct TransferTiming {
  double prefill_ms = 0;         // compute on the prefill side
  double prefill_queue_ms = 0;
  double transfer_ms = 0;        // first to last write as decode saw them
  // Until decode could start, below zero when not known because the two have no clock in common:
  double exposed_ms = -1;        // from the last layer's keys and values: what layers cannot hide, with
                                 // the rest of that layer, the head and the sampling in it
  double handover_ms = -1;       // from prefill's first token: what one server would not have spent
  double after_seal_ms = 0;      // from the seal's arrival until decode could start
  uint64_t bytes = 0;
  int cached_tokens = 0;
};

class DecodeService {
 public:
  static Result<std::unique_ptr<DecodeService>> Start(boost::asio::any_io_executor executor,
                                                      engine::Engine& engine, DecodeOptions options);
  ~DecodeService();

  // The request's sink gets all its tokens, the first (from prefill) included. `on_transfer` is
  // called once before that, if the KV came from a peer. Host kFakeBootstrapHost runs it here whole.
  Status Submit(engine::Request request, const api::Bootstrap& bootstrap, bool want_prompt_logprobs,
                std::function<void(const TransferTiming&)> on_transfer);
  void Abort(RequestId id);

  // Pairs with the prefill server of `bootstrap` (its room does not matter) ahead of the first request.
  // `done` hears on the service's strand: OK, or why not; after registration's own deadlines at the latest.
  Status Pair(const api::Bootstrap& bootstrap, std::function<void(Status)> done);

  const transfer::FabricReport& fabric() const;
  DecodeCounts counts() const;
  // The same for code that may outlive this object.
  std::function<DecodeCounts()> CountsReader() const;
  transfer::Engine::Usage transfer_usage() const;
  void ExportMetrics(metrics::Registry& registry);
  void Stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace baton::disagg
