// The router's Prometheus metrics: sglang-router's names (specs/sglang-pd-protocol.md 3.10, prefix
// smg_) and ours (prefix baton_router_) for what an HTTP PD router there does not tell: TTFT, time
// between events, cancels, aborted twins, who was guilty. Hot-path updates touch only atomics.
//
// The label `model` is a name that some worker serves, else "unknown": clients cannot make series.
// Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/metrics.h"
#include "router/bootstrap.h"

namespace baton::router {

// Series of one worker. They leave /metrics with the last copy of this, so that workers that come and
// go under ever new addresses do not fill it.
struct WorkerMetrics {
  std::shared_ptr<const void> hold;
  metrics::Gauge* active = nullptr;
  metrics::Gauge* health = nullptr;
  metrics::Gauge* breaker_state = nullptr;
  metrics::Gauge* breaker_failures = nullptr;
  metrics::Gauge* breaker_successes = nullptr;
  metrics::Counter* checks_good = nullptr;
  metrics::Counter* checks_bad = nullptr;
  metrics::Counter* outcomes_good = nullptr;
  metrics::Counter* outcomes_bad = nullptr;
  metrics::Gauge* reported_tokens = nullptr;
  metrics::Gauge* reported_waiting = nullptr;
};

// Series of the requests for one model.
struct RequestSeries {
  std::string model;
  std::array<std::array<metrics::Counter*, 2>, kApiCount> requests{};  // by API and streaming
  std::array<metrics::Histogram*, kApiCount> durations{};
  std::array<metrics::Histogram*, kApiCount> first_byte{};
  std::array<metrics::Histogram*, kApiCount> between_events{};
};

// When the requests under way began. Thread-safe.
class InflightAges {
 public:
  size_t Begin(TimePoint now);  // the place to End
  void End(size_t place);
  // Requests older than `over_s` and at most `upto_s`.
  size_t Count(double over_s, double upto_s, TimePoint now) const;

 private:
  mutable std::mutex mutex_;
  std::vector<TimePoint> began_;  // TimePoint{}: free
  std::vector<size_t> free_;
};

class RouterMetrics {
 public:
  explicit RouterMetrics(bool pd, std::vector<double> duration_buckets = {});

  WorkerMetrics ForWorker(const std::string& url);
  metrics::Gauge* PoolSize(std::string_view role, const std::string& model);
  metrics::Counter* Selections(std::string_view role, const std::string& model, std::string_view policy);
  void CountBreakerTransition(const std::string& url, std::string_view from, std::string_view to);

  // A worker serves this model.
  void KnowModel(const std::string& model);
  // Lives as long as this object.
  const RequestSeries& SeriesOf(std::string_view model) const;
  // One finished client request of any route. `error_code` is "" for successes.
  void CountResponse(int status, std::string_view error_code);
  void CountRequestError(Api api, const std::string& model, std::string_view error_code);
  void CountUpstreamResponse(std::string_view role, int status);
  void CountWorkerError(std::string_view role, std::string_view kind);
  // `attempt`: the one that failed, from 1.
  void CountRetry(Api api, std::string_view role, int attempt, double backoff_seconds);
  void CountRetriesExhausted(Api api, std::string_view role);
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

  InflightAges inflight;
  // For the gauge of connections; set once, before anyone scrapes.
  void SetConnections(std::function<double()> count);

  metrics::Registry& registry() { return registry_; }
  std::string Render() const { return registry_.Render(); }

 private:
  // Outlives this object as long as someone has a worker's series.
  struct Store {
    metrics::Registry registry;
    std::mutex mutex;
    std::map<std::string, size_t> workers;  // by URL: two roles may have one, and the one before lives on in its requests
  };
  class WorkerHold;
  static size_t Index(Api api) { return static_cast<size_t>(api); }

  const std::shared_ptr<Store> store_ = std::make_shared<Store>();
  metrics::Registry& registry_ = store_->registry;
  const char* backend_;
  const std::vector<double> bounds_;
  void AddAges();
  std::unique_ptr<RequestSeries> MakeSeries(const std::string& model);

  mutable std::shared_mutex models_mutex_;
  std::map<std::string, std::unique_ptr<RequestSeries>, std::less<>> models_;
  const RequestSeries* unknown_ = nullptr;
  std::array<metrics::Counter*, kApiCount> http_requests_{};
  std::array<metrics::Histogram*, kApiCount> http_durations_{};
  metrics::Counter* allowed_ = nullptr;
  metrics::Counter* rejected_ = nullptr;
  metrics::Counter* ok_responses_ = nullptr;  // status 200 without an error code
  std::array<metrics::Counter*, 3> ok_upstream_{};  // status 200, by SideIndex
};

}  // namespace baton::router
