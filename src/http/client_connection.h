// One connection to an origin: connect, send, receive, each under the watchdog's deadline. Used by
// one coroutine at a time; only Interrupt (through the watchdog) comes from elsewhere. TLS will be
// a second kind of stream behind the same four calls.
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
#include "http/watchdog.h"

namespace baton::http {

class ClientConnection {
 public:
  ClientConnection(const asio::any_io_executor& executor, Origin origin);
  ~ClientConnection();

  const Origin& origin() const { return origin_; }
  Watchdog& watchdog() { return *watchdog_; }
  ReadBuffer& buffer() { return buffer_; }

  // Tries each address in turn, each for at most `timeout`, until `deadline`.
  asio::awaitable<Status> Connect(Duration timeout, TimePoint deadline);
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
  std::span<char> Room();
  void Received(size_t bytes, size_t room);
  Status Cancelled() const;
  // Why an operation ended: the interruption if there was one, else kUnavailable with `text`.
  Status Failure(std::string_view text) const;

  const Origin origin_;
  asio::ip::tcp::socket socket_;
  std::shared_ptr<Watchdog> watchdog_;  // shared with its timer's callback
  ReadBuffer buffer_;
  size_t read_room_ = ReadBuffer::kInitialBytes;
};

}  // namespace baton::http
