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

asio::awaitable<void> SendOpenAiError(http::Responder& responder, const Status& status, std::string_view param) {
  http::Response response = JsonResponse(api::HttpStatusOf(status.code()), api::OpenAiError(status, param));
  if (response.status == 503) response.headers.Add("Retry-After", "1");
  (void)co_await responder.Send(std::move(response));
}

asio::awaitable<void> SendNativeError(http::Responder& responder, const Status& status) {
  (void)co_await responder.Send(JsonResponse(api::HttpStatusOf(status.code()), api::NativeError(status)));
}

asio::awaitable<Status> EventStream::Begin() {
  http::Headers headers;
  headers.Add("Content-Type", "text/event-stream; charset=utf-8");
  headers.Add("Cache-Control", "no-cache");
  co_return co_await responder_.BeginStream(200, std::move(headers));
}

asio::awaitable<Status> EventStream::Send(const json::value& event) {
  co_return co_await responder_.Write(http::SseEvent(json::serialize(event)));
}

asio::awaitable<Status> EventStream::SendError(const Status& status) {
  co_return co_await responder_.Write(http::SseEvent(api::OpenAiError(status)));
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
