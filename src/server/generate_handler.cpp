#include "server/generate_handler.h"

#include <boost/asio/this_coro.hpp>

#include "server/native_format.h"
#include "server/prompts.h"
#include "server/reply.h"

namespace baton::server {
namespace {

Result<std::vector<SequenceSpec>> MakeSpecs(const Context& context, const api::GenerateRequest& request) {
  std::vector<SequenceSpec> specs;
  for (const api::GenerateItem& item : request.items) {
    auto ids = TokenizePrompt(context, item.prompt, item.sampling);
    if (!ids.ok()) return ids.status();
    SequenceSpec spec{std::move(*ids), item.sampling, item.logprobs, item.bootstrap, item.rid, true};
    // SGLang's decode workers leave the prompt's logprobs to prefill; routers join the two lists.
    spec.prompt_logprobs_here = !context.decode;
    if (request.resume) spec.resume = request.resume->choices[specs.size()];
    specs.push_back(std::move(spec));
  }
  return specs;
}

NativeFormat FormatOf(const Context& context, const api::GenerateRequest& request, int index) {
  const api::LogprobOptions& logprobs = request.items[index].logprobs;
  return {context, request.text_in_logprobs, logprobs.enabled, logprobs.prompt_start >= 0, logprobs.top,
          !logprobs.token_ids.empty()};
}

asio::awaitable<void> Stream(Context& context, const api::GenerateRequest& request, Generation& generation,
                             const http::Request& http_request, http::Responder& responder) {
  EventStream events(http_request, responder, request.resume.has_value());
  bool begun = false;
  std::vector<size_t> sent(generation.size(), 0);
  for (int i = 0; i < generation.size(); ++i) sent[i] = generation[i].resumed;
  std::string_view guilty;
  while (!generation.done()) {
    const std::vector<int> changed = co_await generation.Next();
    if (changed.empty()) {
      generation.Abort();
      const Status stuck = Error(Code::kInternal, "the engine made no progress within the watchdog time");
      if (!begun) co_return co_await SendNativeError(responder, stuck);
      (void)co_await events.SendError(stuck);
      break;
    }
    // Until the first event the status line is still open: an early failure gets its own.
    if (!begun) {
      if (Status failure = generation.failure(&guilty); !failure.ok()) {
        co_await SendNativeError(responder, failure, guilty);
        co_return;
      }
      if (Status s = co_await events.Begin(); !s.ok()) co_return;
      for (int i = 0; i < generation.size(); ++i) events.NoteIdentity(i, 0, generation[i].rid);
      begun = true;
    }
    for (const int i : changed) {
      const Sequence& s = generation[i];
      const bool finished = s.finish != engine::Finish::kRunning;
      if (s.ended_before) continue;
      if (!finished && s.output_ids.size() < sent[i] + context.options.stream_interval) continue;
      json::object event = FormatOf(context, request, i).Format(s, context.options.stream_output ? sent[i] : 0);
      // An event that tells of a failure stands for no progress that a router could go on from.
      if (s.finish != engine::Finish::kAborted && s.finish != engine::Finish::kFailed) {
        events.NoteIds(i, std::span(s.output_ids).subspan(sent[i]));
        if (finished) events.NoteEnd(i);
      }
      if (request.resume) event.at("meta_info").get_object()["baton_migrations"] = request.resume->migrations;
      sent[i] = s.output_ids.size();
      if (request.is_list) event["index"] = i;
      if (Status status = co_await events.Send(event); !status.ok()) co_return;
    }
  }
  if (begun) co_await events.Done();
}

}  // namespace

asio::awaitable<void> HandleGenerate(Context& context, http::Request& request, http::Responder& responder) {
  auto body = co_await ReadJson(request, responder, true);
  if (!body) co_return;
  api::GenerateRequest parsed;
  if (auto error = api::ParseGenerate(*body, context.text.sampling_defaults, parsed)) {
    co_await SendNativeError(responder, error->status);
    co_return;
  }
  auto specs = MakeSpecs(context, parsed);
  Status status = specs.status();
  Generation generation(context, co_await asio::this_coro::executor);
  if (status.ok()) status = generation.Start(std::move(*specs));
  if (!status.ok()) {
    co_await SendNativeError(responder, status);
    co_return;
  }
  const DisconnectGuard guard(responder, [&generation] { generation.Abort(); });
  if (parsed.stream) {
    co_await Stream(context, parsed, generation, request, responder);
    co_return;
  }
  while (!generation.done()) {
    if ((co_await generation.Next()).empty()) {
      co_await SendNativeError(responder, Error(Code::kInternal, "the engine made no progress within the watchdog time"));
      co_return;
    }
  }
  std::string_view guilty;
  if (Status failure = generation.failure(&guilty); !failure.ok()) {
    co_await SendNativeError(responder, failure, guilty);
    co_return;
  }
  json::array answers;
  for (int i = 0; i < generation.size(); ++i) {
    answers.push_back(FormatOf(context, parsed, i).Format(generation[i], 0));
  }
  const json::value out = parsed.is_list ? json::value(std::move(answers)) : answers[0];
  (void)co_await responder.Send(JsonResponse(200, json::serialize(out)));
}

}  // namespace baton::server
