// The control connection of `baton bench transfer`: framed requests and replies over TCP, and the
// raw stream that serves as ceiling. Every call has a deadline. One thread.
#pragma once

#include <string>
#include <string_view>

#include "common/clock.h"
#include "common/status.h"

namespace baton::bench {

inline constexpr size_t kMaxMessageBytes = 64 << 20;

class TransferLink {
 public:
  explicit TransferLink(int fd) : fd_(fd) {}
  TransferLink(TransferLink&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  TransferLink& operator=(TransferLink&&) = delete;
  ~TransferLink();

  // "HOST:PORT"; tries again while the other side is not there yet.
  static Result<TransferLink> Connect(const std::string& address, TimePoint deadline);

  Status Send(std::string_view message, TimePoint deadline);
  // kUnavailable when the other side is gone.
  Result<std::string> Receive(TimePoint deadline);
  Result<std::string> Call(std::string_view request, TimePoint deadline);

  Status SendBytes(const std::byte* data, size_t bytes, TimePoint deadline);
  Status ReceiveBytes(std::byte* data, size_t bytes, TimePoint deadline);

  // Address of this end: the interface by which the other one is reached.
  std::string LocalHost() const;

 private:
  Status Wait(short events, TimePoint deadline);
  int fd_;
};

class TransferListener {
 public:
  // "HOST:PORT", ":PORT" or "PORT"; port 0 takes a free one.
  static Result<TransferListener> Open(const std::string& address);
  TransferListener(TransferListener&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  TransferListener& operator=(TransferListener&&) = delete;
  ~TransferListener();

  int port() const;
  Result<TransferLink> Accept(TimePoint deadline);

 private:
  explicit TransferListener(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace baton::bench
