#include "http/socket_io.h"

#include <cerrno>
#include <system_error>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace baton::http {

void SendList::Consume(size_t n) {
  while (n > 0) {
    iovec& part = parts_[first_];
    if (n < part.iov_len) {
      part.iov_base = static_cast<char*>(part.iov_base) + n;
      part.iov_len -= n;
      return;
    }
    n -= part.iov_len;
    ++first_;
  }
}

SendResult SendNow(int fd, SendList& list, int* error) {
  while (!list.empty()) {
    const std::span<iovec> parts = list.parts();
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      list.Consume(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return SendResult::kBlocked;
    } else if (errno != EINTR) {
      *error = errno;
      return SendResult::kFailed;
    }
  }
  return SendResult::kDone;
}

bool IsStale(int fd) {
  char byte = 0;
  const ssize_t n = ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

size_t UnsentBytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? static_cast<size_t>(bytes) : 0;
}

bool IsUnacknowledged(int fd, std::chrono::milliseconds silence) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  return info.tcpi_unacked > 0 && std::chrono::milliseconds(info.tcpi_last_ack_recv) >= silence;
}

void TuneSocket(int fd) {
  const auto set = [fd](int level, int name, int value) {
    (void)::setsockopt(fd, level, name, &value, sizeof value);  // best effort: only a tuning
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
}

std::string ErrnoText(int error) { return std::generic_category().message(error); }

}  // namespace baton::http
