// Many slow event streams through a router: latency that it adds, and (see run_streams.sh) memory.
//
//   sse_streams worker PREFILL_PORT DECODE_PORT RATE TOKENS     mock workers; runs until killed
//   sse_streams client PORT STREAMS SECONDS                     opens streams, prints latencies
//
// Every event carries the moment of its writing (steady clock, one machine), so the client sees the
// way of each event: with PORT = DECODE_PORT without the router, with the router's port through it.
// Plain sockets and epoll on one thread each: it must cost less than what it measures.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

int64_t Nanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void Fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

void Watch(int epoll, int fd, uint64_t data) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = data;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) Fail("epoll_ctl");
}

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int Listen(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const sockaddr_in address = Loopback(port);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) Fail("bind");
  if (listen(fd, 4096) != 0) Fail("listen");
  return fd;
}

void Put(int fd, const std::string& bytes) {
  // Small writes to a reader that keeps up; what does not fit is lost and shows as a short stream.
  if (send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
}

std::string Chunk(const std::string& event) {
  char size[20];
  std::snprintf(size, sizeof size, "%zx\r\n", event.size());
  return size + event + "\r\n";
}

// One request at a time on a connection.
struct WorkerConnection {
  bool decode = false;
  std::string in;
  int left = 0;  // tokens to send
};

class Worker {
 public:
  Worker(int prefill, int decode, double rate, int tokens)
      : gap_(static_cast<int64_t>(1e9 / rate)), tokens_(tokens), epoll_(epoll_create1(0)) {
    listeners_ = {Listen(prefill), Listen(decode)};
    for (int fd : listeners_) Watch(epoll_, fd, static_cast<uint64_t>(fd));
  }
  void Run() {
    std::vector<epoll_event> events(1024);
    while (true) {
      const int64_t now = Nanos();
      while (!due_.empty() && due_.begin()->first <= now) {
        const auto [at, fd] = *due_.begin();
        due_.erase(due_.begin());
        Token(fd, at);
      }
      int wait = 100;
      if (!due_.empty()) wait = static_cast<int>(std::max<int64_t>(0, (due_.begin()->first - Nanos()) / 1'000'000));
      const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait);
      for (int i = 0; i < n; ++i) Ready(static_cast<int>(events[static_cast<size_t>(i)].data.u64));
    }
  }

 private:
  void Ready(int fd) {
    for (size_t i = 0; i < listeners_.size(); ++i) {
      if (fd != listeners_[i]) continue;
      const int accepted = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK);
      if (accepted < 0) return;
      const int one = 1;
      setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      connections_[accepted] = {i == 1, {}, 0};
      Watch(epoll_, accepted, static_cast<uint64_t>(accepted));
      return;
    }
    char buffer[16'384];
    const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) {
      close(fd);
      connections_.erase(fd);
      return;
    }
    WorkerConnection& c = connections_[fd];
    c.in.append(buffer, static_cast<size_t>(n));
    const size_t head = c.in.find("\r\n\r\n");
    if (head == std::string::npos) return;
    const size_t field = c.in.find("Content-Length: ");
    const size_t body = field == std::string::npos || field > head ? 0 : std::stoul(c.in.substr(field + 16));
    if (c.in.size() < head + 4 + body) return;
    const bool post = c.in.rfind("POST", 0) == 0;
    const bool known = post || c.in.rfind("GET /health", 0) == 0 || c.in.rfind("GET /server_info", 0) == 0;
    c.in.erase(0, head + 4 + body);
    if (!post || !c.decode) {
      Put(fd, std::string("HTTP/1.1 ") + (known ? "200 OK" : "404 Not Found") +
                  "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
      return;
    }
    Put(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    c.left = tokens_;
    due_.emplace(Nanos(), fd);
  }
  void Token(int fd, int64_t at) {
    const auto found = connections_.find(fd);
    if (found == connections_.end() || found->second.left <= 0) return;
    char event[256];
    std::snprintf(event, sizeof event,
                  "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":"
                  "{\"content\":\" token\"}}],\"t\":%lld}\n\n",
                  static_cast<long long>(Nanos()));
    if (--found->second.left > 0) {
      Put(fd, Chunk(event));
      due_.emplace(at + gap_, fd);
    } else {
      Put(fd, Chunk(event) + Chunk("data: [DONE]\n\n") + "0\r\n\r\n");
    }
  }

  const int64_t gap_;
  const int tokens_;
  const int epoll_;
  std::vector<int> listeners_;
  std::map<int, WorkerConnection> connections_;
  std::multimap<int64_t, int> due_;
};

int Client(int port, int streams, double seconds) {
  const int epoll = epoll_create1(0);
  std::vector<std::string> pending;
  std::vector<int64_t> latencies;
  std::vector<epoll_event> events(1024);
  const int64_t start = Nanos();
  const int64_t ramp = static_cast<int64_t>(seconds * 1e9 / 4);
  const int64_t end = start + static_cast<int64_t>(seconds * 1e9);
  int opened = 0, ended = 0, broken = 0;
  while (Nanos() < end) {
    while (opened < streams && Nanos() >= start + ramp * opened / streams) {
      const int fd = socket(AF_INET, SOCK_STREAM, 0);
      const sockaddr_in address = Loopback(port);
      if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) Fail("connect");
      const std::string body = "{\"messages\":[{\"role\":\"user\",\"content\":\"stream " + std::to_string(opened) + "\"}],\"stream\":true}";
      Put(fd, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " +
                  std::to_string(body.size()) + "\r\n\r\n" + body);
      if (static_cast<size_t>(fd) >= pending.size()) pending.resize(static_cast<size_t>(fd) + 1);
      Watch(epoll, fd, static_cast<uint64_t>(fd));
      ++opened;
    }
    const int n = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 2);
    for (int i = 0; i < n; ++i) {
      const int fd = static_cast<int>(events[static_cast<size_t>(i)].data.u64);
      char buffer[16'384];
      const ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
      if (got < 0) continue;
      if (got == 0) {
        ++broken;
        close(fd);
        continue;
      }
      const int64_t now = Nanos();
      std::string& text = pending[static_cast<size_t>(fd)];
      text.append(buffer, static_cast<size_t>(got));
      size_t at = 0;
      while (true) {
        const size_t found = text.find("\"t\":", at);
        const size_t stop = found == std::string::npos ? found : text.find('}', found);
        if (stop == std::string::npos) break;
        // The ramp is left out: opening streams is not what is measured.
        if (now > start + ramp + ramp / 2) latencies.push_back(now - std::atoll(text.c_str() + found + 4));
        at = stop;
      }
      ended += text.find("data: [DONE]", at) != std::string::npos;
      text.erase(0, std::max(at, text.size() > 512 ? text.size() - 512 : 0));
    }
  }
  std::sort(latencies.begin(), latencies.end());
  const auto at = [&](double q) {
    return latencies.empty() ? 0.0 : static_cast<double>(latencies[static_cast<size_t>(q * static_cast<double>(latencies.size() - 1))]) / 1e3;
  };
  std::printf("streams %d ended %d broken %d events %zu latency_us p50 %.0f p90 %.0f p99 %.0f p99.9 %.0f max %.0f\n",
              opened, ended, broken, latencies.size(), at(0.5), at(0.9), at(0.99), at(0.999), at(1));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string role = argc > 1 ? argv[1] : "";
  if (role == "worker" && argc == 6) {
    Worker(std::atoi(argv[2]), std::atoi(argv[3]), std::atof(argv[4]), std::atoi(argv[5])).Run();
  }
  if (role == "client" && argc == 5) return Client(std::atoi(argv[2]), std::atoi(argv[3]), std::atof(argv[4]));
  std::fprintf(stderr, "usage: sse_streams worker PREFILL_PORT DECODE_PORT RATE TOKENS | client PORT STREAMS SECONDS\n");
  return 2;
}
