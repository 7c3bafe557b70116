#include "bench/serving/request_call.h"

#include <algorithm>

namespace baton::bench::serving {
namespace {

constexpr size_t kMaxErrorBody = 64 << 10, kMaxBody = 64 << 20;
constexpr auto kErrorBodyPatience = 5s;

}  // namespace

void RequestCaller::Fail(CallState* state, Failure failure, std::string message) {
  state->record.failure = failure;
  state->record.message = std::move(message);
}

void RequestCaller::FailBy(CallState* state, const Status& status, Failure otherwise) {
  const Failure kind = status.code() == Code::kDeadlineExceeded ? Failure::kTimeout
                       : status.code() == Code::kCancelled      ? Failure::kCancelled
                       : status.code() == Code::kDataCorrupt    ? Failure::kBroken
                                                                : otherwise;
  Fail(state, kind, status.message());
}

void RequestCaller::TakeOutput(const EventFacts& facts, TimePoint now, CallState* state,
                               Progress* progress) {
  RequestRecord& record = state->record;
  // A server that counts as it goes (SGLang's meta_info, continuous usage) says how many tokens
  // this piece holds; else a piece is one.
  int tokens = 1;
  if (facts.output_tokens) tokens = std::max(*facts.output_tokens - progress->tokens_seen, 0);
  if (tokens == 0) return;
  if (record.chunks == 0) {
    record.first_s = SecondsOf(now);
  } else {
    const auto gap = static_cast<float>(Milliseconds(now - progress->last_output) / tokens);
    state->gaps_ms.insert(state->gaps_ms.end(), static_cast<size_t>(tokens), gap);
  }
  ++record.chunks;
  progress->tokens_seen += tokens;
  progress->last_output = now;
  record.end_s = SecondsOf(now);
  tally_->tokens_over_time.Add(record.end_s, tokens);
}

bool RequestCaller::TakeEvent(std::string_view payload, TimePoint now, CallState* state,
                              Progress* progress) {
  if (payload == "[DONE]") {
    progress->ended = true;
    return true;
  }
  auto facts = reader_.Read(payload);
  if (!facts.ok()) {
    Fail(state, Failure::kWrongJson, facts.status().message());
    return false;
  }
  if (facts->error) {
    Fail(state, Failure::kServerError, *facts->error);
    return false;
  }
  if (facts->has_output) TakeOutput(*facts, now, state, progress);
  if (facts->finished) state->record.end_s = SecondsOf(now);
  if (facts->output_tokens) progress->output_tokens = facts->output_tokens;
  if (facts->prompt_tokens) {
    state->record.prompt_tokens = static_cast<uint32_t>(*facts->prompt_tokens);
    state->record.has_prompt_tokens = true;
  }
  if (facts->cached_tokens)
    state->record.cached_tokens = static_cast<uint32_t>(*facts->cached_tokens);
  if (state->keep_answer && !facts->text.empty()) {
    if (facts->text_is_whole) state->answer.clear();
    state->answer += facts->text;
  }
  return true;
}

void RequestCaller::Finish(CallState* state, const Progress& progress) {
  RequestRecord& record = state->record;
  record.counted_by_usage = progress.output_tokens.has_value();
  record.output_tokens =
      static_cast<uint32_t>(progress.output_tokens.value_or(progress.tokens_seen));
  if (record.output_tokens == 0)
    return Fail(state, Failure::kEmpty, "the answer ended without a token");
  // Tokens without text (special ones): the end is the first that was seen of them.
  if (record.chunks == 0) record.first_s = record.end_s;
}

asio::awaitable<void> RequestCaller::ReadStream(http::ClientStream& stream, TimePoint deadline,
                                                CallState* state) {
  http::SseParser parser;
  Progress progress;
  while (true) {
    const auto piece = co_await stream.Read(deadline);
    if (!piece.ok()) co_return FailBy(state, piece.status(), Failure::kBroken);
    if (piece->empty()) break;
    const TimePoint now = Now();
    parser.Feed(*piece);
    while (!progress.ended) {
      const auto payload = parser.Next();
      if (!payload) break;
      if (!TakeEvent(*payload, now, state, &progress)) co_return;
    }
    if (parser.failed()) co_return Fail(state, Failure::kWrongJson, "an event larger than 64 MiB");
  }
  if (!progress.ended) co_return Fail(state, Failure::kBroken, "the stream ended without [DONE]");
  Finish(state, progress);
}

asio::awaitable<void> RequestCaller::ReadWhole(http::ClientStream& stream, TimePoint deadline,
                                               CallState* state) {
  const auto body = co_await stream.ReadAll(deadline, kMaxBody);
  if (!body.ok()) co_return FailBy(state, body.status(), Failure::kBroken);
  const TimePoint now = Now();
  Progress progress;
  state->record.end_s = SecondsOf(now);
  if (TakeEvent(*body, now, state, &progress)) Finish(state, progress);
}

asio::awaitable<void> RequestCaller::Exchange(std::string body, CallState* state) {
  const TimePoint deadline = Now() + target_.request_timeout;
  http::ClientRequest request;
  request.method = "POST";
  request.target = target_.path;
  request.headers = target_.headers;
  request.body = std::move(body);
  const auto started = co_await client_.Start(target_.origin, std::move(request), deadline);
  if (!started.ok()) co_return FailBy(state, started.status(), Failure::kConnect);
  http::ClientStream& stream = **started;
  if (stream.status() == 200) {
    if (stream_) co_return co_await ReadStream(stream, deadline, state);
    co_return co_await ReadWhole(stream, deadline, state);
  }
  state->record.http_status = stream.status();
  const auto error =
      co_await stream.ReadAll(std::min(deadline, Now() + kErrorBodyPatience), kMaxErrorBody);
  Fail(state, Failure::kStatus,
       fmt::format("HTTP {}: {}", stream.status(), error.ok() ? ErrorText(*error) : ""));
}

asio::awaitable<void> RequestCaller::Call(std::string body, CallState* state) {
  RequestRecord& record = state->record;
  record.sent_s = SecondsOf(Now());
  tally_->OnSent(record.intended_s, record.sent_s);
  co_await Exchange(std::move(body), state);
  if (record.failure != Failure::kNone) record.end_s = SecondsOf(Now());
  tally_->OnDone(record, state->gaps_ms);
}

}  // namespace baton::bench::serving
