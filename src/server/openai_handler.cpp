#include "server/openai_handler.h"

#include <boost/asio/this_coro.hpp>

#include "server/model_name.h"
#include "server/openai_format.h"
#include "server/prompts.h"
#include "server/reply.h"

namespace baton::server {
namespace {

// What the two APIs do alike, told apart by a few functions of JSON.
struct Call {
  const api::OpenAiRequest& request;
  int samples_per_prompt;
  // One finished choice of a whole answer.
  std::function<json::object(const Generation&, int)> choice;
  // One streamed choice: output ids [from, to), text from byte `text_from` on.
  std::function<json::object(const Generation&, int, size_t from, size_t to, size_t text_from)> chunk;
  // Events before the first token of a choice (the role of a chat message; an echoed prompt).
  std::function<std::optional<json::object>(const Generation&, int)> opening;
  std::string_view object, chunk_object;
  std::string id;
  int64_t created = 0;
};

// Everything there is to know about a finished choice besides its text.
void AddEnding(json::object& choice, const Sequence& s) {
  choice["finish_reason"] = OpenAiFinishReason(s);
  choice["matched_stop"] = MatchedStop(s);
}

json::object Envelope(const Context& context, const Call& call, std::string_view object) {
  return {{"id", call.id}, {"object", object}, {"created", call.created},
          {"model", context.model_name}};
}

json::object ChunkEvent(const Context& context, const Call& call, json::array choices) {
  json::object event = Envelope(context, call, call.chunk_object);
  event["choices"] = std::move(choices);
  event["usage"] = nullptr;
  return event;
}

asio::awaitable<void> AnswerWhole(Context& context, const Call& call, Generation& generation,
                                  http::Responder& responder) {
  while (!generation.done()) {
    if ((co_await generation.Next()).empty()) {
      co_return co_await SendOpenAiError(responder, Error(Code::kInternal, "the engine made no progress within the watchdog time"));
    }
  }
  std::string_view guilty;
  if (Status failure = generation.failure(&guilty); !failure.ok()) {
    co_return co_await SendOpenAiError(responder, failure, {}, guilty);
  }
  json::object answer = Envelope(context, call, call.object);
  json::array choices;
  for (int i = 0; i < generation.size(); ++i) choices.push_back(call.choice(generation, i));
  answer["choices"] = std::move(choices);
  answer["usage"] = Usage(context, generation, call.samples_per_prompt, call.request.return_timings);
  (void)co_await responder.Send(JsonResponse(200, json::serialize(answer)));
}

// How far one choice has been sent.
struct Progress {
  bool opened = false;
  bool any = false;   // a chunk with tokens went out
  size_t ids = 0;
  size_t text = 0;
};

asio::awaitable<Status> SendChoice(Context& context, const Call& call, const Generation& generation, int i,
                                   Progress& progress, EventStream& events) {
  const Sequence& s = generation[i];
  if (s.ended_before) co_return Status::Ok();
  if (!progress.opened) {
    progress.opened = true;
    if (auto opening = call.opening(generation, i)) {
      events.NoteIds(i, {});
      const json::object event = ChunkEvent(context, call, json::array{std::move(*opening)});
      if (Status st = co_await events.Send(event); !st.ok()) co_return st;
    }
  }
  const bool finished = s.finish != engine::Finish::kRunning;
  // Tokens whose text is held back (half a character, a possible stop string) wait for it.
  if (s.text.size() > progress.text || (finished && s.output_ids.size() > progress.ids)) {
    json::object chunk = call.chunk(generation, i, progress.ids, s.output_ids.size(), progress.text);
    events.NoteIds(i, std::span(s.output_ids).subspan(progress.ids));
    progress.any = true;
    progress.ids = s.output_ids.size();
    progress.text = s.text.size();
    json::object event = ChunkEvent(context, call, json::array{std::move(chunk)});
    if (call.request.continuous_usage) event["usage"] = Usage(context, generation, call.samples_per_prompt, false);
    if (Status st = co_await events.Send(event); !st.ok()) co_return st;
  }
  if (!finished) co_return Status::Ok();
  // The ending comes in a chunk of its own, as OpenAI sends it.
  json::object ending = call.chunk(generation, i, progress.ids, progress.ids, progress.text);
  AddEnding(ending, s);
  events.NoteEnd(i);
  const json::object event = ChunkEvent(context, call, json::array{std::move(ending)});
  co_return co_await events.Send(event);
}

asio::awaitable<void> AnswerStream(Context& context, const Call& call, Generation& generation,
                                   const http::Request& request, http::Responder& responder) {
  EventStream events(request, responder, call.request.resume.has_value());
  bool begun = false;
  std::vector<Progress> progress(generation.size());
  for (int i = 0; i < generation.size(); ++i) {
    const Sequence& s = generation[i];
    progress[i] = {s.opened_before, s.resumed > 0, s.resumed, s.resumed_text};
  }
  std::string_view guilty;
  while (!generation.done()) {
    const std::vector<int> changed = co_await generation.Next();
    Status failure = changed.empty() ? Error(Code::kInternal, "the engine made no progress within the watchdog time")
                                     : generation.failure(&guilty);
    if (!failure.ok()) {
      generation.Abort();
      // Until the first event the status line is still open: an early failure gets its own.
      if (!begun) co_return co_await SendOpenAiError(responder, failure, {}, guilty);
      if (Status s = co_await events.SendError(failure, guilty); s.ok()) co_await events.Done();
      co_return;
    }
    if (!begun) {
      if (Status s = co_await events.Begin(); !s.ok()) co_return;
      events.NoteIdentity(0, call.created, call.id);
      begun = true;
    }
    for (const int i : changed) {
      if (Status s = co_await SendChoice(context, call, generation, i, progress[i], events); !s.ok()) co_return;
    }
  }
  if (call.request.include_usage) {
    json::object event = ChunkEvent(context, call, {});
    events.NoteLast();
    json::object usage = Usage(context, generation, call.samples_per_prompt, call.request.return_timings);
    if (call.request.resume) usage["baton_migrations"] = call.request.resume->migrations;
    event["usage"] = std::move(usage);
    if (Status s = co_await events.Send(event); !s.ok()) co_return;
  }
  co_await events.Done();
}

asio::awaitable<void> Run(Context& context, const Call& call, std::vector<SequenceSpec> specs,
                          const http::Request& request, http::Responder& responder) {
  Generation generation(context, co_await asio::this_coro::executor);
  if (Status s = generation.Start(std::move(specs)); !s.ok()) co_return co_await SendOpenAiError(responder, s);
  const DisconnectGuard guard(responder, [&generation] { generation.Abort(); });
  if (call.request.stream) co_await AnswerStream(context, call, generation, request, responder);
  else co_await AnswerWhole(context, call, generation, responder);
}

asio::awaitable<void> SendUnknownModel(Context& context, const std::string& name, http::Responder& responder) {
  (void)co_await responder.Send(JsonResponse(404, json::serialize(UnknownModel(context, name))));
}

// Sample `s` of a request: its own room, its own seed.
SequenceSpec MakeSpec(const api::OpenAiRequest& request, std::vector<int32_t> ids, size_t index, int sample) {
  SequenceSpec spec{std::move(ids), request.sampling, request.logprobs, {}, request.rid, true};
  spec.sampling.n = 1;
  if (spec.sampling.seed) *spec.sampling.seed += sample;
  if (index < request.bootstraps.size()) spec.bootstrap = request.bootstraps[index];
  if (request.resume) spec.resume = request.resume->choices[index];
  return spec;
}

int64_t CreatedOf(const api::OpenAiRequest& request) {
  return request.resume && request.resume->created > 0 ? request.resume->created : static_cast<int64_t>(UnixSeconds());
}

}  // namespace

asio::awaitable<void> HandleCompletions(Context& context, http::Request& http_request, http::Responder& responder) {
  auto body = co_await ReadJson(http_request, responder, false);
  if (!body) co_return;
  api::CompletionRequest request;
  if (auto error = api::ParseCompletion(*body, context.text.sampling_defaults, request)) {
    co_return co_await SendOpenAiError(responder, error->status, error->param);
  }
  if (!ServesModel(context, request.model)) co_return co_await SendUnknownModel(context, request.model, responder);
  std::vector<SequenceSpec> specs;
  std::vector<std::vector<int32_t>> prompts;
  for (const api::Prompt& prompt : request.prompts) {
    auto ids = TokenizePrompt(context, prompt, request.sampling);
    if (!ids.ok()) co_return co_await SendOpenAiError(responder, ids.status(), "prompt");
    for (int sample = 0; sample < request.sampling.n; ++sample) {
      specs.push_back(MakeSpec(request, *ids, specs.size(), sample));
    }
    prompts.push_back(std::move(*ids));
  }
  const int n = request.sampling.n;
  const auto prompt_text = [&](int i) -> std::string {
    if (!request.echo) return {};
    const api::Prompt& prompt = request.prompts[i / n];
    if (prompt.text) return *prompt.text;
    return context.text.tokenizer ? context.text.tokenizer->Decode(prompt.ids, request.sampling.skip_special_tokens) : "";
  };
  const auto make = [&](const Generation& g, int i, size_t from, size_t to, size_t text_from, bool with_prompt) {
    const Sequence& s = g[i];
    const std::string echo = with_prompt ? prompt_text(i) : std::string();
    json::object choice{{"index", i}, {"text", echo + s.text.substr(text_from)}, {"logprobs", nullptr},
                        {"finish_reason", nullptr}, {"matched_stop", nullptr}};
    if (request.logprobs.enabled && (to > from || with_prompt)) {
      const std::span<const int32_t> prompt = with_prompt && request.echo ? std::span<const int32_t>(prompts[i / n])
                                                                          : std::span<const int32_t>();
      choice["logprobs"] = CompletionLogprobs(context, s, prompt, from, to, request.logprobs.top,
                                              with_prompt ? 0 : prompt_text(i).size() + text_from);
    }
    return choice;
  };
  Call call{request, n, {}, {}, {}, "text_completion", "text_completion", request.rid, CreatedOf(request)};
  call.choice = [&](const Generation& g, int i) {
    json::object choice = make(g, i, 0, g[i].output_ids.size(), 0, true);
    AddEnding(choice, g[i]);
    return choice;
  };
  call.chunk = [&](const Generation& g, int i, size_t from, size_t to, size_t text_from) {
    return make(g, i, from, to, text_from, from == 0 && text_from == 0);
  };
  call.opening = [](const Generation&, int) { return std::optional<json::object>(); };
  co_await Run(context, call, std::move(specs), http_request, responder);
}

asio::awaitable<void> HandleChat(Context& context, http::Request& http_request, http::Responder& responder) {
  auto body = co_await ReadJson(http_request, responder, false);
  if (!body) co_return;
  api::ChatRequest request;
  if (auto error = api::ParseChat(*body, context.text.sampling_defaults, request)) {
    co_return co_await SendOpenAiError(responder, error->status, error->param);
  }
  if (!ServesModel(context, request.model)) co_return co_await SendUnknownModel(context, request.model, responder);
  auto chat = RenderChat(context, request);
  if (!chat.ok()) co_return co_await SendOpenAiError(responder, chat.status(), "messages");
  std::vector<SequenceSpec> specs;
  for (int sample = 0; sample < request.sampling.n; ++sample) {
    specs.push_back(MakeSpec(request, chat->ids, specs.size(), sample));
  }
  Call call{request, request.sampling.n, {}, {}, {}, "chat.completion", "chat.completion.chunk", request.rid, CreatedOf(request)};
  const int top = request.logprobs.top;
  call.choice = [&](const Generation& g, int i) {
    const Sequence& s = g[i];
    json::object choice{{"index", i},
                        {"message", json::object{{"role", "assistant"}, {"content", s.text},
                                                 {"reasoning_content", nullptr}, {"tool_calls", nullptr}}},
                        {"logprobs", nullptr}};
    if (request.logprobs.enabled) choice["logprobs"] = ChatLogprobs(context, s, 0, s.logprobs.size(), top);
    AddEnding(choice, s);
    return choice;
  };
  call.opening = [](const Generation&, int i) {
    return std::optional<json::object>(json::object{
        {"index", i}, {"delta", json::object{{"role", "assistant"}, {"content", ""}}}, {"logprobs", nullptr},
        {"finish_reason", nullptr}, {"matched_stop", nullptr}});
  };
  call.chunk = [&](const Generation& g, int i, size_t from, size_t to, size_t text_from) {
    const Sequence& s = g[i];
    json::object delta;
    if (s.text.size() > text_from) delta["content"] = s.text.substr(text_from);
    json::object choice{{"index", i}, {"delta", std::move(delta)}, {"logprobs", nullptr},
                        {"finish_reason", nullptr}, {"matched_stop", nullptr}};
    if (request.logprobs.enabled && to > from) choice["logprobs"] = ChatLogprobs(context, s, from, to, top);
    return choice;
  };
  co_await Run(context, call, std::move(specs), http_request, responder);
}

}  // namespace baton::server
