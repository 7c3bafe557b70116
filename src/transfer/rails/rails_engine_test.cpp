// Whole engines over several tcp rails of this machine: addresses of the loopback interface.
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "common/log.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/remote_engine_for_tests.h"
#include "transfer/transfer.h"

namespace baton::transfer {
namespace {

constexpr uint64_t kBytes = 8 << 20;

struct Side {
  EventLog log;
  std::vector<std::byte> memory = std::vector<std::byte>(kBytes);
  std::unique_ptr<Engine> engine;

  explicit Side(std::vector<std::string> rails) {
    Options options;
    options.provider = ProviderKind::kTcp;
    options.rails = std::move(rails);
    auto opened = Engine::Open(options, log.Sink());
    EXPECT_TRUE(opened.ok()) << opened.status().ToString();
    if (!opened.ok()) return;
    engine = *std::move(opened);
    EXPECT_TRUE(engine->Register({memory.data(), memory.size()}).ok());
  }
};

std::vector<transfer::Run> Pages(uint64_t bytes) {
  std::vector<transfer::Run> runs;
  for (uint64_t at = 0; at < kBytes; at += bytes) runs.push_back({at, at, bytes});
  return runs;
}

TEST(RailsEngine, TwoRailsMoveBytesBothWaysAndExportWhatTheyDid) {
  Side a({"127.0.0.2", "127.0.0.3"}), b({"127.0.0.2", "127.0.0.3"});
  ASSERT_TRUE(a.engine && b.engine);
  EXPECT_EQ(a.engine->report().rails, (std::vector<std::string>{"127.0.0.2", "127.0.0.3"}));
  EXPECT_GT(a.engine->report().self_test_gb_per_s, 0);
  metrics::Registry registry;
  a.engine->ExportMetrics(registry);
  const PeerId to_b = *a.engine->Connect(b.engine->Describe(), Now() + 10s);
  const PeerId to_a = *b.engine->Connect(a.engine->Describe(), Now() + 10s);
  for (uint64_t page : {4096, 65536, 1 << 20}) {
    for (uint64_t i = 0; i < kBytes; ++i) a.memory[i] = static_cast<std::byte>((i + page) * 2654435761u >> 13);
    const Slot slot = *b.engine->Expect(to_a, Now() + 20s);
    const SendId send = *a.engine->Begin(to_b, slot, {0}, {0}, Now() + 20s);
    const Result<uint32_t> writes = a.engine->Push(send, Pages(page));
    ASSERT_TRUE(writes.ok()) << writes.status().ToString();
    a.engine->Finish(send);
    b.engine->Seal(slot, *writes);
    const auto received = b.log.WaitSlot(slot, 20s);
    ASSERT_TRUE(received);
    EXPECT_EQ(received->kind, Event::Kind::kReceiveDone) << received->status.ToString();
    const auto sent = a.log.WaitSend(send, 20s);
    ASSERT_TRUE(sent);
    EXPECT_EQ(sent->kind, Event::Kind::kSendDone) << sent->status.ToString();
    EXPECT_EQ(a.memory, b.memory);
    b.engine->Release(slot);
  }
  const std::string text = registry.Render();
  for (const char* rail : {"127.0.0.2", "127.0.0.3"})
    for (const char* name : {"bytes_total", "writes_total", "gb_per_second", "paths_open"}) {
      const std::string series =
          fmt::format("baton_transfer_rail_{}{{provider=\"tcp;ofi_rxm\",rail=\"{}\"}} ", name, rail);
      const size_t at = text.find(series);
      ASSERT_NE(at, text.npos) << series << text;
      EXPECT_GT(std::atof(text.c_str() + at + series.size()), 0) << series;
    }
}

// The seat of a peer in the metrics has a name while somebody sits there.
TEST(RailsEngine, MetricsNameThePeer) {
  Side a({"127.0.0.2", "127.0.0.3"}), b({"127.0.0.2", "127.0.0.3"}), c({"127.0.0.4"});
  ASSERT_TRUE(a.engine && b.engine && c.engine);
  metrics::Registry registry;
  a.engine->ExportMetrics(registry);
  const auto named = [&](std::string_view address) {
    const std::string text = registry.Render();
    const size_t at = text.find("baton_transfer_peer_info{provider=\"tcp;ofi_rxm\",peer=\"0\",peer_address=\"" + std::string(address));
    return at != text.npos && text.substr(at, text.find('\n', at) - at).ends_with("\"} 1");
  };
  for (Side* other : {&b, &c, &b}) {
    const PeerId peer = *a.engine->Connect(other->engine->Describe(), Now() + 10s);
    const std::string_view own = other == &b ? "127.0.0.2:" : "127.0.0.4:", not_own = other == &b ? "127.0.0.4:" : "127.0.0.2:";
    EXPECT_TRUE(named(own)) << registry.Render();
    EXPECT_FALSE(named(not_own)) << registry.Render();
    a.engine->Disconnect(peer);
    ASSERT_TRUE(a.log.WaitPeer(Event::Kind::kFenced, peer, 10s));
    for (int i = 0; i < 200 && a.engine->usage().peers; ++i) std::this_thread::sleep_for(10ms);
    EXPECT_EQ(registry.Render().find("baton_transfer_peer_info{"), std::string::npos) << registry.Render();
    a.log.Clear();
  }
}

TEST(RailsEngine, UnequalNumbersOfRailsReachEachOther) {
  Side one({"127.0.0.2"}), three({"127.0.0.3", "127.0.0.4", "127.0.0.5"});
  ASSERT_TRUE(one.engine && three.engine);
  const PeerId to_three = *one.engine->Connect(three.engine->Describe(), Now() + 10s);
  const PeerId to_one = *three.engine->Connect(one.engine->Describe(), Now() + 10s);
  for (const bool forth : {true, false}) {
    Side &from = forth ? one : three, &to = forth ? three : one;
    std::fill(from.memory.begin(), from.memory.end(), forth ? std::byte{11} : std::byte{22});
    const Slot slot = *to.engine->Expect(forth ? to_one : to_three, Now() + 20s);
    const SendId send = *from.engine->Begin(forth ? to_three : to_one, slot, {0}, {0}, Now() + 20s);
    const uint32_t writes = *from.engine->Push(send, Pages(65536));
    from.engine->Finish(send);
    to.engine->Seal(slot, writes);
    const auto received = to.log.WaitSlot(slot, 20s);
    ASSERT_TRUE(received);
    EXPECT_EQ(received->kind, Event::Kind::kReceiveDone) << received->status.ToString();
    EXPECT_EQ(from.memory, to.memory);
    to.engine->Release(slot);
    ASSERT_TRUE(from.log.WaitSend(send, 20s));
  }
}

TEST(RailsEngine, ARailThatCannotBeOpenedIsLeftOut) {
  Side side({"203.0.113.77", "127.0.0.2", "no-such-card"});  // the first is for documentation
  ASSERT_TRUE(side.engine);
  EXPECT_EQ(side.engine->report().rails, std::vector<std::string>{"127.0.0.2"});
}

TEST(RailsEngine, WrongNamesAreRefusedWithTheCause) {
  const auto open = [](ProviderKind provider, std::vector<std::string> rails) {
    Options options;
    options.provider = provider;
    options.rails = std::move(rails);
    return Engine::Open(options, [](const Event&) {}).status();
  };
  EXPECT_NE(open(ProviderKind::kTcp, {"no-such-card"}).message().find("\"no-such-card\""), std::string::npos);
  EXPECT_NE(open(ProviderKind::kTcp, {"lo", "127.0.0.2", "lo"}).message().find("twice"), std::string::npos);
  EXPECT_EQ(open(ProviderKind::kTcp, std::vector<std::string>(17, "lo")).code(), Code::kInvalidArgument);
  EXPECT_EQ(open(ProviderKind::kShm, {"lo"}).code(), Code::kInvalidArgument);
}

TEST(RailsEngine, RailsAndNoRailsDoNotMeet) {
  Side with({"127.0.0.2"}), without({});
  ASSERT_TRUE(with.engine && without.engine);
  for (const bool turned : {true, false}) {
    Side &from = turned ? without : with, &to = turned ? with : without;
    const Result<PeerId> peer = from.engine->Connect(to.engine->Describe(), Now() + 5s);
    ASSERT_FALSE(peer.ok());
    EXPECT_EQ(peer.status().code(), Code::kUnsupported);
    EXPECT_NE(peer.status().message().find("--transfer-rails"), std::string::npos);
  }
}

// Both rails of a dead process are lost at once, so the peer is.
TEST(RailsEngine, AKilledProcessIsLostAtOnceAndABackOneIsWelcome) {
  const std::vector<std::string> rails = {"127.0.0.2", "127.0.0.3"};
  Side here(rails);
  ASSERT_TRUE(here.engine);
  for (int life = 0; life < 3; ++life) {
    RemoteEngine there(ProviderKind::kTcp, kBytes, 7, false, std::chrono::milliseconds(1500), {}, -1, std::nullopt, rails);
    ASSERT_TRUE(there.status().ok()) << there.status().ToString();
    const Result<PeerId> peer = here.engine->Connect(there.Describe(), Now() + 10s);
    ASSERT_TRUE(peer.ok()) << peer.status().ToString();
    ASSERT_TRUE(there.Connect(here.engine->Describe()));
    const Slot slot = *here.engine->Expect(*peer, Now() + 20s);
    const uint32_t writes = there.Send(slot, Pages(65536), false);
    ASSERT_GT(writes, 0u);
    here.engine->Seal(slot, writes);
    const auto received = here.log.WaitSlot(slot, 20s);
    ASSERT_TRUE(received);
    EXPECT_EQ(received->kind, Event::Kind::kReceiveDone) << received->status.ToString();
    for (uint64_t i = 0; i < kBytes; i += 511)
      ASSERT_EQ(static_cast<uint8_t>(here.memory[i]), PatternByte(7, i)) << i;
    here.engine->Release(slot);
    const Slot never = *here.engine->Expect(*peer, Now() + 30s);
    there.Kill();
    const auto lost = here.log.WaitPeer(Event::Kind::kPeerLost, *peer, 10s);
    ASSERT_TRUE(lost);
    ASSERT_TRUE(here.log.WaitSlot(never, 5s));
    here.engine->Release(never);
    here.engine->Disconnect(*peer);
    ASSERT_TRUE(here.log.WaitPeer(Event::Kind::kFenced, *peer, 10s));
    here.log.Clear();
  }
  EXPECT_EQ(here.engine->usage().slots_held, 0u);
  EXPECT_EQ(here.engine->usage().peers, 0u);
}

}  // namespace
}  // namespace baton::transfer
