// One accepted socket: its strand, its one outstanding deadline, its TLS session when it has one, and
// writes that do not suspend unless the kernel's buffer is full. All calls on the strand.
//
// The deadline costs a timer operation only when it moves closer than what is armed: moving it
// later is one store, and the timer looks again when it fires.
#pragma once

#include <functional>
#include <memory>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "common/clock.h"
#include "common/status.h"
#include "http/socket_io.h"
#include "http/tls_session.h"

namespace baton::http {

namespace asio = boost::asio;
using TcpSocket = asio::ip::tcp::socket;

class Transport {
 public:
  enum class Wait { kNone, kHandshake, kIdle, kHead, kBody, kWrite, kLinger };

  explicit Transport(TcpSocket socket);

  // `owner` keeps the transport alive; `expired` runs on the strand with what was waited for.
  void SetOwner(std::weak_ptr<void> owner, std::function<void(Wait)> expired);

  // From here on bytes go through `session`; nullptr: as they are.
  void SetTls(std::unique_ptr<TlsSession> session) { tls_ = std::move(session); }
  TlsSession* tls() { return tls_.get(); }

  TcpSocket& socket() { return socket_; }
  asio::any_io_executor executor() { return socket_.get_executor(); }
  bool open() const { return open_; }

  void SetDeadline(TimePoint at, Wait what);
  void ClearDeadline() { what_ = Wait::kNone; }

  // Sends everything. kCancelled when the peer is gone or the transport was closed,
  // kDeadlineExceeded when the peer takes nothing for `timeout`; both leave it closed. A peer that
  // reads slowly is not cut: what counts is that its acknowledgements come.
  asio::awaitable<Status> Write(SendList list, Duration timeout);
  // Sends what the kernel takes now; *taken is how much of `bytes` is ours to send from here on.
  // False: a Write must follow, of what was not taken, even when that is nothing. It finds a
  // failure again.
  bool WriteNow(std::string_view bytes, size_t* taken);
  // Sends what fits now, for last words on a connection that is about to close.
  void WriteBestEffort(std::string_view bytes);
  // Ends our direction, with TLS's word of closing.
  void ShutdownSend();
  void Close();
  // Closes so that the peer sees a reset.
  void Reset();

 private:
  SendResult SendSome(SendList& list, int* error) {
    if (tls_) [[unlikely]] return tls_->Send(list, error);
    return SendNow(socket_.native_handle(), list, error);
  }
  std::string Problem(int error) const;
  asio::awaitable<Status> WriteSlowly(SendList list, Duration timeout);
  void Arm();
  void WatchWrite();

  TcpSocket socket_;
  std::unique_ptr<TlsSession> tls_;
  asio::steady_timer timer_;
  std::weak_ptr<void> owner_;
  std::function<void(Wait)> expired_;
  TimePoint deadline_{};
  TimePoint armed_ = TimePoint::max();
  Wait what_ = Wait::kNone;
  bool open_ = true;
  Duration write_timeout_{};
  size_t unsent_ = 0;  // when the write's deadline was last set
  bool write_expired_ = false;
};

}  // namespace baton::http
