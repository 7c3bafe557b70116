// What every handler of one server borrows: the engine, the text side, the PD service of its role,
// and the metrics. Made once at start, read-only afterwards.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "common/metrics.h"
#include "disagg/decode.h"
#include "disagg/prefill.h"
#include "engine/engine.h"
#include "server/active_requests.h"
#include "server/model_text.h"
#include "server/options.h"

namespace baton::server {

// Per-request series (specs/sglang-pd-protocol.md section 2.6). Registered once.
struct RequestMetrics {
  metrics::Counter* requests;
  metrics::Counter* aborted;
  metrics::Counter* prompt_tokens;
  metrics::Counter* generation_tokens;
  metrics::Counter* cached_tokens;
  metrics::Histogram* ttft_seconds;
  metrics::Histogram* itl_seconds;
  metrics::Histogram* e2e_seconds;
  metrics::Histogram* queue_seconds;
};

struct Context {
  ServerOptions options;
  std::string model_name;          // served name
  std::string model_type;          // config architecture
  ModelText text;
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<disagg::PrefillService> prefill;  // Mode::kPrefill
  std::unique_ptr<disagg::DecodeService> decode;    // Mode::kDecode
  metrics::Registry registry;
  RequestMetrics metrics;
  ActiveRequests active;
  std::atomic<bool> ready{false};     // warm-up is over
  std::atomic<bool> draining{false};
  std::atomic<uint64_t> next_seed{1};
  double started_at = 0;              // unix seconds

  Context(ServerOptions options_in, metrics::Labels labels)
      : options(std::move(options_in)), registry(std::move(labels)) {}

  // To the engine, by way of the role's PD service.
  Status Submit(engine::Request request, const api::Bootstrap& bootstrap, bool want_prompt_logprobs,
                std::function<void(const disagg::TransferTiming&)> on_transfer);
  void Abort(RequestId id);
};

}  // namespace baton::server
