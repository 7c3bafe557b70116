#include "http/connect_failure.h"

#include <cerrno>

#include <sys/socket.h>
#include <unistd.h>

#include "http/socket_io.h"

namespace baton::http {

namespace {

const char* LackOf(int error) {
  switch (error) {
    case EMFILE: return "this process has no file descriptor left: raise its limit (ulimit -n)";
    case ENFILE: return "this machine has no file descriptor left: raise fs.file-max";
    case EADDRNOTAVAIL: return "no local port is left: widen net.ipv4.ip_local_port_range";
    case ENOSPC: return "no epoll watch is left: raise fs.epoll.max_user_watches";
    case ENOBUFS:
    case ENOMEM: return "the kernel has no memory left for a connection: free some, or use fewer connections";
    default: return nullptr;
  }
}

// connect(2) says EADDRNOTAVAIL also when this machine has no address of its own for the way there. UDP
// needs such an address too, but none of TCP's ports.
bool HasAddressFor(const asio::ip::tcp::endpoint& endpoint) {
  const int fd = ::socket(endpoint.protocol().family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  const bool has = ::connect(fd, endpoint.data(), static_cast<socklen_t>(endpoint.size())) == 0;
  ::close(fd);
  return has;
}

int Doubt(Code code) { return code == Code::kRefused ? 1 : code == Code::kUnreachable ? 2 : 3; }

}  // namespace

Status ShortageOf(const Origin& origin, int error) {
  const char* lack = LackOf(error);
  if (!lack) return Status::Ok();
  return Error(Code::kResourceExhausted, "{}: no connection can be opened: {}", origin.ToString(), lack);
}

Status DescriptorShortage(const Origin& origin) {
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return ShortageOf(origin, errno);
  ::close(fd);
  return Status::Ok();
}

Status ConnectFailure(const Origin& origin, const asio::ip::tcp::endpoint& endpoint, int error) {
  const bool shortage = error != EADDRNOTAVAIL || HasAddressFor(endpoint);
  if (Status lack = ShortageOf(origin, error); shortage && !lack.ok()) return lack;
  return Error(error == ECONNREFUSED ? Code::kRefused : Code::kUnreachable, "{}: {}", origin.ToString(), ErrnoText(error));
}

Status LesserProof(Status a, Status b) {
  if (a.ok() || b.ok()) return a.ok() ? b : a;
  return Doubt(a.code()) > Doubt(b.code()) ? a : b;
}

}  // namespace baton::http
