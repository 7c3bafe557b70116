#include "http/transport.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <sys/socket.h>

namespace baton::http {

Transport::Transport(TcpSocket socket)
    : socket_(std::move(socket)), timer_(socket_.get_executor()) {
  TuneSocket(socket_.native_handle());
}

void Transport::SetOwner(std::weak_ptr<void> owner, std::function<void(Wait)> expired) {
  owner_ = std::move(owner);
  expired_ = std::move(expired);
}

void Transport::SetDeadline(TimePoint at, Wait what) {
  deadline_ = at;
  what_ = what;
  if (at < armed_ && open_) Arm();
}

void Transport::Arm() {
  armed_ = deadline_;
  timer_.expires_at(deadline_);
  timer_.async_wait([this, owner = owner_](const boost::system::error_code& ec) {
    if (ec) return;  // armed anew, or closed
    const std::shared_ptr<void> alive = owner.lock();
    if (!alive || !open_) return;
    armed_ = TimePoint::max();
    if (what_ == Wait::kNone) return;
    if (Now() < deadline_) return Arm();
    const Wait what = std::exchange(what_, Wait::kNone);
    if (what == Wait::kWrite) {
      // The socket becomes writable only when a third of its buffer is free, which a slow reader
      // may take longer for than the timeout. So ask whether it took anything.
      const size_t unsent = UnsentBytes(socket_.native_handle());
      if (unsent < unsent_) return WatchWrite();
      write_expired_ = true;
      Close();
    } else {
      expired_(what);
    }
  });
}

asio::awaitable<Status> Transport::Write(SendList list, Duration timeout) {
  if (!open_) co_return Status(Code::kCancelled, "the client is gone");
  int error = 0;
  const SendResult result = SendSome(list, &error);
  if (result == SendResult::kDone) [[likely]]
    co_return Status::Ok();
  if (result == SendResult::kBlocked) co_return co_await WriteSlowly(list, timeout);
  Close();
  co_return Error(Code::kCancelled, "the client is gone: {}", Problem(error));
}

std::string Transport::Problem(int error) const {
  return error == 0 && tls_ ? tls_->problem() : ErrnoText(error);
}

void Transport::WatchWrite() {
  unsent_ = UnsentBytes(socket_.native_handle());
  SetDeadline(Now() + write_timeout_, Wait::kWrite);
}

asio::awaitable<Status> Transport::WriteSlowly(SendList list, Duration timeout) {
  write_timeout_ = timeout;
  while (true) {
    WatchWrite();
    const auto [ec] = co_await socket_.async_wait(TcpSocket::wait_write,
                                                  asio::as_tuple(asio::use_awaitable));
    ClearDeadline();
    if (write_expired_)
      co_return Error(Code::kDeadlineExceeded, "the client took no bytes for {} ms",
                      std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count());
    if (ec || !open_) {
      Close();
      co_return Status(Code::kCancelled, "the client is gone");
    }
    int error = 0;
    const SendResult result = SendSome(list, &error);
    if (result == SendResult::kDone) co_return Status::Ok();
    if (result == SendResult::kFailed) {
      Close();
      co_return Error(Code::kCancelled, "the client is gone: {}", Problem(error));
    }
  }
}

bool Transport::WriteNow(std::string_view bytes, size_t* taken) {
  *taken = 0;
  if (!open_) return false;
  if (tls_) [[unlikely]] {
    SendList list;
    list.Add(bytes);
    int error = 0;
    const SendResult result = tls_->Send(list, &error);
    *taken = bytes.size() - (list.empty() ? 0 : list.parts()[0].iov_len);
    return result == SendResult::kDone;
  }
  const ssize_t sent = ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent > 0) *taken = static_cast<size_t>(sent);
  return *taken == bytes.size();
}

void Transport::WriteBestEffort(std::string_view bytes) {
  if (!open_) return;
  SendList list;
  list.Add(bytes);
  int error = 0;
  (void)SendSome(list, &error);  // the peer may be gone: nobody to tell
}

void Transport::ShutdownSend() {
  if (tls_) tls_->SendClose();
  boost::system::error_code ignored;
  socket_.shutdown(TcpSocket::shutdown_send, ignored);
}

void Transport::Close() {
  if (!open_) return;
  open_ = false;
  what_ = Wait::kNone;
  boost::system::error_code ignored;
  socket_.close(ignored);
  timer_.cancel();
}

void Transport::Reset() {
  if (!open_) return;
  boost::system::error_code ignored;
  socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  Close();
}

}  // namespace baton::http
