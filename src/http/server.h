// HTTP/1.1 server on Asio coroutines. One Server, any number of handler coroutines; a handler runs
// on the executor that the Server was made with (a strand per connection).
//
// Limits (each with its answer): header bytes 431, body bytes 413, header time and body pace 408, idle
// keep-alive closed, connections and the bytes of all bodies 503 (Retry-After). Malformed or
// smuggling-prone requests get 400 and a close (both Content-Length and Transfer-Encoding, repeated
// lengths, obs-fold, bare LF). With TLS, plain HTTP gets 400 too.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "common/clock.h"
#include "common/status.h"
#include "http/message.h"
#include "http/tls.h"

namespace baton::http {

namespace asio = boost::asio;

// The reply side of one request. Exactly one of Send or BeginStream..EndStream is used; a handler
// that returns without either gets a 500 sent for it. Use from the handler's executor only.
class Responder {
 public:
  virtual ~Responder() = default;

  // Whole answer with Content-Length.
  virtual asio::awaitable<Status> Send(Response response) = 0;

  // Chunked answer. Each Write is flushed at once. kCancelled when the client is gone,
  // kDeadlineExceeded when it does not read for write_timeout.
  virtual asio::awaitable<Status> BeginStream(int status, Headers headers) = 0;
  virtual asio::awaitable<Status> Write(std::string_view bytes) = 0;
  virtual asio::awaitable<Status> EndStream() = 0;
  // Write without a coroutine: true when all of it is with the kernel. Otherwise Settle() must
  // come before any other Write: it waits for the rest, or says what is wrong.
  virtual bool WriteNow(std::string_view bytes) = 0;
  virtual asio::awaitable<Status> Settle() = 0;
  // Breaks the connection so that the client sees a truncated stream, not a clean end.
  virtual void AbortStream() = 0;

  // Called once, on the handler's executor, when the client closes or resets before the answer is
  // complete (seen within milliseconds, also while the handler only waits). Set before waiting; it
  // runs at once when the client is gone already. nullptr takes it back.
  // The end of the client's sending side alone (shutdown(SHUT_WR)) counts too: a client that went
  // away looks the same. A Send after that is still tried, a stream is not. Not seen while a
  // pipelining client's further requests fill the read buffer (8 KiB).
  virtual void OnDisconnect(std::function<void()> callback) = 0;
  virtual bool disconnected() const = 0;
  virtual bool started() const = 0;  // a head has been sent

  // A field for whatever head will be sent, beside those of the answer; before it is sent.
  virtual void AddToHead(std::string_view name, std::string_view value) = 0;
  // What the observer is to know about this request; begins empty.
  virtual std::string& note() = 0;
};

// What became of one request.
struct Outcome {
  int status = 0;           // 0: nothing was answered
  uint64_t body_bytes = 0;  // sent, without framing
  TimePoint received{};     // when the whole request was here
  TimePoint first_byte{};   // of the answer's body; TimePoint{} when there was none
  bool complete = false;    // the answer was sent whole
  std::string_view note;    // Responder::note
};

using Handler = std::function<asio::awaitable<void>(Request& request, Responder& responder)>;
// An answer ends the request, no answer lets it on. The Responder is for AddToHead and note() only.
using Filter = std::function<std::optional<Response>(Request& request, Responder& responder)>;

struct ServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;  // 0 picks a free port
  size_t max_header_bytes = 64 << 10;
  size_t max_body_bytes = size_t{64} << 20;
  // Of the bodies of all requests that are being read or handled.
  size_t max_held_body_bytes = size_t{1} << 30;
  size_t max_connections = 16384;
  std::chrono::milliseconds header_timeout{10'000};  // first byte of a request to end of header
  // A body must bring min_body_bytes (or its end) in each body_window, and its end in max_body_time:
  // a slow line may take its time, a client that only holds its place may not.
  std::chrono::milliseconds body_window{20'000};
  size_t min_body_bytes = 16 << 10;
  std::chrono::milliseconds max_body_time{3'600'000};
  std::chrono::milliseconds idle_timeout{75'000};    // keep-alive connection between requests
  std::chrono::milliseconds write_timeout{30'000};
  ServerTlsOptions tls;  // no certificate: plain HTTP
  // Executors that one thread each runs: every connection is given to the next of them and stays
  // there. Empty: strands of the Server's executor.
  std::vector<asio::any_io_executor> loops;
};

class Server {
 public:
  // `executor` is usually an io_context's or a thread_pool's.
  Server(asio::any_io_executor executor, ServerOptions options);
  ~Server();  // stops and waits for nothing: call Stop() and run the executor dry first

  // Exact path; `method` "*" means any. A path that ends in "/*" matches every path below it.
  // Unknown path 404, known path with another method 405 (+ Allow); both through SetFallback's
  // handler when set. Routes are fixed before Start.
  void Route(std::string method, std::string path, Handler handler);
  void SetFallback(Handler handler);
  // Runs once for every request whose head is understood, before its body is read and before
  // `100 Continue` (authentication, CORS preflight). A request that it answers, like one without a
  // route, is answered without its body being read, and its connection closes; where the body is here
  // already it stays open.
  void SetFilter(Filter filter);
  // The answers that the server makes itself (400, 404, 405, 408, 413, 431, 500, 503). Of a request whose
  // head was not understood there is nothing in `request`. May change it for the observer.
  void SetErrorBody(std::function<Response(Request& request, int status, std::string_view message)> make);

  // Told of every request at its end, on its connection's strand; also of those that were refused
  // unread, whose method and path may be empty.
  void SetObserver(std::function<void(const Request&, const Outcome&)> observer);

  // Binds and listens. kUnavailable names the address and errno (port in use), kInvalidArgument the
  // certificate or key that cannot be used.
  Status Start();
  uint16_t port() const;
  size_t Connections() const;  // open ones, idle or not
  size_t HeldBodyBytes() const;
  // Stops accepting, closes idle connections; running handlers go on. `OpenRequests()` tells.
  void Drain();
  size_t OpenRequests() const;
  // Closes everything now.
  void Stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace baton::http
