#include "http/client_connection.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "http/resolve.h"

namespace baton::http {

using asio::ip::tcp;

namespace {

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

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
  watchdog_->Detach();
  boost::system::error_code ignored;
  socket_.close(ignored);
}

bool ClientConnection::Stale() const {
  return IsStale(const_cast<tcp::socket&>(socket_).native_handle());
}

Status ClientConnection::Cancelled() const {
  return Error(Code::kCancelled, "{}: cancelled", origin_.ToString());
}

Status ClientConnection::Failure(std::string_view text) const {
  switch (watchdog_->reason()) {
    case Code::kDeadlineExceeded:
      return Error(Code::kDeadlineExceeded, "{}: no answer by the deadline", origin_.ToString());
    case Code::kCancelled: return Cancelled();
    default: return Error(Code::kUnavailable, "{}: {}", origin_.ToString(), text);
  }
}

asio::awaitable<Status> ClientConnection::Connect(Duration timeout, TimePoint deadline) {
  auto endpoints =
      co_await Resolve(socket_.get_executor(), origin_, std::min(deadline, Now() + timeout));
  if (!endpoints.ok()) co_return endpoints.status();
  Status status;
  for (const auto& endpoint : *endpoints) {
    if (Now() >= deadline)
      co_return Error(Code::kDeadlineExceeded, "{}: no connection by the deadline",
                      origin_.ToString());
    watchdog_ = std::make_shared<Watchdog>(socket_.get_executor());
    watchdog_->SetDeadline(std::min(deadline, Now() + timeout));
    status = co_await ConnectTo(endpoint);
    if (status.ok()) co_return status;
    const bool timed_out = watchdog_->reason() == Code::kDeadlineExceeded;
    const bool cancelled = status.code() == Code::kCancelled;
    Close();
    if (cancelled) co_return status;
    if (timed_out && Now() >= deadline) co_return status;
    if (timed_out)
      status = Error(Code::kUnavailable, "{}: connecting took longer than {:.0f} ms",
                     origin_.ToString(), Milliseconds(timeout));
  }
  co_return status;
}

asio::awaitable<Status> ClientConnection::ConnectTo(const tcp::endpoint& endpoint) {
  if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
  boost::system::error_code open_error;
  socket_.open(endpoint.protocol(), open_error);
  if (open_error) co_return Failure(open_error.message());
  watchdog_->Attach(socket_.native_handle());
  const auto [ec] = co_await socket_.async_connect(endpoint, kAwait);
  if (ec == asio::error::operation_aborted) co_return Cancelled();
  if (ec || watchdog_->reason() != Code::kOk) co_return Failure(ec.message());
  TuneSocket(socket_.native_handle());
  co_return Status::Ok();
}

asio::awaitable<Status> ClientConnection::Write(SendList list) {
  while (true) {
    if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
    int error = 0;
    const SendResult result = SendNow(socket_.native_handle(), list, &error);
    if (result == SendResult::kDone) co_return Status::Ok();
    if (result == SendResult::kFailed) co_return Failure(ErrnoText(error));
    const auto [ec] = co_await socket_.async_wait(tcp::socket::wait_write, kAwait);
    if (ec == asio::error::operation_aborted) co_return Cancelled();
    if (ec) co_return Failure(ec.message());
  }
}

asio::awaitable<Result<size_t>> ClientConnection::Read() {
  if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
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

asio::awaitable<Status> ClientConnection::ReadWhile(const std::function<bool()>& more) {
  if (IsCancelled(co_await asio::this_coro::cancellation_state)) co_return Cancelled();
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
  if (ec == asio::error::eof) co_return Status(Code::kNotFound, "the peer has closed");
  if (ec == asio::error::operation_aborted) co_return Cancelled();
  if (ec) co_return Failure(ec.message());
  co_return Status::Ok();
}

}  // namespace baton::http
