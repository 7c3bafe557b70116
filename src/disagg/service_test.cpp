// Both services against each other: who is taken for dead, who for alive, and who is told what.
#include <future>

#include <poll.h>

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "disagg/pair_for_tests.h"
#include "http/no_descriptors.h"

namespace baton::disagg::test {
namespace {

using http::test::Eventually;

bool IsReadable(int fd) {
  pollfd look{fd, POLLIN, 0};
  return ::poll(&look, 1, 0) == 1;
}

class ServiceTest : public testing::Test {
 protected:
  std::shared_ptr<transfer::LoopbackNetwork> network_ = transfer::LoopbackNetwork::Create();
  int64_t room_ = 0;
};

TEST_F(ServiceTest, TwoDecodesOfOneNameLiveSideBySide) {
  PrefillSide prefill(PrefillOf(MakeLink(network_, "prefill")));
  DecodeSide one(DecodeOf(MakeLink(network_, "decode pod:30000"))), two(DecodeOf(MakeLink(network_, "decode pod:30000")));
  ASSERT_TRUE(Pairing(one, prefill.At(1)).Wait().ok());
  ASSERT_TRUE(Pairing(two, prefill.At(1)).Wait().ok());
  const TimePoint end = Now() + 500ms;  // ten heartbeats
  for (int64_t room = 1; Now() < end; ++room) {
    ASSERT_TRUE(Serves(prefill, room % 2 ? one : two, room)) << room;
    ASSERT_EQ(prefill->transfer_usage().peers, 2u);
  }
}

// A write that is under way to the dead one ends with it: nobody waits for the fabric's time-out.
TEST_F(ServiceTest, ADeadDecodeIsKnownAtOnceAndItsSuccessorServes) {
  LinkOptions link = MakeLink(network_, "prefill");
  link.fabric.peer_timeout = 60s;
  PrefillSide prefill(PrefillOf(link));
  auto decode = std::make_unique<DecodeSide>(DecodeOf(MakeLink(network_, "decode pod:30000")));
  ASSERT_TRUE(Serves(prefill, *decode, 1));
  network_->SetPaused(decode->address(), true);
  const auto first = Ask(prefill, prefill.At(2), engine::Prompt(40, 2));
  const auto rest = Ask(*decode, prefill.At(2), engine::Prompt(40, 2));
  ASSERT_TRUE(Eventually([&] { return prefill->transfer_usage().sends_live == 1; }));

  const TimePoint killed = Now();
  decode->Kill(*network_);
  ASSERT_TRUE(first->Wait(5s));
  EXPECT_EQ(first->finish, engine::Finish::kFailed);
  EXPECT_EQ(first->last.guilty, "decode");
  EXPECT_TRUE(Eventually([&] { return prefill->transfer_usage().peers == 0; }));
  EXPECT_LT(Now() - killed, 8s) << "after 10 s without heartbeats it is forgotten in any case";
  EXPECT_EQ(prefill->transfer_usage().sends_live, 0u);

  DecodeSide successor(DecodeOf(MakeLink(network_, "decode pod:30000")));
  EXPECT_TRUE(Serves(prefill, successor, 3));
  EXPECT_EQ(prefill->transfer_usage().peers, 1u);
}

TEST_F(ServiceTest, ADeadPrefillIsKnownWithoutAHeartbeat) {
  LinkOptions link = MakeLink(network_, "decode");
  link.heartbeat_interval = 60s;
  link.fabric.peer_timeout = 60s;
  DecodeSide decode(DecodeOf(link));
  auto prefill = std::make_unique<PrefillSide>(PrefillOf(MakeLink(network_, "prefill")));
  ASSERT_TRUE(Pairing(decode, prefill->At(1)).Wait().ok());
  prefill->Kill(*network_);
  EXPECT_TRUE(Eventually([&] { return decode->transfer_usage().peers == 0; }));
}

TEST_F(ServiceTest, ARefusedPairingIsToldToBothHalves) {
  PrefillSide prefill(PrefillOf(MakeLink(network_, "prefill")));
  LinkOptions other = MakeLink(network_, "decode");
  other.model = "another";
  DecodeSide decode(DecodeOf(other));
  // The prefill half before and behind the refusal; the default time for the other half is 30 s.
  for (const bool prefill_first : {true, false}) {
    const int64_t room = prefill_first ? 1 : 2;
    std::shared_ptr<engine::Recorder> first;
    if (prefill_first) first = Ask(prefill, prefill.At(room), engine::Prompt(9));
    const auto rest = Ask(decode, prefill.At(room), engine::Prompt(9));
    ASSERT_TRUE(rest->Wait(15s));
    if (!prefill_first) first = Ask(prefill, prefill.At(room), engine::Prompt(9));
    ASSERT_TRUE(first->Wait(15s));
    for (const auto& half : {first, rest}) {
      EXPECT_EQ(half->finish, engine::Finish::kFailed);
      EXPECT_EQ(half->last.status.code(), Code::kUnavailable) << "not the client's mistake";
      EXPECT_EQ(half->last.guilty, "none") << "each may fit others";
      EXPECT_NE(half->last.status.message().find("--model-path"), std::string::npos) << half->last.status.message();
    }
  }
}

TEST_F(ServiceTest, AnAbsentPrefillIsToldAndBlamed) {
  DecodeSide decode(DecodeOf(MakeLink(network_, "decode")));
  uint16_t port = http::test::RawListener().port();  // closed by now
  const auto rest = Ask(decode, {"127.0.0.1", port, 1}, engine::Prompt(9));
  ASSERT_TRUE(rest->Wait(15s));
  EXPECT_EQ(rest->last.guilty, "prefill");
  engine::ExpectAllReturned(decode.engine());
}

// No pages on decode: the prefill half hears of it, too.
TEST_F(ServiceTest, AFailureBeforeTheGrantIsToldToPrefill) {
  PrefillSide prefill(PrefillOf(MakeLink(network_, "prefill")));
  LinkOptions link = MakeLink(network_, "decode");
  link.bootstrap_timeout = 300ms;
  DecodeSide decode(DecodeOf(link));
  ASSERT_TRUE(Pairing(decode, prefill.At(1)).Wait().ok());
  std::promise<engine::KvReservation> reserved;
  auto most = engine::GreedyRequest(decode.engine(), engine::Prompt(200), 4, std::make_shared<engine::Recorder>());
  ASSERT_TRUE(decode.engine().ReserveKv(std::move(most), Now() + 15s, [&](Result<engine::KvReservation> pages) {
    if (pages.ok()) reserved.set_value(*std::move(pages));
  }).ok());
  const engine::KvReservation held = reserved.get_future().get();

  const auto first = Ask(prefill, prefill.At(1), engine::Prompt(200, 5));
  const auto rest = Ask(decode, prefill.At(1), engine::Prompt(200, 5));
  ASSERT_TRUE(first->Wait(15s));
  ASSERT_TRUE(rest->Wait(15s));
  EXPECT_EQ(first->last.guilty, "none");
  EXPECT_EQ(rest->last.guilty, "none");
}

// Routers charge a side that calls itself guilty, so nobody may put words in its mouth.
TEST_F(ServiceTest, PrefillDoesNotConfessWhatDecodeAccusesItOf) {
  PrefillSide prefill(PrefillOf(MakeLink(network_, "prefill")));
  for (const auto& [accused, told] : {std::pair("prefill", "none"), std::pair("decode", "decode"), std::pair("none", "none")}) {
    const auto first = Ask(prefill, prefill.At(++room_), engine::Prompt(9));
    const std::string body = Encode(Cancel{7, room_, accused, Error(Code::kCancelled, "a reason")});
    http::test::RawSocket socket = http::test::RawSocket::Connect(prefill->bootstrap_port());
    ASSERT_TRUE(socket.Send(fmt::format("POST /baton/v1/cancel HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.size()) + body));
    EXPECT_EQ(http::test::StatusOf(socket.ReadResponse()), 200);
    ASSERT_TRUE(first->Wait(15s));
    EXPECT_EQ(first->last.guilty, told) << accused;
    EXPECT_EQ(first->finish, engine::Finish::kFailed) << "no client of prefill's cancelled it";
    EXPECT_NE(first->last.status.message().find("a reason"), std::string::npos);
  }
}

// The control port of a prefill server, over a fabric that works or swallows everything. Whoever registers
// is answered, and that answer ends at once, as if the server died then.
class FakePrefill {
 public:
  FakePrefill(const std::shared_ptr<transfer::LoopbackNetwork>& network, engine::Engine& decode, bool silent) {
    transfer::Options options;
    options.provider = transfer::ProviderKind::kLoopback;
    options.loopback = network;
    options.self_test = false;
    auto fabric = transfer::Engine::Open(options, [](const transfer::Event&) {});
    EXPECT_TRUE(fabric.ok());
    fabric_ = *std::move(fabric);
    EXPECT_TRUE(fabric_->Register(decode.kv_memory()).ok());
    network->SetPaused(fabric_->report().rails.at(0), silent);
    info_ = {.instance = 1, .pairing = 1, .name = "fake", .model = "fake", .layout = decode.kv_layout()};
    Route("/baton/v1/heartbeat", [this] {
      ByteWriter writer;
      writer.Put(info_.instance);
      return std::move(writer).bytes();
    });
    Route("/baton/v1/register", [this] {
      ++registrations;
      return EncodeHello(Introduce());
    });
    EXPECT_TRUE(server_.Start().ok());
  }
  ~FakePrefill() { server_.Stop(); }

  // Another instance, at another address of this host; nobody is at the former one any more.
  api::Bootstrap Restart() {
    const uint64_t n = ++info_.instance;
    const std::string host = fmt::format("127.1.{}.{}", n / 200, n % 200 + 1);
    const std::lock_guard lock(mutex_);
    host_ = fmt::format("{}:{}", host, server_.port());
    return {host, server_.port(), 1};
  }
  PeerInfo Introduce() const {
    PeerInfo info = info_;
    info.fabric = fabric_->Describe();
    return info;
  }
  std::atomic<int> registrations{0};

 private:
  void Route(const char* path, std::function<std::string()> answer) {
    server_.Route("POST", path, [this, answer](http::Request& request, http::Responder& responder) {
      const std::lock_guard lock(mutex_);
      http::Response response;
      response.status = request.headers.Get("Host") == host_ ? 200 : 503;
      if (response.status == 200) response.body = answer();
      return Send(responder, std::move(response));
    });
  }
  static asio::awaitable<void> Send(http::Responder& responder, http::Response response) {
    (void)co_await responder.Send(std::move(response));
  }

  std::unique_ptr<transfer::Engine> fabric_;
  std::mutex mutex_;
  std::string host_;
  PeerInfo info_;
  http::test::Loop loop_;
  http::Server server_{loop_.executor(), {.host = "0.0.0.0"}};
};

TEST_F(ServiceTest, APrefillThatCannotBeReachedKeepsNoOtherWaiting) {
  PrefillSide prefill(PrefillOf(MakeLink(network_, "prefill")));
  DecodeSide decode(DecodeOf(MakeLink(network_, "decode")));
  FakePrefill silent(network_, decode.engine(), true);
  const Pairing with_silent(decode, silent.Restart());
  ASSERT_TRUE(Eventually([&] { return silent.registrations == 1; }));
  EXPECT_TRUE(Pairing(decode, prefill.At(1)).Wait().ok());
  EXPECT_FALSE(with_silent.over());
  EXPECT_EQ(with_silent.Wait().code(), Code::kUnavailable);
}

TEST_F(ServiceTest, ADecodeThatCannotBeReachedKeepsNoOtherWaiting) {
  PrefillSide prefill(PrefillOf(MakeLink(network_, "prefill")));
  DecodeSide decode(DecodeOf(MakeLink(network_, "decode")));
  FakePrefill silent(network_, decode.engine(), true);  // its description will do for a decode server's
  http::test::RawSocket socket = http::test::RawSocket::Connect(prefill->bootstrap_port());
  const std::string body = Encode(silent.Introduce());
  ASSERT_TRUE(socket.Send(fmt::format("POST /baton/v1/register HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.size()) + body));
  ASSERT_TRUE(Eventually([&] { return prefill->transfer_usage().peers == 1; }));  // joining
  EXPECT_TRUE(Pairing(decode, prefill.At(1)).Wait().ok());
  EXPECT_FALSE(IsReadable(socket.fd())) << "the silent one must still be waited for";
  EXPECT_EQ(http::test::StatusOf(socket.ReadResponse()), 504);
}

// For want of a descriptor no connection is made for it. The pairing holds, and with it whatever else is
// under way; only prefill's death would end that.
TEST_F(ServiceTest, AGrantThatDidNotGoOutFailsAlone) {
  if (http::test::kNeedsDescriptors) GTEST_SKIP() << "the sanitizer needs descriptors";
  LinkOptions link = MakeLink(network_, "prefill");
  link.fabric.peer_timeout = 60s;
  link.heartbeat_interval = 60s;  // whose connection could carry the grant
  PrefillSide prefill(PrefillOf(link));
  link.name = "decode";
  DecodeSide decode(DecodeOf(link));
  ASSERT_TRUE(Pairing(decode, prefill.At(1)).Wait().ok());
  network_->SetPaused(decode.address(), true);
  const auto prompt = engine::Prompt(21, 1);
  const auto first = Ask(prefill, prefill.At(1), prompt);
  const auto rest = Ask(decode, prefill.At(1), prompt);
  ASSERT_TRUE(Eventually([&] { return prefill->transfer_usage().sends_live == 1; }));

  {
    const http::test::NoDescriptors none;
    const auto alone = Ask(decode, prefill.At(2), engine::Prompt(9));
    ASSERT_TRUE(alone->Wait(15s));
    EXPECT_EQ(alone->finish, engine::Finish::kFailed);
    EXPECT_NE(alone->last.status.message().find("sending the grant"), std::string::npos) << alone->last.status.message();
    EXPECT_EQ(alone->last.guilty, "none") << "it is decode that lacks a descriptor";
  }
  EXPECT_TRUE(Eventually([&] { return decode->transfer_usage().slots_held == 1; }));
  EXPECT_EQ(decode->counts().quarantined, 0) << "nothing was granted, so nothing can be written";
  EXPECT_EQ(prefill->transfer_usage().sends_live, 1u);

  network_->SetPaused(decode.address(), false);
  ASSERT_TRUE(rest->Wait(15s) && first->Wait(15s));
  EXPECT_EQ(rest->tokens, engine::ExpectedTokens(engine::GreedyRequest(decode.engine(), prompt, 4, nullptr)))
      << rest->last.status.message();
  EXPECT_TRUE(Serves(prefill, decode, 3));
  EXPECT_EQ(prefill->transfer_usage().peers, 1u);
}

// Losing a peer takes back every description that no peer has claimed yet, also of those just pairing.
TEST_F(ServiceTest, PairingGoesOnWhileOthersAreLost) {
  DecodeSide decode(DecodeOf(MakeLink(network_, "decode")));
  std::unique_ptr<PrefillSide> former;
  for (int i = 0; i < 100; ++i) {
    auto next = std::make_unique<PrefillSide>(PrefillOf(MakeLink(network_, "prefill")));
    const Pairing pairing(decode, next->At(1));
    former.reset();
    const TimePoint begin = Now();
    const Status paired = pairing.Wait();
    ASSERT_TRUE(paired.ok()) << i << ": " << paired.ToString();
    ASSERT_LT(Now() - begin, 4s) << i;
    former = std::move(next);
  }
}

// Each restart is another instance at another address. What is known of the old ones goes.
TEST_F(ServiceTest, AThousandRestartsLeaveNothingBehind) {
  LinkOptions link = MakeLink(network_, "decode");
  link.come_back_time = 1ms;
  DecodeSide decode(DecodeOf(link));
  FakePrefill fake(network_, decode.engine(), false);
  for (int i = 0; i < 1000; ++i) {
    const Status paired = Pairing(decode, fake.Restart()).Wait();
    ASSERT_TRUE(paired.ok()) << i << ": " << paired.ToString();
  }
  EXPECT_EQ(fake.registrations, 1000);
  (void)fake.Restart();  // the last one is gone as well
  PrefillSide prefill(PrefillOf(MakeLink(network_, "prefill")));
  // Those that are looked for once more go when that was in vain, and a new one comes.
  EXPECT_TRUE(Eventually([&] {
    EXPECT_TRUE(Serves(prefill, decode, ++room_));
    EXPECT_FALSE(Pairing(decode, {"127.0.0.1", 1, 1}).Wait().ok());
    return decode->counts().prefills <= 2;
  }));
  EXPECT_EQ(decode->transfer_usage().peers, 1u);
}

// The same for addresses where nobody ever answered.
TEST_F(ServiceTest, AddressesWithoutAPrefillAreForgotten) {
  DecodeSide decode(DecodeOf(MakeLink(network_, "decode")));
  for (int i = 0; i < 100; ++i) {
    ASSERT_FALSE(Pairing(decode, {"127.0.0." + std::to_string(i + 1), 1, 1}).Wait().ok());
  }
  EXPECT_LE(decode->counts().prefills, 2);
}

}  // namespace
}  // namespace baton::disagg::test
