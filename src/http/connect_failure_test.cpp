// What the client says when no connection comes about: about the peer, the way to it, or this machine. Real
// sockets; what needs another network than the machine's is skipped where none may be made.
#include <fstream>

#include <net/if.h>
#include <net/route.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "http/connect_failure.h"
#include "http/no_descriptors.h"
#include "http/test_support.h"

namespace baton::http::test {
namespace {

uint16_t FreePort() { return RawListener().port(); }

Status FetchFrom(Loop& loop, Client& client, const Origin& origin, Duration time = kPatience) {
  return loop.Run(client.Fetch(origin, {"GET", "/", {}, ""}, Now() + time)).status();
}

class ConnectFailureTest : public ::testing::Test {
 protected:
  Status Fetch(const Origin& origin, Duration time = kPatience) { return FetchFrom(loop_, client_, origin, time); }
  Loop loop_;
  Client client_{loop_.executor(), {}};
};

TEST_F(ConnectFailureTest, NobodyListensIsARefusal) {
  const uint16_t port = FreePort();
  for (const Origin& origin : {Origin{false, "127.0.0.1", port}, Origin{true, "127.0.0.1", port}, Origin{false, "localhost", port}}) {
    const Status status = Fetch(origin);
    EXPECT_EQ(status.code(), Code::kRefused) << status.ToString();
    EXPECT_NE(status.message().find(origin.ToString()), std::string::npos) << status.message();
  }
}

TEST_F(ConnectFailureTest, UnknownNamesAreUnreachable) {
  const Status status = Fetch({false, "no-such-host.invalid", 80});
  EXPECT_EQ(status.code(), Code::kUnreachable) << status.ToString();
}

TEST_F(ConnectFailureTest, SilenceIsUnreachable) {
  RawListener full(0);
  const auto fillers = full.FillBacklog(0);
  const Origin origin{false, "127.0.0.1", full.port()};
  Client client(loop_.executor(), {.connect_timeout = 100ms});
  EXPECT_EQ(FetchFrom(loop_, client, origin).code(), Code::kUnreachable);
  EXPECT_EQ(FetchFrom(loop_, client, origin, 50ms).code(), Code::kDeadlineExceeded) << "the caller's time, not the peer's";
}

TEST_F(ConnectFailureTest, APeerThatSpeaksNoTlsIsUnreachable) {
  RawListener listener;
  std::thread server([&] { listener.Accept().Send("HTTP/1.1 400 Bad Request\r\n\r\n"); });
  EXPECT_EQ(Fetch({true, "127.0.0.1", listener.port()}).code(), Code::kUnreachable);
  server.join();
}

// The request was on a connection when the process went away: that is what the caller must hear.
TEST_F(ConnectFailureTest, AConnectionThatBrokeUnderARequestIsNoRefusal) {
  auto listener = std::make_unique<RawListener>();
  const Origin origin{false, "127.0.0.1", listener->port()};
  std::thread server([&] {
    RawSocket socket = listener->Accept();
    socket.ReadUntil("\r\n\r\n");
    socket.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    socket.ReadUntil("\r\n\r\n");
    listener.reset();
    socket.Reset();
  });
  EXPECT_TRUE(Fetch(origin).ok());
  EXPECT_EQ(Fetch(origin).code(), Code::kUnavailable);
  server.join();
  EXPECT_EQ(Fetch(origin).code(), Code::kRefused);
}

TEST_F(ConnectFailureTest, OnSendTellsThatTheRequestGoesOut) {
  int sent = 0;
  const auto fetch = [&](uint16_t port) {
    ClientRequest request;
    request.on_send = [&] { ++sent; };
    return loop_.Run(client_.Fetch({false, "127.0.0.1", port}, std::move(request), Now() + kPatience)).status();
  };
  EXPECT_EQ(fetch(FreePort()).code(), Code::kRefused);
  EXPECT_EQ(sent, 0);
  RawListener listener;
  std::thread server([&] { listener.Accept().ReadUntil("\r\n\r\n"); });
  EXPECT_EQ(fetch(listener.port()).code(), Code::kUnavailable);
  EXPECT_EQ(sent, 1);
  server.join();
}

TEST_F(ConnectFailureTest, NoDescriptorIsThisMachinesLack) {
  if (kNeedsDescriptors) GTEST_SKIP() << "not under sanitizers";
  RawListener listener;
  const Origin peer{false, "127.0.0.1", listener.port()};
  (void)Fetch({false, "localhost", FreePort()});  // whatever is opened once
  {
    const NoDescriptors none;
    for (const Origin& origin : {peer, Origin{false, "127.0.0.1", 1}, Origin{false, "localhost", listener.port()}}) {
      const Status status = Fetch(origin);
      EXPECT_EQ(status.code(), Code::kResourceExhausted) << status.ToString();
      EXPECT_NE(status.message().find("ulimit -n"), std::string::npos) << status.message();
      EXPECT_NE(status.message().find(origin.ToString()), std::string::npos) << status.message();
    }
  }
  std::thread server([&] {
    RawSocket socket = listener.Accept();
    socket.ReadUntil("\r\n\r\n");
    socket.Send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  EXPECT_TRUE(Fetch(peer).ok());
  server.join();
}

// Runs `body` on a thread in a network that has nothing but a loopback device.
bool InOwnNetwork(const std::function<void()>& body) {
  bool allowed = false;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) != 0) return;
    const RawSocket socket(::socket(AF_INET, SOCK_DGRAM, 0));
    ifreq device{};
    std::snprintf(device.ifr_name, sizeof device.ifr_name, "lo");
    device.ifr_flags = IFF_UP;
    allowed = ::ioctl(socket.fd(), SIOCSIFFLAGS, &device) == 0;
    if (allowed) body();
  }).join();
  return allowed;
}

// On this thread, and so in its network.
Status FetchHere(const Origin& origin) {
  asio::io_context context;
  Client client(context.get_executor(), {});
  Status status;
  asio::co_spawn(
      context,
      [](Client& from, Origin at, Status* out) -> asio::awaitable<void> {
        ClientRequest request;
        const auto answer = co_await from.Fetch(std::move(at), std::move(request), Now() + kPatience);
        *out = answer.status();
        from.CloseIdle();
      }(client, origin, &status),
      [](std::exception_ptr error) { EXPECT_FALSE(error); });
  context.run();
  return status;
}

bool WriteTo(const char* file, const char* text) { return static_cast<bool>(std::ofstream(file) << text << std::flush); }

TEST(ConnectFailureNetworkTest, NoWayToTheHostIsUnreachable) {
  const bool allowed = InOwnNetwork([] {
    EXPECT_EQ(FetchHere({false, "10.9.9.9", 80}).code(), Code::kUnreachable);  // ENETUNREACH
    rtentry route{};
    auto* to = reinterpret_cast<sockaddr_in*>(&route.rt_dst);
    to->sin_family = AF_INET;
    to->sin_addr.s_addr = ::inet_addr("10.9.9.9");
    route.rt_flags = RTF_UP | RTF_HOST | RTF_REJECT;
    const RawSocket socket(::socket(AF_INET, SOCK_DGRAM, 0));
    ASSERT_EQ(::ioctl(socket.fd(), SIOCADDRT, &route), 0);
    const Status status = FetchHere({false, "10.9.9.9", 80});
    EXPECT_EQ(status.code(), Code::kUnreachable) << status.ToString();
    EXPECT_NE(status.message().find("No route to host"), std::string::npos) << status.message();
  });
  if (!allowed) GTEST_SKIP() << "making a network namespace is not allowed here";
}

TEST(ConnectFailureNetworkTest, NoPortIsThisMachinesLackNoAddressIsNot) {
  bool settable = false;
  const bool allowed = InOwnNetwork([&] {
    RawListener listener;
    settable = WriteTo("/proc/sys/net/ipv4/ip_local_port_range", "40000 40001") &&
               WriteTo("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1");
    if (!settable) return;
    const Origin peer{false, "127.0.0.1", listener.port()};
    const RawSocket one = RawSocket::Connect(listener.port()), two = RawSocket::Connect(listener.port());
    ASSERT_TRUE(one.open() && two.open());
    const Status status = FetchHere(peer);
    EXPECT_EQ(status.code(), Code::kResourceExhausted) << status.ToString();
    EXPECT_NE(status.message().find("net.ipv4.ip_local_port_range"), std::string::npos) << status.message();
    EXPECT_EQ(FetchHere({false, "::1", listener.port()}).code(), Code::kUnreachable);
  });
  if (!allowed || !settable) GTEST_SKIP() << "making a network namespace and setting it up is not allowed here";
}

// A name may have several addresses, and the process behind it any of them.
TEST(ConnectFailureTextTest, OfSeveralAddressesTheLeastProofCounts) {
  const Status refused(Code::kRefused, ""), unreachable(Code::kUnreachable, ""), lack(Code::kResourceExhausted, "");
  EXPECT_EQ(LesserProof(Status::Ok(), refused).code(), Code::kRefused);
  EXPECT_EQ(LesserProof(refused, refused).code(), Code::kRefused);
  for (const auto& [strong, weak] : {std::pair(refused, unreachable), {refused, lack}, {unreachable, lack}}) {
    EXPECT_EQ(LesserProof(strong, weak).code(), weak.code());
    EXPECT_EQ(LesserProof(weak, strong).code(), weak.code());
  }
}

TEST(ConnectFailureTextTest, EachLackNamesItsWayOut) {
  const Origin origin{false, "h", 80};
  const std::pair<int, const char*> lacks[] = {{EMFILE, "ulimit -n"}, {ENFILE, "fs.file-max"},
      {EADDRNOTAVAIL, "ip_local_port_range"}, {ENOSPC, "max_user_watches"}, {ENOBUFS, "memory"}, {ENOMEM, "memory"}};
  for (const auto& [error, words] : lacks) {
    const Status status = ShortageOf(origin, error);
    EXPECT_EQ(status.code(), Code::kResourceExhausted) << error;
    EXPECT_NE(status.message().find(words), std::string::npos) << status.message();
  }
  for (const int error : {0, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, EACCES, ECONNRESET}) {
    EXPECT_TRUE(ShortageOf(origin, error).ok()) << error;
  }
}

}  // namespace
}  // namespace baton::http::test
