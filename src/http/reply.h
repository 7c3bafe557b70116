// The Responder of one connection: turns a handler's calls into bytes. Reset for each request.
// All calls on the connection's strand.
#pragma once

#include <functional>
#include <string>

#include "http/response_head.h"
#include "http/server.h"
#include "http/transport.h"

namespace baton::http {

class Reply final : public Responder {
 public:
  Reply(Transport& transport, Duration write_timeout)
      : transport_(transport), write_timeout_(write_timeout) {}

  // A new request: may the connection live on, is the body left out, does the client know chunks.
  struct Terms {
    bool keep_alive = true;
    bool head_only = false;
    bool http10 = false;
    bool timed = false;  // note times for an observer
  };
  void Begin(const Terms& terms);
  // The whole request is here.
  void NoteReceived() {
    if (terms_.timed) received_ = Now();
  }

  asio::awaitable<Status> Send(Response response) override;
  asio::awaitable<Status> BeginStream(int status, Headers headers) override;
  asio::awaitable<Status> Write(std::string_view bytes) override;
  asio::awaitable<Status> EndStream() override;
  bool WriteNow(std::string_view bytes) override;
  asio::awaitable<Status> Settle() override;
  void AbortStream() override;
  void OnDisconnect(std::function<void()> callback) override;
  bool disconnected() const override { return disconnected_; }
  bool started() const override { return state_ != State::kNothing; }

  void AddToHead(std::string_view name, std::string_view value) override {
    AppendField(more_, name, value);
  }
  std::string& note() override { return note_; }
  std::string_view more() const { return more_; }  // what AddToHead was given

  Outcome outcome() const {
    return {status_, body_bytes_, received_, first_byte_, complete(), note_};
  }
  bool complete() const { return state_ == State::kComplete; }
  bool keep_alive() const { return terms_.keep_alive && complete(); }

  // The client has closed or broken the connection. A whole answer is still tried after that (the
  // client may have closed its sending side only), a stream is not.
  void NotifyDisconnected();
  // From now on answers close the connection.
  void ForbidKeepAlive() { terms_.keep_alive = false; }
  void End();

 private:
  enum class State { kNothing, kStreaming, kComplete, kAborted };

  asio::awaitable<Status> Flush(SendList list);
  void CountBody(size_t bytes);

  Transport& transport_;
  const Duration write_timeout_;
  Terms terms_;
  State state_ = State::kNothing;
  bool disconnected_ = false;
  bool chunked_ = false;
  bool drop_body_ = false;
  std::string head_;  // keeps its storage from request to request
  std::string rest_;  // what WriteNow could not send ...
  bool settled_ = true;  // ... which may lie in the transport
  std::function<void()> callback_;
  std::string more_;  // fields for the next head
  std::string note_;
  int status_ = 0;
  uint64_t body_bytes_ = 0;
  TimePoint received_{};
  TimePoint first_byte_{};
};

}  // namespace baton::http
