#include "server/reply.h"

#include "http/sse.h"

namespace baton::server {

http::Response JsonResponse(int status, std::string body) {
  http::Response response{status, {}, std::move(body)};
  response.headers.Add("Content-Type", "application/json");
  return response;
}

http::Response TextResponse(int status, std::string body, std::string_view type) {
  http::Response response{status, {}, std::move(body)};
  response.headers.Add("Content-Type", std::string(type));
  return response;
}

http::Response OpenAiErrorResponse(const Status& status, std::string_view param, std::string_view guilty) {
  http::Response response = JsonResponse(api::HttpStatusOf(status.code()), api::OpenAiError(status, param, guilty));
  if (response.status == 503) response.headers.Add("Retry-After", "1");
  return response;
}

asio::awaitable<void> SendOpenAiError(http::Responder& responder, const Status& status, std::string_view param,
                                      std::string_view guilty) {
  http::Response response = OpenAiErrorResponse(status, param, guilty);
  (void)co_await responder.Send(std::move(response));
}

asio::awaitable<void> SendNativeError(http::Responder& responder, const Status& status, std::string_view guilty) {
  (void)co_await responder.Send(JsonResponse(api::HttpStatusOf(status.code()), api::NativeError(status, guilty)));
}

EventStream::EventStream(const http::Request& request, http::Responder& responder, bool resumed)
    : responder_(responder), with_ids_(request.headers.Get(api::kStreamIdsHeader) == "1"), resumed_(resumed) {}

asio::awaitable<Status> EventStream::Begin() {
  http::Headers headers;
  headers.Add("Content-Type", "text/event-stream; charset=utf-8");
  headers.Add("Cache-Control", "no-cache");
  if (with_ids_) headers.Add(std::string(api::kStreamIdsHeader), "1");
  if (resumed_) headers.Add(std::string(api::kResumedHeader), "1");
  co_return co_await responder_.BeginStream(200, std::move(headers));
}

void EventStream::NoteIdentity(int choice, int64_t created, std::string_view id) {
  if (!with_ids_) return;
  notes_ += fmt::format(": id {} {} {}\n", choice, created, json::serialize(json::value(id)));
}

void EventStream::NoteIds(int choice, std::span<const int32_t> ids) {
  if (!with_ids_) return;
  notes_ += fmt::format(": ids {} ", choice);
  for (const int32_t id : ids) {
    notes_ += fmt::format_int(id).c_str();
    notes_ += ',';
  }
  if (!ids.empty()) notes_.pop_back();
  notes_ += '\n';
}

void EventStream::NoteEnd(int choice) {
  if (with_ids_) notes_ += fmt::format(": end {}\n", choice);
}

void EventStream::NoteLast() {
  if (with_ids_) notes_ += ": last\n";
}

asio::awaitable<Status> EventStream::Send(const json::value& event) {
  std::string bytes = http::SseEvent(json::serialize(event));
  if (!notes_.empty()) bytes = std::exchange(notes_, {}) + bytes;
  co_return co_await responder_.Write(bytes);
}

asio::awaitable<Status> EventStream::SendError(const Status& status, std::string_view guilty) {
  notes_.clear();
  co_return co_await responder_.Write(http::SseEvent(api::OpenAiError(status, {}, guilty)));
}

asio::awaitable<void> EventStream::Done() {
  if (Status s = co_await responder_.Write(http::kSseDone); s.ok()) (void)co_await responder_.EndStream();
}

asio::awaitable<std::optional<json::value>> ReadJson(http::Request& request, http::Responder& responder, bool native) {
  const std::string_view type = request.headers.Get("content-type");
  Status status;
  if (!native && !type.empty() && !http::EqualsIgnoreCase(type.substr(0, 16), "application/json")) {
    status = Error(Code::kInvalidArgument, "Content-Type must be application/json, found {}", type);
  } else if (request.body.empty()) {
    status = Error(Code::kInvalidArgument, "the request body is empty: send a JSON object");
  } else {
    auto parsed = json::Parse(request.body);
    if (parsed.ok()) co_return std::move(*parsed);
    status = parsed.status();
  }
  if (native) co_await SendNativeError(responder, status);
  else co_await SendOpenAiError(responder, status);
  co_return std::nullopt;
}

}  // namespace baton::server
