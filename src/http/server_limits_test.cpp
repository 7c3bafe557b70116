// Every limit and its answer, and clients that come, go, or stall at bad moments.
#include <boost/asio/redirect_error.hpp>

#include "http/test_support.h"

namespace baton::http::test {
namespace {

constexpr std::string_view kGetHello = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";

ServerOptions Small() {
  ServerOptions options;
  options.max_header_bytes = 2000;
  options.max_body_bytes = 10'000;
  options.header_timeout = 100ms;
  options.body_window = 100ms;
  options.min_body_bytes = 1'000;
  options.idle_timeout = 100ms;
  options.write_timeout = 100ms;
  return options;
}

TEST(ServerLimits, LargeBodyGets413EvenWhileTheClientIsSending) {
  TestServer server(Small());
  server.Start();
  const std::string big(3'000'000, 'x');
  RawSocket fixed = server.Connect();
  ASSERT_TRUE(fixed.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"));
  ASSERT_TRUE(fixed.Send(big));
  EXPECT_EQ(StatusOf(fixed.ReadUntil("\r\n\r\n")), 413);

  RawSocket waiting = server.Connect();
  ASSERT_TRUE(waiting.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n"
                           "Expect: 100-continue\r\n\r\n"));
  EXPECT_EQ(StatusOf(waiting.ReadToEnd()), 413);

  RawSocket chunked = server.Connect();
  ASSERT_TRUE(chunked.Send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
  std::string chunk = "400\r\n" + std::string(0x400, 'y') + "\r\n";
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(chunked.Send(chunk));
  EXPECT_EQ(StatusOf(chunked.ReadToEnd()), 413);

  RawSocket huge = server.Connect();
  ASSERT_TRUE(huge.Send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "ffffffffffffffff\r\n"));
  EXPECT_EQ(StatusOf(huge.ReadToEnd()), 413);

  RawSocket exact = server.Connect();
  ASSERT_TRUE(exact.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n" +
                         std::string(10'000, 'z')));
  EXPECT_EQ(StatusOf(exact.ReadResponse()), 200);
}

TEST(ServerLimits, RefusedRequestsAreAnsweredWithoutTheirBody) {
  TestServer server;
  std::atomic<int> looks{0};
  server->SetFilter([&](Request& request, Responder&) -> std::optional<Response> {
    ++looks;
    if (request.headers.Has("Authorization")) return std::nullopt;
    return Response{.status = 401};
  });
  server.Start();
  const std::string key = "Authorization: k\r\n";
  const struct { std::string line; std::string fields; int status; } cases[] = {
      {"POST /echo", "", 401}, {"POST /nowhere", key, 404}, {"DELETE /echo", key, 405}};
  for (const auto& c : cases) {
    for (const char* framing : {"Content-Length: 3000000\r\n", "Transfer-Encoding: chunked\r\n",
                                "Content-Length: 3000000\r\nExpect: 100-continue\r\n"}) {
      RawSocket socket = server.Connect();
      ASSERT_TRUE(socket.Send(c.line + " HTTP/1.1\r\nHost: x\r\n" + c.fields + framing + "\r\n"));
      EXPECT_EQ(StatusOf(socket.ReadToEnd()), c.status) << c.line << " " << framing;
    }
  }
  // A body that is here already leaves the connection as it is.
  RawSocket kept = server.Connect();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(kept.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"));
    EXPECT_EQ(StatusOf(kept.ReadResponse()), 401);
  }
  RawSocket welcome = server.Connect();
  ASSERT_TRUE(welcome.Send("POST /echo HTTP/1.1\r\nHost: x\r\n" + key + "Content-Length: 4\r\n\r\n"));
  ASSERT_TRUE(welcome.Send("abcd"));
  EXPECT_EQ(BodyOf(welcome.ReadResponse()), "abcd");
  EXPECT_EQ(looks, 12);  // once for each
}

// A handler that waits until its client has gone.
struct Waiter {
  explicit Waiter(Server& server) {
    server.Route("GET", "/wait", [this](Request&, Responder& responder) -> asio::awaitable<void> {
      asio::steady_timer timer(co_await asio::this_coro::executor, kPatience);
      responder.OnDisconnect([&] { timer.cancel(); });
      ++waiting;
      boost::system::error_code ec;
      co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      EXPECT_EQ(ec, asio::error::operation_aborted);
      EXPECT_TRUE(responder.disconnected());
      sent = (co_await responder.Send(Response())).code();
      ++gone;
    });
  }
  std::atomic<int> waiting{0};
  std::atomic<int> gone{0};
  std::atomic<Code> sent{Code::kOk};
};

std::string Upload(size_t length) {
  return "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(length) + "\r\n\r\n";
}

TEST(ServerLimits, SlowUploadThatGoesOnIsTaken) {
  ServerOptions options = Small();
  options.body_window = 400ms;
  options.min_body_bytes = 500;
  TestServer server(options);
  server.Start();
  RawSocket fixed = server.Connect();
  RawSocket chunked = server.Connect();
  ASSERT_TRUE(fixed.Send(Upload(10'000)));
  ASSERT_TRUE(chunked.Send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"));
  const std::string piece(500, 'p');
  for (int i = 0; i < 20; ++i) {  // three windows at least
    ASSERT_TRUE(fixed.Send(piece));
    ASSERT_TRUE(chunked.Send("1f4\r\n" + piece + "\r\n"));
    std::this_thread::sleep_for(60ms);
  }
  ASSERT_TRUE(chunked.Send("0\r\n\r\n"));
  EXPECT_EQ(BodyOf(fixed.ReadResponse()).size(), 10'000u);
  EXPECT_EQ(BodyOf(chunked.ReadResponse()).size(), 10'000u);
}

TEST(ServerLimits, UploadThatDripsOrNeverEndsGets408) {
  ServerOptions options = Small();
  options.max_body_bytes = 100 << 20;
  options.max_body_time = 300ms;
  TestServer server(options);
  server.Start();
  const auto drip = [&](std::string_view head, const std::string& piece) {
    RawSocket socket = server.Connect();
    EXPECT_TRUE(socket.Send(head));
    const TimePoint end = Now() + kPatience;
    while (Now() < end && socket.Send(piece)) {
      pollfd answered{socket.fd(), POLLIN, 0};
      if (::poll(&answered, 1, 10) != 0) break;
    }
    return socket.ReadToEnd();
  };
  const std::string chunked = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const auto& [head, piece] : {std::pair(Upload(50 << 20), std::string("x")), std::pair(chunked, std::string("1;extension\r\nx\r\n"))}) {
    const std::string answer = drip(head, piece);
    EXPECT_EQ(StatusOf(answer), 408) << head;
    EXPECT_NE(answer.find("too slowly"), std::string::npos) << answer;
  }
  const std::string endless = drip(Upload(50 << 20), std::string(2'000, 'x'));
  EXPECT_EQ(StatusOf(endless), 408);
  EXPECT_NE(endless.find("too long"), std::string::npos) << endless;
}

TEST(BodyBudget, BodiesOverItGet503BeforeTheyAreRead) {
  ServerOptions options;
  options.max_held_body_bytes = 100'000;
  options.max_body_bytes = 90'000;
  TestServer server(options);
  server.Start();
  RawSocket first = server.Connect();
  ASSERT_TRUE(first.Send(Upload(80'000) + std::string(70'000, 'a')));
  ASSERT_TRUE(Eventually([&] { return server->HeldBodyBytes() == 80'000; }));  // room for all of it is made by now
  RawSocket second = server.Connect();
  ASSERT_TRUE(second.Send(Upload(30'000)));
  const std::string refused = second.ReadToEnd();
  EXPECT_EQ(StatusOf(refused), 503);
  EXPECT_NE(refused.find("\r\nRetry-After: 1\r\n"), std::string::npos) << refused;
  // What fits is served meanwhile, and the large one is not harmed.
  RawSocket small = server.Connect();
  ASSERT_TRUE(small.Send(Upload(1'000) + std::string(1'000, 'b')));
  EXPECT_EQ(StatusOf(small.ReadResponse()), 200);
  ASSERT_TRUE(first.Send(std::string(10'000, 'a')));
  EXPECT_EQ(BodyOf(first.ReadResponse()).size(), 80'000u);
  EXPECT_TRUE(Eventually([&] { return server->HeldBodyBytes() == 0; }));
  RawSocket again = server.Connect();
  ASSERT_TRUE(again.Send(Upload(30'000) + std::string(30'000, 'c')));
  EXPECT_EQ(StatusOf(again.ReadResponse()), 200);
}

TEST(BodyBudget, HoldsWhatComesNotWhatIsAnnounced) {
  ServerOptions options;
  options.max_held_body_bytes = options.max_body_bytes = 1'000'000;
  TestServer server(options);
  server.Start();
  // Announces all there is and sends a little: nobody else is kept out.
  RawSocket greedy = server.Connect();
  ASSERT_TRUE(greedy.Send(Upload(1'000'000) + "x"));
  ASSERT_TRUE(Eventually([&] { return server->HeldBodyBytes() > 0; }));
  RawSocket other = server.Connect();
  ASSERT_TRUE(other.Send(Upload(700'000) + std::string(700'000, 'a')));
  EXPECT_EQ(StatusOf(other.ReadResponse()), 200);
  // Those that were let in together and do not fit together are refused on the way.
  for (const bool chunked : {false, true}) {
    std::vector<RawSocket> many;
    for (int i = 0; i < 3; ++i) many.push_back(server.Connect());
    const std::string head = chunked ? "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n61a80\r\n" : Upload(500'000);
    for (RawSocket& socket : many) ASSERT_TRUE(socket.Send(head));
    for (RawSocket& socket : many) socket.Send(std::string(399'999, 'b'));
    int refused = 0;
    for (RawSocket& socket : many) {
      pollfd answered{socket.fd(), POLLIN, 0};
      if (::poll(&answered, 1, 500) == 1 && StatusOf(socket.ReadToEnd()) == 503) ++refused;
    }
    EXPECT_GE(refused, 1) << chunked;
    EXPECT_LE(server->HeldBodyBytes(), 1'000'000u);
  }
  greedy.Close();
  EXPECT_TRUE(Eventually([&] { return server->HeldBodyBytes() == 0; }));
}

TEST(BodyBudget, EveryEndGivesItBack) {
  ServerOptions options = Small();
  options.max_body_bytes = 60'000;
  TestServer server(options, 2);
  Waiter waiter(*server);
  server->Route("POST", "/throw", [](Request&, Responder&) -> asio::awaitable<void> {
    throw std::runtime_error("on purpose");
    co_return;
  });
  server.Start();
  const std::string chunked = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  // Left in the middle of a body, politely or not.
  for (int i = 0; i < 1000; ++i) {
    RawSocket socket = server.Connect();
    ASSERT_TRUE(i % 2 ? socket.Send(Upload(50'000) + std::string(20'000, 'x')) : socket.Send(chunked + "4000\r\n" + std::string(9'000, 'y')));
    if (i % 3 == 0) {
      ASSERT_TRUE(Eventually([&] { return server->HeldBodyBytes() > 0; }));
    }
    if (i % 5 < 3) socket.Close();
    else socket.Reset();
  }
  EXPECT_TRUE(Eventually([&] { return server->HeldBodyBytes() == 0; }));
  // Refused, too slow, broken, thrown at, left while it is handled.
  const auto ends = [&](const std::string& bytes, int status) {
    RawSocket socket = server.Connect();
    EXPECT_TRUE(socket.Send(bytes));
    EXPECT_EQ(StatusOf(socket.ReadToEnd()), status) << bytes.substr(0, 100);
  };
  ends(chunked + "e000\r\n" + std::string(0xe000, 'y') + "\r\ne000\r\n", 413);
  ends(chunked + "4\r\nabcdX", 400);
  ends(Upload(50'000) + "xy", 408);
  ends("POST /throw HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 500);
  RawSocket gone = server.Connect();
  ASSERT_TRUE(gone.Send("GET /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd"));
  ASSERT_TRUE(Eventually([&] { return waiter.waiting == 1; }));
  EXPECT_EQ(server->HeldBodyBytes(), 4u);
  gone.Close();
  EXPECT_TRUE(Eventually([&] { return server->HeldBodyBytes() == 0; }));
  // ... or on board when the server stops.
  RawSocket last = server.Connect();
  ASSERT_TRUE(last.Send(Upload(50'000) + std::string(2'000, 'z')));
  ASSERT_TRUE(Eventually([&] { return server->HeldBodyBytes() > 0; }));
  server->Stop();
  EXPECT_TRUE(Eventually([&] { return server->HeldBodyBytes() == 0; }));
}

TEST(ServerLimits, LargeHeaderGets431) {
  TestServer server(Small());
  server.Start();
  for (const std::string& head :
       {"GET /hello HTTP/1.1\r\nHost: x\r\nX: " + std::string(5'000, 'x'),
        "GET /" + std::string(5'000, 'x'),
        "GET /hello HTTP/1.1\r\nHost: x\r\nX: " + std::string(1'970, 'x') + "\r\n\r\n"}) {
    RawSocket socket = server.Connect();
    ASSERT_TRUE(socket.Send(head));
    EXPECT_EQ(StatusOf(socket.ReadToEnd()), 431);
  }
  RawSocket socket = server.Connect();
  ASSERT_TRUE(socket.Send("GET /hello HTTP/1.1\r\nHost: x\r\nX: " + std::string(1'900, 'x') +
                          "\r\n\r\n"));
  EXPECT_EQ(StatusOf(socket.ReadResponse()), 200);

  RawSocket extension = server.Connect();
  ASSERT_TRUE(extension.Send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "1;" + std::string(40'000, 'e')));
  EXPECT_EQ(StatusOf(extension.ReadToEnd()), 400);
}

TEST(ServerLimits, LargeHeadersGrowTheBuffer) {
  TestServer server;
  server.Start();
  RawSocket socket = server.Connect();
  for (size_t size : {9'000, 60'000, 100}) {
    ASSERT_TRUE(socket.Send("GET /hello HTTP/1.1\r\nHost: x\r\nX: " + std::string(size, 'x') +
                            "\r\n\r\n"));
    EXPECT_EQ(StatusOf(socket.ReadResponse()), 200) << size;
  }
}

TEST(ServerLimits, SlowClientsGet408) {
  ServerOptions options = Small();
  options.idle_timeout = 20'000ms;
  TestServer server(options);
  server.Start();
  RawSocket header = server.Connect();
  RawSocket body = server.Connect();
  RawSocket dripping = server.Connect();
  ASSERT_TRUE(header.Send("GET /hello HTTP/1.1\r\nHo"));
  ASSERT_TRUE(body.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"));
  // Each byte comes in time; together they do not.
  for (int i = 0; i < 40 && dripping.Send("G"); ++i) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(StatusOf(dripping.ReadToEnd()), 408);
  EXPECT_EQ(StatusOf(header.ReadToEnd()), 408);
  EXPECT_EQ(StatusOf(body.ReadToEnd()), 408);
  EXPECT_EQ(server->OpenRequests(), 0u);
}

TEST(ServerLimits, IdleConnectionsAreClosedWithoutAWord) {
  TestServer server(Small());
  server.Start();
  RawSocket fresh = server.Connect();
  RawSocket used = server.Connect();
  ASSERT_TRUE(used.Send(kGetHello));
  EXPECT_EQ(StatusOf(used.ReadResponse()), 200);
  EXPECT_EQ(used.ReadToEnd(), "");
  EXPECT_EQ(fresh.ReadToEnd(), "");
}

TEST(ServerLimits, ConnectionsOverTheLimitGet503) {
  ServerOptions options;
  options.max_connections = 2;
  TestServer server(options);
  server.Start();
  RawSocket first = server.Connect();
  RawSocket second = server.Connect();
  for (RawSocket* socket : {&first, &second}) {
    ASSERT_TRUE(socket->Send(kGetHello));
    EXPECT_EQ(StatusOf(socket->ReadResponse()), 200);
  }
  RawSocket third = server.Connect();
  EXPECT_EQ(StatusOf(third.ReadToEnd()), 503);
  first.Close();
  EXPECT_TRUE(Eventually([&] {
    RawSocket next = server.Connect();
    return next.Send(kGetHello) && StatusOf(next.ReadUntil("\r\n\r\n")) == 200;
  }));
}

TEST(ServerLimits, ClientThatDoesNotReadEndsTheStream) {
  TestServer server(Small());
  std::promise<Status> ended;
  std::promise<void> told;
  server->Route("GET", "/flood", [&](Request&, Responder& responder) -> asio::awaitable<void> {
    responder.OnDisconnect([&told] { told.set_value(); });
    (void)co_await responder.BeginStream(200, {});
    const std::string piece(100'000, 'x');
    Status status;
    while (status.ok()) status = co_await responder.Write(piece);
    EXPECT_TRUE(responder.disconnected());
    ended.set_value(status);
  });
  server.Start();
  RawSocket socket = RawSocket::Connect(server->port(), 4096);
  ASSERT_TRUE(socket.Send("GET /flood HTTP/1.1\r\nHost: x\r\n\r\n"));
  auto future = ended.get_future();
  ASSERT_EQ(future.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(future.get().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(told.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST(ServerLimits, SlowReaderThatGoesOnReadingGetsEverything) {
  ServerOptions options = Small();
  options.write_timeout = 500ms;
  TestServer server(options);
  const std::string body(4'000'000, 'x');
  server->Route("GET", "/big", [&](Request&, Responder& responder) -> asio::awaitable<void> {
    Response response;
    response.body = body;
    EXPECT_TRUE((co_await responder.Send(std::move(response))).ok());
  });
  server.Start();
  RawSocket socket = RawSocket::Connect(server->port(), 4096);
  ASSERT_TRUE(socket.Send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(BodyOf(socket.ReadResponse()) == body);
}

TEST(Disconnect, IsSeenWhileAHandlerOnlyWaits) {
  TestServer server;
  Waiter waiter(*server);
  server.Start();
  int expected = 0;
  for (const char* how : {"close", "reset", "close with pipelined bytes"}) {
    RawSocket socket = server.Connect();
    ASSERT_TRUE(socket.Send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"));
    ++expected;
    ASSERT_TRUE(Eventually([&] { return waiter.waiting == expected; }));
    EXPECT_EQ(server->OpenRequests(), 1u);
    if (how == std::string("reset")) {
      socket.Reset();
    } else {
      if (how != std::string("close")) {
        ASSERT_TRUE(socket.Send("GET /he"));
      }
      socket.Close();
    }
    EXPECT_TRUE(Eventually([&] { return waiter.gone == expected; })) << how;
    EXPECT_TRUE(Eventually([&] { return server->OpenRequests() == 0; })) << how;
  }
}

TEST(Disconnect, CallbackSetLateStillRuns) {
  TestServer server;
  std::promise<void> told;
  server->Route("GET", "/late", [&](Request&, Responder& responder) -> asio::awaitable<void> {
    while (!responder.disconnected()) co_await Sleep(1ms);
    responder.OnDisconnect([&] { told.set_value(); });
    EXPECT_EQ((co_await responder.BeginStream(200, {})).code(), Code::kCancelled);
  });
  server.Start();
  RawSocket socket = server.Connect();
  ASSERT_TRUE(socket.Send("GET /late HTTP/1.1\r\nHost: x\r\n\r\n"));
  socket.Close();
  EXPECT_EQ(told.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST(Disconnect, HalfClosedClientStillGetsAWholeAnswer) {
  TestServer server;
  server.Start();
  RawSocket socket = server.Connect();
  ASSERT_TRUE(socket.Send(kGetHello));
  socket.ShutdownSend();
  EXPECT_EQ(BodyOf(socket.ReadToEnd()), "hello ");
}

TEST(Disconnect, CallbackDoesNotRunForACompleteAnswer) {
  TestServer server;
  std::atomic<int> told{0};
  server->Route("GET", "/done", [&](Request&, Responder& responder) -> asio::awaitable<void> {
    responder.OnDisconnect([&] { ++told; });
    (void)co_await responder.Send(Response());
  });
  server.Start();
  {
    RawSocket socket = server.Connect();
    ASSERT_TRUE(socket.Send("GET /done HTTP/1.1\r\nHost: x\r\n\r\n"));
    EXPECT_EQ(StatusOf(socket.ReadResponse()), 200);
    ASSERT_TRUE(socket.Send(kGetHello));
    EXPECT_EQ(StatusOf(socket.ReadResponse()), 200);
  }
  RawSocket next = server.Connect();
  ASSERT_TRUE(next.Send(kGetHello));
  EXPECT_EQ(StatusOf(next.ReadResponse()), 200);
  EXPECT_EQ(told, 0);
}

TEST(Drain, LetsRunningRequestsFinishAndClosesTheRest) {
  TestServer server;
  std::atomic<bool> go{false};
  std::atomic<bool> held{false};
  server->Route("GET", "/held", [&](Request&, Responder& responder) -> asio::awaitable<void> {
    held = true;
    while (!go) co_await Sleep(1ms);
    Response response;
    response.body = "held";
    (void)co_await responder.Send(std::move(response));
  });
  server.Start();
  RawSocket idle = server.Connect();
  ASSERT_TRUE(idle.Send(kGetHello));
  EXPECT_EQ(StatusOf(idle.ReadResponse()), 200);
  RawSocket busy = server.Connect();
  ASSERT_TRUE(busy.Send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_TRUE(Eventually([&] { return held && server->OpenRequests() == 1; }));
  server->Drain();
  EXPECT_EQ(idle.ReadToEnd(), "");
  EXPECT_FALSE(server.Connect().open());
  EXPECT_EQ(server->OpenRequests(), 1u);
  go = true;
  const std::string response = busy.ReadToEnd();
  EXPECT_EQ(BodyOf(response), "held");
  EXPECT_NE(response.find("\r\nConnection: close\r\n"), std::string::npos);
  EXPECT_TRUE(Eventually([&] { return server->OpenRequests() == 0; }));
}

TEST(Stop, BreaksRunningRequests) {
  TestServer server;
  Waiter waiter(*server);
  server.Start();
  RawSocket socket = server.Connect();
  ASSERT_TRUE(socket.Send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"));
  ASSERT_TRUE(Eventually([&] { return waiter.waiting == 1; }));
  server->Stop();
  EXPECT_EQ(socket.ReadToEnd(), "");
  EXPECT_TRUE(Eventually([&] { return waiter.gone == 1; }));
  EXPECT_EQ(waiter.sent.load(), Code::kCancelled);
  EXPECT_TRUE(Eventually([&] { return server->OpenRequests() == 0; }));
}

}  // namespace
}  // namespace baton::http::test
