#include "router/proxy.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "common/log.h"
#include "common/printable.h"
#include "http/sse.h"
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
    // What the client named in Connection is between it and us (RFC 9110 7.6.1); the id is ours.
    const bool ends_here = request.headers.Lists("Connection", name) && !http::EqualsIgnoreCase(name, "x-request-id");
    if (IsForwarded(name) && !ends_here) headers.Add(name, value);
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
  const DpRank prefill_rank = pair.prefill ? pair.prefill.rank() : DpRank{};
  auto decode = services.registry->Acquire(pd ? Role::kDecode : Role::kRegular, avoid, now, routing, prefill_rank);
  if (!decode.ok()) return decode.status();
  pair.decode = std::move(*decode);
  return pair;
}

std::string Joined(std::string members, const std::string& more) {
  if (!members.empty() && !more.empty()) members += ',';
  return members += more;
}

Bodies BodiesFor(const Pair& pair, const RequestPlan& plan, const std::string& body,
                 const std::string& resume) {
  const DpRank& decode = pair.decode.rank();
  if (!pair.prefill) {
    if (!decode.given()) return {InjectMembers(body, plan.facts, resume)};
    return {InjectMembers(body, plan.facts, Joined(RankMembers(decode), resume))};
  }
  const DpRank& prefill = pair.prefill.rank();
  Bootstrap bootstrap;
  bootstrap.host = BootstrapHost(pair.prefill.worker().origin());
  bootstrap.port = pair.prefill.bootstrap_port();
  if (!prefill.given() && !decode.given()) {
    bootstrap.rooms = DrawRooms(plan.facts.samples);
    return {InjectBootstrap(body, plan.facts, bootstrap, resume)};
  }
  // A worker that is not told the prefill rank takes the room modulo the number of ranks for it.
  bootstrap.rooms = prefill.given() ? DrawRooms(plan.facts.samples, prefill.ranks, prefill.rank)
                                    : DrawRooms(plan.facts.samples);
  return {InjectBootstrap(body, plan.facts, bootstrap, Joined(DecodeRankMembers(prefill, decode), resume)),
          InjectBootstrap(body, plan.facts, bootstrap, Joined(RankMembers(prefill), resume))};
}

std::string NameWorkers(const Pair& pair) {
  std::string text;
  const auto add = [&](std::string_view role, const Lease& lease) {
    if (lease) (((text += ",\"") += role) += "\":\"").append(lease.worker().url()).append("\"");
  };
  add("prefill", pair.prefill);
  add(RoleName(pair.decode.worker().role()), pair.decode);
  return text;
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

// What the attempts at one request share. Lives in the handler's coroutine.
struct Course {
  std::shared_ptr<Services> services;
  std::shared_ptr<Exchange> exchange;
  RequestPlan& plan;
  // The client's, or that of a /generate that goes on by its prompt. Shared with the calls to the
  // workers, which may outlive the handler.
  std::shared_ptr<const std::string> body;
  http::Responder& responder;
  StreamRecord record;

  std::vector<WorkerPtr> avoid;
  int attempts_in_all = 0;
  std::string workers;  // of the last attempt: ,"prefill":"URL","decode":"URL" for the access log
  int attempt = 1;      // since the beginning, or since the last migration
  int migrations = 0;
  int kills = 0;
  std::string resume;   // member of the next request; "" for the first
  TimePoint waiting_since{};  // no worker since then
};

asio::awaitable<AttemptResult> TryOnce(Course& c) {
  Services& services = *c.services;
  auto pair = PickPair(services, c.avoid, c.plan.routing);
  if (!pair.ok()) {
    AttemptResult none;
    none.error = NoWorkers(pair.status());
    none.status = none.error.status;
    none.retryable = none.no_worker = none.status == 503;
    none.failed_side = services.options.pd_disaggregation ? Side::kPrefill : Side::kWorker;
    co_return none;
  }
  services.last_pair = Now();
  ++c.attempts_in_all;
  if (services.access_log) c.workers = NameWorkers(*pair);
  Bodies bodies = BodiesFor(*pair, c.plan, *c.body, c.resume);
  const auto attempt = std::make_shared<Attempt>(c.services, c.exchange, std::move(pair->prefill),
                                                 std::move(pair->decode));
  co_return co_await attempt->Run(c.plan, std::move(bodies), c.body, c.record, c.responder);
}

// May the request wait for a worker that comes back, rather than fail for want of one?
bool MayWait(Course& c) {
  const MigrationRules& rules = c.services->options.migration;
  const TimePoint now = Now();
  if (c.waiting_since == TimePoint{}) c.waiting_since = now;
  const bool lately = now - c.services->last_pair.load() < rules.worker_wait;
  return now - c.waiting_since < rules.worker_wait && (c.responder.started() || lately);
}

RouterError Poisoned(int kills, const RouterError& last) {
  RouterError error;
  error.status = 500;
  error.code = "request_kills_workers";
  error.message = fmt::format("{} workers died with this request on board, so it is not tried again (--max-worker-kills); "
                              "the last one: {}", kills, last.message);
  return error;
}

// After a failed attempt: what is the next one to be? False: `result` is the end.
bool PrepareNext(Course& c, AttemptResult& result, Duration* delay) {
  const RouterOptions& options = c.services->options;
  RouterMetrics& metrics = c.services->metrics;
  const bool begun = c.responder.started();
  c.kills += result.kills;
  if (!result.retryable) return false;
  if (c.kills >= options.migration.max_worker_kills && result.kills > 0) {
    metrics.poisoned->Add();
    result.error = Poisoned(c.kills, result.error);
    result.status = result.error.status;
    return false;
  }
  c.avoid.insert(c.avoid.end(), result.avoid.begin(), result.avoid.end());
  *delay = Duration{};
  if (begun && result.spoke) {
    const bool by_prompt = c.record.resumable_by_prompt();
    if (!c.record.resumable() && !by_prompt) return false;
    if (c.migrations >= options.migration.max_migrations) {
      metrics.migrations_exhausted->Add();
      result.error.message += fmt::format(" (after {} migrations)", c.migrations);
      return false;
    }
    ++c.migrations;
    c.attempt = 1;
    c.plan.migrations = c.migrations;
    if (by_prompt) {
      c.body = std::make_shared<const std::string>(c.record.generate->NextBody());
      if (auto facts = InspectBody(c.plan.api, *c.body, options.dp_aware); facts.ok()) c.plan.facts = std::move(*facts);
      c.plan.track = false;
    } else {
      c.resume = c.record.ResumeMember(c.migrations);
    }
    c.plan.head_deadline = Now() + options.first_byte_timeout;
    c.plan.may_migrate = c.migrations < options.migration.max_migrations;
    metrics.migrations->Add();
    log::info("stream goes on elsewhere: request_id={} migration={} {}", c.plan.request_id, c.migrations,
              result.error.message);
    return true;
  }
  if (result.no_worker && MayWait(c)) {
    *delay = std::chrono::milliseconds(50);
    return true;
  }
  if (!result.no_worker) c.waiting_since = {};
  // A worker that died under the request uses up its lives (above), not its attempts.
  if (result.kills > 0 && options.retry.max_attempts > 1) {
    metrics.CountRetry(c.plan.api, SideName(result.failed_side), c.attempt, 0);
    return Now() < c.plan.head_deadline;
  }
  if (c.attempt >= options.retry.max_attempts) {
    if (c.attempt > 1) metrics.CountRetriesExhausted(c.plan.api, SideName(result.failed_side));
    return false;
  }
  *delay = BackoffDelay(options.retry, c.attempt++, DrawUnit());
  if (Now() + *delay >= c.plan.head_deadline) return false;
  metrics.CountRetry(c.plan.api, SideName(result.failed_side), c.attempt - 1, Seconds(*delay));
  return true;
}

// Attempts until one ends the request. The result is kFailed only when there is nothing left to try.
asio::awaitable<AttemptResult> TryAll(Course& c) {
  while (true) {
    AttemptResult result = co_await TryOnce(c);
    if (result.end != AttemptResult::End::kFailed) co_return result;
    if (c.exchange->client_gone()) {
      result.end = AttemptResult::End::kClientGone;
      co_return result;
    }
    if (c.responder.started() && c.record.complete()) co_return result;
    Duration delay{};
    if (!PrepareNext(c, result, &delay)) co_return result;
    const TimePoint until = Now() + delay;
    while (Now() < until && !c.exchange->client_gone()) co_await c.exchange->Wait(until);
    if (c.exchange->client_gone()) {
      result.end = AttemptResult::End::kClientGone;
      co_return result;
    }
  }
}

bool IsRefusal(std::string_view code) {
  return code == "queue_full" || code == "queue_timeout" || code == "workers_full" || code == "shutting_down";
}

// The end of a stream that failed after its first byte: the error as an event (unless nothing but
// [DONE] was missing), then [DONE], so that every SSE client ends cleanly.
asio::awaitable<void> EndStream(Course& c, AttemptResult& result) {
  std::string tail;
  result.status = 200;
  if (c.record.complete()) {
    result.error = {};
  } else {
    tail = ToSseEvent(result.error);
    c.services->metrics.stream_errors->Add();
  }
  tail += http::kSseDone;
  result.end = AttemptResult::End::kAnswered;
  Status sent = co_await c.responder.Write(tail);
  if (sent.ok()) sent = co_await c.responder.EndStream();
  if (!sent.ok()) result.end = AttemptResult::End::kClientGone;
}

void Account(Services& services, const RequestPlan& plan, const AttemptResult& result) {
  const double seconds = Seconds(Now() - plan.started);
  plan.series->durations[static_cast<size_t>(plan.api)]->Observe(seconds);
  services.metrics.CountHttp(plan.api, seconds);
  if (result.end == AttemptResult::End::kClientGone) {
    services.metrics.cancelled->Add();
    return;
  }
  services.metrics.CountResponse(result.status, result.error.code);
  if (!result.error.code.empty()) services.metrics.CountRequestError(plan.api, plan.series->model, result.error.code);
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
  ActiveGuard(RouterMetrics& metrics, TimePoint now) : metrics_(metrics), place_(metrics.inflight.Begin(now)) {
    metrics_.requests_active->Add(1);
  }
  ~ActiveGuard() {
    metrics_.requests_active->Add(-1);
    metrics_.inflight.End(place_);
  }
  ActiveGuard(const ActiveGuard&) = delete;
  ActiveGuard& operator=(const ActiveGuard&) = delete;

 private:
  RouterMetrics& metrics_;
  const size_t place_;
};

// The part of a line of the access log that only this file knows.
void NoteForLog(const RequestPlan& plan, const AttemptResult& result, std::string& note) {
  note += ",\"model\":";
  AppendJsonString(note, plan.facts.model);
  fmt::format_to(std::back_inserter(note), ",\"stream\":{},\"migrations\":{}", plan.facts.stream, plan.migrations);
  if (result.end == AttemptResult::End::kClientGone) note += ",\"error_code\":\"client_gone\"";
  else if (!result.error.code.empty()) (note += ",\"error_code\":\"").append(result.error.code).append("\"");
}

}  // namespace

Duration BackoffDelay(const RetryRules& rules, int attempt, double unit) {
  const double base = Seconds(rules.initial_backoff) * std::pow(rules.multiplier, attempt - 1);
  const double capped = std::min(base, Seconds(rules.max_backoff));
  const double factor = 1 + rules.jitter * (2 * unit - 1);
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(capped * factor));
}

asio::awaitable<void> ProxyRequest(std::shared_ptr<Services> services, Api api,
                                   http::Request& request, http::Responder& responder) {
  RequestPlan plan;
  plan.api = api;
  plan.started = Now();
  plan.series = &services->metrics.SeriesOf("");
  const ActiveGuard active(services->metrics, plan.started);
  plan.request_id = request.id;
  auto facts = InspectBody(api, request.body, services->options.dp_aware);
  AttemptResult result;
  Admission::Permit permit;  // held until the answer has ended
  Status readable = facts.status();
  if (readable.ok()) {
    plan.facts = std::move(*facts);
    plan.series = &services->metrics.SeriesOf(plan.facts.model);
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
    plan.series->requests[static_cast<size_t>(api)][plan.facts.stream]->Add();
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
      plan.track = plan.facts.stream && !plan.facts.resumes && services->options.migration.max_migrations > 0;
      plan.may_migrate = plan.track;
      // The facts are offsets into it: they stay true where it moves.
      const auto body = std::make_shared<const std::string>(std::move(request.body));
      Course course{services, exchange, plan, body, responder, StreamRecord(plan.facts.samples)};
      if (plan.track && api == Api::kGenerate && plan.facts.samples == 1 && !plan.facts.batch) {
        course.record.generate = GenerateResume::For(*body);
      }
      result = co_await TryAll(course);
      if (services->access_log) {
        fmt::format_to(std::back_inserter(responder.note()), ",\"attempts\":{}{}", course.attempts_in_all, course.workers);
      }
      if (result.end == AttemptResult::End::kFailed && responder.started()) co_await EndStream(course, result);
    }
  }
  if (result.end == AttemptResult::End::kFailed) {
    http::Response response = ToResponse(result.error);
    response.headers.Set("x-request-id", plan.request_id);
    const Status sent = co_await responder.Send(std::move(response));
    if (!sent.ok()) result.end = AttemptResult::End::kClientGone;
  }
  if (services->access_log) NoteForLog(plan, result, responder.note());
  Account(*services, plan, result);
}

}  // namespace baton::router
