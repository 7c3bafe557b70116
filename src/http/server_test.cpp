// What a well-behaved client sees: keep-alive, pipelining, methods, routes, chunks both ways.
#include "http/test_support.h"

namespace baton::http::test {
namespace {

constexpr std::string_view kGetHello = "GET /hello?name=a+b%21 HTTP/1.1\r\nHost: x\r\n\r\n";

TEST(Server, AnswersAndKeepsAlive) {
  TestServer server;
  server.Start();
  RawSocket socket = server.Connect();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(socket.Send(kGetHello));
    const std::string response = socket.ReadResponse();
    EXPECT_EQ(StatusOf(response), 200);
    EXPECT_EQ(BodyOf(response), "hello a b!");
    EXPECT_NE(response.find("\r\nDate: "), std::string::npos);
    EXPECT_EQ(response.find("Connection:"), std::string::npos);
  }
}

TEST(Server, EchoesThroughOwnClient) {
  TestServer server({}, 2);
  server.Start();
  Client client(server.loop().executor(), {});
  for (const size_t size : {size_t{0}, size_t{1}, size_t{2048}, size_t{8191}, size_t{70'000},
                            size_t{5'000'000}}) {
    std::string body(size, '\0');
    for (size_t i = 0; i < size; ++i) body[i] = static_cast<char>(i * 31);
    auto result = server.loop().Run(
        client.Fetch(server.origin(), {"POST", "/echo", {}, body}, Now() + kPatience));
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    EXPECT_EQ(result->status, 200);
    EXPECT_TRUE(result->body == body) << size;
  }
}

TEST(Server, PipelinedRequestsAreAnsweredInOrder) {
  TestServer server;
  server->Route("GET", "/slow", [](Request&, Responder& responder) -> asio::awaitable<void> {
    co_await Sleep(30ms);
    Response response;
    response.body = "slow";
    (void)co_await responder.Send(std::move(response));
  });
  server.Start();
  RawSocket socket = server.Connect();
  std::string all = "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";
  const int kCount = 2000;  // far more than one read buffer
  for (int i = 0; i < kCount; ++i) {
    const std::string body = std::to_string(i);
    all += "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + body;
  }
  std::thread sender([&] { EXPECT_TRUE(socket.Send(all)); });
  EXPECT_EQ(BodyOf(socket.ReadResponse()), "slow");
  for (int i = 0; i < kCount; ++i) ASSERT_EQ(BodyOf(socket.ReadResponse()), std::to_string(i));
  sender.join();
}

// The read that watches for the client's end while a handler runs takes what comes next for the buffer,
// also when by then a body is being read.
TEST(Server, BodyOfAPipelinedRequestComesInPieces) {
  TestServer server;
  server->Route("GET", "/slow", [](Request&, Responder& responder) -> asio::awaitable<void> {
    co_await Sleep(20ms);
    (void)co_await responder.Send(Response());
  });
  server.Start();
  const std::string body(100'000, 'b');
  for (int i = 0; i < 5; ++i) {
    RawSocket socket = server.Connect();
    ASSERT_TRUE(socket.Send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" +
                            body.substr(0, 1000)));
    EXPECT_EQ(StatusOf(socket.ReadResponse()), 200);
    std::this_thread::sleep_for(5ms);
    ASSERT_TRUE(socket.Send(body.substr(1000, 1000)));
    std::this_thread::sleep_for(5ms);
    ASSERT_TRUE(socket.Send(body.substr(2000)));
    EXPECT_TRUE(BodyOf(socket.ReadResponse()) == body);
  }
}

TEST(Server, AnswersConnectionCloseAndHttp10ByClosing) {
  TestServer server;
  server.Start();
  for (const char* request :
       {"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nConnection: foo, close\r\n\r\n",
        "GET /hello HTTP/1.0\r\n\r\n", "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"}) {
    RawSocket socket = server.Connect();
    ASSERT_TRUE(socket.Send(request));
    const std::string response = socket.ReadToEnd();
    EXPECT_EQ(StatusOf(response), 200);
    EXPECT_NE(response.find("\r\nConnection: close\r\n"), std::string::npos);
    EXPECT_EQ(BodyOf(response), "hello ");
  }
}

TEST(Server, HeadHasTheLengthButNoBody) {
  TestServer server;
  server.Start();
  RawSocket socket = server.Connect();
  ASSERT_TRUE(socket.Send("HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n" + std::string(kGetHello)));
  const std::string head = socket.ReadUntil("\r\n\r\n");
  EXPECT_EQ(StatusOf(head), 200);
  EXPECT_NE(head.find("Content-Length: 6\r\n"), std::string::npos);
  EXPECT_EQ(BodyOf(socket.ReadResponse()), "hello a b!");
}

TEST(Server, RoutesByPathAndMethod) {
  TestServer server;
  const auto say = [](std::string text) {
    return [text](Request&, Responder& responder) -> asio::awaitable<void> {
      Response response;
      response.body = text;
      (void)co_await responder.Send(std::move(response));
    };
  };
  server->Route("GET", "/tree/*", say("tree"));
  server->Route("*", "/tree/deep/*", say("deep"));
  server->Route("GET", "/tree/leaf", say("leaf"));
  server.Start();
  RawSocket socket = server.Connect();
  const auto ask = [&](const std::string& line) {
    EXPECT_TRUE(socket.Send(line + " HTTP/1.1\r\nHost: x\r\n\r\n"));
    return socket.ReadResponse();
  };
  EXPECT_EQ(BodyOf(ask("GET /tree/a/b")), "tree");
  EXPECT_EQ(BodyOf(ask("PUT /tree/deep/x")), "deep");
  EXPECT_EQ(BodyOf(ask("GET /tree/leaf")), "leaf");
  EXPECT_EQ(StatusOf(ask("GET /tree")), 404);
  EXPECT_EQ(StatusOf(ask("GET /nowhere")), 404);
  const std::string refused = ask("DELETE /hello");
  EXPECT_EQ(StatusOf(refused), 405);
  EXPECT_NE(refused.find("\r\nAllow: GET, HEAD\r\n"), std::string::npos);
  EXPECT_EQ(StatusOf(ask("OPTIONS *")), 404);
}

TEST(Server, FilterFallbackAndErrorBody) {
  TestServer server;
  server->SetFilter([](Request& request, Responder& responder) -> std::optional<Response> {
    request.id = "id-" + std::string(request.headers.Get("x"));
    responder.AddToHead("x-filter", "seen");
    if (request.headers.Get("authorization") == "Bearer k") return std::nullopt;
    if (request.headers.Has("throw")) throw std::runtime_error("on purpose");
    return Response{.status = 401};
  });
  server->SetFallback([](Request& request, Responder& responder) -> asio::awaitable<void> {
    Response response;
    response.body = "fallback " + request.path;
    (void)co_await responder.Send(std::move(response));
  });
  server->SetErrorBody([](Request& request, int status, std::string_view message) {
    Response response;
    response.headers.Add("x-id", request.id);
    response.headers.Add("Content-Type", "application/json");
    response.body = fmt::format("{{\"code\":{},\"text\":\"{}\"}}", status, message);
    return response;
  });
  server.Start();
  RawSocket socket = server.Connect();
  ASSERT_TRUE(socket.Send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_EQ(StatusOf(socket.ReadResponse()), 401);
  ASSERT_TRUE(socket.Send("GET /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n"));
  EXPECT_EQ(BodyOf(socket.ReadResponse()), "fallback /x");
  ASSERT_TRUE(socket.Send("GET /x HTTP/1.1\r\n\r\n"));
  EXPECT_EQ(BodyOf(socket.ReadToEnd()),
            "{\"code\":400,\"text\":\"HTTP/1.1 request without Host\"}");
  // What the filter said about a request goes with whatever answer it gets.
  RawSocket large = server.Connect();
  ASSERT_TRUE(large.Send("POST /x HTTP/1.1\r\nHost: x\r\nx: 7\r\nAuthorization: Bearer k\r\nContent-Length: 99999999999\r\n\r\n"));
  const std::string refused = large.ReadToEnd();
  EXPECT_EQ(StatusOf(refused), 413);
  EXPECT_NE(refused.find("\r\nx-id: id-7\r\n"), std::string::npos) << refused;
  EXPECT_NE(refused.find("\r\nx-filter: seen\r\n"), std::string::npos) << refused;
  RawSocket thrown = server.Connect();
  ASSERT_TRUE(thrown.Send("GET /x HTTP/1.1\r\nHost: x\r\nthrow: 1\r\n\r\n"));
  EXPECT_EQ(StatusOf(thrown.ReadResponse()), 500);
}

TEST(Server, HandlerThatThrowsOrForgetsGetsA500) {
  TestServer server;
  server->Route("GET", "/throw", [](Request&, Responder&) -> asio::awaitable<void> {
    throw std::runtime_error("on purpose");
    co_return;
  });
  server->Route("GET", "/forget", [](Request&, Responder&) -> asio::awaitable<void> {
    co_await Sleep(1ms);
  });
  server.Start();
  for (const char* path : {"/throw", "/forget"}) {
    RawSocket socket = server.Connect();
    ASSERT_TRUE(socket.Send("GET " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n\r\n"));
    EXPECT_EQ(StatusOf(socket.ReadToEnd()), 500) << path;
  }
}

TEST(Server, ContinueIsSentOnlyWhenTheBodyWaits) {
  TestServer server;
  server.Start();
  RawSocket socket = server.Connect();
  const std::string head =
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\n";
  ASSERT_TRUE(socket.Send(head));
  EXPECT_EQ(socket.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  ASSERT_TRUE(socket.Send("abcd"));
  EXPECT_EQ(BodyOf(socket.ReadResponse()), "abcd");
  ASSERT_TRUE(socket.Send(head + "efgh"));
  const std::string response = socket.ReadResponse();
  EXPECT_EQ(StatusOf(response), 200);
  EXPECT_EQ(BodyOf(response), "efgh");
}

TEST(Server, ChunkedRequestSplitAtEveryByte) {
  TestServer server;
  server.Start();
  RawSocket socket = server.Connect();
  const std::string request =
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n00A;ext=1\r\ndefghijklm\r\n0\r\nTrailer: t\r\n\r\n";
  for (size_t split = 1; split < request.size(); ++split) {
    ASSERT_TRUE(socket.Send(request.substr(0, split)));
    std::this_thread::sleep_for(std::chrono::microseconds(500));
    ASSERT_TRUE(socket.Send(request.substr(split)));
    ASSERT_EQ(BodyOf(socket.ReadResponse()), "abcdefghijklm") << "split at " << split;
  }
}

TEST(Server, StreamsChunks) {
  TestServer server;
  server->Route("GET", "/stream", [](Request&, Responder& responder) -> asio::awaitable<void> {
    Headers headers;
    headers.Add("Content-Type", "text/event-stream");
    headers.Add("Transfer-Encoding", "gzip");       // not the handler's to say
    headers.Add("X-Evil", "a\r\nSet-Cookie: b");    // must not split the head
    EXPECT_FALSE(responder.started());
    EXPECT_TRUE((co_await responder.BeginStream(200, std::move(headers))).ok());
    EXPECT_TRUE(responder.started());
    EXPECT_TRUE((co_await responder.Write("")).ok());  // must not end the stream
    EXPECT_TRUE((co_await responder.Write("hello")).ok());
    co_await Sleep(1ms);
    EXPECT_TRUE((co_await responder.Write(std::string(300, 'x'))).ok());
    EXPECT_EQ((co_await responder.Send(Response())).code(), Code::kInternal);
    EXPECT_TRUE((co_await responder.EndStream()).ok());
    EXPECT_EQ((co_await responder.Write("late")).code(), Code::kInternal);
  });
  server.Start();
  RawSocket socket = server.Connect();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(socket.Send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"));
    const std::string all = socket.ReadUntil("0\r\n\r\n");
    EXPECT_EQ(BodyOf(all), "5\r\nhello\r\n12c\r\n" + std::string(300, 'x') + "\r\n0\r\n\r\n");
    EXPECT_NE(all.find("\r\nTransfer-Encoding: chunked\r\n"), std::string::npos);
    EXPECT_EQ(all.find("gzip"), std::string::npos);
    EXPECT_EQ(all.find("\r\nSet-Cookie"), std::string::npos);
  }
  ASSERT_TRUE(socket.Send("HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n" + std::string(kGetHello)));
  socket.ReadUntil("\r\n\r\n");
  EXPECT_EQ(BodyOf(socket.ReadResponse()), "hello a b!");

  RawSocket old = server.Connect();
  ASSERT_TRUE(old.Send("GET /stream HTTP/1.0\r\n\r\n"));
  const std::string all = old.ReadToEnd();
  EXPECT_EQ(BodyOf(all), "hello" + std::string(300, 'x'));
  EXPECT_EQ(all.find("chunked"), std::string::npos);
}

TEST(Server, StatusesWithoutBodySendNone) {
  TestServer server;
  server->Route("GET", "/none", [](Request&, Responder& responder) -> asio::awaitable<void> {
    Response response;
    response.status = 204;
    response.body = "must not be sent";
    (void)co_await responder.Send(std::move(response));
  });
  server.Start();
  RawSocket socket = server.Connect();
  ASSERT_TRUE(socket.Send("GET /none HTTP/1.1\r\nHost: x\r\n\r\n" + std::string(kGetHello)));
  const std::string head = socket.ReadUntil("\r\n\r\n");
  EXPECT_EQ(StatusOf(head), 204);
  EXPECT_EQ(head.find("Content-Length"), std::string::npos);
  EXPECT_EQ(StatusOf(socket.ReadResponse()), 200);
}

TEST(Server, AbortedStreamIsSeenAsTruncated) {
  TestServer server;
  server->Route("GET", "/broken", [](Request&, Responder& responder) -> asio::awaitable<void> {
    (void)co_await responder.BeginStream(200, {});
    (void)co_await responder.Write("part");
    responder.AbortStream();
    EXPECT_EQ((co_await responder.Write("more")).code(), Code::kCancelled);
  });
  server->Route("GET", "/left", [](Request&, Responder& responder) -> asio::awaitable<void> {
    (void)co_await responder.BeginStream(200, {});  // and returns without an end
  });
  server.Start();
  for (const char* path : {"/broken", "/left"}) {
    RawSocket socket = server.Connect();
    ASSERT_TRUE(socket.Send("GET " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n\r\n"));
    EXPECT_EQ(socket.ReadToEnd().find("0\r\n\r\n"), std::string::npos) << path;
    RawSocket old = server.Connect();
    ASSERT_TRUE(old.Send("GET " + std::string(path) + " HTTP/1.0\r\n\r\n"));
    EXPECT_TRUE(old.ReadToEnd().ends_with('!')) << path << ": HTTP/1.0 must see a reset";
  }
}

TEST(Server, StartNamesThePortInUse) {
  TestServer first;
  first.Start();
  ServerOptions options;
  options.port = first->port();
  Server second(first.loop().executor(), options);
  const Status status = second.Start();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_NE(status.message().find(std::to_string(options.port)), std::string::npos);
  EXPECT_NE(status.message().find("in use"), std::string::npos) << status.message();
}

TEST(Server, ListensOnIpv6AndNames) {
  for (const char* host : {"::1", "localhost"}) {
    ServerOptions options;
    options.host = host;
    TestServer server(options);
    server.Start();
    Client client(server.loop().executor(), {});
    auto result = server.loop().Run(client.Fetch(Origin{false, host, server->port()},
                                                 {"GET", "/hello", {}, ""}, Now() + kPatience));
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    EXPECT_EQ(result->body, "hello ");
  }
}

}  // namespace
}  // namespace baton::http::test
