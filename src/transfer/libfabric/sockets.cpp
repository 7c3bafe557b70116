#include "transfer/libfabric/sockets.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

namespace baton::transfer {
namespace {

std::optional<sockaddr_in> ToInet(std::string_view address) {
  sockaddr_in result{};
  if (address.size() != sizeof result) return std::nullopt;
  std::memcpy(&result, address.data(), sizeof result);
  if (result.sin_family != AF_INET) return std::nullopt;
  return result;
}

bool IsLoopback(const sockaddr_in& address) { return ntohl(address.sin_addr.s_addr) >> 24 == 127; }

// The kernel gives a connection to an own address that address as its source.
bool OnOneMachine(const sockaddr_in& one, const sockaddr_in& other) {
  return one.sin_addr.s_addr == other.sin_addr.s_addr || (IsLoopback(one) && IsLoopback(other));
}

bool Same(const std::optional<sockaddr_in>& one, const sockaddr_in& other) {
  return one && one->sin_port == other.sin_port && one->sin_addr.s_addr == other.sin_addr.s_addr;
}

using NameCall = int (*)(int, sockaddr*, socklen_t*);

std::optional<sockaddr_in> Name(NameCall call, int fd) {
  sockaddr_in name{};
  socklen_t length = sizeof name;
  if (call(fd, reinterpret_cast<sockaddr*>(&name), &length) != 0 || name.sin_family != AF_INET)
    return std::nullopt;
  return name;
}

bool IsOurs(int fd, const std::optional<sockaddr_in>& own, const std::optional<sockaddr_in>& peer) {
  const std::optional<sockaddr_in> local = Name(&getsockname, fd);
  if (!local) return false;
  const std::optional<sockaddr_in> far = Name(&getpeername, fd);
  if (!far) return Same(own, *local) && IsLoopback(*local);
  return OnOneMachine(*local, *far) && (Same(own, *local) || Same(peer, *far));
}

bool Unpace(int fd) {
  constexpr char kReno[] = "reno";
  char name[16] = "";  // TCP_CA_NAME_MAX
  socklen_t length = sizeof name;
  if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) != 0) return false;
  return std::strncmp(name, "bbr", 3) == 0 &&
         setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kReno, sizeof kReno - 1) == 0;
}

}  // namespace

bool OnOneMachine(std::string_view one, std::string_view other) {
  const std::optional<sockaddr_in> a = ToInet(one), b = ToInet(other);
  return a && b && OnOneMachine(*a, *b);
}

int UnpaceLocalSockets(std::string_view own, std::string_view peer) {
  const std::optional<sockaddr_in> from = ToInet(own), to = ToInet(peer);
  const std::unique_ptr<DIR, int (*)(DIR*)> fds(opendir("/proc/self/fd"), &closedir);
  int changed = 0;
  while (const dirent* const entry = fds ? readdir(fds.get()) : nullptr) {
    const int fd = std::atoi(entry->d_name);
    if (entry->d_name[0] != '.' && IsOurs(fd, from, to) && Unpace(fd)) ++changed;
  }
  return changed;
}

bool UnpaceLocalSocket(int fd) {
  const std::optional<sockaddr_in> local = Name(&getsockname, fd), far = Name(&getpeername, fd);
  return local && far && OnOneMachine(*local, *far) && Unpace(fd);
}

}  // namespace baton::transfer
