#include "router/metrics.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

namespace baton::router {
namespace {

// Bounds of sglang-router's --prometheus-duration-buckets, seconds.
std::vector<double> DurationBounds() {
  return {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,  2.5,
          5,     10,    15,   30,    45,   60,  90,   120, 180, 240};
}

constexpr std::string_view kUnknownModel = "unknown";
constexpr const char* kUpstreamHelp = "Answers of workers";
constexpr std::array<std::string_view, 3> kSides = {"prefill", "decode", "worker"};

size_t SideIndex(std::string_view role) { return role == kSides[0] ? 0 : role == kSides[1] ? 1 : 2; }

// sglang-router's name of a route in labels.
std::string EndpointOf(Api api) {
  switch (api) {
    case Api::kGenerate: return "generate";
    case Api::kChat: return "chat";
    case Api::kCompletions: return "completions";
    case Api::kRerank: return "rerank";
  }
  return "";
}

metrics::Labels UpstreamLabels(std::string_view role, int status) {
  return {{"router_type", "http"}, {"worker_type", std::string(role)},
          {"status_code", fmt::format("{}", status)}, {"error_code", ""}};
}

// Seconds; the ranges are not cumulative, so that a heat map can show them.
constexpr std::array kAgeBounds = {30, 60, 180, 300, 600, 1200, 3600, 7200, 14400, 28800, 86400};

// Seconds between two events of a stream.
std::vector<double> EventBounds() {
  return {0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2, 4, 8};
}

}  // namespace

size_t InflightAges::Begin(TimePoint now) {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    began_.push_back(now);
    return began_.size() - 1;
  }
  const size_t place = free_.back();
  free_.pop_back();
  began_[place] = now;
  return place;
}

void InflightAges::End(size_t place) {
  const std::lock_guard lock(mutex_);
  began_[place] = {};
  free_.push_back(place);
}

size_t InflightAges::Count(double over_s, double upto_s, TimePoint now) const {
  const std::lock_guard lock(mutex_);
  return static_cast<size_t>(std::count_if(began_.begin(), began_.end(), [&](TimePoint began) {
    const double age = Seconds(now - began);
    return began != TimePoint{} && (age > over_s || over_s == 0) && age <= upto_s;
  }));
}

void RouterMetrics::AddAges() {
  for (size_t i = 0; i <= kAgeBounds.size(); ++i) {
    const bool last = i == kAgeBounds.size();
    const double over = i == 0 ? 0 : kAgeBounds[i - 1];
    const double upto = last ? std::numeric_limits<double>::infinity() : kAgeBounds[i];
    registry_.AddCallback("smg_http_inflight_request_age_count", "Requests under way by age in seconds, not cumulative",
                          [this, over, upto] { return static_cast<double>(inflight.Count(over, upto, Now())); },
                          {{"gt", fmt::format("{}", over)}, {"le", last ? "+Inf" : fmt::format("{}", upto)}});
  }
}

void RouterMetrics::SetConnections(std::function<double()> count) {
  registry_.AddCallback("smg_http_connections_active", "Open connections of clients", std::move(count));
}

std::unique_ptr<RequestSeries> RouterMetrics::MakeSeries(const std::string& model) {
  auto series = std::make_unique<RequestSeries>();
  series->model = model;
  for (Api api : kAllApis) {
    const metrics::Labels ours = {{"model", model}, {"endpoint", EndpointOf(api)}};
    metrics::Labels labels = {{"router_type", "http"}, {"backend_type", backend_}, {"connection_mode", "http"}};
    labels.insert(labels.end(), ours.begin(), ours.end());
    series->durations[Index(api)] = registry_.AddHistogram(
        "smg_router_request_duration_seconds", "From request to the end of the answer", bounds_, labels);
    series->first_byte[Index(api)] = registry_.AddHistogram(
        "baton_router_time_to_first_byte_seconds", "From request to the first byte of the body sent to the client", bounds_, ours);
    series->between_events[Index(api)] = registry_.AddHistogram(
        "baton_router_inter_event_seconds", "Between two arrivals of a stream's events from its worker", EventBounds(), ours);
    for (bool stream : {false, true}) {
      metrics::Labels with = labels;
      with.emplace_back("streaming", stream ? "true" : "false");
      series->requests[Index(api)][stream] = registry_.AddCounter("smg_router_requests_total", "Requests routed", with);
    }
  }
  return series;
}

void RouterMetrics::KnowModel(const std::string& model) {
  const std::lock_guard lock(models_mutex_);
  auto& series = models_[model];
  if (!series) series = MakeSeries(model);
}

const RequestSeries& RouterMetrics::SeriesOf(std::string_view model) const {
  const std::shared_lock lock(models_mutex_);
  const auto found = models_.find(model);
  return found == models_.end() ? *unknown_ : *found->second;
}

RouterMetrics::RouterMetrics(bool pd, std::vector<double> duration_buckets)
    : backend_(pd ? "pd" : "regular"),
      bounds_(duration_buckets.empty() ? DurationBounds() : std::move(duration_buckets)) {
  for (Api api : kAllApis) {
    const metrics::Labels route = {{"method", "POST"}, {"path", std::string(PathOf(api))}};
    http_requests_[Index(api)] = registry_.AddCounter("smg_http_requests_total", "HTTP requests by route", route);
    http_durations_[Index(api)] =
        registry_.AddHistogram("smg_http_request_duration_seconds", "HTTP request duration", bounds_, route);
  }
  KnowModel(std::string(kUnknownModel));
  unknown_ = models_.begin()->second.get();
  for (std::string_view role : kSides) {
    ok_upstream_[SideIndex(role)] = registry_.AddCounter("smg_router_upstream_responses_total", kUpstreamHelp,
                                                         UpstreamLabels(role, 200));
  }
  AddAges();
  queued = registry_.AddGauge("baton_router_queued_requests", "Requests that wait for admission");
  admitted = registry_.AddGauge("baton_router_admitted_requests",
                                "Requests that hold one of --max-concurrent-requests places");
  queue_seconds = registry_.AddHistogram("baton_router_queue_seconds", "Time spent waiting for admission", bounds_);
  const char* limit = "smg_http_rate_limit_total";
  const char* limit_help = "Requests by the admission's decision";
  allowed_ = registry_.AddCounter(limit, limit_help, {{"result", "allowed"}});
  rejected_ = registry_.AddCounter(limit, limit_help, {{"result", "rejected"}});
  requests_active = registry_.AddGauge("smg_router_requests_active", "Requests in progress");
  cancelled = registry_.AddCounter("baton_router_cancelled_total",
                                   "Requests whose client went away before the answer was complete");
  stream_errors = registry_.AddCounter("baton_router_stream_errors_total",
                                       "Streams that failed after their first byte");
  migrations = registry_.AddCounter("baton_router_migrations_total",
                                    "Streams that went on at another pair after their worker failed");
  migrations_exhausted = registry_.AddCounter("baton_router_migrations_exhausted_total",
                                              "Streams that broke once more than --max-migrations");
  poisoned = registry_.AddCounter("baton_router_poisoned_requests_total",
                                  "Requests given up because too many workers died with them on board");
  ok_responses_ = registry_.AddCounter("smg_http_responses_total", "Responses to clients",
                                       {{"status_code", "200"}, {"error_code", ""}});
}

// Counts under the lock that ForWorker holds while it makes the series.
class RouterMetrics::WorkerHold {
 public:
  WorkerHold(std::shared_ptr<Store> store, std::string url) : store_(std::move(store)), url_(std::move(url)) {
    ++store_->workers[url_];
  }
  WorkerHold(const WorkerHold&) = delete;
  WorkerHold& operator=(const WorkerHold&) = delete;
  ~WorkerHold() {
    const std::lock_guard lock(store_->mutex);
    if (--store_->workers[url_] > 0) return;
    store_->workers.erase(url_);
    store_->registry.Drop("worker", url_);
  }

 private:
  const std::shared_ptr<Store> store_;
  const std::string url_;
};

WorkerMetrics RouterMetrics::ForWorker(const std::string& url) {
  const std::lock_guard lock(store_->mutex);
  const metrics::Labels worker = {{"worker", url}};
  const auto with = [&](const char* key, const char* value) {
    metrics::Labels labels = worker;
    labels.emplace_back(key, value);
    return labels;
  };
  WorkerMetrics m;
  m.hold = std::make_shared<WorkerHold>(store_, url);
  m.active = registry_.AddGauge("smg_worker_requests_active", "Requests in flight", worker);
  m.health = registry_.AddGauge("smg_worker_health", "1 healthy, 0 unhealthy, -1 removed, while requests still run there", worker);
  m.breaker_state =
      registry_.AddGauge("smg_worker_cb_state", "Breaker: 0 closed, 1 open, 2 half open", worker);
  m.breaker_failures = registry_.AddGauge("smg_worker_cb_consecutive_failures",
                                          "Failures in a row that the worker is guilty of", worker);
  m.breaker_successes = registry_.AddGauge("smg_worker_cb_consecutive_successes",
                                           "Good outcomes since the last failure", worker);
  const char* checks = "smg_worker_health_checks_total";
  m.checks_good = registry_.AddCounter(checks, "Health checks", with("result", "success"));
  m.checks_bad = registry_.AddCounter(checks, "Health checks", with("result", "failure"));
  const char* outcomes = "smg_worker_cb_outcomes_total";
  const char* outcomes_help = "Outcomes charged to the breaker";
  m.outcomes_good = registry_.AddCounter(outcomes, outcomes_help, with("outcome", "success"));
  m.outcomes_bad = registry_.AddCounter(outcomes, outcomes_help, with("outcome", "failure"));
  m.reported_tokens = registry_.AddGauge("baton_router_worker_reported_tokens",
                                         "KV tokens in use as the worker said last", worker);
  m.reported_waiting = registry_.AddGauge("baton_router_worker_reported_waiting",
                                          "Waiting requests as the worker said last", worker);
  return m;
}

metrics::Gauge* RouterMetrics::PoolSize(std::string_view role, const std::string& model) {
  return registry_.AddGauge("smg_worker_pool_size", "Registered workers",
                            {{"worker_type", std::string(role)}, {"connection_mode", "http"}, {"model", model}});
}

metrics::Counter* RouterMetrics::Selections(std::string_view role, const std::string& model,
                                            std::string_view policy) {
  return registry_.AddCounter("smg_worker_selection_total", "Workers picked",
                              {{"worker_type", std::string(role)},
                               {"connection_mode", "http"},
                               {"model", model},
                               {"policy", std::string(policy)}});
}

void RouterMetrics::CountBreakerTransition(const std::string& url, std::string_view from,
                                           std::string_view to) {
  registry_
      .AddCounter("smg_worker_cb_transitions_total", "Breaker state changes",
                  {{"worker", url}, {"from", std::string(from)}, {"to", std::string(to)}})
      ->Add();
}

void RouterMetrics::CountResponse(int status, std::string_view error_code) {
  if (status == 200 && error_code.empty()) return ok_responses_->Add();
  registry_
      .AddCounter("smg_http_responses_total", "Responses to clients",
                  {{"status_code", fmt::format("{}", status)}, {"error_code", std::string(error_code)}})
      ->Add();
}

void RouterMetrics::CountRequestError(Api api, const std::string& model, std::string_view error_code) {
  registry_
      .AddCounter("smg_router_request_errors_total", "Requests answered with an error",
                  {{"router_type", "http"},
                   {"backend_type", backend_},
                   {"connection_mode", "http"},
                   {"model", model},
                   {"endpoint", EndpointOf(api)},
                   {"error_type", std::string(error_code)}})
      ->Add();
}

void RouterMetrics::CountUpstreamResponse(std::string_view role, int status) {
  if (status == 200) return ok_upstream_[SideIndex(role)]->Add();
  registry_.AddCounter("smg_router_upstream_responses_total", kUpstreamHelp, UpstreamLabels(role, status))->Add();
}

void RouterMetrics::CountWorkerError(std::string_view role, std::string_view kind) {
  registry_
      .AddCounter("smg_worker_errors_total", "Failed requests by the guilty side",
                  {{"worker_type", std::string(role)}, {"connection_mode", "http"}, {"error_type", std::string(kind)}})
      ->Add();
}

void RouterMetrics::CountRetry(Api api, std::string_view role, int attempt, double backoff_seconds) {
  registry_
      .AddCounter("smg_worker_retries_total", "Attempts after the first, by the side that failed",
                  {{"worker_type", std::string(role)}, {"endpoint", EndpointOf(api)}})
      ->Add();
  registry_
      .AddHistogram("smg_worker_retry_backoff_seconds", "Delay before a retry", bounds_,
                    {{"attempt", fmt::format("{}", attempt)}})
      ->Observe(backoff_seconds);
}

void RouterMetrics::CountRetriesExhausted(Api api, std::string_view role) {
  registry_
      .AddCounter("smg_worker_retries_exhausted_total", "Requests that failed on every attempt",
                  {{"worker_type", std::string(role)}, {"endpoint", EndpointOf(api)}})
      ->Add();
}

void RouterMetrics::CountTwinAbort(std::string_view guilty) {
  registry_
      .AddCounter("baton_router_twin_aborts_total",
                  "Requests cancelled on one worker because the other one failed",
                  {{"guilty", std::string(guilty)}})
      ->Add();
}

void RouterMetrics::CountRegistration(std::string_view source, std::string_view result) {
  registry_
      .AddCounter("smg_discovery_registrations_total", "Workers found by discovery, by what came of it",
                  {{"source", std::string(source)}, {"result", std::string(result)}})
      ->Add();
}

void RouterMetrics::CountDeregistration(std::string_view source) {
  registry_
      .AddCounter("smg_discovery_deregistrations_total", "Workers removed by discovery",
                  {{"source", std::string(source)}})
      ->Add();
}

metrics::Gauge* RouterMetrics::DiscoveredWorkers(std::string_view source) {
  return registry_.AddGauge("smg_discovery_workers_discovered", "Workers that discovery has registered now",
                            {{"source", std::string(source)}});
}

void RouterMetrics::CountHttpSeries(std::string_view method, std::string_view path,
                                    double seconds) {
  metrics::Labels labels = {{"method", std::string(method)}, {"path", std::string(path)}};
  registry_.AddCounter("smg_http_requests_total", "HTTP requests by route", labels)->Add();
  registry_
      .AddHistogram("smg_http_request_duration_seconds", "HTTP request duration", bounds_,
                    std::move(labels))
      ->Observe(seconds);
}

}  // namespace baton::router
