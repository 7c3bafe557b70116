// Small helpers to answer HTTP requests with JSON, errors and event streams.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "api/errors.h"
#include "api/generate.h"
#include "common/json.h"
#include "http/server.h"

namespace baton::server {

namespace asio = boost::asio;

http::Response JsonResponse(int status, std::string body);
http::Response TextResponse(int status, std::string body, std::string_view type = "text/plain");

asio::awaitable<void> SendOpenAiError(http::Responder& responder, const Status& status, std::string_view param = {});
asio::awaitable<void> SendNativeError(http::Responder& responder, const Status& status);

// Calls `callback` when the client goes away, as long as this object lives.
class DisconnectGuard {
 public:
  DisconnectGuard(http::Responder& responder, std::function<void()> callback) : responder_(responder) {
    responder_.OnDisconnect(std::move(callback));
  }
  ~DisconnectGuard() { responder_.OnDisconnect(nullptr); }
  DisconnectGuard(const DisconnectGuard&) = delete;

 private:
  http::Responder& responder_;
};

// A text/event-stream answer. Errors after the head become an event, then [DONE].
class EventStream {
 public:
  explicit EventStream(http::Responder& responder) : responder_(responder) {}
  asio::awaitable<Status> Begin();
  asio::awaitable<Status> Send(const json::value& event);
  asio::awaitable<Status> SendError(const Status& status);
  asio::awaitable<void> Done();  // [DONE] and the end

 private:
  http::Responder& responder_;
};

// The body as JSON; nullopt when an error was sent. Checks the media type of POSTs.
asio::awaitable<std::optional<json::value>> ReadJson(http::Request& request, http::Responder& responder, bool native);

}  // namespace baton::server
