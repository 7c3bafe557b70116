#include "transfer/libfabric/sockets.h"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "transfer/libfabric/libfabric.h"

namespace baton::transfer {
namespace {

std::string Address(const char* host, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, host, &address.sin_addr);
  return {reinterpret_cast<const char*>(&address), sizeof address};
}

class Socket {
 public:
  Socket() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const { return fd_; }
  void Bind(const char* host) {
    const std::string any = Address(host, 0);
    ASSERT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(any.data()), any.size()), 0);
    ASSERT_EQ(listen(fd_, 4), 0);
  }
  void Connect(const std::string& to) {
    ASSERT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(to.data()), to.size()), 0);
  }
  std::string Name() const {
    sockaddr_in name{};
    socklen_t length = sizeof name;
    getsockname(fd_, reinterpret_cast<sockaddr*>(&name), &length);
    return {reinterpret_cast<const char*>(&name), sizeof name};
  }
  bool SetControl(const std::string& name) {
    return setsockopt(fd_, IPPROTO_TCP, TCP_CONGESTION, name.data(), name.size()) == 0;
  }
  std::string control() const {
    char name[16] = "";
    socklen_t length = sizeof name;
    getsockopt(fd_, IPPROTO_TCP, TCP_CONGESTION, name, &length);
    return name;
  }

 private:
  const int fd_;
};

TEST(Sockets, OneMachineIsOneAddressOrTheLoopbackNet) {
  EXPECT_TRUE(OnOneMachine(Address("10.0.0.1", 5), Address("10.0.0.1", 6)));
  EXPECT_TRUE(OnOneMachine(Address("127.0.0.1", 5), Address("127.0.0.2", 5)));
  EXPECT_FALSE(OnOneMachine(Address("10.0.0.1", 5), Address("10.0.0.2", 5)));
  EXPECT_FALSE(OnOneMachine(Address("127.0.0.1", 5), Address("10.0.0.2", 5)));
  EXPECT_FALSE(OnOneMachine(Address("10.0.0.1", 5), "10.0.0.1"));
  EXPECT_FALSE(OnOneMachine("", ""));
}

TEST(Sockets, OnlyBbrBetweenTheTwoIsReplaced) {
  Socket listener, stranger;
  listener.Bind("127.0.0.1");
  stranger.Bind("127.0.0.1");
  if (!listener.SetControl("bbr") || !stranger.SetControl("bbr"))
    GTEST_SKIP() << "this kernel has no BBR, or does not let us use it";
  Socket made, kept, elsewhere;
  for (Socket* const socket : {&made, &elsewhere}) ASSERT_TRUE(socket->SetControl("bbr"));
  ASSERT_TRUE(kept.SetControl("reno"));
  made.Connect(listener.Name());
  kept.Connect(listener.Name());
  elsewhere.Connect(stranger.Name());
  const Socket accepted(accept(listener.fd(), nullptr, nullptr));
  ASSERT_EQ(accepted.control(), "bbr");  // what it listens on is what it accepts with

  EXPECT_EQ(UnpaceLocalSockets("not an address", {}), 0);
  EXPECT_EQ(UnpaceLocalSockets(Address("127.0.0.1", 9), listener.Name()), 1);
  EXPECT_EQ(made.control(), "reno");
  EXPECT_EQ(accepted.control(), "bbr");
  EXPECT_EQ(UnpaceLocalSockets(listener.Name(), {}), 2);  // itself, and what it accepted
  EXPECT_EQ(accepted.control(), "reno");
  EXPECT_EQ(listener.control(), "reno");
  EXPECT_EQ(elsewhere.control(), "bbr");
  EXPECT_EQ(stranger.control(), "bbr");
}

TEST(Sockets, ASocketAtHandIsReplacedOnce) {
  Socket listener, made;
  listener.Bind("127.0.0.1");
  if (!made.SetControl("bbr")) GTEST_SKIP() << "this kernel has no BBR, or does not let us use it";
  EXPECT_FALSE(UnpaceLocalSocket(made.fd()));  // not connected: nobody knows to where
  made.Connect(listener.Name());
  EXPECT_TRUE(UnpaceLocalSocket(made.fd()));
  EXPECT_FALSE(UnpaceLocalSocket(made.fd()));
  EXPECT_EQ(made.control(), "reno");
}

// What others reach from outside keeps what the system chose.
TEST(Sockets, AListenerThatOthersReachIsLeftAlone) {
  Socket listener;
  listener.Bind("0.0.0.0");
  if (!listener.SetControl("bbr")) GTEST_SKIP() << "this kernel has no BBR, or does not let us use it";
  EXPECT_EQ(UnpaceLocalSockets(listener.Name(), {}), 0);
  EXPECT_EQ(listener.control(), "bbr");
}

TEST(Sockets, AConnectedFabricLeavesNothingToChange) {
  std::string control;
  std::ifstream("/proc/sys/net/ipv4/tcp_congestion_control") >> control;
  if (control != "bbr") GTEST_SKIP() << "the sockets of this system use " << control << ", which is left alone";
  Options options;
  options.provider = ProviderKind::kTcp;
  options.host = "127.0.0.1";
  auto writer = *OpenLibfabric(options), target = *OpenLibfabric(options);
  std::vector<std::byte> source(4096), sink(4096);
  const uint32_t from = *writer->Register({source.data(), source.size()});
  const MemoryKey key = *target->Expose(*target->Register({sink.data(), sink.size()}));
  const uint64_t peer = *writer->Insert(target->Address());
  OpContext context;
  bool posted = false, done = false;
  for (const TimePoint deadline = Now() + 20s; !done && Now() < deadline;) {
    Status why;
    if (!posted)
      posted = writer->Write({.peer = peer, .local_region = from, .bytes = 4096, .remote_address = key.base,
                              .remote_key = key.key, .imm = 1, .context = &context},
                             Now(), why) == PostResult::kPosted;
    Completion some[4];
    target->Poll(Now(), some);
    done = writer->Poll(Now(), some) > 0;
  }
  ASSERT_TRUE(done);
  EXPECT_EQ(UnpaceLocalSockets(writer->Address(), target->Address()), 0);
  EXPECT_EQ(UnpaceLocalSockets(target->Address(), writer->Address()), 0);
}

}  // namespace
}  // namespace baton::transfer
