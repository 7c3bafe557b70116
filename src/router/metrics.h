// The router's Prometheus metrics: sglang-router's names (specs/sglang-pd-protocol.md 3.10, prefix
// smg_) and ours (prefix baton_router_) for what an HTTP PD router there does not tell: TTFT,
// cancels, aborted twins, who was guilty. Hot-path updates touch only atomics. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "common/metrics.h"
#include "router/bootstrap.h"

namespace baton::router {

// Series of one worker; the pointers live as long as the registry.
struct WorkerMetrics {
  metrics::Gauge* active = nullptr;
  metrics::Gauge* health = nullptr;
  metrics::Gauge* breaker_state = nullptr;
  metrics::Gauge* breaker_failures = nullptr;
  metrics::Counter* checks_good = nullptr;
  metrics::Counter* checks_bad = nullptr;
  metrics::Counter* outcomes_good = nullptr;
  metrics::Counter* outcomes_bad = nullptr;
  metrics::Gauge* reported_tokens = nullptr;
  metrics::Gauge* reported_waiting = nullptr;
};

class RouterMetrics {
 public:
  explicit RouterMetrics(bool pd, std::vector<double> duration_buckets = {});

  WorkerMetrics ForWorker(const std::string& url);
  metrics::Gauge* PoolSize(std::string_view role);
  metrics::Counter* Selections(std::string_view role, std::string_view policy);
  void CountBreakerTransition(const std::string& url, std::string_view from, std::string_view to);

  void CountRequest(Api api, bool stream) { requests_[Index(api)][stream]->Add(); }
  // One finished client request of any route. `error_code` is "" for successes.
  void CountResponse(int status, std::string_view error_code);
  void ObserveDuration(Api api, double seconds) { durations_[Index(api)]->Observe(seconds); }
  void ObserveTtft(Api api, double seconds) { ttft_[Index(api)]->Observe(seconds); }
  void CountUpstreamResponse(std::string_view role, int status);
  void CountWorkerError(std::string_view role, std::string_view kind);
  void CountRetry(Api api, std::string_view role, double backoff_seconds);
  void CountRetriesExhausted(Api api);
  void CountTwinAbort(std::string_view guilty);
  void CountHttpSeries(std::string_view method, std::string_view path, double seconds);

  // `result`: success, duplicate (the URL is registered already) or failed.
  void CountRegistration(std::string_view source, std::string_view result);
  void CountDeregistration(std::string_view source);
  metrics::Gauge* DiscoveredWorkers(std::string_view source);

  void CountAdmission(bool allowed) { (allowed ? allowed_ : rejected_)->Add(); }
  // One finished request of a data route; the general form looks its series up by name.
  void CountHttp(Api api, double seconds) {
    http_requests_[Index(api)]->Add();
    http_durations_[Index(api)]->Observe(seconds);
  }

  metrics::Gauge* requests_active = nullptr;
  metrics::Gauge* queued = nullptr;           // requests that wait for admission
  metrics::Gauge* admitted = nullptr;         // requests that hold a place
  metrics::Histogram* queue_seconds = nullptr;
  metrics::Counter* cancelled = nullptr;      // client went away
  metrics::Counter* stream_errors = nullptr;  // failed after the first byte
  metrics::Counter* migrations = nullptr;     // streams that went on at another pair
  metrics::Counter* migrations_exhausted = nullptr;
  metrics::Counter* poisoned = nullptr;       // requests that were on too many workers that died

  metrics::Registry& registry() { return registry_; }
  std::string Render() const { return registry_.Render(); }

 private:
  static size_t Index(Api api) { return static_cast<size_t>(api); }

  metrics::Registry registry_;
  const char* backend_;
  const std::vector<double> bounds_;
  std::array<std::array<metrics::Counter*, 2>, kApiCount> requests_{};
  std::array<metrics::Histogram*, kApiCount> durations_{};
  std::array<metrics::Histogram*, kApiCount> ttft_{};
  std::array<metrics::Counter*, kApiCount> http_requests_{};
  std::array<metrics::Histogram*, kApiCount> http_durations_{};
  metrics::Histogram* backoff_ = nullptr;
  metrics::Counter* allowed_ = nullptr;
  metrics::Counter* rejected_ = nullptr;
  metrics::Counter* ok_responses_ = nullptr;  // status 200 without an error code
};

}  // namespace baton::router
