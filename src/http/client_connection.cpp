#include "http/client_connection.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "http/connect_failure.h"
#include "http/resolve.h"

namespace baton::http {

using asio::ip::tcp;

namespace {

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// Not a failure by itself: whoever reads knows whether more had to come.
Status PeerClosed() { return Status(Code::kNotFound, "the peer has closed"); }

bool IsCancelled(const asio::cancellation_state& state) {
  return state.cancelled() != asio::cancellation_type::none;
}

}  // namespace

ClientConnection::ClientConnection(const asio::any_io_executor& executor, Origin origin)
    : origin_(std::move(origin)),
      socket_(executor),
      watchdog_(std::make_shared<Watchdog>(executor)) {}

ClientConnection::~ClientConnection() { Close(); }

void ClientConnection::Close() {
  if (tls_) tls_->SendClose();
  watchdog_->Detach();
  boost::system::error_code ignored;
  socket_.close(ignored);
  tls_.reset();
}

bool ClientConnection::Stale() const {
  return (tls_ && tls_->Pending()) || IsStale(const_cast<tcp::socket&>(socket_).native_handle());
}

Status ClientConnection::Cancelled() const {
  return Error(Code::kCancelled, "{}: cancelled", origin_.ToString());
}

Status ClientConnection::Failure(std::string_view text, Code code) const {
  switch (watchdog_->reason()) {
    case Code::kDeadlineExceeded:
      return Error(Code::kDeadlineExceeded, "{}: no answer by the deadline", origin_.ToString());
    case Code::kCancelled: return Cancelled();
    case Code::kUnavailable:
      return Error(Code::kUnavailable, "{}: the connection is dead: nothing acknowledged what was sent", origin_.ToString());
    default: return Error(code, "{}: {}", origin_.ToString(), text);
  }
}

Status ClientConnection::Took(std::string_view what, Duration longer_than) const {
  return Error(Code::kUnreachable, "{}: {} took longer than {:.0f} ms", origin_.ToString(), what,
               Milliseconds(longer_than));
}

asio::awaitable<Status> ClientConnection::Connect(const ClientOptions& options,
                                                  TlsClientContext& tls, TimePoint deadline) {
  const Duration timeout = options.connect_timeout;
  auto endpoints =
      co_await Resolve(socket_.get_executor(), origin_, std::min(deadline, Now() + timeout));
  if (!endpoints.ok()) co_return endpoints.status();
  Status failure;
  for (const auto& endpoint : *endpoints) {
    if (Now() >= deadline)
      co_return Error(Code::kDeadlineExceeded, "{}: no connection by the deadline",
                      origin_.ToString());
    watchdog_ = std::make_shared<Watchdog>(socket_.get_executor());
    watchdog_->SetDeadline(std::min(deadline, Now() + timeout));
    Status status = co_await ConnectTo(endpoint);
    const bool reached = status.ok();
    if (reached && origin_.tls) {
      watchdog_->SetDeadline(std::min(deadline, Now() + options.handshake_timeout));
      status = co_await Secure(tls);
    }
    if (status.ok()) co_return status;
    const bool timed_out = watchdog_->reason() == Code::kDeadlineExceeded;
    const bool cancelled = status.code() == Code::kCancelled;
    Close();
    if (cancelled || status.code() == Code::kInvalidArgument) co_return status;
    if (timed_out && Now() >= deadline) co_return status;
    if (timed_out)
      status = reached ? Took("the TLS handshake", options.handshake_timeout) : Took("connecting", timeout);
    failure = LesserProof(std::move(failure), std::move(status));
  }
  co_return failure;
}

asio::awaitable<Status> ClientConnection::ConnectTo(const tcp::endpoint& endpoint) {
  if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
  boost::system::error_code open_error;
  socket_.open(endpoint.protocol(), open_error);
  if (open_error) co_return ConnectFailure(origin_, endpoint, open_error.value());
  watchdog_->Attach(socket_.native_handle());
  const auto [ec] = co_await socket_.async_connect(endpoint, kAwait);
  if (ec == asio::error::operation_aborted) co_return Cancelled();
  if (watchdog_->reason() != Code::kOk) co_return Failure("");
  if (ec) co_return ConnectFailure(origin_, endpoint, ec.value());
  TuneSocket(socket_.native_handle());
  co_return Status::Ok();
}

asio::awaitable<Status> ClientConnection::Secure(TlsClientContext& tls) {
  auto session = tls.Connect(origin_, socket_.native_handle());
  if (!session.ok()) co_return session.status();
  tls_ = std::move(*session);
  while (true) {
    if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
    const TlsSession::Step step = tls_->Handshake();
    if (watchdog_->reason() != Code::kOk) co_return Failure("");
    if (step == TlsSession::Step::kDone) co_return Status::Ok();
    if (step == TlsSession::Step::kFailed) co_return Failure(tls_->problem(), Code::kUnreachable);
    const auto wait = step == TlsSession::Step::kWantWrite ? tcp::socket::wait_write : tcp::socket::wait_read;
    const auto [ec] = co_await socket_.async_wait(wait, kAwait);
    if (ec == asio::error::operation_aborted) co_return Cancelled();
    if (ec) co_return Failure(ec.message(), Code::kUnreachable);
  }
}

asio::awaitable<Status> ClientConnection::Write(SendList list) {
  while (true) {
    if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
    int error = 0;
    const SendResult result =
        tls_ ? tls_->Send(list, &error) : SendNow(socket_.native_handle(), list, &error);
    if (result == SendResult::kDone) co_return Status::Ok();
    if (result == SendResult::kFailed)
      co_return Failure(error != 0 ? ErrnoText(error) : std::string(tls_->problem()));
    const auto [ec] = co_await socket_.async_wait(tcp::socket::wait_write, kAwait);
    if (ec == asio::error::operation_aborted) co_return Cancelled();
    if (ec) co_return Failure(ec.message());
  }
}

asio::awaitable<Result<size_t>> ClientConnection::ReadTls() {
  const std::span<char> room = Room();
  // Nothing has been read since the socket was found empty: it is the socket that tells of more.
  bool wait = !tls_->Pending();
  while (true) {
    if (wait) {
      const auto [ec] = co_await socket_.async_wait(tcp::socket::wait_read, kAwait);
      if (ec == asio::error::operation_aborted) co_return Cancelled();
      if (ec) co_return Failure(ec.message());
      if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
    }
    size_t bytes = 0;
    const TlsSession::Step step = tls_->Read(room, &bytes);
    if (watchdog_->reason() != Code::kOk) co_return Failure("");
    if (step == TlsSession::Step::kFailed) co_return Failure(tls_->problem());
    if (step == TlsSession::Step::kClosed) co_return size_t{0};
    if (step == TlsSession::Step::kDone) {
      Received(bytes, room.size());
      co_return bytes;
    }
    wait = true;
  }
}

asio::awaitable<Result<size_t>> ClientConnection::Read() {
  if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
  if (tls_) co_return co_await ReadTls();
  const std::span<char> room = Room();
  const auto [ec, bytes] =
      co_await socket_.async_read_some(asio::buffer(room.data(), room.size()), kAwait);
  if (watchdog_->reason() != Code::kOk) co_return Failure("");
  if (ec == asio::error::eof) co_return size_t{0};
  if (ec == asio::error::operation_aborted) co_return Cancelled();
  if (ec) co_return Failure(ec.message());
  Received(bytes, room.size());
  co_return bytes;
}

std::span<char> ClientConnection::Room() {
  return buffer_.Prepare(std::max(read_room_, buffer_.size() * 2));
}

void ClientConnection::Received(size_t bytes, size_t room) {
  buffer_.Commit(bytes);
  // A full read means that the peer is fast: fewer, larger reads from here on.
  if (bytes == room && read_room_ < kMaxBufferBytes) read_room_ *= 2;
}

asio::awaitable<Status> ClientConnection::ReadTlsWhile(const std::function<bool()>& more) {
  while (true) {
    const auto bytes = co_await ReadTls();
    if (!bytes.ok()) co_return bytes.status();
    if (*bytes == 0) co_return PeerClosed();
    if (!more()) co_return Status::Ok();
    if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
  }
}

asio::awaitable<Status> ClientConnection::ReadWhile(const std::function<bool()>& more) {
  if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
  if (tls_) co_return co_await ReadTlsWhile(more);
  size_t room_bytes = 0;  // of the read under way
  const auto step = [&](auto& self, boost::system::error_code ec = {}, size_t bytes = 0) {
    if (room_bytes > 0 && !ec) {
      if (watchdog_->reason() != Code::kOk) return self.complete(ec);
      Received(bytes, room_bytes);
      if (!more()) return self.complete(ec);
      if (self.cancelled() != asio::cancellation_type::none) ec = asio::error::operation_aborted;
    }
    if (ec) return self.complete(ec);
    const std::span<char> room = Room();
    room_bytes = room.size();
    socket_.async_read_some(asio::buffer(room.data(), room.size()), std::move(self));
  };
  const auto [ec] = co_await asio::async_compose<decltype(kAwait), void(boost::system::error_code)>(step, kAwait, socket_);
  if (watchdog_->reason() != Code::kOk) co_return Failure("");
  if (ec == asio::error::eof) co_return PeerClosed();
  if (ec == asio::error::operation_aborted) co_return Cancelled();
  if (ec) co_return Failure(ec.message());
  co_return Status::Ok();
}

}  // namespace baton::http
