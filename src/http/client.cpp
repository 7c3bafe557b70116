#include "http/client.h"

#include <mutex>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>

#include "http/client_stream.h"
#include "http/request_check.h"
#include "http/response_head.h"

namespace baton::http {

namespace {

// A server that closes an idle connection does so before it reads: it shows within a round trip.
// One that kept silent for longer has the request, which is then not sent again here.
constexpr Duration kStaleTime = std::chrono::milliseconds(250);
// A connection that was quiet for longer may have died without a sign: its peer is gone, or a box on the
// way forgot it. The first request on it must be acknowledged.
constexpr Duration kQuietTime = std::chrono::milliseconds(500);

// Host first (RFC 9112 section 3.2), then the caller's fields, then the length.
std::string RequestHead(const Origin& origin, const ClientRequest& request) {
  std::string head;
  head.reserve(256);
  head.append(request.method).append(" ").append(request.target).append(" HTTP/1.1\r\n");
  if (!request.headers.Has("Host")) {
    const bool brackets = origin.host.find(':') != std::string::npos;
    head.append(brackets ? "Host: [" : "Host: ").append(origin.host).append(brackets ? "]:" : ":");
    AppendNumber(head, origin.port);
    head.append("\r\n");
  }
  for (const auto& [name, value] : request.headers) {
    if (!IsFramingField(name)) AppendField(head, name, value);
  }
  const bool bodiless = request.method == "GET" || request.method == "HEAD";
  if (request.body_bytes() > 0 || !bodiless) {
    head.append("Content-Length: ");
    AppendNumber(head, request.body_bytes());
    head.append("\r\n");
  }
  return head.append("\r\n");
}

Status CheckStartLine(const ClientRequest& request) {
  bool good = !request.method.empty() && !request.target.empty();
  for (char c : request.method) good &= IsTokenByte(c);
  for (char c : request.target) good &= c > 0x20 && c < 0x7f;
  if (good) return Status::Ok();
  return Error(Code::kInvalidArgument, "method \"{}\" or target \"{}\" cannot be sent",
               request.method, request.target);
}

}  // namespace

// One pool for the Client's executor, and one for each other io_context that asks.
struct Client::Impl {
  Impl(asio::any_io_executor executor, const ClientOptions& options)
      : own(std::make_shared<ClientPool>(std::move(executor), options, std::make_shared<TlsClientContext>(options.tls))) {}

  std::shared_ptr<ClientPool> PoolFor(const asio::any_io_executor& caller);
  std::vector<std::shared_ptr<ClientPool>> Pools();

  const std::shared_ptr<ClientPool> own;
  std::mutex mutex;
  std::vector<std::shared_ptr<ClientPool>> others;
};

std::shared_ptr<ClientPool> Client::Impl::PoolFor(const asio::any_io_executor& caller) {
  // A strand's coroutine may run on any thread of its context: its sockets are the Client's.
  if (!caller.target<asio::io_context::executor_type>() || caller == own->executor()) return own;
  const std::lock_guard lock(mutex);
  for (const auto& pool : others) {
    if (pool->executor() == caller) return pool;
  }
  return others.emplace_back(std::make_shared<ClientPool>(caller, own->options(), own->tls()));
}

std::vector<std::shared_ptr<ClientPool>> Client::Impl::Pools() {
  const std::lock_guard lock(mutex);
  std::vector<std::shared_ptr<ClientPool>> all = others;
  all.push_back(own);
  return all;
}

Client::Client(asio::any_io_executor executor, ClientOptions options)
    : impl_(std::make_shared<Impl>(std::move(executor), options)) {}

Client::~Client() {
  for (const auto& pool : impl_->Pools()) pool->Close();
}

void Client::CloseIdle() {
  for (const auto& pool : impl_->Pools()) pool->CloseIdle();
}

asio::awaitable<Result<std::unique_ptr<ClientStream>>> Client::Start(Origin origin,
                                                                     ClientRequest request,
                                                                     TimePoint deadline) {
  // Held here, so that the Client may go away while a request is under way.
  const std::shared_ptr<ClientPool> pool = impl_->PoolFor(co_await asio::this_coro::executor);
  if (Status status = CheckStartLine(request); !status.ok()) co_return status;
  const std::string head = RequestHead(origin, request);
  SendList list;
  list.Add(head);
  list.Add(request.body);
  list.Add(request.shared_part());
  const bool head_request = request.method == "HEAD";

  Status stale;
  Duration idle_for{};
  if (auto reused = pool->Take(origin, &idle_for)) {
    const TimePoint begun = Now();
    if (request.on_send) request.on_send();
    auto stream = std::make_unique<PooledStream>(pool, std::move(reused));
    stale = co_await stream->Exchange(list, head_request, deadline, idle_for > kQuietTime);
    if (stale.ok()) co_return std::unique_ptr<ClientStream>(std::move(stream));
    const bool silent = stale.code() == Code::kDeadlineExceeded || stream->unacknowledged();
    if (silent && !stream->got_bytes()) pool->Distrust(origin);  // the others may be as dead as this one
    if (stale.code() != Code::kUnavailable || stream->got_bytes()) co_return stale;
    if (stream->unacknowledged()) stale = Status::Ok();  // nobody saw the request: as if it were not sent yet
    else if (Now() - begun > kStaleTime) co_return stale;
    // Else the server closed the idle connection just as we took it. A new one decides.
  }
  auto connection = std::make_shared<ClientConnection>(pool->executor(), origin);
  const Status connected = co_await connection->Connect(pool->options(), *pool->tls(), deadline);
  // The server was not closing an idle connection: it went away, perhaps by the request that it had.
  const bool gone = connected.code() == Code::kRefused || connected.code() == Code::kUnreachable;
  if (gone && !stale.ok()) co_return stale;
  if (!connected.ok()) co_return connected;
  if (request.on_send) request.on_send();
  auto stream = std::make_unique<PooledStream>(pool, std::move(connection));
  const Status status = co_await stream->Exchange(list, head_request, deadline);
  if (!status.ok()) co_return status;
  co_return std::unique_ptr<ClientStream>(std::move(stream));
}

asio::awaitable<Result<Response>> Client::Fetch(Origin origin, ClientRequest request,
                                                TimePoint deadline, size_t max_body_bytes) {
  auto stream = co_await Start(std::move(origin), std::move(request), deadline);
  if (!stream.ok()) co_return stream.status();
  auto body = co_await (*stream)->ReadAll(deadline, max_body_bytes);
  if (!body.ok()) co_return body.status();
  Response response;
  response.status = (*stream)->status();
  response.headers = (*stream)->headers();
  response.body = std::move(*body);
  co_return response;
}

}  // namespace baton::http
