#include "transfer/shm/socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <random>

namespace baton::transfer::shm {
namespace {

// Abstract names start with a zero byte and are not files.
socklen_t FillAddress(const std::string& name, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  const size_t size = std::min(name.size(), sizeof address.sun_path - 1);
  std::memcpy(address.sun_path + 1, name.data(), size);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + size);
}

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) close(fd_);
}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) close(fd_);
    fd_ = other.Take();
  }
  return *this;
}

Status Socket::Open() {
  fd_ = Fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd_) return Error(Code::kUnavailable, "transfer over shm: socket: {}", strerror(errno));
  const int on = 1;
  if (setsockopt(fd_.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
    return Error(Code::kUnavailable, "transfer over shm: SO_PASSCRED: {}", strerror(errno));
  std::random_device random;
  name_ = fmt::format("baton-transfer-{}-{:08x}{:08x}", getpid(), random(), random());
  sockaddr_un address;
  const socklen_t size = FillAddress(name_, address);
  if (bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0)
    return Error(Code::kUnavailable, "transfer over shm: bind: {}", strerror(errno));
  return Status::Ok();
}

void Socket::Ring(const std::string& name) const {
  sockaddr_un address;
  const socklen_t size = FillAddress(name, address);
  const char bell = 0;
  [[maybe_unused]] const ssize_t n = sendto(fd_.get(), &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL,
                                            reinterpret_cast<sockaddr*>(&address), size);
}

Status Socket::Send(const std::string& name, const Notice& notice, int file) const {
  sockaddr_un address;
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = FillAddress(name, address);
  iovec body{const_cast<Notice*>(&notice), sizeof notice};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof file)] = {};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof file);
  std::memcpy(CMSG_DATA(header), &file, sizeof file);
  // The peer's queue holds few datagrams and empties as soon as it wakes.
  for (int attempt = 0; attempt < 20; ++attempt) {
    if (sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof notice)
      return Status::Ok();
    if (errno != EAGAIN) break;
    usleep(1000);
  }
  return Error(Code::kUnavailable, "transfer over shm: reaching {}: {}", name, strerror(errno));
}

std::optional<Socket::Message> Socket::Receive() const {
  Message result;
  sockaddr_un from{};
  msghdr message{};
  message.msg_name = &from;
  message.msg_namelen = sizeof from;
  iovec body{&result.notice, sizeof result.notice};
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(16 * sizeof(int))];
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t size = recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return std::nullopt;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    if (header->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials;
      std::memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
      result.pid = credentials.pid;
    } else if (header->cmsg_type == SCM_RIGHTS) {
      // Every descriptor that came must be closed by us, also those that we did not ask for.
      const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
        result.file = Fd(fd);
      }
    }
  }
  result.whole = size == sizeof result.notice && result.file;
  const size_t prefix = offsetof(sockaddr_un, sun_path) + 1;
  if (message.msg_namelen > prefix && message.msg_namelen <= sizeof from)
    result.from.assign(from.sun_path + 1, message.msg_namelen - prefix);
  return result;
}

}  // namespace baton::transfer::shm
