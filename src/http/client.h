// HTTP/1.1 client on Asio coroutines with a keep-alive pool per origin.
//
// A pooled connection that turns out to be stale (closed by the peer before the first response
// byte, or dead: the request is not even acknowledged) is replaced once, silently; nothing else is
// retried here. Every step has a deadline.
// Thread-safe; each ClientStream belongs to one coroutine. Connections live on the Client's executor,
// but those of a coroutine that runs on another io_context's executor live there, in a pool of that
// context: with one io_context per thread no operation leaves its thread. Such a context must outlive
// the Client.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "common/clock.h"
#include "common/status.h"
#include "http/message.h"
#include "http/tls.h"

namespace baton::http {

namespace asio = boost::asio;

// "http://host:port" taken apart; IPv6 hosts keep no brackets here.
struct Origin {
  bool tls = false;
  std::string host;
  uint16_t port = 80;
  std::string ToString() const;  // "http://[::1]:30000"
  friend auto operator<=>(const Origin&, const Origin&) = default;
};
// Accepts "http://h:p", "https://h:p", "h:p" and a trailing slash. kInvalidArgument says what is wrong.
Result<Origin> ParseOrigin(std::string_view url);

struct ClientOptions {
  std::chrono::milliseconds connect_timeout{2'000};
  std::chrono::milliseconds handshake_timeout{5'000};  // of TLS, after connecting
  std::chrono::milliseconds idle_timeout{50'000};  // pooled connections older than this are closed
  size_t max_idle_per_origin = 256;
  size_t max_header_bytes = 64 << 10;
  TlsOptions tls;  // of https:// origins; files are read when the first one is used
};

// A response whose body is read piece by piece. Destroying it before the end closes the
// connection (that is how a request is cancelled); after the end the connection goes back to the
// pool. Cancel() may be called from any thread.
class ClientStream {
 public:
  virtual ~ClientStream() = default;
  virtual int status() const = 0;
  virtual const Headers& headers() const = 0;
  // The next piece of the body (de-chunked) as it arrives; empty at the end.
  // kUnavailable when the peer closes early, kDeadlineExceeded, kCancelled.
  virtual asio::awaitable<Result<std::string>> Read(TimePoint deadline) = 0;
  // Gives each piece to `sink` as it arrives until the sink returns false (OK) or the body has ended
  // (OK, ended()). Costs less per piece than Read: the caller's coroutine sleeps meanwhile. The sink
  // runs on the caller's executor and must not use the stream; a piece lives until the next read.
  // kDeadlineExceeded when the first piece is not there by `deadline` or a later one `idle` after
  // the one before; else as Read.
  using Sink = std::function<bool(std::string_view piece)>;
  virtual asio::awaitable<Status> ReadEach(TimePoint deadline, Duration idle, const Sink& sink) = 0;
  virtual bool ended() const = 0;
  // The rest of the body, at most max_bytes (kTooLarge).
  virtual asio::awaitable<Result<std::string>> ReadAll(TimePoint deadline, size_t max_bytes) = 0;
  virtual void Cancel() = 0;
};

struct ClientRequest {
  std::string method = "GET";
  std::string target = "/";
  Headers headers;       // Host and Content-Length are added
  std::string body;
  // What follows `body`: the bytes of *shared from `shared_begin` on. Several requests may send them.
  std::shared_ptr<const std::string> shared;
  size_t shared_begin = 0;
  // Runs on the caller's executor when there is a connection and the request goes out on it.
  std::function<void()> on_send;

  std::string_view shared_part() const {
    return shared ? std::string_view(*shared).substr(shared_begin) : std::string_view();
  }
  size_t body_bytes() const { return body.size() + shared_part().size(); }
};

// A pooled connection keeps timers pending; CloseIdle or ~Client lets an io_context run dry.
// Result<T> has no default value, so co_spawn these from a coroutine of type void.
class Client {
 public:
  Client(asio::any_io_executor executor, ClientOptions options);
  ~Client();

  // Sends and waits for the response head, at the latest until `deadline`. A Start under way is
  // cancelled through the coroutine: bind a cancellation slot to its co_spawn and emit `terminal`
  // on its executor; it ends with kCancelled and the connection closes.
  // No connection came about, so nothing was sent: kRefused: nobody listens; kUnreachable: no route, no
  // answer, no such name, TLS failed; kResourceExhausted: this machine has no descriptor, port or memory
  // for it, and the message says how to get more. kUnavailable: the connection broke later. Messages name
  // origin and reason. kInvalidArgument: the files of ClientOptions::tls cannot be used.
  asio::awaitable<Result<std::unique_ptr<ClientStream>>> Start(Origin origin, ClientRequest request,
                                                               TimePoint deadline);
  // The same, whole: status, headers and body.
  asio::awaitable<Result<Response>> Fetch(Origin origin, ClientRequest request, TimePoint deadline,
                                          size_t max_body_bytes = 16 << 20);
  void CloseIdle();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace baton::http
