// One connection to an origin: connect, send, receive, each under the watchdog's deadline. Used by
// one coroutine at a time; only Interrupt (through the watchdog) comes from elsewhere. With TLS the
// same calls go through a TlsSession.
//
// When the coroutine itself is cancelled (a cancellation slot bound to its co_spawn) every wait
// ends with kCancelled. The state is asked before each wait too: a cancel that comes while a
// finished operation is on its way back would otherwise be lost.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "http/client.h"
#include "http/read_buffer.h"
#include "http/socket_io.h"
#include "http/tls_context.h"
#include "http/watchdog.h"

namespace baton::http {

class ClientConnection {
 public:
  ClientConnection(const asio::any_io_executor& executor, Origin origin);
  ~ClientConnection();

  const Origin& origin() const { return origin_; }
  Watchdog& watchdog() { return *watchdog_; }
  ReadBuffer& buffer() { return buffer_; }

  // Tries each address in turn, each for at most the options' time, until `deadline`. An https
  // origin's connection is secured by `tls`. Errors as of Client::Start; kRefused: by every address.
  asio::awaitable<Status> Connect(const ClientOptions& options, TlsClientContext& tls,
                                  TimePoint deadline);
  asio::awaitable<Status> Write(SendList list);
  // More bytes in buffer(), at least one; 0 when the peer has closed.
  asio::awaitable<Result<size_t>> Read();
  // Reads into buffer() and calls `more` after each read, without waking the caller's coroutine in
  // between, until it returns false. kNotFound when the peer has closed.
  asio::awaitable<Status> ReadWhile(const std::function<bool()>& more);

  bool Stale() const;
  void Close();

 private:
  static constexpr size_t kMaxBufferBytes = 64 << 10;

  asio::awaitable<Status> ConnectTo(const asio::ip::tcp::endpoint& endpoint);
  asio::awaitable<Status> Secure(TlsClientContext& tls);
  asio::awaitable<Result<size_t>> ReadTls();
  asio::awaitable<Status> ReadTlsWhile(const std::function<bool()>& more);
  Status Took(std::string_view what, Duration longer_than) const;
  std::span<char> Room();
  void Received(size_t bytes, size_t room);
  Status Cancelled() const;
  // Why an operation ended: the interruption if there was one, else `code` with `text`.
  Status Failure(std::string_view text, Code code = Code::kUnavailable) const;

  const Origin origin_;
  asio::ip::tcp::socket socket_;
  std::shared_ptr<Watchdog> watchdog_;  // shared with its timer's callback
  std::unique_ptr<TlsSession> tls_;  // nullptr: plain
  ReadBuffer buffer_;
  size_t read_room_ = ReadBuffer::kInitialBytes;
};

}  // namespace baton::http
