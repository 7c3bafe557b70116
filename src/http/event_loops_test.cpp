// One event loop per thread: connections and what they cause stay where they are; and the calls that
// spare a coroutine per event, ReadEach and WriteNow.
#include "http/event_loops.h"

#include <atomic>
#include <map>
#include <set>

#include "http/chunk_decoder.h"
#include "http/test_support.h"

namespace baton::http::test {
namespace {

std::string ThreadName() { return fmt::format("{}", std::hash<std::thread::id>()(std::this_thread::get_id())); }

ClientRequest Get(std::string target) {
  ClientRequest request;
  request.target = std::move(target);
  return request;
}

Origin OriginOf(uint16_t port) { return {false, "127.0.0.1", port}; }

// A server on three loops; /front asks `back` through one shared Client.
class EventLoopsTest : public ::testing::Test {
 protected:
  explicit EventLoopsTest() {
    ServerOptions options;
    options.loops = loops_->executors();
    server_ = std::make_unique<Server>(loops_->main().get_executor(), options);
    server_->Route("GET", "/front", [this](Request&, Responder& responder) -> asio::awaitable<void> {
      Response response;
      response.body = ThreadName();
      ClientRequest request = Get("/peer");
      auto answer = co_await client_->Fetch(back_.origin(), std::move(request), Now() + kPatience);
      response.body += " " + ThreadName() + " " + (answer.ok() ? answer->body : answer.status().ToString());
      (void)co_await responder.Send(std::move(response));
    });
    server_->Route("GET", "/never", [this](Request&, Responder&) -> asio::awaitable<void> {
      ++waiting_;
      ClientRequest request = Get("/");
      Origin origin = OriginOf(silent_.port());
      (void)co_await client_->Fetch(std::move(origin), std::move(request), Now() + kPatience);
    });
    back_->Route("GET", "/peer", [](Request& request, Responder& responder) -> asio::awaitable<void> {
      Response response;
      response.body = request.peer;
      (void)co_await responder.Send(std::move(response));
    });
    back_.Start();
    EXPECT_TRUE(server_->Start().ok());
    thread_ = std::thread([this] { loops_->Run(); });
  }
  ~EventLoopsTest() override { End(); }

  void End() {
    if (!thread_.joinable()) return;
    server_->Stop();
    loops_->Stop();
    thread_.join();
    server_.reset();
    client_.reset();
    loops_.reset();
  }

  TestServer back_;
  RawListener silent_;
  std::unique_ptr<EventLoops> loops_ = std::make_unique<EventLoops>(3);
  std::shared_ptr<Client> client_ = std::make_shared<Client>(loops_->main().get_executor(), ClientOptions{});
  std::unique_ptr<Server> server_;
  std::atomic<int> waiting_{0};
  std::thread thread_;
};

TEST_F(EventLoopsTest, AConnectionAndItsRequestsStayOnOneLoop) {
  std::map<std::string, std::set<std::string>> connections;  // to `back`, by thread
  std::vector<RawSocket> sockets;
  for (int i = 0; i < 6; ++i) {
    sockets.push_back(RawSocket::Connect(server_->port()));
    std::string first;
    for (int k = 0; k < 3; ++k) {
      sockets.back().Send("GET /front HTTP/1.1\r\nHost: x\r\n\r\n");
      const std::string body = BodyOf(sockets.back().ReadResponse());
      const size_t space = body.find(' ');
      const std::string before = body.substr(0, space);
      EXPECT_TRUE(body.starts_with(before + " " + before + " 127.")) << body;
      connections[before].insert(body.substr(body.rfind(' ') + 1));
      if (first.empty()) first = before;
      EXPECT_EQ(before, first);
    }
  }
  EXPECT_EQ(connections.size(), 3u);
  // Requests come one after another, so each loop has used one connection of its own.
  std::set<std::string> all;
  for (const auto& [thread, peers] : connections) {
    EXPECT_EQ(peers.size(), 1u);
    all.insert(peers.begin(), peers.end());
  }
  EXPECT_EQ(all.size(), 3u);
}

TEST_F(EventLoopsTest, EndsWithRequestsUnderWayOnEveryLoop) {
  std::vector<RawSocket> sockets;
  for (int i = 0; i < 6; ++i) {
    sockets.push_back(RawSocket::Connect(server_->port()));
    sockets.back().Send("GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
  }
  EXPECT_TRUE(Eventually([this] { return waiting_ == 6; }));
  const std::weak_ptr<Client> client = client_;
  End();
  EXPECT_TRUE(client.expired());
}

TEST(SharedBody, FollowsTheRequestsOwn) {
  RawListener listener;
  Loop loop;
  Client client(loop.executor(), {});
  std::string seen;
  std::thread server([&] {
    RawSocket socket = listener.Accept();
    seen = socket.ReadUntil("cd\"}");
    socket.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  ClientRequest request = Get("/");
  request.method = "POST";
  request.body = "{\"room\":7,";
  request.shared = std::make_shared<const std::string>("{\"text\":\"abcd\"}");
  request.shared_begin = 1;
  const auto answer = loop.Run(client.Fetch(OriginOf(listener.port()), request, Now() + kPatience));
  server.join();
  ASSERT_TRUE(answer.ok()) << answer.status().ToString();
  EXPECT_NE(seen.find("Content-Length: 24\r\n"), std::string::npos) << seen;
  EXPECT_TRUE(seen.ends_with("\r\n\r\n{\"room\":7,\"text\":\"abcd\"}")) << seen;
}

// Reads a server's answer with ReadEach; the sink takes `want` pieces.
struct Reading {
  Status status;
  std::vector<std::string> pieces;
  bool ended = false;
  std::string rest;  // what Read gives after it
};

asio::awaitable<Reading> ReadPieces(Client& client, uint16_t port, size_t want, Duration idle) {
  Reading out;
  ClientRequest request = Get("/");
  Origin origin = OriginOf(port);
  auto stream = co_await client.Start(std::move(origin), std::move(request), Now() + kPatience);
  if (!stream.ok()) {
    out.status = stream.status();
    co_return out;
  }
  const ClientStream::Sink sink = [&](std::string_view piece) {
    out.pieces.emplace_back(piece);
    return out.pieces.size() < want;
  };
  out.status = co_await (*stream)->ReadEach(Now() + kPatience, idle, sink);
  out.ended = (*stream)->ended();
  if (!out.ended && out.status.ok()) {
    while (true) {
      auto piece = co_await (*stream)->Read(Now() + kPatience);
      if (!piece.ok() || piece->empty()) break;
      out.rest += *piece;
    }
  }
  co_return out;
}

constexpr std::string_view kChunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

Reading ReadFrom(const std::function<void(RawSocket&)>& answer, size_t want, Duration idle = kPatience) {
  RawListener listener;
  Loop loop(2);
  Client client(loop.executor(), {});
  std::thread server([&] {
    RawSocket socket = listener.Accept();
    socket.ReadUntil("\r\n\r\n");
    socket.Send(kChunkedHead);
    answer(socket);
  });
  Reading reading = loop.Run(ReadPieces(client, listener.port(), want, idle));
  server.join();
  return reading;
}

std::string Joined(const std::vector<std::string>& pieces) {
  std::string all;
  for (const std::string& piece : pieces) all += piece;
  return all;
}

TEST(ReadEach, GivesEveryPieceUntilTheEnd) {
  const Reading reading = ReadFrom(
      [](RawSocket& socket) {
        for (const char* bytes : {"3\r\na", "bc\r\n", "1\r\nd\r\n2\r\ne", "f\r\n", "0\r\n\r\n"}) {
          socket.Send(bytes);
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
      },
      1000);
  EXPECT_TRUE(reading.status.ok()) << reading.status.ToString();
  EXPECT_TRUE(reading.ended);
  EXPECT_EQ(Joined(reading.pieces), "abcdef");
  for (const std::string& piece : reading.pieces) EXPECT_FALSE(piece.empty());
}

TEST(ReadEach, StopsWhenTheSinkHasEnough) {
  const Reading reading = ReadFrom(
      [](RawSocket& socket) {
        socket.Send("1\r\na\r\n");
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        socket.Send("1\r\nb\r\n");
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        socket.Send("1\r\nc\r\n0\r\n\r\n");
      },
      1);
  EXPECT_TRUE(reading.status.ok()) << reading.status.ToString();
  EXPECT_EQ(Joined(reading.pieces) + reading.rest, "abc");
  EXPECT_EQ(reading.pieces.size(), 1u);
}

TEST(ReadEach, TellsATruncatedBodyAndSilence) {
  const Reading cut = ReadFrom([](RawSocket& socket) { socket.Send("1\r\na\r\n"); }, 1000);
  EXPECT_EQ(cut.status.code(), Code::kUnavailable);
  EXPECT_EQ(Joined(cut.pieces), "a");

  const Reading silent = ReadFrom(
      [](RawSocket& socket) {
        socket.Send("1\r\na\r\n");
        socket.ReadToEnd();  // until the client gives up
      },
      1000, std::chrono::milliseconds(50));
  EXPECT_EQ(silent.status.code(), Code::kDeadlineExceeded);

  const Reading corrupt = ReadFrom([](RawSocket& socket) { socket.Send("1\r\na\r\nx"); }, 1000);
  EXPECT_EQ(corrupt.status.code(), Code::kDataCorrupt);
}

TEST(WriteNow, KeepsWhatDoesNotFitForSettle) {
  TestServer server;
  std::atomic<bool> blocked{false};
  std::string sent;
  server->Route("GET", "/flood", [&](Request&, Responder& responder) -> asio::awaitable<void> {
    EXPECT_FALSE(responder.WriteNow("too early"));
    (void)co_await responder.BeginStream(200, {});
    for (int i = 0; i < 4000; ++i) {
      const std::string piece = fmt::format("{:05}", i) + std::string(4000, 'x');
      sent += piece;
      if (responder.WriteNow(piece)) continue;
      blocked = true;
      const Status settled = co_await responder.Settle();
      EXPECT_TRUE(settled.ok()) << settled.ToString();
    }
    (void)co_await responder.EndStream();
  });
  server.Start();
  RawSocket socket = RawSocket::Connect(server->port(), 8192);
  socket.Send("GET /flood HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(Eventually([&] { return blocked.load(); }));
  ChunkDecoder decoder(UINT64_MAX);
  std::string body;
  decoder.Decode(BodyOf(socket.ReadToEnd()), &body);
  EXPECT_TRUE(decoder.done());
  EXPECT_EQ(body, sent);
}

}  // namespace
}  // namespace baton::http::test
