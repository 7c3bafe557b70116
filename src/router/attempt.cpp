#include "router/attempt.h"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>

#include "api/resume.h"
#include "common/log.h"
#include "http/sse.h"
#include "router/sse_frame.h"

namespace baton::router {
namespace {

constexpr size_t kMaxErrorBytes = 1 << 20;
constexpr Duration kErrorBodyTime = std::chrono::seconds(10);
// How long a 5xx waits for the twin to show that it was the one that broke.
constexpr Duration kEvidenceTime = std::chrono::milliseconds(100);
// A worker whose bytes came this recently is alive, whatever its health checks say.
constexpr Duration kFreshProgress = std::chrono::milliseconds(1500);
constexpr Duration kPrefillLinger = std::chrono::seconds(30);
constexpr Duration kStreamTailTime = std::chrono::seconds(1);

// Headers that describe one connection or a framing that we redo (RFC 9110 7.6.1).
bool IsPassedOn(std::string_view name) {
  // Which pages may call is for the router to say.
  constexpr std::string_view kCors = "access-control-";
  if (name.size() > kCors.size() && http::EqualsIgnoreCase(name.substr(0, kCors.size()), kCors)) return false;
  static constexpr std::string_view kDropped[] = {
      "connection",        "keep-alive", "proxy-authenticate", "proxy-authorization",
      "te",                "trailer",    "transfer-encoding",  "upgrade",
      "content-length",    "date",       "server",             "x-request-id",
      api::kStreamIdsHeader, api::kResumedHeader,
  };
  for (std::string_view dropped : kDropped) {
    if (http::EqualsIgnoreCase(name, dropped)) return false;
  }
  return true;
}

// Not a worker of ours: fine for new requests, so nobody is charged.
SideFailure CannotResume() {
  SideFailure failure;
  failure.kind = FailureKind::kHttp;
  failure.status = 503;
  failure.guilty = "none";
  failure.message = "it cannot go on with a stream that began at another worker";
  return failure;
}

}  // namespace

Attempt::Attempt(std::shared_ptr<Services> services, std::shared_ptr<Exchange> exchange,
                 Lease prefill, Lease decode)
    : services_(std::move(services)), exchange_(std::move(exchange)) {
  const bool pd = static_cast<bool>(prefill);
  prefill_.side = Side::kPrefill;
  prefill_.lease = std::move(prefill);
  decode_.side = pd ? Side::kDecode : Side::kWorker;
  decode_.lease = std::move(decode);
}

void Attempt::Launch(Call& call, http::ClientRequest request, TimePoint deadline) {
  call.phase = Phase::kRunning;
  call.progress = Now();
  if (!call.lease.api_key().empty()) {
    request.headers.Set("Authorization", "Bearer " + call.lease.api_key());
  }
  request.on_send = [which = &call] { which->sent = true; };  // Drive keeps the attempt
  const std::weak_ptr<Attempt> weak = weak_from_this();
  const asio::any_io_executor strand = exchange_->executor();
  Call* which = &call;
  call.lease.Watch([weak, strand, which] {
    asio::post(strand, [weak, which] {
      if (const Self self = weak.lock()) self->OnWorkerDown(*which);
    });
  });
  // The completion keeps the attempt, and so the signal, until the coroutine is gone.
  const auto finished = [self = shared_from_this()](std::exception_ptr error) {
    if (error) log::error("router: a worker call ended by an exception");
  };
  asio::co_spawn(strand, Drive(shared_from_this(), which, std::move(request), deadline),
                 asio::bind_cancellation_slot(call.cancel.slot(), finished));
}

asio::awaitable<void> Attempt::Drive(Self self, Call* call, http::ClientRequest request,
                                     TimePoint deadline) {
  co_await asio::this_coro::throw_if_cancelled(false);
  if (call->aborted) co_return;
  http::Origin origin = call->lease.worker().origin();
  auto started =
      co_await self->services_->client.Start(std::move(origin), std::move(request), deadline);
  if (call->aborted) co_return;  // dropping the stream closes the connection
  if (!started.ok()) {
    self->Fail(*call, FailureOf(started.status()));
    co_return;
  }
  call->stream = std::move(*started);
  call->progress = Now();
  const int status = call->stream->status();
  self->services_->metrics.CountUpstreamResponse(SideName(call->side), status);
  if (status / 100 != 2) {
    const http::Headers headers = call->stream->headers();
    auto body = co_await call->stream->ReadAll(std::min(deadline, Now() + kErrorBodyTime), kMaxErrorBytes);
    self->Fail(*call, FailureOf(status, headers, body.ok() ? std::move(*body) : std::string()));
    co_return;
  }
  call->phase = Phase::kHead;
  self->exchange_->Notify();
  if (call->side == Side::kPrefill) co_await self->DrainPrefill(deadline);
}

asio::awaitable<void> Attempt::DrainPrefill(TimePoint deadline) {
  while (true) {
    auto piece = co_await prefill_.stream->Read(deadline);
    if (prefill_.aborted) co_return;
    if (!piece.ok()) {
      Fail(prefill_, FailureOf(piece.status()));
      co_return;
    }
    if (piece->empty()) break;
    prefill_.progress = Now();
    if (!keep_prefill_body_) continue;
    if (prefill_.body.size() + piece->size() > services_->options.max_payload_bytes) {
      Fail(prefill_, FailureOf(Error(Code::kTooLarge, "its answer is larger than {} bytes",
                                     services_->options.max_payload_bytes)));
      co_return;
    }
    prefill_.body += *piece;
  }
  prefill_.phase = Phase::kDone;
  prefill_.lease.Settle(Breaker::Outcome::kSuccess);
  exchange_->Notify();
}

bool Attempt::PrefillStillMatters() const {
  return keep_prefill_body_ || !decode_spoke_ || samples_ > 1;
}

void Attempt::Fail(Call& call, SideFailure failure) {
  if (call.aborted || call.phase == Phase::kFailed) return;
  call.phase = Phase::kFailed;
  call.failure = std::move(failure);
  if (over_ || (call.side == Side::kPrefill && !PrefillStillMatters())) {
    ChargeLate(call);
    return;
  }
  // The coroutine that reads decode's answer finds the cause when its read ends.
  if (call.side == Side::kPrefill && decode_.phase == Phase::kHead && decode_.stream) {
    decode_.stream->Cancel();
  }
  exchange_->Notify();
}

// The answer does not need this side any more: charge it and go on.
void Attempt::ChargeLate(Call& call) {
  TellRegistry(call);
  if (call.failure.kind != FailureKind::kLocal) services_->metrics.CountWorkerError(SideName(call.side), "late");
  call.lease.Settle(IsGuilty(call.side, call.failure, {}) ? Breaker::Outcome::kFailure
                                                          : Breaker::Outcome::kNone);
  call.failure = {};
}

void Attempt::TellRegistry(const Call& call) {
  if (!call.failure.of_connection()) return;
  services_->registry->OnConnectionFailure(call.lease.worker_ptr(), call.failure.kind != FailureKind::kUnreachable, Now());
}

void Attempt::Abort(Call& call) {
  if (call.aborted || call.phase == Phase::kAbsent || call.phase == Phase::kDone) return;
  call.aborted = true;
  if (call.stream) call.stream->Cancel();
  call.cancel.emit(asio::cancellation_type::terminal);
  call.lease.Settle(Breaker::Outcome::kNone);
}

void Attempt::AbortAll() {
  Abort(prefill_);
  Abort(decode_);
}

void Attempt::OnWorkerDown(Call& call) {
  if (over_ || call.aborted || call.phase == Phase::kDone || call.phase == Phase::kFailed) return;
  // Bytes that came just now speak against the health checks: look again when they have dried up.
  if (call.phase == Phase::kHead && Now() - call.progress < kFreshProgress) {
    LookAgain(call);
    return;
  }
  SideFailure failure;
  failure.kind = call.sent ? FailureKind::kBroken : FailureKind::kUnreachable;
  failure.message = "it stopped answering health checks";
  const Phase phase = call.phase;
  Fail(call, std::move(failure));
  if (phase == Phase::kHead && call.stream) call.stream->Cancel();
}

void Attempt::LookAgain(Call& call) {
  asio::co_spawn(
      exchange_->executor(),
      [](std::weak_ptr<Attempt> weak, Call* which, asio::any_io_executor executor) -> asio::awaitable<void> {
        asio::steady_timer timer(executor, kFreshProgress);
        co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
        const Self self = weak.lock();
        if (!self || !which->lease) co_return;
        if (!self->services_->registry->IsHealthy(which->lease.worker_ptr())) self->OnWorkerDown(*which);
      }(weak_from_this(), &call, exchange_->executor()),
      asio::detached);
}

asio::awaitable<void> Attempt::AwaitDecodeHead(TimePoint deadline) {
  while (decode_.phase == Phase::kRunning && !failed() && !exchange_->client_gone() &&
         Now() < deadline) {
    co_await exchange_->Wait(deadline);
  }
}

asio::awaitable<void> Attempt::AwaitPrefillEnd(TimePoint deadline) {
  while ((prefill_.phase == Phase::kRunning || prefill_.phase == Phase::kHead) && !failed() &&
         !exchange_->client_gone() && Now() < deadline) {
    co_await exchange_->Wait(deadline);
  }
}

// Only one side failed, with a 5xx that may be the other one's fault: give that a moment to show.
asio::awaitable<void> Attempt::AwaitEvidence() {
  if (prefill_.phase == Phase::kAbsent) co_return;
  Call& failed = prefill_.failure ? prefill_ : decode_;
  Call& twin = prefill_.failure ? decode_ : prefill_;
  if (!NeedsEvidence(failed.side, failed.failure) || twin.failure) co_return;
  const TimePoint until = Now() + kEvidenceTime;
  while ((twin.phase == Phase::kRunning || twin.phase == Phase::kHead) && !twin.failure &&
         !exchange_->client_gone() && Now() < until) {
    co_await exchange_->Wait(until);
  }
}

asio::awaitable<AttemptResult> Attempt::Run(const RequestPlan& plan, Bodies bodies,
                                            std::shared_ptr<const std::string> body,
                                            StreamRecord& record, http::Responder& responder) {
  const Self self = shared_from_this();
  keep_prefill_body_ = plan.merge_logprobs() && prefill_.lease && !record.logprobs;
  samples_ = plan.facts.samples;
  exchange_->SetClientGone([weak = weak_from_this()] {
    if (const Self attempt = weak.lock()) attempt->AbortAll();
  });
  http::ClientRequest request;
  request.method = "POST";
  request.target = PathOf(plan.api);
  request.headers = plan.forward;
  request.shared = std::move(body);
  const auto put = [&request](SplicedBody& spliced) {
    request.body = std::move(spliced.front);
    request.shared_begin = spliced.rest;
  };
  put(bodies.prefill ? *bodies.prefill : bodies.body);
  if (prefill_.lease) Launch(prefill_, request, plan.head_deadline);
  if (bodies.prefill) put(bodies.body);
  if (plan.track) request.headers.Set(api::kStreamIdsHeader, "1");
  Launch(decode_, std::move(request), plan.head_deadline);

  co_await AwaitDecodeHead(plan.head_deadline);
  AttemptResult result = co_await Answer(plan, record, responder);
  result.spoke = decode_spoke_;
  over_ = true;
  exchange_->SetClientGone(nullptr);
  co_return result;
}

asio::awaitable<AttemptResult> Attempt::Answer(const RequestPlan& plan, StreamRecord& record,
                                               http::Responder& responder) {
  if (exchange_->client_gone()) co_return ClientGone();
  if (!failed() && decode_.phase == Phase::kHead) {
    const std::string_view type = decode_.stream->headers().Get("Content-Type");
    const bool stream = type.starts_with("text/event-stream");
    if (stream) co_return co_await AnswerStream(plan, record, responder);
    if (responder.started()) {
      decode_.failure = CannotResume();
      co_return co_await GiveUp();
    }
    co_return co_await AnswerWhole(plan, responder);
  }
  const auto late = [](const SideFailure& f) { return !f || f.kind == FailureKind::kTimeout; };
  if (late(prefill_.failure) && late(decode_.failure)) NoteTimeout();
  co_return co_await GiveUp();
}

// The deadline passed before decode's head. Nobody can tell who was waiting for whom: the message
// names everyone who was silent, and nobody is charged.
void Attempt::NoteTimeout() {
  decode_.failure.kind = FailureKind::kTimeout;
  decode_.failure.message = "the request's deadline is over";
  const bool silent = prefill_.phase == Phase::kRunning || prefill_.failure;
  if (silent) decode_.failure.message = fmt::format("nor did prefill worker {}", prefill_.lease.worker().url());
}

http::Headers Attempt::AnswerHeaders(const RequestPlan& plan) const {
  http::Headers headers;
  const http::Headers& theirs = decode_.stream->headers();
  for (const auto& [name, value] : theirs) {
    if (IsPassedOn(name) && !theirs.Lists("Connection", name)) headers.Add(name, value);
  }
  headers.Set("x-request-id", plan.request_id);
  return headers;
}

asio::awaitable<AttemptResult> Attempt::AnswerWhole(const RequestPlan& plan,
                                                    http::Responder& responder) {
  auto body = co_await decode_.stream->ReadAll(plan.head_deadline, services_->options.max_payload_bytes);
  if (exchange_->client_gone()) co_return ClientGone();
  if (!body.ok() && !failed()) decode_.failure = FailureOf(body.status());
  if (body.ok()) {
    decode_.phase = Phase::kDone;
    decode_spoke_ = true;
    if (keep_prefill_body_) co_await AwaitPrefillEnd(plan.head_deadline);
    if (exchange_->client_gone()) co_return ClientGone();
  }
  if (body.ok() && keep_prefill_body_ && !failed()) {
    Result<std::string> merged = Error(Code::kDeadlineExceeded, "prefill's logprobs did not come in time");
    if (prefill_.phase == Phase::kDone) {
      const auto logprobs = InputLogprobs::Read(prefill_.body, false);
      merged = logprobs.ok() ? logprobs->MergeBody(*body) : Result<std::string>(logprobs.status());
    }
    if (merged.ok()) *body = std::move(*merged);
    else prefill_.failure = FailureOf(merged.status());
  }
  // A whole answer is an answer, even when prefill has failed since; logprobs need both.
  if (!body.ok() || (keep_prefill_body_ && failed())) co_return co_await GiveUp();

  http::Response response;
  response.status = decode_.stream->status();
  response.headers = AnswerHeaders(plan);
  response.body = std::move(*body);
  AttemptResult result;
  result.end = AttemptResult::End::kAnswered;
  result.status = response.status;
  decode_.lease.Settle(Breaker::Outcome::kSuccess);
  LeavePrefill();
  plan.series->first_byte[static_cast<size_t>(plan.api)]->Observe(Seconds(Now() - plan.started));
  const Status sent = co_await responder.Send(std::move(response));
  if (!sent.ok()) result.end = AttemptResult::End::kClientGone;
  co_return result;
}

asio::awaitable<Status> Attempt::Forward(std::string_view events, InputLogprobs* merge,
                                         http::Responder& responder) {
  if (!merge) co_return co_await responder.Write(events);
  http::SseParser parser;
  parser.Feed(events);
  std::string out;
  while (auto payload = parser.Next()) out += http::SseEvent(merge->MergeEvent(*payload));
  co_return co_await responder.Write(out);
}

// The worker's first events are here. Judges them, and begins the answer. False: it failed, or the
// client is gone.
asio::awaitable<bool> Attempt::BeginAnswer(const RequestPlan& plan, std::string_view first_events,
                                           StreamRecord& record, http::Responder& responder) {
  decode_.failure = FailureOfFirstEvent(SseFramer::FirstPayload(first_events));
  if (failed()) co_return false;
  if (keep_prefill_body_) {
    decode_spoke_ = true;
    co_await AwaitPrefillEnd(plan.head_deadline);
    decode_spoke_ = false;
    if (exchange_->client_gone()) co_return false;
    if (!failed() && prefill_.phase != Phase::kDone) {
      prefill_.failure.kind = FailureKind::kTimeout;
      prefill_.failure.message = "its logprobs did not come within the request's deadline";
    }
    if (failed()) co_return false;
    auto read = InputLogprobs::Read(prefill_.body, true);
    if (!read.ok()) {
      prefill_.failure = FailureOf(read.status());
      co_return false;
    }
    record.logprobs = std::move(*read);
    keep_prefill_body_ = false;
  }
  decode_spoke_ = true;
  decode_.lease.Report(Breaker::Outcome::kSuccess);
  if (responder.started()) co_return true;
  plan.series->first_byte[static_cast<size_t>(plan.api)]->Observe(Seconds(Now() - plan.started));
  const Status begun = co_await responder.BeginStream(decode_.stream->status(), AnswerHeaders(plan));
  if (!begun.ok()) exchange_->OnClientGone();
  co_return begun.ok();
}

bool Attempt::ForwardNow(std::string_view& events, StreamRecord& record, http::Responder& responder) {
  if (record.logprobs || (record.generate && !record.with_comments())) return false;
  return responder.WriteNow(record.Take(events)) && events.empty();
}

// Whole events to the client, without the comments that are for us. An error among them that
// another pair can mend becomes decode's failure instead.
asio::awaitable<Status> Attempt::ForwardAll(const RequestPlan& plan, std::string_view events,
                                            StreamRecord& record, http::Responder& responder) {
  InputLogprobs* const merge = record.logprobs ? &*record.logprobs : nullptr;
  if (record.generate && !record.with_comments()) co_return co_await ForwardGenerate(plan, events, *record.generate, responder);
  while (!events.empty()) {
    const std::string_view announced = record.Take(events);
    if (!announced.empty()) {
      if (Status s = co_await Forward(announced, merge, responder); !s.ok()) co_return s;
    }
    if (events.empty()) break;
    const std::string_view other = StreamRecord::Skip(events);
    SideFailure failure = FailureOfFirstEvent(SseFramer::FirstPayload(other));
    if (failure && IsRetryable(failure) && plan.may_migrate && record.resumable()) {
      decode_.failure = std::move(failure);
      co_return Status::Ok();
    }
    if (Status s = co_await Forward(other, merge, responder); !s.ok()) co_return s;
  }
  co_return Status::Ok();
}

// Events of a worker without comments, for a request that can go on by its prompt.
asio::awaitable<Status> Attempt::ForwardGenerate(const RequestPlan& plan, std::string_view events,
                                                 GenerateResume& resume, http::Responder& responder) {
  while (!events.empty()) {
    const std::string_view event = StreamRecord::Skip(events);
    const std::string_view payload = SseFramer::FirstPayload(event);
    SideFailure failure = FailureOfFirstEvent(payload);
    if (failure && IsRetryable(failure) && plan.may_migrate && resume.resumable()) {
      decode_.failure = std::move(failure);
      co_return Status::Ok();
    }
    std::string rewritten;
    if (resume.resumed()) rewritten = resume.Rewrite(payload, plan.migrations);
    if (!rewritten.empty()) {
      resume.Note(rewritten);
      rewritten = http::SseEvent(rewritten);
    } else {
      resume.Note(payload);
    }
    if (Status s = co_await responder.Write(rewritten.empty() ? event : std::string_view(rewritten)); !s.ok()) co_return s;
  }
  co_return Status::Ok();
}

asio::awaitable<AttemptResult> Attempt::AnswerStream(const RequestPlan& plan, StreamRecord& record,
                                                     http::Responder& responder) {
  const http::Headers& headers = decode_.stream->headers();
  record.Begin(plan.track && headers.Get(api::kStreamIdsHeader) == "1");
  const bool by_prompt = record.generate && record.generate->resumed();
  if (responder.started() && !by_prompt && headers.Get(api::kResumedHeader) != "1") {
    decode_.failure = CannotResume();
    co_return co_await GiveUp();
  }
  metrics::Histogram* const between = plan.series->between_events[static_cast<size_t>(plan.api)];
  const Duration idle = services_->options.stream_idle_timeout;
  SseFramer framer;
  std::string_view events;  // whole ones that wait to be forwarded
  // The first events are judged before anything is sent. Later ones go from socket to socket as they
  // come, and this coroutine sleeps until one of them needs more than that.
  const http::ClientStream::Sink judge = [&](std::string_view piece) {
    events = framer.Feed(piece);
    return false;
  };
  const http::ClientStream::Sink forward = [&](std::string_view piece) {
    const TimePoint before = std::exchange(decode_.progress, Now());
    between->Observe(Seconds(decode_.progress - before));
    events = framer.Feed(piece);
    return !framer.failed() && !framer.done() && ForwardNow(events, record, responder);
  };
  TimePoint deadline = plan.head_deadline;
  while (!framer.done()) {
    events = {};
    const Status read = co_await decode_.stream->ReadEach(deadline, idle, decode_spoke_ ? forward : judge);
    if (exchange_->client_gone()) co_return ClientGone();
    if (!read.ok() || framer.failed()) {
      if (!failed()) decode_.failure = FailureOf(read.ok() ? Error(Code::kTooLarge, "an event without end") : read);
      break;
    }
    decode_.progress = Now();
    if (!decode_spoke_) {
      if (events.empty() && decode_.stream->ended()) break;
      if (events.empty()) continue;
      if (!co_await BeginAnswer(plan, events, record, responder)) {
        if (exchange_->client_gone()) co_return ClientGone();
        break;
      }
    } else if (Status s = co_await responder.Settle(); !s.ok()) {
      co_return ClientGone();
    }
    const Status sent = co_await ForwardAll(plan, events, record, responder);
    if (!sent.ok()) co_return ClientGone();
    if (decode_.failure || decode_.stream->ended()) break;
    deadline = Now() + idle;
  }
  if (failed() || !framer.done()) {
    if (!failed() && framer.last_was_error()) co_return co_await EndBadStream(responder);
    if (!failed()) {
      decode_.failure.kind = FailureKind::kProtocol;
      decode_.failure.message = decode_spoke_ ? "its stream ended without [DONE]" : "its stream ended without an event";
    }
    co_return co_await GiveUp();
  }
  AttemptResult result;
  result.end = AttemptResult::End::kAnswered;
  result.status = decode_.stream->status();
  LeavePrefill();
  const Status ended = co_await responder.EndStream();
  if (!ended.ok()) result.end = AttemptResult::End::kClientGone;
  FinishReading();
  co_return result;
}

// The worker told of an error and ended without [DONE]: that is added.
asio::awaitable<AttemptResult> Attempt::EndBadStream(http::Responder& responder) {
  AttemptResult result;
  result.end = AttemptResult::End::kAnswered;
  decode_.lease.Settle(Breaker::Outcome::kNone);
  LeavePrefill();
  Status sent = co_await responder.Write(http::kSseDone);
  if (sent.ok()) sent = co_await responder.EndStream();
  if (!sent.ok()) result.end = AttemptResult::End::kClientGone;
  co_return result;
}

// The tail after [DONE] is read off so that the connection can be used again.
void Attempt::FinishReading() {
  asio::co_spawn(
      exchange_->executor(),
      [](Self self) -> asio::awaitable<void> {
        const TimePoint until = Now() + kStreamTailTime;
        while (true) {
          auto piece = co_await self->decode_.stream->Read(until);
          if (!piece.ok() || piece->empty()) break;
        }
        self->decode_.phase = Phase::kDone;
        self->decode_.lease.Settle(Breaker::Outcome::kNone);
      }(shared_from_this()),
      asio::detached);
}

void Attempt::LeavePrefill() {
  over_ = true;
  if (prefill_.failure) ChargeLate(prefill_);
  if (prefill_.phase != Phase::kRunning && prefill_.phase != Phase::kHead) return;
  asio::co_spawn(
      exchange_->executor(),
      [](std::weak_ptr<Attempt> weak, asio::any_io_executor executor) -> asio::awaitable<void> {
        asio::steady_timer timer(executor, kPrefillLinger);
        co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
        if (const Self self = weak.lock()) self->Abort(self->prefill_);
      }(weak_from_this(), exchange_->executor()),
      asio::detached);
}

AttemptResult Attempt::ClientGone() {
  over_ = true;
  AbortAll();
  AttemptResult result;
  result.end = AttemptResult::End::kClientGone;
  return result;
}

void Attempt::Blame(AttemptResult& result) {
  const auto charge = [&](Call& call, const Call& twin) {
    if (!call.failure) return;
    const bool guilty = IsGuilty(call.side, call.failure, twin.failure);
    TellRegistry(call);
    if (call.failure.kind == FailureKind::kBroken) ++result.kills;
    if (guilty) {
      services_->metrics.CountWorkerError(SideName(call.side), call.failure.of_connection() ? "connection" : "response");
    }
    // Overloaded ones are avoided as well, though nobody is charged.
    const bool overloaded = call.failure.kind != FailureKind::kLocal && IsRetryable(call.failure);
    if (guilty || overloaded) result.avoid.push_back(call.lease.worker_ptr());
    call.lease.Settle(guilty ? Breaker::Outcome::kFailure : Breaker::Outcome::kNone);
  };
  charge(prefill_, decode_);
  charge(decode_, prefill_);
}

asio::awaitable<AttemptResult> Attempt::GiveUp() {
  co_await AwaitEvidence();
  if (exchange_->client_gone()) co_return ClientGone();
  over_ = true;
  // A broken connection is the root cause when both failed; then the side that failed alone.
  const bool prefill_first = prefill_.failure && (!decode_.failure || prefill_.failure.of_connection());
  Call& cause = prefill_first ? prefill_ : decode_;
  Call& twin = prefill_first ? decode_ : prefill_;
  const std::string url = cause.lease ? cause.lease.worker().url() : std::string("(gone)");

  AttemptResult result;
  result.end = AttemptResult::End::kFailed;
  result.failed_side = cause.side;
  result.error = Explain(cause.side, url, cause.failure);
  result.status = result.error.status;
  result.retryable = IsRetryable(cause.failure);
  if (!twin.failure && (twin.phase == Phase::kRunning || twin.phase == Phase::kHead)) {
    services_->metrics.CountTwinAbort(SideName(cause.side));
  }
  Blame(result);
  AbortAll();
  log::debug("attempt failed: side={} worker={} code={} {}", SideName(cause.side), url,
             result.error.code, result.error.message);
  co_return result;
}

}  // namespace baton::router
