// Helpers of this module's tests: an io_context on its own threads, a plain blocking socket that
// speaks bytes, and a server of bytes for client tests. Every wait ends after kPatience.
#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gtest/gtest.h>

#include "http/client.h"
#include "http/server.h"

namespace baton::http::test {

inline constexpr auto kPatience = std::chrono::seconds(20);

class Loop {
 public:
  explicit Loop(int threads = 1) : work_(context_.get_executor()) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { context_.run(); });
  }
  ~Loop() {
    work_.reset();
    context_.stop();
    for (auto& thread : threads_) thread.join();
  }
  asio::any_io_executor executor() { return context_.get_executor(); }

  // Runs a coroutine on a strand of its own and waits for its value.
  template <typename T>
  T Run(asio::awaitable<T> coroutine) {
    auto promise = std::make_shared<std::promise<T>>();
    auto future = promise->get_future();
    asio::co_spawn(asio::make_strand(context_), Keep(std::move(coroutine), promise),
                   [promise](std::exception_ptr error) {
                     if (error) promise->set_exception(error);
                   });
    return future.get();
  }

 private:
  // co_spawn wants results with a default value, which Result<T> has not.
  template <typename T>
  static asio::awaitable<void> Keep(asio::awaitable<T> coroutine,
                                    std::shared_ptr<std::promise<T>> promise) {
    promise->set_value(co_await std::move(coroutine));
  }

  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::vector<std::thread> threads_;
};

// True as soon as `condition` holds, false after kPatience.
template <typename Condition>
bool Eventually(Condition condition) {
  const TimePoint end = Now() + kPatience;
  while (Now() < end) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

inline asio::awaitable<void> Sleep(Duration time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

// A blocking TCP socket.
class RawSocket {
 public:
  explicit RawSocket(int fd = -1) : fd_(fd) { SetTimeouts(); }
  RawSocket(RawSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RawSocket& operator=(RawSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~RawSocket() { Close(); }

  static RawSocket Connect(uint16_t port, int receive_buffer = 0) {
    RawSocket socket(::socket(AF_INET, SOCK_STREAM, 0));
    if (receive_buffer)
      ::setsockopt(socket.fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket.fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      socket.Close();
    return socket;
  }

  bool open() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  // What comes until the peer closes ("!" is appended when it resets or patience ends).
  std::string ReadToEnd() {
    std::string all;
    char piece[4096];
    while (true) {
      const ssize_t n = ::recv(fd_, piece, sizeof piece, 0);
      if (n == 0) return all;
      if (n < 0) return all + "!";
      all.append(piece, static_cast<size_t>(n));
    }
  }
  // Reads until `text` has come; returns everything read so far.
  std::string ReadUntil(std::string_view text) {
    std::string all;
    char byte = 0;
    while (all.find(text) == std::string::npos) {
      if (::recv(fd_, &byte, 1, 0) != 1) return all + "!";
      all.push_back(byte);
    }
    return all;
  }
  // One response framed by Content-Length.
  std::string ReadResponse() {
    std::string all = ReadUntil("\r\n\r\n");
    const size_t at = all.find("Content-Length: ");
    if (at == std::string::npos) return all;
    size_t left = std::stoul(all.substr(at + 16));
    std::string body(left, '\0');
    size_t have = 0;
    while (have < left) {
      const ssize_t n = ::recv(fd_, body.data() + have, left - have, 0);
      if (n <= 0) return all + "!";
      have += static_cast<size_t>(n);
    }
    return all + body;
  }
  void ShutdownSend() { ::shutdown(fd_, SHUT_WR); }
  // From now on nothing that comes is seen or acknowledged, as if the host or the way to it were gone.
  void Vanish() {
    sock_filter drop_all{BPF_RET | BPF_K, 0, 0, 0};
    const sock_fprog program{1, &drop_all};
    EXPECT_EQ(::setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
  }
  void Reset() {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    Close();
  }
  void Close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  void SetTimeouts() {
    const timeval patience{std::chrono::seconds(kPatience).count(), 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    const int on = 1;  // pieces must travel as they are sent
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  int fd_;
};

// A listening socket on a free port, for tests that play the server by hand.
class RawListener {
 public:
  explicit RawListener(int backlog = 16) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(fd_, backlog), 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~RawListener() { ::close(fd_); }
  uint16_t port() const { return port_; }
  RawSocket Accept() {
    pollfd wait{fd_, POLLIN, 0};
    if (::poll(&wait, 1, 20'000) != 1) return RawSocket();
    return RawSocket(::accept(fd_, nullptr, nullptr));
  }
  // Whether a connection comes within `time`.
  bool Pending(std::chrono::milliseconds time) {
    pollfd wait{fd_, POLLIN, 0};
    return ::poll(&wait, 1, static_cast<int>(time.count())) == 1;
  }
  // From now on nothing answers a new connection: the backlog is full of those that come back here.
  std::vector<RawSocket> FillBacklog(int backlog) {
    std::vector<RawSocket> fillers;
    for (int i = 0; i < backlog + 4; ++i) {
      fillers.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(port_);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      (void)::connect(fillers.back().fd(), reinterpret_cast<sockaddr*>(&address), sizeof address);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return fillers;
  }

 private:
  int fd_;
  uint16_t port_ = 0;
};

// A server with the routes that most tests use, on its own threads.
class TestServer {
 public:
  explicit TestServer(ServerOptions options = {}, int threads = 1) : loop_(threads) {
    server_ = std::make_unique<Server>(loop_.executor(), options);
    server_->Route("POST", "/echo", Echo);
    server_->Route("GET", "/hello", Hello);
  }
  ~TestServer() { server_->Stop(); }
  Server& operator*() { return *server_; }
  Server* operator->() { return server_.get(); }
  TestServer& Start() {
    const Status status = server_->Start();
    EXPECT_TRUE(status.ok()) << status.ToString();
    return *this;
  }
  RawSocket Connect() { return RawSocket::Connect(server_->port()); }
  Origin origin() { return {false, "127.0.0.1", server_->port()}; }
  Loop& loop() { return loop_; }

  static asio::awaitable<void> Echo(Request& request, Responder& responder) {
    Response response;
    response.body = std::move(request.body);
    (void)co_await responder.Send(std::move(response));
  }
  static asio::awaitable<void> Hello(Request& request, Responder& responder) {
    Response response;
    response.headers.Add("Content-Type", "text/plain");
    response.body = "hello " + std::string(request.QueryValue("name"));
    (void)co_await responder.Send(std::move(response));
  }

 private:
  Loop loop_;
  std::unique_ptr<Server> server_;
};

inline int StatusOf(std::string_view response) {
  return response.starts_with("HTTP/1.1 ") ? std::atoi(std::string(response.substr(9, 3)).c_str())
                                           : 0;
}

inline std::string BodyOf(std::string_view response) {
  const size_t at = response.find("\r\n\r\n");
  return at == std::string_view::npos ? "" : std::string(response.substr(at + 4));
}

}  // namespace baton::http::test
