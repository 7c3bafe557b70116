#include "router/metrics.h"

#include <fmt/format.h>

namespace baton::router {
namespace {

// Bounds of sglang-router's --prometheus-duration-buckets, seconds.
std::vector<double> DurationBounds() {
  return {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,  2.5,
          5,     10,    15,   30,    45,   60,  90,   120, 180, 240};
}

}  // namespace

RouterMetrics::RouterMetrics(bool pd, std::vector<double> duration_buckets)
    : backend_(pd ? "pd" : "regular"),
      bounds_(duration_buckets.empty() ? DurationBounds() : std::move(duration_buckets)) {
  for (Api api : {Api::kGenerate, Api::kChat, Api::kCompletions}) {
    const std::string endpoint(PathOf(api));
    for (bool stream : {false, true}) {
      requests_[Index(api)][stream] =
          registry_.AddCounter("smg_router_requests_total", "Requests routed",
                               {{"router_type", "http"},
                                {"backend_type", backend_},
                                {"connection_mode", "http"},
                                {"endpoint", endpoint},
                                {"streaming", stream ? "true" : "false"}});
    }
    durations_[Index(api)] =
        registry_.AddHistogram("smg_router_request_duration_seconds",
                               "From request to the end of the answer", bounds_,
                               {{"endpoint", endpoint}});
    ttft_[Index(api)] =
        registry_.AddHistogram("baton_router_time_to_first_byte_seconds",
                               "From request to the first byte of the body sent to the client",
                               bounds_, {{"endpoint", endpoint}});
    const metrics::Labels route = {{"method", "POST"}, {"path", endpoint}};
    http_requests_[Index(api)] = registry_.AddCounter("smg_http_requests_total", "HTTP requests by route", route);
    http_durations_[Index(api)] =
        registry_.AddHistogram("smg_http_request_duration_seconds", "HTTP request duration", bounds_, route);
  }
  queued = registry_.AddGauge("baton_router_queued_requests", "Requests that wait for admission");
  admitted = registry_.AddGauge("baton_router_admitted_requests",
                                "Requests that hold one of --max-concurrent-requests places");
  queue_seconds = registry_.AddHistogram("baton_router_queue_seconds", "Time spent waiting for admission", bounds_);
  const char* limit = "smg_http_rate_limit_total";
  const char* limit_help = "Requests by the admission's decision";
  allowed_ = registry_.AddCounter(limit, limit_help, {{"result", "allowed"}});
  rejected_ = registry_.AddCounter(limit, limit_help, {{"result", "rejected"}});
  backoff_ = registry_.AddHistogram("smg_worker_retry_backoff_seconds", "Delay before a retry",
                                    bounds_);
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

WorkerMetrics RouterMetrics::ForWorker(const std::string& url) {
  const metrics::Labels worker = {{"worker", url}};
  const auto with = [&](const char* key, const char* value) {
    metrics::Labels labels = worker;
    labels.emplace_back(key, value);
    return labels;
  };
  WorkerMetrics m;
  m.active = registry_.AddGauge("smg_worker_requests_active", "Requests in flight", worker);
  m.health = registry_.AddGauge("smg_worker_health", "1 healthy, 0 unhealthy, -1 removed", worker);
  m.breaker_state =
      registry_.AddGauge("smg_worker_cb_state", "Breaker: 0 closed, 1 open, 2 half open", worker);
  m.breaker_failures = registry_.AddGauge("smg_worker_cb_consecutive_failures",
                                          "Failures in a row that the worker is guilty of", worker);
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

metrics::Gauge* RouterMetrics::PoolSize(std::string_view role) {
  return registry_.AddGauge("smg_worker_pool_size", "Registered workers",
                            {{"worker_type", std::string(role)}});
}

metrics::Counter* RouterMetrics::Selections(std::string_view role, std::string_view policy) {
  return registry_.AddCounter("smg_worker_selection_total", "Workers picked",
                              {{"worker_type", std::string(role)},
                               {"connection_mode", "http"},
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
  if (error_code.empty()) return;
  registry_
      .AddCounter("smg_router_request_errors_total", "Requests answered with an error",
                  {{"error_type", std::string(error_code)}})
      ->Add();
}

void RouterMetrics::CountUpstreamResponse(std::string_view role, int status) {
  registry_
      .AddCounter("smg_router_upstream_responses_total", "Answers of workers other than 200",
                  {{"worker_type", std::string(role)}, {"status_code", fmt::format("{}", status)}})
      ->Add();
}

void RouterMetrics::CountWorkerError(std::string_view role, std::string_view kind) {
  registry_
      .AddCounter("smg_worker_errors_total", "Failed requests by the guilty side",
                  {{"worker_type", std::string(role)}, {"error_type", std::string(kind)}})
      ->Add();
}

void RouterMetrics::CountRetry(Api api, std::string_view role, double backoff_seconds) {
  registry_
      .AddCounter("smg_worker_retries_total", "Attempts after the first, by the side that failed",
                  {{"worker_type", std::string(role)}, {"endpoint", std::string(PathOf(api))}})
      ->Add();
  backoff_->Observe(backoff_seconds);
}

void RouterMetrics::CountRetriesExhausted(Api api) {
  registry_
      .AddCounter("smg_worker_retries_exhausted_total", "Requests that failed on every attempt",
                  {{"endpoint", std::string(PathOf(api))}})
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
