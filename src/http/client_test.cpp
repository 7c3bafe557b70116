// The client against servers played by hand, byte for byte.
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/post.hpp>

#include "http/test_support.h"

namespace baton::http::test {
namespace {

// A raw server thread, the client's loop, and the client.
class ClientTest : public ::testing::Test {
 protected:
  Origin origin() { return {false, "127.0.0.1", listener_.port()}; }
  ClientRequest Get(std::string target = "/") { return {"GET", std::move(target), {}, ""}; }
  Result<Response> Fetch(ClientRequest request, Duration time = kPatience,
                         size_t max_body = 16 << 20) {
    return loop_.Run(client_.Fetch(origin(), std::move(request), Now() + time, max_body));
  }
  // Answers the next connection's first request with `bytes`, then closes.
  std::thread Answer(std::string bytes, bool reset = false) {
    return std::thread([this, bytes = std::move(bytes), reset] {
      RawSocket socket = listener_.Accept();
      socket.ReadUntil("\r\n\r\n");
      socket.Send(bytes);
      if (reset) socket.Reset();
    });
  }
  Result<Response> FetchAnswered(std::string bytes, ClientRequest request) {
    std::thread server = Answer(std::move(bytes));
    auto result = Fetch(std::move(request));
    server.join();
    return result;
  }

  RawListener listener_;
  Loop loop_{2};
  Client client_{loop_.executor(), {}};
};

TEST_F(ClientTest, SendsAStrictRequest) {
  std::string seen;
  std::thread server([&] {
    RawSocket socket = listener_.Accept();
    seen = socket.ReadUntil("body");
    socket.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  ClientRequest request{"POST", "/x?y=1", {}, "body"};
  request.headers.Add("Authorization", "Bearer k");
  request.headers.Add("Transfer-Encoding", "chunked");  // the client's own business
  request.headers.Add("content-length", "99");
  request.headers.Add("X-Split", "a\r\nX-Evil: b");
  auto result = Fetch(std::move(request));
  server.join();
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  EXPECT_EQ(seen, fmt::format("POST /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n"
                              "Authorization: Bearer k\r\nX-Split: a  X-Evil: b\r\n"
                              "Content-Length: 4\r\n\r\nbody",
                              listener_.port()));
  for (const char* target : {"", "/a b", "/a\r\nX: y", "/\xc3\xa9"})
    EXPECT_EQ(Fetch(Get(target)).status().code(), Code::kInvalidArgument) << target;
}

TEST_F(ClientTest, ReadsEveryFramingSplitAtEveryByte) {
  const struct {
    std::string bytes;
    std::string body;
  } cases[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
       "2\r\nhe\r\n03;x=y\r\nllo\r\n0\r\nT: t\r\n\r\n", "hello"},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
       "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nok", "ok"},
  };
  // One server connection for all of them: each response must leave the connection reusable.
  std::thread server([&] {
    RawSocket socket = listener_.Accept();
    for (const auto& c : cases) {
      for (size_t split = 1; split < c.bytes.size(); ++split) {
        socket.ReadUntil("\r\n\r\n");
        socket.Send(c.bytes.substr(0, split));
        std::this_thread::sleep_for(std::chrono::microseconds(500));
        socket.Send(c.bytes.substr(split));
      }
    }
    EXPECT_FALSE(listener_.Pending(0ms)) << "the pool did not reuse its connection";
  });
  for (const auto& c : cases) {
    for (size_t split = 1; split < c.bytes.size(); ++split) {
      auto result = Fetch(Get());
      ASSERT_TRUE(result.ok()) << split << ": " << result.status().ToString();
      ASSERT_EQ(result->body, c.body) << "split at " << split;
      ASSERT_FALSE(result->headers.Has("Link"));
    }
  }
  server.join();
}

TEST_F(ClientTest, BodyUntilClose) {
  auto result = FetchAnswered("HTTP/1.1 200 OK\r\nX: y\r\n\r\nall of it", Get());
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  EXPECT_EQ(result->body, "all of it");
  result = FetchAnswered("HTTP/1.0 200 OK\r\n\r\n", Get());
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  EXPECT_EQ(result->body, "");
}

TEST_F(ClientTest, ResponsesWithoutBody) {
  for (const char* head : {"HTTP/1.1 204 No Content\r\n\r\n",
                           "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"}) {
    auto result = FetchAnswered(head, Get());
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    EXPECT_EQ(result->body, "");
  }
  auto result = FetchAnswered("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
                              {"HEAD", "/", {}, ""});
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  EXPECT_EQ(result->headers.Get("content-length"), "7");
}

TEST_F(ClientTest, EarlyCloseIsUnavailable) {
  for (const char* bytes :
       {"", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"}) {
    const auto result = FetchAnswered(bytes, Get());
    EXPECT_EQ(result.status().code(), Code::kUnavailable) << bytes;
    EXPECT_NE(result.status().message().find(origin().ToString()), std::string::npos);
  }
}

TEST_F(ClientTest, MalformedResponsesAreCorrupt) {
  using std::string_literals::operator""s;
  for (const std::string& bytes :
       {"SSH-2.0-OpenSSH\r\n\r\n"s, "HTTP/1.1 200 OK\nX: y\n\n"s, "HTTP/2.0 200 OK\r\n\r\n"s,
        "HTTP/1.1 2000 OK\r\n\r\n"s, "HTTP/1.1 20 OK\r\n\r\n"s, "HTTP/1.1 600 OK\r\n\r\n"s,
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n"s, "HTTP/1.1 200 OK\r\n folded\r\n\r\n"s,
        "HTTP/1.1 200 OK\r\nX: \0\r\n\r\n"s, "HTTP/1.1 101 Switching\r\n\r\n"s,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"s,
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\na"s,
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"s,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"s,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"s,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n"s,
        "HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x')}) {
    const auto result = FetchAnswered(bytes, Get());
    EXPECT_EQ(result.status().code(), Code::kDataCorrupt)
        << bytes.substr(0, 100) << ": " << result.status().ToString();
  }
  std::string endless;
  for (int i = 0; i < 100; ++i) endless += "HTTP/1.1 100 Continue\r\n\r\n";
  EXPECT_EQ(FetchAnswered(endless, Get()).status().code(), Code::kDataCorrupt);
}

TEST_F(ClientTest, LargeBodyIsRefused) {
  std::thread server =
      Answer("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + std::string(2000, 'x'));
  EXPECT_EQ(Fetch(Get(), kPatience, 1999).status().code(), Code::kTooLarge);
  server.join();
}

TEST_F(ClientTest, StaleConnectionIsReplacedOnce) {
  std::atomic<bool> closed{false};
  std::atomic<bool> checked{false};
  std::thread server([&] {
    {
      RawSocket first = listener_.Accept();
      first.ReadUntil("\r\n\r\n");
      first.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    }
    closed = true;
    RawSocket second = listener_.Accept();
    second.ReadUntil("\r\n\r\n");
    second.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
    // The third request finds this connection open, but it dies unanswered.
    second.ReadUntil("\r\n\r\n");
    second.Reset();
    RawSocket third = listener_.Accept();
    third.ReadUntil("\r\n\r\n");
    third.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3");
    // The fourth dies after the first byte of an answer, so it is not repeated.
    third.ReadUntil("\r\n\r\n");
    third.Send("H");
    third.Close();
    EXPECT_FALSE(listener_.Pending(50ms));
    checked = true;
    // The fifth goes over a new connection that fails: no second try.
    listener_.Accept().Reset();
    EXPECT_FALSE(listener_.Pending(50ms));
  });
  auto result = Fetch(Get());
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->body, "1");
  ASSERT_TRUE(Eventually([&] { return closed.load(); }));
  for (const char* want : {"2", "3"}) {
    result = Fetch(Get());
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    EXPECT_EQ(result->body, want);
  }
  EXPECT_EQ(Fetch(Get()).status().code(), Code::kUnavailable);
  ASSERT_TRUE(Eventually([&] { return checked.load(); }));
  const Code reset = Fetch(Get()).status().code();  // before or after the request went out
  EXPECT_TRUE(reset == Code::kUnreachable || reset == Code::kUnavailable) << CodeName(reset);
  server.join();
}

// A connection whose peer vanished looks alive: no end, no reset, only silence.
TEST_F(ClientTest, VanishedPeerIsReplacedWithoutAFailure) {
  for (const size_t body_bytes : {size_t{10}, size_t{16} << 20}) {  // the large one fills the send buffer
    std::atomic<bool> vanished{false};
    std::thread server([&] {
      RawSocket first = listener_.Accept(), second;
      first.ReadUntil("\r\n\r\n");
      first.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
      first.Vanish();
      vanished = true;
      second = listener_.Accept();
      second.ReadUntil("\r\n\r\n");
      std::string body(body_bytes, '\0');
      for (size_t have = 0; have < body_bytes;) {
        const ssize_t n = ::recv(second.fd(), body.data() + have, body_bytes - have, 0);
        ASSERT_GT(n, 0);
        have += static_cast<size_t>(n);
      }
      EXPECT_EQ(body, std::string(body_bytes, 'x'));
      second.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n2");
    });
    EXPECT_EQ(Fetch(Get())->body, "1");
    ASSERT_TRUE(Eventually([&] { return vanished.load(); }));
    std::this_thread::sleep_for(600ms);  // long enough to be distrusted
    const auto result = Fetch({"POST", "/", {}, std::string(body_bytes, 'x')});
    EXPECT_TRUE(result.ok()) << result.status().ToString();
    server.join();
  }
}

TEST_F(ClientTest, OneVanishedPeerCondemnsTheIdleConnectionsBesideIt) {
  constexpr int kConnections = 4;
  std::atomic<int> vanished{0};
  std::thread server([&] {
    std::vector<RawSocket> sockets;
    for (int i = 0; i < kConnections; ++i) sockets.push_back(listener_.Accept());
    for (RawSocket& socket : sockets) {
      socket.ReadUntil("\r\n\r\n");
      socket.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
      socket.Vanish();
    }
    vanished = kConnections;
    RawSocket fresh = listener_.Accept();
    for (int i = 0; i < 2; ++i) {
      fresh.ReadUntil("\r\n\r\n");
      fresh.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + std::to_string(i));
    }
  });
  std::vector<std::thread> users;
  for (int i = 0; i < kConnections; ++i) {
    users.emplace_back([&] { EXPECT_TRUE(Fetch(Get()).ok()); });
  }
  for (std::thread& user : users) user.join();
  ASSERT_TRUE(Eventually([&] { return vanished == kConnections; }));
  std::this_thread::sleep_for(600ms);
  // The second request takes the connection of the first, not another dead one.
  for (const char* want : {"0", "1"}) {
    const auto result = Fetch(Get());
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    EXPECT_EQ(result->body, want);
  }
  server.join();
}

// Slow is not gone: the request was acknowledged, so it is not sent twice.
TEST_F(ClientTest, SlowPeerIsWaitedForAfterAPause) {
  std::thread server([&] {
    RawSocket socket = listener_.Accept();
    for (const auto delay : {0ms, 2500ms}) {
      socket.ReadUntil("\r\n\r\n");
      std::this_thread::sleep_for(delay);
      socket.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    EXPECT_FALSE(listener_.Pending(0ms));
  });
  EXPECT_TRUE(Fetch(Get()).ok());
  std::this_thread::sleep_for(600ms);
  EXPECT_TRUE(Fetch(Get()).ok());
  server.join();
}

TEST_F(ClientTest, DoesNotReuseWhatItMustNot) {
  for (const char* bytes :
       {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1",
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\n"}) {
    std::thread server([&] {
      RawSocket socket = listener_.Accept();
      socket.ReadUntil("\r\n\r\n");
      socket.Send(bytes);
      EXPECT_EQ(socket.ReadUntil("never").find("GET"), std::string::npos) << bytes;
    });
    auto result = Fetch(Get());
    server.join();
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    EXPECT_EQ(result->body, "1");
  }
}

TEST_F(ClientTest, DeadlinesEndEveryWait) {
  const TimePoint start = Now();
  for (const char* bytes : {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"}) {
    std::promise<void> done;
    std::thread server([&] {
      RawSocket socket = listener_.Accept();
      socket.ReadUntil("\r\n\r\n");
      socket.Send(bytes);
      done.get_future().wait();
    });
    const auto result = Fetch(Get(), 100ms);
    EXPECT_EQ(result.status().code(), Code::kDeadlineExceeded) << result.status().ToString();
    done.set_value();
    server.join();
  }
  // A peer that takes nothing.
  RawSocket mute;
  std::thread server([&] { mute = listener_.Accept(); });
  const auto result = Fetch({"POST", "/", {}, std::string(50'000'000, 'x')}, 200ms);
  EXPECT_EQ(result.status().code(), Code::kDeadlineExceeded) << result.status().ToString();
  server.join();
  EXPECT_LT(Now() - start, kPatience);
}

TEST_F(ClientTest, CancelFromAnotherThread) {
  std::promise<void> told;
  std::thread server([&] {
    RawSocket socket = listener_.Accept();
    socket.ReadUntil("\r\n\r\n");
    socket.Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    EXPECT_EQ(socket.ReadToEnd(), "");  // the client closes
    told.set_value();
  });
  const auto run = [&]() -> asio::awaitable<Status> {
    auto stream = co_await client_.Start(origin(), Get(), Now() + kPatience);
    if (!stream.ok()) co_return stream.status();
    EXPECT_EQ((*stream)->status(), 200);
    auto piece = co_await (*stream)->Read(Now() + kPatience);
    EXPECT_EQ(*piece, "he");
    std::thread canceller([&] {
      std::this_thread::sleep_for(20ms);
      (*stream)->Cancel();
    });
    piece = co_await (*stream)->Read(Now() + kPatience);
    canceller.join();
    co_return piece.status();
  };
  EXPECT_EQ(loop_.Run(run()).code(), Code::kCancelled);
  EXPECT_EQ(told.get_future().wait_for(kPatience), std::future_status::ready);
  server.join();
}

TEST_F(ClientTest, CoroutineCancelEndsAStart) {
  std::promise<void> asked;
  std::thread server([&] {
    RawSocket socket = listener_.Accept();
    socket.ReadUntil("\r\n\r\n");
    asked.set_value();
    EXPECT_EQ(socket.ReadToEnd(), "");
  });
  const auto strand = asio::make_strand(loop_.executor());
  asio::cancellation_signal signal;
  std::promise<Code> code;
  const auto run = [&]() -> asio::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    const auto result = co_await client_.Fetch(origin(), Get(), Now() + kPatience);
    code.set_value(result.status().code());
  };
  std::promise<void> ended;
  asio::co_spawn(strand, run(), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr) {
                   ended.set_value();
                 }));
  asked.get_future().wait();
  asio::post(strand, [&] { signal.emit(asio::cancellation_type::terminal); });
  EXPECT_EQ(code.get_future().get(), Code::kCancelled);
  ended.get_future().wait();
  server.join();
}

TEST_F(ClientTest, LateCancelDoesNotHitTheNextUser) {
  TestServer server;
  server.Start();
  const auto run = [&]() -> asio::awaitable<Status> {
    auto first = co_await client_.Start(server.origin(), Get("/hello"), Now() + kPatience);
    if (!first.ok()) co_return first.status();
    (void)co_await (*first)->ReadAll(Now() + kPatience, 100);
    auto second = co_await client_.Start(server.origin(), Get("/hello"), Now() + kPatience);
    (*first)->Cancel();
    if (!second.ok()) co_return second.status();
    co_return (co_await (*second)->ReadAll(Now() + kPatience, 100)).status();
  };
  EXPECT_TRUE(loop_.Run(run()).ok());
}

TEST_F(ClientTest, DroppedStreamClosesTheConnection) {
  std::thread server([&] {
    RawSocket socket = listener_.Accept();
    socket.ReadUntil("\r\n\r\n");
    socket.Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    EXPECT_EQ(socket.ReadUntil("never"), "!");
  });
  const auto run = [&]() -> asio::awaitable<int> {
    auto stream = co_await client_.Start(origin(), Get(), Now() + kPatience);
    co_return stream.ok() ? (*stream)->status() : 0;
  };
  EXPECT_EQ(loop_.Run(run()), 200);
  server.join();
}

TEST_F(ClientTest, AnswerBeforeTheBodyWasReadIsSeen) {
  std::thread server([&] {
    RawSocket socket = listener_.Accept();
    socket.ReadUntil("\r\n\r\n");
    socket.Send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    std::this_thread::sleep_for(20ms);
  });
  const auto result = Fetch({"POST", "/", {}, std::string(20'000'000, 'x')});
  ASSERT_TRUE(result.ok()) << result.status().ToString();
  EXPECT_EQ(result->status, 413);
  server.join();
}

TEST_F(ClientTest, IdleConnectionsAreSwept) {
  Client client(loop_.executor(), {.idle_timeout = 50ms});
  std::thread server([&] {
    RawSocket socket = listener_.Accept();
    socket.ReadUntil("\r\n\r\n");
    socket.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    EXPECT_EQ(socket.ReadToEnd(), "");
  });
  EXPECT_TRUE(loop_.Run(client.Fetch(origin(), Get(), Now() + kPatience)).ok());
  server.join();
}

TEST_F(ClientTest, ManyAtOnceFromManyThreads) {
  TestServer server({}, 2);
  server.Start();
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string body(static_cast<size_t>(t * 1000 + i), 'x');
        auto result =
            loop_.Run(client_.Fetch(server.origin(), {"POST", "/echo", {}, body}, Now() + 20s));
        good += result.ok() && result->body == body;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 400);
}

}  // namespace
}  // namespace baton::http::test
