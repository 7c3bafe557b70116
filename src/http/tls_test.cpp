// TLS of the client and the server against each other and against OpenSSL used by hand.
#include <random>

#include <boost/asio/steady_timer.hpp>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "http/chunk_decoder.h"
#include "http/test_certificates.h"
#include "http/test_support.h"

namespace baton::http::test {
namespace {

// OpenSSL by hand over a blocking socket: the foreign client.
class RawTls {
 public:
  struct Terms {
    std::string cert_file, key_file;
    int max_version = TLS1_3_VERSION;
    const unsigned char* alpn = nullptr;
    unsigned alpn_bytes = 0;
  };
  explicit RawTls(RawSocket socket, const Terms& terms) : socket_(std::move(socket)) {
    context_ = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context_, terms.max_version);
    if (!terms.cert_file.empty()) {
      SSL_CTX_use_certificate_chain_file(context_, terms.cert_file.c_str());
      SSL_CTX_use_PrivateKey_file(context_, terms.key_file.c_str(), SSL_FILETYPE_PEM);
    }
    ssl_ = SSL_new(context_);
    if (terms.alpn) SSL_set_alpn_protos(ssl_, terms.alpn, terms.alpn_bytes);
    SSL_set_fd(ssl_, socket_.fd());
    connected_ = SSL_connect(ssl_) == 1;
  }
  explicit RawTls(RawSocket socket) : RawTls(std::move(socket), Terms()) {}
  ~RawTls() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
    ERR_clear_error();
  }
  bool connected() const { return connected_; }
  SSL* ssl() { return ssl_; }
  RawSocket& socket() { return socket_; }
  bool Send(std::string_view bytes) {
    return SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())) > 0;
  }
  // Until `text` has come, or with "" until the end: "." is added for a clean end, "!" for another.
  std::string ReadUntil(std::string_view text) {
    std::string all;
    char piece[4096];
    while (text.empty() || all.find(text) == std::string::npos) {
      const int n = SSL_read(ssl_, piece, sizeof piece);
      if (n <= 0) return all + (SSL_get_error(ssl_, n) == SSL_ERROR_ZERO_RETURN ? "." : "!");
      all.append(piece, static_cast<size_t>(n));
    }
    return all;
  }

 private:
  RawSocket socket_;
  SSL_CTX* context_ = nullptr;
  SSL* ssl_ = nullptr;
  bool connected_ = false;
};

class TlsTest : public ::testing::Test {
 protected:
  ServerOptions Options() {
    ServerOptions options;
    options.tls.cert_file = files_.Certificate("server.crt", server_id_);
    options.tls.key_file = files_.Key("server.key", server_id_);
    options.tls.reload_interval = std::chrono::milliseconds(20);
    return options;
  }
  ClientOptions Trusting(const std::string& ca_file) {
    ClientOptions options;
    options.tls.ca_files = {ca_file};
    options.handshake_timeout = kPatience;  // a busy machine is no failure
    return options;
  }
  ClientOptions Trusting() { return Trusting(files_.Certificate("ca.crt", ca_)); }
  Origin OriginOf(TestServer& server, std::string host = "127.0.0.1") {
    return {true, std::move(host), server->port()};
  }
  Result<Response> Fetch(Client& client, Origin origin, ClientRequest request = {"GET", "/hello?name=x", {}, ""},
                         Duration time = kPatience) {
    return loop_.Run(client.Fetch(std::move(origin), std::move(request), Now() + time));
  }
  // What a client with `options` is told by a server with `identity`.
  std::string Refusal(const Identity& identity, ClientOptions options, std::string host = "127.0.0.1") {
    ServerOptions server_options = Options();
    server_options.tls.cert_file = files_.Certificate("other.crt", identity);
    server_options.tls.key_file = files_.Key("other.key", identity);
    TestServer server(server_options);
    server.Start();
    Client client(loop_.executor(), std::move(options));
    const auto answer = Fetch(client, OriginOf(server, std::move(host)));
    client.CloseIdle();
    if (answer.ok()) return "accepted";
    EXPECT_EQ(answer.status().code(), Code::kUnreachable);
    return answer.status().message();
  }

  Files files_;
  Identity ca_ = MakeIdentity({.name = "test authority", .hosts = ""});
  Identity server_id_ = MakeIdentity({}, &ca_);
  Loop loop_{2};
};

TEST_F(TlsTest, FetchesByAddressAndByName) {
  TestServer server(Options());
  server.Start();
  Client client(loop_.executor(), Trusting());
  for (const char* host : {"127.0.0.1", "localhost"}) {
    const auto answer = Fetch(client, OriginOf(server, host));
    ASSERT_TRUE(answer.ok()) << answer.status().ToString();
    EXPECT_EQ(answer->body, "hello x");
  }
}

TEST_F(TlsTest, LargeBodiesBothWays) {
  TestServer server(Options());
  server.Start();
  Client client(loop_.executor(), Trusting());
  std::string body(9'000'001, '\0');
  std::mt19937 random(7);
  for (char& c : body) c = static_cast<char>(random());
  const auto answer = Fetch(client, OriginOf(server), {"POST", "/echo", {}, body});
  ASSERT_TRUE(answer.ok()) << answer.status().ToString();
  EXPECT_TRUE(answer->body == body);
}

TEST_F(TlsTest, ConnectionsAreUsedAgain) {
  TestServer server(Options());
  server.Start();
  Client client(loop_.executor(), Trusting());
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Fetch(client, OriginOf(server)).ok());
    EXPECT_EQ(server->Connections(), 1u);
  }
}

TEST_F(TlsTest, CertificatesThatAreRefused) {
  const Identity stranger = MakeIdentity({.name = "another authority", .hosts = ""});
  EXPECT_EQ(Refusal(MakeIdentity({}, &ca_), Trusting()), "accepted");
  EXPECT_NE(Refusal(MakeIdentity({}, &stranger), Trusting()).find("unknown authority"), std::string::npos);
  EXPECT_NE(Refusal(MakeIdentity({}), Trusting()).find("unknown authority"), std::string::npos);
  EXPECT_NE(Refusal(MakeIdentity({.hosts = "DNS:a.example,IP:10.1.2.3"}, &ca_), Trusting())
                .find("another host (a.example, 10.1.2.3)"), std::string::npos);
  EXPECT_NE(Refusal(MakeIdentity({.hosts = "IP:127.0.0.1"}, &ca_), Trusting(), "localhost").find("another host"),
            std::string::npos);
  EXPECT_NE(Refusal(MakeIdentity({.begins_s = -7200, .ends_s = -3600}, &ca_), Trusting()).find("expired on 2"),
            std::string::npos);
  EXPECT_NE(Refusal(MakeIdentity({.begins_s = 3600, .ends_s = 7200}, &ca_), Trusting()).find("valid only from 2"),
            std::string::npos);
  ClientOptions system_store = Trusting();
  system_store.tls.ca_files.clear();
  EXPECT_NE(Refusal(MakeIdentity({}, &ca_), system_store).find("unknown authority"), std::string::npos);
  ClientOptions renamed = Trusting();
  renamed.tls.server_name = "a.example";
  EXPECT_EQ(Refusal(MakeIdentity({.hosts = "DNS:a.example"}, &ca_), renamed), "accepted");
  // A certificate that is trusted itself needs no authority.
  const Identity self = MakeIdentity({});
  EXPECT_EQ(Refusal(self, Trusting(files_.Certificate("self.crt", self))), "accepted");
}

TEST_F(TlsTest, UnusableFilesAreNamed) {
  const auto why = [](const ServerTlsOptions& options) { return CheckTls(options).message(); };
  ServerTlsOptions good = Options().tls;
  EXPECT_EQ(why(good), "");
  ServerTlsOptions o = good;
  o.cert_file = files_.Path("none.crt");
  EXPECT_NE(why(o).find("none.crt: No such file"), std::string::npos) << why(o);
  o = good;
  o.cert_file = files_.Write("text.crt", "hello\n");
  EXPECT_NE(why(o).find("text.crt: the file holds none in PEM form"), std::string::npos) << why(o);
  o = good;
  o.cert_file = files_.Write("cut.crt", "-----BEGIN CERTIFICATE-----\nMIIB\n");
  EXPECT_NE(why(o).find("cut.crt: "), std::string::npos) << why(o);
  o = good;
  o.key_file = files_.Key("other.key", ca_);
  EXPECT_NE(why(o).find("does not belong to the certificate"), std::string::npos) << why(o);
  o = good;
  o.key_file.clear();
  EXPECT_NE(why(o).find("go together"), std::string::npos) << why(o);
  o = good;
  o.key_file = files_.Key("locked.key", server_id_, "secret");
  EXPECT_NE(why(o).find("locked.key: "), std::string::npos) << why(o);
  o.key_password = "secret";
  EXPECT_EQ(why(o), "");
  o = good;
  o.client_ca_files = {files_.Path("")};
  EXPECT_NE(why(o).find("a folder"), std::string::npos) << why(o);
  TlsOptions client;
  client.ca_files = {files_.Write("empty.crt", "")};
  EXPECT_NE(CheckTls(client).message().find("empty.crt"), std::string::npos);
  // A client tells when it needs them.
  ClientOptions options;
  options.tls = client;
  Client caller(loop_.executor(), options);
  TestServer server(Options());
  server.Start();
  const auto answer = Fetch(caller, OriginOf(server));
  EXPECT_EQ(answer.status().code(), Code::kInvalidArgument);
  EXPECT_NE(answer.status().message().find("empty.crt"), std::string::npos);
}

TEST_F(TlsTest, ClientsShowCertificates) {
  ServerOptions options = Options();
  options.tls.client_ca_files = {files_.Certificate("ca.crt", ca_)};
  TestServer server(options);
  server.Start();
  const Identity mine = MakeIdentity({.name = "client", .hosts = "DNS:client"}, &ca_);
  const Identity stranger = MakeIdentity({.name = "stranger", .hosts = "DNS:client"});
  ClientOptions with = Trusting();
  with.tls.cert_file = files_.Certificate("mine.crt", mine);
  with.tls.key_file = files_.Key("mine.key", mine);
  Client good(loop_.executor(), with);
  for (int i = 0; i < 3; ++i) {
    const auto answer = Fetch(good, OriginOf(server));
    ASSERT_TRUE(answer.ok()) << answer.status().ToString();
    good.CloseIdle();  // so that sessions are resumed as well
  }
  Client without(loop_.executor(), Trusting());
  const auto none = Fetch(without, OriginOf(server));
  EXPECT_EQ(none.status().code(), Code::kUnavailable);
  EXPECT_NE(none.status().message().find("wants a client certificate"), std::string::npos) << none.status().message();
  with.tls.cert_file = files_.Certificate("stranger.crt", stranger);
  with.tls.key_file = files_.Key("stranger.key", stranger);
  Client wrong(loop_.executor(), with);
  const auto refused = Fetch(wrong, OriginOf(server));
  EXPECT_NE(refused.status().message().find("unknown ca"), std::string::npos) << refused.status().message();
  // TLS 1.2 refuses within the handshake.
  RawTls old(server.Connect(), {.max_version = TLS1_2_VERSION});
  EXPECT_FALSE(old.connected());
}

TEST_F(TlsTest, RenewedCertificatesAreUsed) {
  TestServer server(Options());
  server.Start();
  RawTls before(server.Connect());
  ASSERT_TRUE(before.connected());
  const auto subject = [&] {
    RawTls client(server.Connect());
    X509* shown = SSL_get0_peer_certificate(client.ssl());
    return shown ? X509_NAME_oneline(X509_get_subject_name(shown), nullptr, 0) : nullptr;
  };
  const auto shows = [&](std::string_view name) {
    return Eventually([&] {
      char* text = subject();
      const bool same = text && std::string_view(text) == name;
      OPENSSL_free(text);
      return same;
    });
  };
  EXPECT_TRUE(shows("/CN=baton test"));
  // A key that does not match yet: what there was stays.
  const Identity renewed = MakeIdentity({.name = "renewed"}, &ca_);
  files_.Certificate("server.crt", renewed);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(shows("/CN=baton test"));
  files_.Key("server.key", renewed);
  EXPECT_TRUE(shows("/CN=renewed"));
  // The old connection never noticed.
  ASSERT_TRUE(before.Send("GET /hello?name=y HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_NE(before.ReadUntil("hello y").find("200 OK"), std::string::npos);
}

TEST_F(TlsTest, PlainHttpIsTold) {
  TestServer server(Options());
  server.Start();
  RawSocket plain = server.Connect();
  plain.Send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
  const std::string answer = plain.ReadToEnd();
  EXPECT_EQ(StatusOf(answer), 400);
  EXPECT_NE(answer.find("use https://"), std::string::npos);
  // And the other way round.
  TestServer without;
  without.Start();
  Client client(loop_.executor(), Trusting());
  const auto refused = Fetch(client, OriginOf(without));
  EXPECT_NE(refused.status().message().find("does not speak TLS"), std::string::npos) << refused.status().message();
}

TEST_F(TlsTest, ProtocolsAndRenegotiation) {
  TestServer server(Options());
  server.Start();
  RawTls older(server.Connect(), {.max_version = TLS1_1_VERSION});
  EXPECT_FALSE(older.connected());
  constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  RawTls http2(server.Connect(), {.alpn = kHttp2, .alpn_bytes = sizeof kHttp2});
  EXPECT_FALSE(http2.connected());
  constexpr unsigned char kBoth[] = {2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  RawTls both(server.Connect(), {.alpn = kBoth, .alpn_bytes = sizeof kBoth});
  ASSERT_TRUE(both.connected());
  const unsigned char* chosen = nullptr;
  unsigned bytes = 0;
  SSL_get0_alpn_selected(both.ssl(), &chosen, &bytes);
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(chosen), bytes), "http/1.1");

  RawTls twelve(server.Connect(), {.max_version = TLS1_2_VERSION});
  ASSERT_TRUE(twelve.connected());
  SSL_renegotiate(twelve.ssl());
  EXPECT_NE(SSL_do_handshake(twelve.ssl()), 1);
}

TEST_F(TlsTest, SlowHandshakesEnd) {
  ServerOptions options = Options();
  options.tls.handshake_timeout = std::chrono::milliseconds(100);
  TestServer server(options);
  server.Start();
  RawSocket silent = server.Connect();
  EXPECT_EQ(silent.ReadToEnd(), "");
  RawSocket slow = server.Connect();
  slow.Send("\x16\x03\x01\x02");
  EXPECT_EQ(slow.ReadToEnd().find("HTTP"), std::string::npos);
  // A server that accepts and says nothing.
  RawListener listener;
  ClientOptions patient = Trusting();
  patient.handshake_timeout = std::chrono::milliseconds(100);
  Client client(loop_.executor(), patient);
  const auto late = Fetch(client, {true, "127.0.0.1", listener.port()});
  EXPECT_EQ(late.status().code(), Code::kUnreachable);
  EXPECT_NE(late.status().message().find("handshake took longer than 100 ms"), std::string::npos);
  const auto deadline = Fetch(client, {true, "127.0.0.1", listener.port()}, {}, std::chrono::milliseconds(50));
  EXPECT_EQ(deadline.status().code(), Code::kDeadlineExceeded);
}

// A route that streams `pieces` and says when its client goes.
struct StreamRoute {
  std::atomic<int> started{0}, gone{0};
  void Install(Server& server, int pieces, bool wait_forever) {
    server.Route("GET", "/stream", [this, pieces, wait_forever](Request&, Responder& responder) -> asio::awaitable<void> {
      asio::steady_timer timer(co_await asio::this_coro::executor);
      timer.expires_after(kPatience);
      responder.OnDisconnect([this, &timer] {
        ++gone;
        timer.cancel();
      });
      (void)co_await responder.BeginStream(200, {});
      ++started;
      for (int i = 0; i < pieces; ++i) {
        if (!(co_await responder.Write(fmt::format("piece {};", i))).ok()) co_return;
        co_await Sleep(std::chrono::milliseconds(1));
      }
      if (wait_forever) {
        boost::system::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        responder.AbortStream();
        co_return;
      }
      responder.OnDisconnect(nullptr);
      (void)co_await responder.EndStream();
    });
  }
};

TEST_F(TlsTest, StreamsFlushAndDisconnectsAreSeen) {
  TestServer server(Options());
  StreamRoute route;
  route.Install(*server, 1, true);
  server.Start();
  {
    RawTls client(server.Connect());
    client.Send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_NE(client.ReadUntil("piece 0;").find("200 OK"), std::string::npos);  // flushed, though more is to come
    SSL_shutdown(client.ssl());  // half-closed counts as gone, as on plain connections
    EXPECT_TRUE(Eventually([&] { return route.gone == 1; }));
  }
  {
    RawTls client(server.Connect());
    client.Send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    client.ReadUntil("piece 0;");
    client.socket().Reset();
    EXPECT_TRUE(Eventually([&] { return route.gone == 2; }));
  }
}

TEST_F(TlsTest, ManyStreamsAtOnce) {
  TestServer server(Options(), 2);
  StreamRoute route;
  route.Install(*server, 20, false);
  server.Start();
  Client client(loop_.executor(), Trusting());
  std::string expected;
  for (int i = 0; i < 20; ++i) expected += fmt::format("piece {};", i);
  constexpr int kStreams = 100;
  std::atomic<int> done{0}, good{0};
  for (int i = 0; i < kStreams; ++i) {
    asio::co_spawn(asio::make_strand(loop_.executor()),
                   [&]() -> asio::awaitable<void> {
                     Origin origin = OriginOf(server);
                     ClientRequest request{"GET", "/stream", {}, ""};
                     const auto answer = co_await client.Fetch(std::move(origin), std::move(request), Now() + kPatience);
                     if (answer.ok() && answer->body == expected) ++good;
                     ++done;
                   },
                   [](std::exception_ptr error) { EXPECT_FALSE(error); });
  }
  EXPECT_TRUE(Eventually([&] { return done == kStreams; }));
  EXPECT_EQ(good, kStreams);
}

TEST_F(TlsTest, WriteNowKeepsWhatDoesNotFitForSettle) {
  TestServer server(Options());
  std::atomic<int> at_once{0};
  std::atomic<bool> blocked{false};
  std::string sent;
  server->Route("GET", "/flood", [&](Request&, Responder& responder) -> asio::awaitable<void> {
    (void)co_await responder.BeginStream(200, {});
    for (int i = 0; i < 400; ++i) {
      // Of one record, of a few, of more than leave in one write.
      const std::string piece = fmt::format("{:05}", i) + std::string(i % 3 == 0 ? 300 : i % 3 == 1 ? 40'000 : 150'000, 'x');
      sent += piece;
      if (responder.WriteNow(piece)) {
        ++at_once;
        continue;
      }
      blocked = true;
      const Status settled = co_await responder.Settle();
      EXPECT_TRUE(settled.ok()) << settled.ToString();
    }
    (void)co_await responder.EndStream();
  });
  server.Start();
  RawTls client(RawSocket::Connect(server->port(), 8192));
  client.Send("GET /flood HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(Eventually([&] { return blocked.load(); }));
  ChunkDecoder decoder(UINT64_MAX);
  std::string body;
  decoder.Decode(BodyOf(client.ReadUntil("")), &body);
  EXPECT_TRUE(decoder.done());
  EXPECT_TRUE(body == sent);
  EXPECT_GT(at_once, 0);
}

TEST_F(TlsTest, CleanEndsAreTold) {
  TestServer server(Options());
  server.Start();
  RawTls client(server.Connect());
  client.Send("GET /hello?name=z HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  const std::string answer = client.ReadUntil("");
  EXPECT_NE(answer.find("hello z."), std::string::npos) << answer;
}

// A server played by hand: answers one request per connection with `answer`, then ends, with or
// without TLS's word for it.
class HandServer {
 public:
  HandServer(const Files& files, const Identity& identity, int max_version = TLS1_3_VERSION)
      : context_(SSL_CTX_new(TLS_server_method())) {
    SSL_CTX_set_max_proto_version(context_, max_version);
    SSL_CTX_use_certificate_chain_file(context_, files.Certificate("hand.crt", identity).c_str());
    SSL_CTX_use_PrivateKey_file(context_, files.Key("hand.key", identity).c_str(), SSL_FILETYPE_PEM);
  }
  ~HandServer() { SSL_CTX_free(context_); }
  Origin origin() const { return {true, "127.0.0.1", listener_.port()}; }
  // In one segment with the closing word; the socket stays open until `done`.
  void AnswerAtOnce(std::string_view answer, const std::function<bool()>& done) {
    RawSocket socket = listener_.Accept();
    SSL* ssl = Accept(socket);
    const int on = 1, off = 0;
    ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    EXPECT_GT(SSL_write(ssl, answer.data(), static_cast<int>(answer.size())), 0);
    SSL_shutdown(ssl);
    ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_CORK, &off, sizeof off);
    (void)Eventually(done);
    SSL_free(ssl);
    ERR_clear_error();
  }
  // Whether the connection resumed an earlier one's session.
  bool Answer(std::string_view answer, bool clean) {
    RawSocket socket = listener_.Accept();
    SSL* ssl = Accept(socket);
    EXPECT_GT(SSL_write(ssl, answer.data(), static_cast<int>(answer.size())), 0);
    const bool resumed = SSL_session_reused(ssl) == 1;
    if (clean) SSL_shutdown(ssl);
    SSL_free(ssl);
    socket.ShutdownSend();
    socket.ReadToEnd();
    ERR_clear_error();
    return resumed;
  }

 private:
  // A connection that has sent its request.
  SSL* Accept(RawSocket& socket) {
    SSL* ssl = SSL_new(context_);
    SSL_set_fd(ssl, socket.fd());
    EXPECT_EQ(SSL_accept(ssl), 1);
    char request[1024];
    EXPECT_GT(SSL_read(ssl, request, sizeof request), 0);
    return ssl;
  }

  RawListener listener_;
  SSL_CTX* context_;
};

TEST_F(TlsTest, SessionsAreResumed) {
  for (const int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    HandServer hand(files_, server_id_, version);
    Client client(loop_.executor(), Trusting());
    for (const bool again : {false, true, true}) {
      bool resumed = false;
      std::thread server([&] { resumed = hand.Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", true); });
      const auto answer = Fetch(client, hand.origin());
      server.join();
      ASSERT_TRUE(answer.ok()) << answer.status().ToString();
      EXPECT_EQ(resumed, again) << version;
    }
  }
}

TEST_F(TlsTest, TruncationIsNoEnd) {
  HandServer hand(files_, server_id_);
  Client client(loop_.executor(), Trusting());
  for (const bool clean : {true, false}) {
    std::thread server([&] { hand.Answer("HTTP/1.1 200 OK\r\n\r\nhalf", clean); });
    const auto answer = Fetch(client, hand.origin());
    server.join();
    EXPECT_EQ(answer.ok(), clean) << answer.status().ToString();
    EXPECT_EQ(answer.status().code(), clean ? Code::kOk : Code::kUnavailable);
  }
}

// The closing word comes with the last bytes, and the socket stays open and silent.
TEST_F(TlsTest, TheClosingWordEndsABody) {
  HandServer hand(files_, server_id_);
  Client client(loop_.executor(), Trusting());
  std::atomic<bool> done{false};
  std::thread server([&] { hand.AnswerAtOnce("HTTP/1.1 200 OK\r\n\r\nwhole", [&] { return done.load(); }); });
  const auto answer = Fetch(client, hand.origin());
  EXPECT_EQ(answer.ok() ? answer->body : answer.status().ToString(), "whole");
  done = true;
  server.join();
}

// A go-between that cuts the server's bytes at a random place, in the handshake, a record's header,
// its middle. Nothing may hang, crash or look complete.
TEST_F(TlsTest, CutAnywhere) {
  TestServer server(Options());
  server.Start();
  Client client(loop_.executor(), Trusting());
  std::mt19937 random(11);
  int complete = 0;
  for (int round = 0; round < 60; ++round) {
    client.CloseIdle();
    RawListener between;
    std::thread proxy([&, limit = static_cast<size_t>(random() % 6000)] {
      RawSocket near = between.Accept();
      RawSocket far = server.Connect();
      size_t passed = 0;
      char bytes[2048];
      while (true) {
        pollfd wait[2] = {{near.fd(), POLLIN, 0}, {far.fd(), POLLIN, 0}};
        if (::poll(wait, 2, 20'000) <= 0) return;
        if (wait[0].revents) {
          const ssize_t n = ::recv(near.fd(), bytes, sizeof bytes, 0);
          if (n <= 0) return;
          far.Send({bytes, static_cast<size_t>(n)});
        }
        if (wait[1].revents) {
          const ssize_t n = ::recv(far.fd(), bytes, sizeof bytes, 0);
          if (n <= 0) return;
          const size_t take = std::min<size_t>(static_cast<size_t>(n), limit - passed);
          near.Send({bytes, take});
          passed += take;
          if (passed == limit) return;
        }
      }
    });
    const std::string body(3000, 'x');
    const auto answer = Fetch(client, {true, "127.0.0.1", between.port()}, {"POST", "/echo", {}, body});
    if (answer.ok()) {
      ++complete;
      EXPECT_EQ(answer->body, body);
    } else {
      const Code code = answer.status().code();
      EXPECT_TRUE(code == Code::kUnreachable || code == Code::kUnavailable) << answer.status().ToString();
    }
    client.CloseIdle();
    proxy.join();
  }
  EXPECT_GT(complete, 0);
  EXPECT_LT(complete, 60);
}

}  // namespace
}  // namespace baton::http::test
