#include "bench/transfer_link.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "transfer/libfabric/sockets.h"

namespace baton::bench {
namespace {

struct AddressFreer {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, AddressFreer>;

Result<Addresses> Resolve(const std::string& address, bool passive) {
  const size_t colon = address.rfind(':');
  std::string host = colon == std::string::npos ? "" : address.substr(0, colon);
  const std::string port = colon == std::string::npos ? address : address.substr(colon + 1);
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &list);
  if (error) return Error(Code::kInvalidArgument, "address \"{}\": {}; use HOST:PORT", address, gai_strerror(error));
  return Addresses(list);
}

int MillisecondsUntil(TimePoint deadline) {
  return static_cast<int>(std::clamp<double>(Milliseconds(deadline - Now()) + 1, 0, 1e6));
}

void Prepare(int fd) {
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  transfer::UnpaceLocalSocket(fd);  // the ceiling is measured as the engine sends
}

Status Waited(int fd, short events, TimePoint deadline, const char* what) {
  pollfd entry{.fd = fd, .events = events, .revents = 0};
  while (Now() < deadline) {
    const int n = poll(&entry, 1, MillisecondsUntil(deadline));
    if (n > 0) return Status::Ok();
    if (n < 0 && errno != EINTR) return Error(Code::kUnavailable, "{}: {}", what, strerror(errno));
  }
  return Error(Code::kDeadlineExceeded, "{}: the other side did not answer in time", what);
}

}  // namespace

TransferLink::~TransferLink() {
  if (fd_ >= 0) close(fd_);
}

Result<TransferLink> TransferLink::Connect(const std::string& address, TimePoint deadline) {
  const Result<Addresses> addresses = Resolve(address, false);
  if (!addresses.ok()) return addresses.status();
  int error = 0;
  while (Now() < deadline) {
    for (const addrinfo* one = addresses->get(); one; one = one->ai_next) {
      TransferLink link(socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (link.fd_ < 0) continue;
      if (connect(link.fd_, one->ai_addr, one->ai_addrlen) != 0 && errno != EINPROGRESS) {
        error = errno;
        continue;
      }
      if (!Waited(link.fd_, POLLOUT, std::min(deadline, Now() + 2s), "connect").ok()) {
        error = ETIMEDOUT;
        continue;
      }
      socklen_t size = sizeof error;
      getsockopt(link.fd_, SOL_SOCKET, SO_ERROR, &error, &size);
      if (error) continue;
      Prepare(link.fd_);
      return link;
    }
    usleep(50'000);
  }
  return Error(Code::kUnavailable, "connecting to {}: {}; is `baton bench transfer --listen` running there?",
               address, strerror(error));
}

Status TransferLink::Wait(short events, TimePoint deadline) {
  return Waited(fd_, events, deadline, "bench control connection");
}

Status TransferLink::SendBytes(const std::byte* data, size_t bytes, TimePoint deadline) {
  while (bytes) {
    const ssize_t n = send(fd_, data, std::min<size_t>(bytes, 1 << 20), MSG_NOSIGNAL);
    if (n > 0) {
      data += n;
      bytes -= static_cast<size_t>(n);
    } else if (n < 0 && errno == EAGAIN) {
      if (Status s = Wait(POLLOUT, deadline); !s.ok()) return s;
    } else if (n == 0 || errno != EINTR) {
      return Error(Code::kUnavailable, "bench control connection: {}", strerror(errno));
    }
  }
  return Status::Ok();
}

Status TransferLink::ReceiveBytes(std::byte* data, size_t bytes, TimePoint deadline) {
  while (bytes) {
    const ssize_t n = recv(fd_, data, std::min<size_t>(bytes, 1 << 20), 0);
    if (n > 0) {
      data += n;
      bytes -= static_cast<size_t>(n);
    } else if (n < 0 && errno == EAGAIN) {
      if (Status s = Wait(POLLIN, deadline); !s.ok()) return s;
    } else if (n == 0) {
      return Error(Code::kUnavailable, "the other side of the bench closed its connection");
    } else if (errno != EINTR) {
      return Error(Code::kUnavailable, "bench control connection: {}", strerror(errno));
    }
  }
  return Status::Ok();
}

Status TransferLink::Send(std::string_view message, TimePoint deadline) {
  const auto size = static_cast<uint32_t>(message.size());
  if (Status s = SendBytes(reinterpret_cast<const std::byte*>(&size), sizeof size, deadline); !s.ok()) return s;
  return SendBytes(reinterpret_cast<const std::byte*>(message.data()), message.size(), deadline);
}

Result<std::string> TransferLink::Receive(TimePoint deadline) {
  uint32_t size = 0;
  if (Status s = ReceiveBytes(reinterpret_cast<std::byte*>(&size), sizeof size, deadline); !s.ok()) return s;
  if (size > kMaxMessageBytes)
    return Error(Code::kDataCorrupt, "bench control connection: a message of {} bytes; is the other side baton?", size);
  std::string message(size, '\0');
  if (Status s = ReceiveBytes(reinterpret_cast<std::byte*>(message.data()), size, deadline); !s.ok()) return s;
  return message;
}

Result<std::string> TransferLink::Call(std::string_view request, TimePoint deadline) {
  if (Status s = Send(request, deadline); !s.ok()) return s;
  return Receive(deadline);
}

std::string TransferLink::LocalHost() const {
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  char text[INET6_ADDRSTRLEN] = "";
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&own), &size) == 0) {
    if (own.ss_family == AF_INET)
      inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(&own)->sin_addr, text, sizeof text);
    else
      inet_ntop(AF_INET6, &reinterpret_cast<sockaddr_in6*>(&own)->sin6_addr, text, sizeof text);
  }
  return text;
}

Result<TransferListener> TransferListener::Open(const std::string& address) {
  const Result<Addresses> addresses = Resolve(address, true);
  if (!addresses.ok()) return addresses.status();
  const addrinfo* const one = addresses->get();
  TransferListener listener(socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  setsockopt(listener.fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener.fd_, one->ai_addr, one->ai_addrlen) != 0 || listen(listener.fd_, 4) != 0)
    return Error(Code::kUnavailable, "listening on {}: {}", address, strerror(errno));
  return listener;
}

TransferListener::~TransferListener() {
  if (fd_ >= 0) close(fd_);
}

int TransferListener::port() const {
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&own), &size) != 0) return 0;
  return ntohs(own.ss_family == AF_INET ? reinterpret_cast<sockaddr_in*>(&own)->sin_port
                                        : reinterpret_cast<sockaddr_in6*>(&own)->sin6_port);
}

Result<TransferLink> TransferListener::Accept(TimePoint deadline) {
  if (Status s = Waited(fd_, POLLIN, deadline, "waiting for --connect"); !s.ok()) return s;
  const int fd = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) return Error(Code::kUnavailable, "accept: {}", strerror(errno));
  Prepare(fd);
  return TransferLink(fd);
}

}  // namespace baton::bench
