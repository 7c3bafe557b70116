// The floor under any router of event streams on this machine: a proxy that copies bytes and knows nothing.
//
//   plain_proxy PORT PREFILL_PORT DECODE_PORT THREADS
//
// The same three sockets per stream as a router has: what a client sends goes to a prefill and to a decode worker,
// decode's bytes go to the client, prefill's are dropped. One epoll per thread, one recv and one send per event,
// no framing, no deadlines. What a router costs above this is its own.
#include <cstring>
#include <thread>
#include <vector>

#include "sockets.h"

namespace {

// What to do with the bytes of a descriptor; set before it is watched.
struct Route {
  int to[2] = {-1, -1};
  bool from_client = false;
};

class Proxy {
 public:
  Proxy(int port, int prefill, int decode, size_t threads)
      : prefill_(prefill), decode_(decode), listener_(Listen(port)), routes_(1 << 16) {
    for (size_t i = 0; i < threads; ++i) epolls_.push_back(epoll_create1(0));
    Watch(epolls_[0], listener_);
  }

  void Run() {
    std::vector<std::thread> others;
    for (size_t i = 1; i < epolls_.size(); ++i) others.emplace_back([this, i] { Loop(epolls_[i]); });
    Loop(epolls_[0]);
  }

 private:
  void Loop(int epoll) {
    epoll_event events[128];
    while (true) {
      const int n = epoll_wait(epoll, events, 128, -1);
      for (int i = 0; i < n; ++i) {
        if (events[i].data.fd == listener_) Accept();
        else Copy(events[i].data.fd);
      }
    }
  }

  void Accept() {
    const int client = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK);
    if (client < 0) return;
    NoDelay(client);
    const int prefill = Connect(prefill_), decode = Connect(decode_);
    routes_[static_cast<size_t>(client)] = {{prefill, decode}, true};
    routes_[static_cast<size_t>(prefill)] = {};
    routes_[static_cast<size_t>(decode)] = {{client, -1}, false};
    const int epoll = epolls_[next_++ % epolls_.size()];
    for (int fd : {client, prefill, decode}) Watch(epoll, fd);
  }

  void Copy(int fd) {
    char buffer[16 << 10];
    const Route& route = routes_[static_cast<size_t>(fd)];
    const ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n > 0) {
      for (int to : route.to) {
        if (to >= 0) Put(to, {buffer, static_cast<size_t>(n)});
      }
    } else if (n == 0) {
      // Both ways at once: nothing here outlives its client.
      if (route.from_client) {
        for (int to : route.to) shutdown(to, SHUT_RDWR);
      } else if (route.to[0] >= 0) {
        shutdown(route.to[0], SHUT_RDWR);
      }
      close(fd);
    }
  }

  const int prefill_, decode_, listener_;
  std::vector<Route> routes_;  // by descriptor
  std::vector<int> epolls_;
  size_t next_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: plain_proxy PORT PREFILL_PORT DECODE_PORT THREADS\n");
    return 2;
  }
  const auto number = [&](int i) { return std::atoi(argv[i]); };
  Proxy(number(1), number(2), number(3), static_cast<size_t>(std::max(number(4), 1))).Run();
}
