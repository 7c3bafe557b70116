#include "cli/chat_client.h"

#include <optional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "http/client.h"
#include "http/sse.h"

namespace baton::cli {
namespace {

namespace asio = boost::asio;

// Runs one coroutine to its end on this thread.
template <typename T>
T RunOne(const std::function<asio::awaitable<T>(asio::io_context&)>& work) {
  asio::io_context io;
  std::optional<T> result;
  const auto keep = [&]() -> asio::awaitable<void> { result = co_await work(io); };
  asio::co_spawn(io, keep, asio::use_future);
  io.run();
  return std::move(*result);
}

std::string ErrorMessage(const std::string& body) {
  const auto parsed = json::Parse(body);
  if (!parsed.ok() || !parsed->is_object()) return body.substr(0, 300);
  const json::value* error = json::Find(parsed->get_object(), "error");
  const json::value* message = error && error->is_object() ? json::Find(error->get_object(), "message") : nullptr;
  return message && message->is_string() ? std::string(message->get_string()) : body.substr(0, 300);
}

// Applies one event to the answer; an error event ends it.
Status ApplyEvent(const std::string& payload, ChatAnswer& answer, const std::function<void(std::string_view)>& on_text,
                  TimePoint begin) {
  const auto parsed = json::Parse(payload);
  if (!parsed.ok() || !parsed->is_object()) return Error(Code::kDataCorrupt, "the server sent an event that is not JSON");
  const json::object& event = parsed->get_object();
  if (json::Find(event, "error")) return Error(Code::kInternal, "{}", ErrorMessage(payload));
  if (const json::value* usage = json::Find(event, "usage"); usage && usage->is_object()) answer.usage = usage->get_object();
  const json::value* choices = json::Find(event, "choices");
  if (!choices || !choices->is_array()) return Status::Ok();
  for (const json::value& choice : choices->get_array()) {
    if (!choice.is_object()) continue;
    const json::value* reason = json::Find(choice.get_object(), "finish_reason");
    if (reason && reason->is_string()) answer.finish_reason = reason->get_string();
    const json::value* delta = json::Find(choice.get_object(), "delta");
    const json::value* content = delta && delta->is_object() ? json::Find(delta->get_object(), "content") : nullptr;
    if (!content || !content->is_string() || content->get_string().empty()) continue;
    if (answer.text.empty()) answer.ttft_ms = Milliseconds(Now() - begin);
    answer.text += std::string_view(content->get_string());
    on_text(content->get_string());
  }
  return Status::Ok();
}

http::ClientRequest ChatRequestOf(const ChatOptions& options, const json::array& messages) {
  json::object body;
  body["model"] = options.model;
  body["messages"] = messages;
  body["stream"] = true;
  body["stream_options"] = json::object{{"include_usage", true}};
  body["return_timings"] = true;
  body["max_tokens"] = options.max_tokens;
  body["temperature"] = options.temperature;
  http::ClientRequest request;
  request.method = "POST";
  request.target = "/v1/chat/completions";
  request.headers.Add("Content-Type", "application/json");
  request.body = json::serialize(body);
  return request;
}

asio::awaitable<Result<ChatAnswer>> Stream(asio::io_context& io, http::Origin origin, http::ClientRequest request,
                                           std::function<void(std::string_view)> on_text, TimePoint deadline) {
  const TimePoint begin = Now();
  http::Client client(io.get_executor(), {});
  auto stream = co_await client.Start(origin, std::move(request), deadline);
  if (!stream.ok()) co_return stream.status();
  if ((*stream)->status() != 200) {
    auto body = co_await (*stream)->ReadAll(deadline, 1 << 20);
    co_return Error(Code::kUnavailable, "HTTP {}: {}", (*stream)->status(), body.ok() ? ErrorMessage(*body) : "");
  }
  ChatAnswer answer;
  http::SseParser parser;
  while (true) {
    auto piece = co_await (*stream)->Read(deadline);
    if (!piece.ok()) co_return piece.status();
    if (piece->empty()) co_return Error(Code::kUnavailable, "the stream ended without [DONE]");
    parser.Feed(*piece);
    while (auto payload = parser.Next()) {
      if (*payload == "[DONE]") co_return answer;
      if (Status s = ApplyEvent(*payload, answer, on_text, begin); !s.ok()) co_return s;
    }
  }
}

double NumberAt(const json::object& from, std::string_view key) {
  const json::value* v = json::Find(from, key);
  return v && v->is_number() ? v->to_number<double>() : 0;
}

}  // namespace

Result<ChatAnswer> StreamChat(const ChatOptions& options, const json::array& messages,
                              const std::function<void(std::string_view)>& on_text, Duration limit) {
  auto origin = http::ParseOrigin(options.url);
  if (!origin.ok()) return origin.status();
  const http::ClientRequest request = ChatRequestOf(options, messages);
  return RunOne<Result<ChatAnswer>>([&](asio::io_context& io) {
    return Stream(io, *origin, request, on_text, Now() + limit);
  });
}

Result<HttpAnswer> HttpGet(const std::string& url, const std::string& path, Duration limit) {
  auto origin = http::ParseOrigin(url);
  if (!origin.ok()) return origin.status();
  http::ClientRequest request;
  request.target = path;
  return RunOne<Result<HttpAnswer>>([&](asio::io_context& io) -> asio::awaitable<Result<HttpAnswer>> {
    http::Client client(io.get_executor(), {});
    auto response = co_await client.Fetch(*origin, request, Now() + limit);
    if (!response.ok()) co_return response.status();
    co_return HttpAnswer{response->status, std::move(response->body)};
  });
}

std::string DescribeTimings(const ChatAnswer& answer) {
  std::string out = fmt::format("TTFT {:.0f} ms", answer.ttft_ms);
  const json::value* found = json::Find(answer.usage, "baton");
  if (!found || !found->is_object()) return out;
  const json::object& t = found->get_object();
  if (const double rate = NumberAt(t, "tokens_per_s"); rate > 0) out += fmt::format(", {:.1f} tokens/s", rate);
  if (json::Find(t, "transfer_bytes")) {
    out += fmt::format(", prefill {:.0f} ms, KV {:.2f} MB in {:.2f} ms", NumberAt(t, "prefill_ms"),
                       NumberAt(t, "transfer_bytes") / 1e6, NumberAt(t, "transfer_ms"));
    if (const json::value* provider = json::Find(t, "provider"); provider && provider->is_string()) {
      out += fmt::format(" over {}", std::string_view(provider->get_string()));
    }
  }
  return out + fmt::format(", {:.0f} cached tokens", NumberAt(t, "cached_tokens"));
}

}  // namespace baton::cli
