#include "router/proxy.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "common/log.h"
#include "router/attempt.h"
#include "router/conversation.h"

namespace baton::router {
namespace {

bool IsForwarded(std::string_view name) {
  static constexpr std::string_view kForwarded[] = {
      "authorization", "content-type", "x-request-id",      "x-correlation-id",
      "traceparent",   "tracestate",   "x-smg-routing-key",
  };
  for (std::string_view forwarded : kForwarded) {
    if (http::EqualsIgnoreCase(name, forwarded)) return true;
  }
  constexpr std::string_view kPrefix = "x-request-id-";
  return name.size() > kPrefix.size() && http::EqualsIgnoreCase(name.substr(0, kPrefix.size()), kPrefix);
}

http::Headers ForwardedHeaders(const http::Request& request) {
  http::Headers headers;
  for (const auto& [name, value] : request.headers) {
    if (IsForwarded(name)) headers.Add(name, value);
  }
  if (!headers.Has("Content-Type")) headers.Set("Content-Type", "application/json");
  return headers;
}

std::string BootstrapHost(const http::Origin& origin) {
  return origin.host.find(':') == std::string::npos ? origin.host : "[" + origin.host + "]";
}

double DrawUnit() {
  thread_local std::mt19937_64 random(std::random_device{}());
  return std::uniform_real_distribution<double>(0, 1)(random);
}

struct Pair {
  Lease prefill;
  Lease decode;
};

Result<Pair> PickPair(Services& services, const std::vector<WorkerPtr>& avoid,
                      const Routing& routing) {
  Pair pair;
  const TimePoint now = Now();
  const bool pd = services.options.pd_disaggregation;
  if (pd) {
    auto prefill = services.registry->Acquire(Role::kPrefill, avoid, now, routing);
    if (!prefill.ok()) return prefill.status();
    pair.prefill = std::move(*prefill);
  }
  auto decode = services.registry->Acquire(pd ? Role::kDecode : Role::kRegular, avoid, now, routing);
  if (!decode.ok()) return decode.status();
  pair.decode = std::move(*decode);
  return pair;
}

std::string BodyFor(const Pair& pair, const RequestPlan& plan, const std::string& body) {
  if (!pair.prefill) return body;
  Bootstrap bootstrap;
  bootstrap.host = BootstrapHost(pair.prefill.worker().origin());
  bootstrap.port = pair.prefill.bootstrap_port();
  bootstrap.rooms = DrawRooms(plan.facts.samples);
  return InjectBootstrap(body, plan.facts, bootstrap);
}

RouterError NoWorkers(const Status& status) {
  RouterError error;
  error.message = status.message();
  if (status.code() == Code::kNotFound) {
    error.status = 400;
    error.code = "unknown_target_worker";
    return error;
  }
  error.status = 503;
  error.code = "server_selection_failed";
  error.retry_after = "1";
  return error;
}

asio::awaitable<AttemptResult> TryOnce(std::shared_ptr<Services> services,
                                       std::shared_ptr<Exchange> exchange, const RequestPlan& plan,
                                       const std::vector<WorkerPtr>& avoid,
                                       const std::string& body, http::Responder& responder) {
  auto pair = PickPair(*services, avoid, plan.routing);
  if (!pair.ok()) {
    AttemptResult none;
    none.error = NoWorkers(pair.status());
    none.status = none.error.status;
    none.retryable = none.status == 503;
    none.failed_side = services->options.pd_disaggregation ? Side::kPrefill : Side::kWorker;
    co_return none;
  }
  std::string with_bootstrap = BodyFor(*pair, plan, body);
  const auto attempt = std::make_shared<Attempt>(services, exchange, std::move(pair->prefill),
                                                 std::move(pair->decode));
  co_return co_await attempt->Run(plan, std::move(with_bootstrap), responder);
}

// Attempts until one ends the request. The result is kFailed only when there is nothing left to try.
asio::awaitable<AttemptResult> TryAll(std::shared_ptr<Services> services,
                                      std::shared_ptr<Exchange> exchange, const RequestPlan& plan,
                                      const std::string& body, http::Responder& responder) {
  const RetryRules& rules = services->options.retry;
  std::vector<WorkerPtr> avoid;
  for (int attempt = 1;; ++attempt) {
    AttemptResult result = co_await TryOnce(services, exchange, plan, avoid, body, responder);
    if (result.end != AttemptResult::End::kFailed || !result.retryable) co_return result;
    if (attempt >= rules.max_attempts) {
      if (attempt > 1) services->metrics.CountRetriesExhausted(plan.api);
      co_return result;
    }
    avoid.insert(avoid.end(), result.avoid.begin(), result.avoid.end());
    const Duration delay = BackoffDelay(rules, attempt, DrawUnit());
    const TimePoint until = Now() + delay;
    if (until >= plan.head_deadline) co_return result;
    services->metrics.CountRetry(plan.api, SideName(result.failed_side), Seconds(delay));
    while (Now() < until && !exchange->client_gone()) co_await exchange->Wait(until);
    if (exchange->client_gone()) {
      result.end = AttemptResult::End::kClientGone;
      co_return result;
    }
  }
}

bool IsRefusal(std::string_view code) {
  return code == "queue_full" || code == "queue_timeout" || code == "workers_full" || code == "shutting_down";
}

void Account(Services& services, const RequestPlan& plan, const AttemptResult& result) {
  const double seconds = Seconds(Now() - plan.started);
  services.metrics.ObserveDuration(plan.api, seconds);
  services.metrics.CountHttp(plan.api, seconds);
  if (result.end == AttemptResult::End::kClientGone) {
    services.metrics.cancelled->Add();
    return;
  }
  services.metrics.CountResponse(result.status, result.error.code);
  // Refusals come by the thousand when they come, and the metrics count them.
  if (!result.error.code.empty() && !IsRefusal(result.error.code)) {
    log::warn("request failed: path={} request_id={} status={} code={} message=\"{}\"",
              PathOf(plan.api), plan.request_id, result.status, result.error.code,
              result.error.message);
  }
}

Status ReadRouting(Services& services, Api api, const http::Request& request, RequestPlan* plan) {
  auto target = ParseTargetWorker(request.headers.Get("x-smg-target-worker"));
  if (!target.ok()) return target.status();
  Routing& routing = plan->routing;
  routing.target = std::move(*target);
  routing.key = request.headers.Get("x-smg-routing-key");
  routing.prompt_bytes = plan->facts.prompt.end - plan->facts.prompt.begin;
  if (services.registry->WantsPrompt()) routing.digest = DigestPrompt(api, request.body, plan->facts);
  return Status::Ok();
}

class ActiveGuard {
 public:
  explicit ActiveGuard(metrics::Gauge* gauge) : gauge_(gauge) { gauge_->Add(1); }
  ~ActiveGuard() { gauge_->Add(-1); }
  ActiveGuard(const ActiveGuard&) = delete;
  ActiveGuard& operator=(const ActiveGuard&) = delete;

 private:
  metrics::Gauge* gauge_;
};

}  // namespace

Duration BackoffDelay(const RetryRules& rules, int attempt, double unit) {
  const double base = Seconds(rules.initial_backoff) * std::pow(rules.multiplier, attempt - 1);
  const double capped = std::min(base, Seconds(rules.max_backoff));
  const double factor = 1 + rules.jitter * (2 * unit - 1);
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(capped * factor));
}

asio::awaitable<void> ProxyRequest(std::shared_ptr<Services> services, Api api,
                                   http::Request& request, http::Responder& responder) {
  const ActiveGuard active(services->metrics.requests_active);
  RequestPlan plan;
  plan.api = api;
  plan.started = Now();
  plan.request_id = request.headers.Get("x-request-id");
  auto facts = InspectBody(api, request.body);
  AttemptResult result;
  Admission::Permit permit;  // held until the answer has ended
  Status readable = facts.status();
  if (readable.ok()) {
    plan.facts = std::move(*facts);
    readable = ReadRouting(*services, api, request, &plan);
  }
  if (!readable.ok()) {
    result.error.status = result.status = 400;
    result.error.code = "invalid_request";
    result.error.message = readable.message();
  } else {
    plan.forward = ForwardedHeaders(request);
    plan.head_deadline = plan.started + (plan.facts.stream ? services->options.first_byte_timeout
                                                           : services->options.request_timeout);
    services->metrics.CountRequest(api, plan.facts.stream);
    const auto exchange = std::make_shared<Exchange>(co_await asio::this_coro::executor);
    responder.OnDisconnect([weak = std::weak_ptr<Exchange>(exchange)] {
      if (const auto alive = weak.lock()) alive->OnClientGone();
    });
    Admission::Entry entry;
    if (services->admission->enabled()) {
      const std::string_view tenant = request.headers.Get(services->options.tenant_header);
      entry = co_await services->admission->Enter(exchange, tenant, plan.routing.prompt_bytes);
    }
    permit = std::move(entry.permit);
    if (entry.client_gone) {
      result.end = AttemptResult::End::kClientGone;
    } else if (entry.refused) {
      result.error = std::move(*entry.refused);
      result.status = result.error.status;
    } else {
      result = co_await TryAll(services, exchange, plan, request.body, responder);
    }
  }
  if (result.end == AttemptResult::End::kFailed) {
    http::Response response = ToResponse(result.error);
    response.headers.Set("x-request-id", plan.request_id);
    const Status sent = co_await responder.Send(std::move(response));
    if (!sent.ok()) result.end = AttemptResult::End::kClientGone;
  }
  Account(*services, plan, result);
}

}  // namespace baton::router
