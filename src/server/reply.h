// Small helpers to answer HTTP requests with JSON, errors and event streams.
#pragma once

#include <functional>
#include <span>
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

// `guilty`: see api::OpenAiError.
http::Response OpenAiErrorResponse(const Status& status, std::string_view param = {}, std::string_view guilty = {});
asio::awaitable<void> SendOpenAiError(http::Responder& responder, const Status& status, std::string_view param = {},
                                      std::string_view guilty = {});
asio::awaitable<void> SendNativeError(http::Responder& responder, const Status& status, std::string_view guilty = {});

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

// A text/event-stream answer. Errors after the head become an event, then [DONE]. For a router that
// asked for them (api/resume.h) comments tell which tokens each event stands for.
class EventStream {
 public:
  EventStream(const http::Request& request, http::Responder& responder, bool resumed);
  asio::awaitable<Status> Begin();

  // Comments of the next event; nothing when nobody asked.
  void NoteIdentity(int choice, int64_t created, std::string_view id);  // once a choice is enough
  void NoteIds(int choice, std::span<const int32_t> ids);
  void NoteEnd(int choice);
  void NoteLast();

  asio::awaitable<Status> Send(const json::value& event);
  asio::awaitable<Status> SendError(const Status& status, std::string_view guilty = {});
  asio::awaitable<void> Done();  // [DONE] and the end

 private:
  http::Responder& responder_;
  const bool with_ids_;
  const bool resumed_;
  std::string notes_;
};

// The body as JSON; nullopt when an error was sent. Checks the media type of POSTs.
asio::awaitable<std::optional<json::value>> ReadJson(http::Request& request, http::Responder& responder, bool native);

}  // namespace baton::server
