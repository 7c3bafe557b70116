// What a router must not be talked into: by clients who smuggle, by workers whose answers are no
// HTTP, by connections that went stale or never came about, by a machine that runs out of descriptors.
#include <cerrno>
#include <list>

#include <gtest/gtest.h>

#include "http/no_descriptors.h"
#include "router/proxy.h"
#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT
using http::test::BodyOf;
using http::test::RawListener;
using http::test::StatusOf;
using std::string_literals::operator""s;

// A worker played by hand: healthy by itself, and whatever `answer` says to a POST. Serves any
// number of connections, one request at a time each.
class RawWorker {
 public:
  explicit RawWorker(std::string answer, bool close = true) : answer_(std::move(answer)), close_(close), thread_([this] { Run(); }) {}
  ~RawWorker() {
    over_ = true;
    fillers_.clear();
    thread_.join();
    for (std::thread& t : connections_) t.join();
  }
  std::string url() const { return fmt::format("http://127.0.0.1:{}", listener_.port()); }
  int posts() const { return posts_; }
  int probes() const { return probes_; }
  // From now on connections stay where they are, in the backlog, and more than that get no answer.
  void Freeze() {
    frozen_ = true;
    std::this_thread::sleep_for(50ms);  // it may be about to accept
    fillers_ = listener_.FillBacklog(16);
  }

 private:
  void Run() {
    while (!over_) {
      if (frozen_) std::this_thread::sleep_for(20ms);
      else if (listener_.Pending(20ms)) Spawn(listener_.Accept());
    }
  }
  void Spawn(RawSocket accepted) {
    connections_.emplace_back([this, socket = std::make_shared<RawSocket>(std::move(accepted))] { Serve(*socket); });
  }
  void Serve(RawSocket& socket) {
    while (!over_) {
      const std::string head = socket.ReadUntil("\r\n\r\n");
      if (!head.ends_with("\r\n\r\n")) return;
      if (head.starts_with("GET")) {
        ++probes_;
        socket.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
        return;
      }
      ++posts_;
      // A pause where the answer says so: what came before must count.
      const size_t pause = answer_.find('\x01');
      socket.Send(std::string_view(answer_).substr(0, pause));
      if (pause != std::string::npos) {
        std::this_thread::sleep_for(20ms);
        socket.Send(std::string_view(answer_).substr(pause + 1));
      }
      if (close_) return;
    }
  }

  const std::string answer_;
  const bool close_;
  std::atomic<bool> over_{false}, frozen_{false};
  std::atomic<int> posts_{0}, probes_{0};
  RawListener listener_;
  std::vector<RawSocket> fillers_;
  std::vector<std::thread> connections_;
  std::thread thread_;
};

// A router before one worker, which has to answer at the first attempt.
auto OneWorker(const std::string& url) {
  return [url](RouterOptions& o) {
    o.pd_disaggregation = false;
    o.worker_urls = {url};
    o.retry.max_attempts = 1;
  };
}

http::Response AskThrough(RawWorker& worker, const std::string& body) {
  Fleet fleet(0, 0, OneWorker(worker.url()), false);
  EXPECT_TRUE(fleet.AllHealthy(1));
  return fleet.Post("/v1/completions", body);
}

TEST(Hostile, AnswersThatAreNoHttpBecomeA502) {
  const std::pair<const char*, std::string> cases[] = {
      {"CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
      {"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} "},
      {"list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}"},
      {"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}"},
      {"length with text", "HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\n{}"},
      {"unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
      {"bad chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"},
      {"chunk too long", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n"},
      {"chunked cut off", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"},
      {"body cut off", "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}"},
      {"bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"},
      {"folded header", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}"},
      {"space before colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}"},
      {"NUL in a header", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}"s},
      {"no status", "HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\n{}"},
      {"status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}"},
      {"another protocol", "ICY 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
      {"noise", "\x16\x03\x02\x02\0\x02\0"s},
      {"a head without end", "HTTP/1.1 200 OK\r\nX: " + std::string(100 << 10, 'a')},
      {"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}"},
      {"hex length", "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n{}"},
      {"empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n{}"},
      {"two numbers in a length", "HTTP/1.1 200 OK\r\nContent-Length: 2 2\r\n\r\n{}"},
      {"list of unequal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{} "},
      {"length over 64 bits", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\n{}"},
      {"chunked, then identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
      {"chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
      {"chunked, deflate", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, deflate\r\n\r\n{}"},
      {"identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n{}"},
      {"empty TE", "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\nContent-Length: 2\r\n\r\n{}"},
      {"TE in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
      {"bare CR in a header", "HTTP/1.1 200 OK\r\nX: a\rContent-Length: 0\r\nContent-Length: 2\r\n\r\n{}"},
      {"bare LF in a header", "HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\nContent-Length: 2\r\n\r\n{}"},
      {"header without a name", "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\n{}"},
      {"header without a colon", "HTTP/1.1 200 OK\r\nabc\r\nContent-Length: 2\r\n\r\n{}"},
      {"fold before the first header", "HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 2\r\n\r\n{}"},
      {"negative chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n"},
      {"chunk size with 0x", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n"},
      {"space after a chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\n{}\r\n0 \r\n\r\n"},
      {"chunk size over 64 bits", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n"},
      {"LF after a chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n"},
      {"LF in a chunk extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\n"},
      {"chunk without its CRLF", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n"},
      {"length in a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 2\r\n\r\n"},
      {"HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
      {"HTTP/0.9", "{}"},
      {"no space before the status", "HTTP/1.1200 OK\r\nContent-Length: 2\r\n\r\n{}"},
      {"status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}"},
      {"status in hex", "HTTP/1.1 2a0 OK\r\nContent-Length: 2\r\n\r\n{}"},
      {"protocols switched unasked", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n{}"},
      {"interim answers only", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"},
  };
  for (const auto& [name, answer] : cases) {
    RawWorker worker(answer);
    const http::Response response = AskThrough(worker, R"({"prompt":"a"})");
    EXPECT_EQ(response.status, 502) << name << ": " << response.body;
    EXPECT_EQ(ErrorCode(response), "worker_server_error") << name;
    EXPECT_FALSE(response.headers.Has("X")) << name;
  }
}

TEST(Hostile, BrokenFramingOfAStreamEndsInAValidErrorEvent) {
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n\x01";
  for (const std::string& rest : {"zz\r\n"s, "5\r\ndata"s, "0\r\n\r\n"s, "6\r\ndata: \r\n-1\r\n"s, ""s}) {
    RawWorker worker(head + rest);
    const http::Response response = AskThrough(worker, R"({"prompt":"a","stream":true})");
    const auto payloads = Payloads(response.body);
    ASSERT_EQ(payloads.size(), 3u) << rest << "\n" << response.body;
    EXPECT_EQ(payloads[0], "1");
    EXPECT_TRUE(json::Parse(payloads[1])->at("error").at("message").is_string());
    EXPECT_EQ(payloads[2], "[DONE]");
  }
}

TEST(Hostile, HeadersOfOneConnectionStayThere) {
  RawWorker worker(
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Secret, close\r\nX-Secret: s\r\nKeep-Alive: timeout=5\r\n"
      "Connection: keep-alive ,X-Second\r\nX-Second: s\r\n"
      "Proxy-Authenticate: Basic\r\nTrailer: X-T\r\nUpgrade: h2c\r\nTE: trailers\r\nX-Fine: yes\r\nServer: uvicorn\r\n\r\n{}");
  const http::Response response = AskThrough(worker, R"({"prompt":"a"})");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.Get("X-Fine"), "yes");
  for (const char* name : {"X-Secret", "X-Second", "Keep-Alive", "Proxy-Authenticate", "Trailer", "Upgrade", "TE"}) {
    EXPECT_FALSE(response.headers.Has(name)) << name;
  }
}

TEST(Hostile, FieldsOfTheClientsConnectionStayThere) {
  Fleet fleet;
  RawSocket socket = RawSocket::Connect(fleet.router->port());
  ASSERT_TRUE(socket.Send("POST /generate HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\ntraceparent: t\r\ntracestate: s\r\nx-correlation-id: c\r\n"
                          "x-request-id: r\r\nConnection: close, TraceParent, x-request-id\r\nContent-Length: 12\r\n\r\n{\"text\":\"a\"}"));
  EXPECT_EQ(StatusOf(socket.ReadToEnd()), 200);
  const http::Headers sent = fleet.decode[0]->headers(0);
  EXPECT_FALSE(sent.Has("traceparent"));
  EXPECT_EQ(sent.Get("tracestate"), "s");
  EXPECT_EQ(sent.Get("x-correlation-id"), "c");
  EXPECT_EQ(sent.Get("x-request-id"), "r");  // the router's own
}

// A second answer that nobody asked for is never taken for the next request's.
TEST(Hostile, BytesBehindAnAnswerAreNoAnswer) {
  const std::string more = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n\"evil\"";
  for (const std::string& good : {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"s,
                                  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}\x01"s}) {
    RawWorker worker(good + more, false);
    Fleet fleet(0, 0, OneWorker(worker.url()), false);
    ASSERT_TRUE(fleet.AllHealthy(1));
    for (int i = 0; i < 3; ++i) {
      const http::Response response = fleet.Post("/v1/completions", R"({"prompt":"a"})");
      EXPECT_EQ(response.status, 200) << good;
      EXPECT_EQ(response.body, "{}") << good;
      std::this_thread::sleep_for(30ms);
    }
    EXPECT_EQ(worker.posts(), 3);
  }
}

TEST(Hostile, SmugglersReachNoWorker) {
  Fleet fleet;
  const std::string evil = "POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{\"text\":\"a\"}";
  const std::string line = "POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
  const std::string cases[] = {
      line + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      line + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
      line + "Content-Length: 0\r\nContent-Length: 78\r\n\r\n",
      line + "Content-Length: 0, 78\r\n\r\n",
      line + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
      line + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
      line + "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      line + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
      line + "X: a\nContent-Length: 0\r\n\r\n",
      line + "X: a\rContent-Length: 0\r\n\r\n",
      line + "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
      line + "Transfer-Encoding: chunked\r\n\r\n0\n\r\n",
      line + "Transfer-Encoding: chunked\r\n\r\n2;a\n\r\n{}\r\n0\r\n\r\n",
      line + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 4\r\n\r\n",
      line + "Content-Length: 18446744073709551616\r\n\r\n",
      line + "Content-Length: +0\r\n\r\n",
      line + "Content-Length: 0x0\r\n\r\n",
      line + "Content-Length: 0 0\r\n\r\n",
      line + "Content-Length:\r\n 0\r\n\r\n",
      line + "Transfer-Encoding:\r\nContent-Length: 0\r\n\r\n",
      line + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      line + "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
      line + "Transfer-Encoding: chunked;a\r\n\r\n0\r\n\r\n",
      line + "Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n",
      line + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
      line + "Transfer-Encoding: chunked\r\n\r\n2;a=\"\r\n{}\r\n0\r\n\r\n",
      line + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX : a\r\n\r\n",
      "POST http://a/generate HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 0\r\n\r\n",
      "POST /generate HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  };
  for (const std::string& bytes : cases) {
    RawSocket socket = RawSocket::Connect(fleet.router->port());
    ASSERT_TRUE(socket.Send(bytes + evil));
    const std::string answer = socket.ReadToEnd();
    EXPECT_EQ(StatusOf(answer), 400) << bytes << "\n" << answer;
    EXPECT_EQ(answer.find("HTTP/1.1", 1), std::string::npos) << "two answers to " << bytes;
  }
  EXPECT_EQ(fleet.prefill[0]->requests() + fleet.decode[0]->requests(), 0u);
}

// The worker closes its idle connections (uvicorn after 5 s): the next request must neither fail nor
// be done twice.
TEST(Hostile, StaleConnectionsAreReplacedAndNothingIsDoneTwice) {
  Loop loop(1);
  std::atomic<int> runs{0};
  http::ServerOptions options;
  options.idle_timeout = 40ms;
  http::Server worker(loop.executor(), options);
  worker.Route("GET", "/health", AnswerJson(200, "{}"));
  worker.Route("POST", "/generate", [&runs](http::Request& request, http::Responder& responder) -> asio::awaitable<void> {
    ++runs;
    const Script answer = AnswerJson(200, "{}");
    co_await answer(request, responder);
  });
  ASSERT_TRUE(worker.Start().ok());
  Fleet fleet(0, 0, OneWorker(fmt::format("http://127.0.0.1:{}", worker.port())), false);
  ASSERT_TRUE(fleet.AllHealthy(1));
  // Around the moment of the close, before and after it.
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
    std::this_thread::sleep_for(36ms + i % 10 * 1ms);
  }
  EXPECT_EQ(runs, 40);
  worker.Stop();
}

// A box on the way: passes connections on, and forgets on command all that it has, so that their
// packets vanish while new ones pass.
class ForgetfulBox {
 public:
  explicit ForgetfulBox(uint16_t target) : target_(target), acceptor_([this] { Accept(); }) {}
  ~ForgetfulBox() {
    stop_ = true;
    acceptor_.join();
    for (auto& [near, far] : pairs_) {
      ::shutdown(near.fd(), SHUT_RDWR);
      ::shutdown(far.fd(), SHUT_RDWR);
    }
    for (std::thread& relay : relays_) relay.join();
  }
  uint16_t port() const { return listener_.port(); }
  void Forget() {
    std::lock_guard lock(mutex_);
    for (auto& [near, far] : pairs_) near.Vanish();
  }

 private:
  void Accept() {
    while (!stop_) {
      if (!listener_.Pending(20ms)) continue;
      std::lock_guard lock(mutex_);
      auto& [near, far] = pairs_.emplace_back(listener_.Accept(), RawSocket::Connect(target_));
      relays_.emplace_back(Relay, near.fd(), far.fd());
      relays_.emplace_back(Relay, far.fd(), near.fd());
    }
  }
  static void Relay(int from, int to) {
    char bytes[4096];
    for (ssize_t n; (n = ::recv(from, bytes, sizeof bytes, 0)) != 0;) {
      if (n < 0 && errno != EAGAIN) break;
      if (n > 0) (void)::send(to, bytes, static_cast<size_t>(n), MSG_NOSIGNAL);
    }
    ::shutdown(to, SHUT_RDWR);
  }

  const uint16_t target_;
  http::test::RawListener listener_{64};
  std::mutex mutex_;
  std::list<std::pair<RawSocket, RawSocket>> pairs_;
  std::list<std::thread> relays_;
  std::atomic<bool> stop_{false};
  std::thread acceptor_;
};

TEST(Hostile, ConnectionsThatABoxForgotAreReplacedWithoutAFailure) {
  Loop loop(1);
  FakeWorker worker(loop);
  ForgetfulBox box(worker.port());
  // One attempt: those of a request must not be what hides it. No probe lends its connection, which nobody could
  // know for dead if it was forgotten in the moment after.
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    OneWorker(fmt::format("http://127.0.0.1:{}", box.port()))(o);
    o.health.interval = o.load_poll_interval = 1h;
  }, false);
  ASSERT_TRUE(fleet.AllHealthy(1));
  worker.Set(After(100ms, AnswerJson(200, "{}")));  // long enough that each request has its connection
  const auto ask_all = [&] {
    std::vector<std::thread> clients;
    std::atomic<int> good{0};
    for (int i = 0; i < 6; ++i) {
      clients.emplace_back([&] { good += fleet.Post("/generate", R"({"text":"a"})").status == 200; });
    }
    for (std::thread& client : clients) client.join();
    return good.load();
  };
  EXPECT_EQ(ask_all(), 6);
  std::this_thread::sleep_for(700ms);
  box.Forget();
  EXPECT_EQ(ask_all(), 6);
  EXPECT_EQ(worker.requests(), 12u) << "nothing was done twice";
  // After the pool's own limit there is nothing left to be forgotten.
  std::this_thread::sleep_for(4500ms);
  box.Forget();
  const TimePoint begun = Now();
  EXPECT_EQ(ask_all(), 6);
  EXPECT_LT(Now() - begun, http::test::kPatience);
}

// A worker that took the request and then broke the connection was asked once by this attempt.
TEST(Hostile, ARequestThatTheWorkerHeldIsNotSentAgainBehindItsBack) {
  Loop loop(1);
  FakeWorker worker(loop);
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    OneWorker(worker.url())(o);
    o.migration.max_worker_kills = 1;
  }, false);
  ASSERT_TRUE(fleet.AllHealthy(1));
  EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);  // leaves a pooled connection
  worker.Set(After(400ms, Die()));
  EXPECT_EQ(fleet.Post("/generate", R"({"text":"b"})").status, 500);
  EXPECT_EQ(worker.requests(), 2u);
}

constexpr const char* kPrompt = R"({"text":"a"})";

// Nothing that this machine lacks is a worker's fault, be it a request or a probe that cannot go out.
TEST(Hostile, WithoutDescriptorsNoWorkerIsToBlame) {
  if (http::test::kNeedsDescriptors) GTEST_SKIP() << "not under sanitizers";
  RawWorker worker("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");  // closes each connection
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    OneWorker(worker.url())(o);
    o.breaker.failure_threshold = 1;
    o.health.interval = 20ms;
    o.load_poll_interval = 0ms;
  }, false);
  ASSERT_TRUE(fleet.AllHealthy(1));
  {
    http::test::NoDescriptors none;
    const int probed = worker.probes();
    const http::Response refused = fleet.Post("/generate", kPrompt);
    EXPECT_EQ(refused.status, 503) << refused.body;
    EXPECT_EQ(ErrorCode(refused), "router_cannot_connect");
    EXPECT_EQ(refused.headers.Get("Retry-After"), "1");
    EXPECT_NE(refused.body.find("ulimit -n"), std::string::npos) << refused.body;
    for (int i = 0; i < 120; ++i) {  // four probes' time
      none.Refill();
      std::this_thread::sleep_for(10ms);
    }
    EXPECT_LE(worker.probes(), probed + 2) << "those under way";
    EXPECT_TRUE(fleet.router->Ready());
    EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_cb_state{{worker=\"{}\"}}", worker.url())), 0);
    EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_cb_outcomes_total{{worker=\"{}\",outcome=\"failure\"}}", worker.url())), 0);
  }
  EXPECT_EQ(fleet.Post("/generate", kPrompt).status, 200);
}

TEST(Hostile, ALackOfDescriptorsThatEndsInTimeIsNotSeen) {
  if (http::test::kNeedsDescriptors) GTEST_SKIP() << "not under sanitizers";
  RawWorker worker("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    OneWorker(worker.url())(o);
    o.retry.max_attempts = 20;
    o.retry.initial_backoff = 50ms;
  }, false);
  ASSERT_TRUE(fleet.AllHealthy(1));
  auto none = std::make_unique<http::test::NoDescriptors>();
  std::thread relief([&] {
    std::this_thread::sleep_for(150ms);
    none.reset();
  });
  EXPECT_EQ(fleet.Post("/generate", kPrompt).status, 200);
  relief.join();
}

// What the poison guard counts is workers that had the request.
TEST(Hostile, AWorkerThatWasNotReachedDidNotDieOfTheRequest) {
  Loop loop;
  const FakeWorker plain(loop);  // speaks no TLS
  const uint16_t nobody = RawListener().port();
  for (const std::string& url : {fmt::format("http://127.0.0.1:{}", nobody), fmt::format("https://127.0.0.1:{}", nobody),
                                 fmt::format("https://127.0.0.1:{}", plain.port()), "http://no-such-host.invalid:80"s}) {
    Fleet fleet(0, 0, [&](RouterOptions& o) {
      OneWorker(url)(o);
      o.migration.max_worker_kills = 1;
      o.health.enabled = false;
      o.retry.max_attempts = 2;
    }, false);
    const http::Response response = fleet.Post("/generate", kPrompt);
    EXPECT_EQ(response.status, 502) << url << " " << response.body;
    EXPECT_EQ(ErrorCode(response), "worker_server_error") << url;
  }
}

TEST(Hostile, AWorkerFoundDeadWhileARequestConnectsDidNotDieOfIt) {
  RawWorker worker("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    OneWorker(worker.url())(o);
    o.migration.max_worker_kills = 1;
    o.health.interval = 50ms;
    o.connect_timeout = http::test::kPatience;
  }, false);
  ASSERT_TRUE(fleet.AllHealthy(1));
  worker.Freeze();
  const http::Response response = fleet.Post("/generate", kPrompt);
  EXPECT_EQ(response.status, 502) << response.body;
  EXPECT_EQ(ErrorCode(response), "worker_server_error");
}

}  // namespace
}  // namespace baton::router
