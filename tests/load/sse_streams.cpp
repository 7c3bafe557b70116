// Many slow event streams through a router: the way of every event, and how far the tools themselves were late.
//
//   sse_streams worker PREFILL_PORT DECODE_PORT RATE [ids]   mock workers; run until killed
//   sse_streams client PORT STREAMS SECONDS                  opens streams, prints latencies
//
// Every event carries the moment at which it was due and the moment of its writing; the kernel stamps its arrival
// at the client's socket. So three times are told apart:
//   worker_late  from due to written: the generator got no processor
//   way          from written to arrived: the router (and the kernel)
//   client_late  from arrived to read: the client got no processor
// With PORT = DECODE_PORT the way is that without a router. `ids` makes the worker answer as Baton's servers do,
// with a comment in front of each event that names its tokens. Plain sockets and epoll on one thread each: the
// tools must cost less than what they measure.
#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstring>
#include <queue>
#include <string>
#include <vector>

#include "sockets.h"

namespace {

// One event as it is on the wire, with places for two times that are written anew each time.
class EventText {
 public:
  explicit EventText(bool ids) {
    std::string event = ids ? ": ids 0 12345\n" : "";
    event += R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" token"}}],"due":)";
    const size_t due = event.size();
    event += std::string(kDigits, '0') + ",\"written\":";
    const size_t written = event.size();
    event += std::string(kDigits, '0') + "}\n\n";
    char size[20];
    const auto head = static_cast<size_t>(std::snprintf(size, sizeof size, "%zx\r\n", event.size()));
    bytes_ = size + event + "\r\n";
    due_ = head + due;
    written_ = head + written;
  }
  std::string_view At(int64_t due, int64_t written) {
    Write(due_, due);
    Write(written_, written);
    return bytes_;
  }

 private:
  static constexpr size_t kDigits = 19;

  void Write(size_t at, int64_t value) {
    for (size_t i = kDigits; i-- > 0; value /= 10) bytes_[at + i] = static_cast<char>('0' + value % 10);
  }

  std::string bytes_;
  size_t due_ = 0, written_ = 0;
};

class Worker {
 public:
  Worker(int prefill, int decode, double rate, bool ids)
      : gap_(static_cast<int64_t>(1e9 / rate)), ids_(ids), text_(ids), epoll_(epoll_create1(0)), connections_(1 << 16) {
    listeners_ = {Listen(prefill), Listen(decode)};
    for (int fd : listeners_) Watch(epoll_, fd);
  }

  void Run() {
    std::array<epoll_event, 256> events;
    while (true) {
      SendDue();
      const int64_t left = due_.empty() ? 100'000'000 : std::max<int64_t>(0, due_.top().at - WallNanos());
      const timespec wait{.tv_sec = 0, .tv_nsec = std::min<int64_t>(left, 100'000'000)};
      const int n = epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &wait, nullptr);
      for (int i = 0; i < n; ++i) Ready(events[static_cast<size_t>(i)].data.fd);
    }
  }

 private:
  // One request at a time on a connection.
  struct Connection {
    bool decode = false;
    std::string in;
    uint32_t stream = 0;  // counts, so that an entry of due_ for an earlier stream is told apart
    bool streams = false;
  };
  struct Due {
    int64_t at;
    int fd;
    uint32_t stream;
    bool operator<(const Due& other) const { return at > other.at; }  // the earliest on top
  };

  void SendDue() {
    // Bounded, so that requests are answered even when the events are late.
    for (int i = 0; i < 256 && !due_.empty(); ++i) {
      const Due due = due_.top();
      const int64_t now = WallNanos();
      if (due.at > now) return;
      due_.pop();
      const Connection& c = connections_[static_cast<size_t>(due.fd)];
      if (!c.streams || c.stream != due.stream) continue;
      Put(due.fd, text_.At(due.at, now));
      due_.push({due.at + gap_, due.fd, due.stream});
    }
  }

  void Ready(int fd) {
    for (size_t i = 0; i < listeners_.size(); ++i) {
      if (fd == listeners_[i]) return Accept(fd, i == 1);
    }
    std::array<char, 16'384> buffer;
    const ssize_t n = recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    Connection& c = connections_[static_cast<size_t>(fd)];
    if (n <= 0) {
      c.streams = false;
      c.in.clear();
      close(fd);
      return;
    }
    c.in.append(buffer.data(), static_cast<size_t>(n));
    const size_t head = c.in.find("\r\n\r\n");
    if (head == std::string::npos) return;
    const size_t field = c.in.find("Content-Length: ");
    const size_t body = field == std::string::npos || field > head ? 0 : std::stoul(c.in.substr(field + 16));
    if (c.in.size() < head + 4 + body) return;
    const bool post = c.in.starts_with("POST");
    const bool known = post || c.in.starts_with("GET /health") || c.in.starts_with("GET /server_info");
    c.in.erase(0, head + 4 + body);
    if (!post || !c.decode) {
      return Put(fd, std::string("HTTP/1.1 ") + (known ? "200 OK" : "404 Not Found") +
                         "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    }
    Put(fd, std::string("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n") +
                (ids_ ? "x-baton-stream-ids: 1\r\n" : "") + "Transfer-Encoding: chunked\r\n\r\n");
    c.streams = true;
    // Somewhere within the first gap, so that the streams are spread evenly over it.
    spread_ = (spread_ + 618'033'989) % 1'000'000'000;
    due_.push({WallNanos() + gap_ / 1'000'000 * spread_ / 1'000, fd, ++c.stream});
  }

  void Accept(int listener, bool decode) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
    if (fd < 0) return;
    NoDelay(fd);
    Connection& c = connections_[static_cast<size_t>(fd)];
    c.decode = decode;
    c.streams = false;
    Watch(epoll_, fd);
  }

  const int64_t gap_;
  const bool ids_;
  EventText text_;
  const int epoll_;
  std::vector<int> listeners_;
  std::vector<Connection> connections_;  // by descriptor
  std::priority_queue<Due> due_;
  int64_t spread_ = 0;
};

class Client {
 public:
  Client(int port, int streams, double seconds)
      : port_(port), streams_(streams), epoll_(epoll_create1(0)), pending_(1 << 16) {
    start_ = WallNanos();
    end_ = start_ + static_cast<int64_t>(seconds * 1e9);
    ramp_ = (end_ - start_) / 4;
    // Opening streams is not what is measured.
    measured_ = start_ + ramp_ + ramp_ / 2;
  }

  void Run() {
    std::array<epoll_event, 256> events;
    while (WallNanos() < end_) {
      while (opened_ < streams_ && WallNanos() >= start_ + ramp_ * opened_ / streams_) Open();
      const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 2);
      for (int i = 0; i < n; ++i) Ready(events[static_cast<size_t>(i)].data.fd);
    }
    std::printf("streams %d broken %d events/s %.0f of which late by a second %zu\n", opened_, broken_,
                static_cast<double>(way_.size()) / (static_cast<double>(end_ - measured_) / 1e9), lost_);
    Print("way", way_);
    Print("worker_late", worker_late_);
    Print("client_late", client_late_);
  }

 private:
  void Open() {
    const int fd = Connect(port_);
    const int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0) Fail("SO_TIMESTAMPNS");
    const std::string body = R"({"messages":[{"role":"user","content":"stream )" + std::to_string(opened_) + R"("}],"stream":true})";
    Put(fd, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + body);
    Watch(epoll_, fd);
    ++opened_;
  }

  void Ready(int fd) {
    std::array<char, 16'384> buffer;
    std::array<char, 128> control;
    iovec part{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      ++broken_;
      close(fd);
      return;
    }
    int64_t arrived = 0;  // of the last bytes read
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_type != SO_TIMESTAMPNS) continue;
      timespec t{};
      std::memcpy(&t, CMSG_DATA(c), sizeof t);
      arrived = int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
    }
    const int64_t now = WallNanos();
    std::string& text = pending_[static_cast<size_t>(fd)];
    text.append(buffer.data(), static_cast<size_t>(got));
    size_t at = 0;
    while (true) {
      const size_t due = text.find("\"due\":", at);
      if (due == std::string::npos || text.size() < due + 6 + 19 + 11 + 19) break;
      const int64_t due_at = std::atoll(text.c_str() + due + 6), written = std::atoll(text.c_str() + due + 36);
      at = due + 55;
      if (now < measured_) continue;
      way_.push_back(arrived - written);
      worker_late_.push_back(written - due_at);
      client_late_.push_back(now - arrived);
      lost_ += now - due_at > 1'000'000'000;
    }
    // What is left is less than an event.
    text.erase(0, at);
    if (text.size() > 4096) text.erase(0, text.size() - 512);
  }

  static void Print(const char* name, std::vector<int64_t>& times) {
    std::sort(times.begin(), times.end());
    std::printf("  %-12s", name);
    for (double q : {0.5, 0.9, 0.99, 0.999, 1.0}) {
      const double us = times.empty() ? 0 : static_cast<double>(times[static_cast<size_t>(q * static_cast<double>(times.size() - 1))]) / 1e3;
      std::printf("  p%g %.0f us", q * 100, us);
    }
    std::printf("\n");
  }

  const int port_, streams_, epoll_;
  int64_t start_, end_, ramp_, measured_;
  std::vector<std::string> pending_;  // by descriptor
  std::vector<int64_t> way_, worker_late_, client_late_;
  size_t lost_ = 0;
  int opened_ = 0, broken_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string role = argc > 1 ? argv[1] : "";
  if (role == "worker" && argc >= 5) {
    Worker(std::atoi(argv[2]), std::atoi(argv[3]), std::atof(argv[4]), argc > 5 && std::string(argv[5]) == "ids").Run();
  }
  if (role == "client" && argc == 5) {
    Client(std::atoi(argv[2]), std::atoi(argv[3]), std::atof(argv[4])).Run();
    return 0;
  }
  std::fprintf(stderr, "usage: sse_streams worker PREFILL_PORT DECODE_PORT RATE [ids] | client PORT STREAMS SECONDS\n");
  return 2;
}
