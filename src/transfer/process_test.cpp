// Two processes over real providers: byte-exact pages, SIGKILL in mid-transfer, restart.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <thread>

#include "transfer/cuda/cuda_for_tests.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/plan.h"
#include "transfer/remote_engine_for_tests.h"

namespace baton::transfer {
namespace {

// Over shm once with memory that the peer maps, once with memory that it must ask the kernel for. Staged:
// memory of devices at both ends, on the stand-in for CUDA's driver.
struct Way {
  ProviderKind provider;
  bool shared;
  FabricWay way = {};
  std::vector<std::string> rails = {};
  bool staged = false;
  int device() const { return staged ? 0 : -1; }
};

constexpr uint64_t kPage = 16 << 10;
constexpr uint64_t kRegion = 32 << 20;

class ProcessTest : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (GetParam().provider == ProviderKind::kNixl && !std::getenv("BATON_NIXL_PATH"))
      GTEST_SKIP() << "BATON_NIXL_PATH does not say where NIXL is";
    if (GetParam().staged) {
      mock_.emplace("touchable=1");
      mock_->Set("touchable", 1);
    }
    Options options;
    if (GetParam().staged) options.cuda_device = 0;
    options.provider = GetParam().provider;
    options.fabric = GetParam().way.fabric;
    options.write_mode = GetParam().way.mode;
    options.rails = GetParam().rails;
    options.self_test = false;
    auto opened = Engine::Open(options, log_.Sink());
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    engine_ = *std::move(opened);
  }
  void Register(uint64_t bytes, uint64_t seed) {
    memory_.emplace(bytes, GetParam().shared, GetParam().device());
    if (seed) memory_->Fill(seed);
    ASSERT_TRUE(engine_->Register(memory_->span()).ok());
  }
  static constexpr auto kPeerTimeout = std::chrono::milliseconds(1500);

  // The other process, with `bytes` of memory; `seed`: as TestMemory::Fill has it, 0 leaves zeros.
  RemoteEngine Partner(uint64_t seed, uint64_t bytes = kRegion) const {
    const Way& way = GetParam();
    return RemoteEngine(way.provider, bytes, seed, way.shared, kPeerTimeout, way.way, way.device(), std::nullopt, way.rails);
  }
  // Connects both ways.
  PeerId Join(RemoteEngine& remote) {
    EXPECT_TRUE(remote.status().ok()) << remote.status().ToString();
    auto peer = engine_->Connect(remote.Describe(), Now() + 5s);
    EXPECT_TRUE(peer.ok()) << peer.status().ToString();
    EXPECT_TRUE(remote.Connect(engine_->Describe()));
    return peer.ok() ? *peer : PeerId{};
  }
  // A grant there, and a send into it here.
  std::pair<Slot, SendId> Begin(RemoteEngine& remote, PeerId peer) {
    const Slot slot = remote.Expect(20s);
    auto send = engine_->Begin(peer, slot, {0}, {0}, Now() + 20s);
    EXPECT_TRUE(send.ok()) << send.status().ToString();
    return {slot, send.ok() ? *send : SendId{}};
  }
  // Sends `runs` and waits for both ends.
  void Transfer(RemoteEngine& remote, PeerId peer, std::span<const transfer::Run> runs) {
    const auto [slot, send] = Begin(remote, peer);
    auto writes = engine_->Push(send, runs);
    ASSERT_TRUE(writes.ok()) << writes.status().ToString();
    engine_->Finish(send);
    remote.Seal(slot, *writes);
    const Event received = remote.WaitSlot(slot);
    EXPECT_EQ(received.kind, Event::Kind::kReceiveDone) << received.status.ToString();
    EXPECT_EQ(received.writes, *writes);
    const auto sent = log_.WaitSend(send);
    ASSERT_TRUE(sent);
    EXPECT_EQ(sent->kind, Event::Kind::kSendDone) << sent->status.ToString();
    EXPECT_EQ(log_.CountSend(send), 1u);
    remote.Release(slot);
  }

  bool Holds(std::byte value) const {
    return std::all_of(memory_->data(), memory_->data() + memory_->size(),
                       [&](std::byte b) { return b == value; });
  }

  std::optional<cuda::MockCuda> mock_;
  EventLog log_;
  std::optional<TestMemory> memory_;
  std::unique_ptr<Engine> engine_;
};

std::vector<PageId> Shuffled(uint32_t pages, std::mt19937& random) {
  std::vector<PageId> ids(pages);
  for (uint32_t i = 0; i < pages; ++i) ids[i] = static_cast<PageId>(i);
  std::shuffle(ids.begin(), ids.end(), random);
  return ids;
}

TEST_P(ProcessTest, MovesRandomPagesByteExact) {
  constexpr uint32_t kPages = 512;
  Register(kPages * kPage, 7);
  RemoteEngine remote = Partner(0, kPages * kPage);
  const PeerId peer = Join(remote);
  std::mt19937 random(42);
  const std::vector<PageId> from = Shuffled(kPages, random), to = Shuffled(kPages, random);
  // Half of the pages in one transfer, the rest layer by layer.
  constexpr uint32_t kLayers = 4, kTokens = 4, kHalf = kPages / 2;
  const PoolLayout layout = PoolLayout::PageMajor(kLayers, 2, kTokens, 1, kPage / (kLayers * 2 * kTokens));
  const Result<PagePlan> plan = PagePlan::Make(layout, layout);
  ASSERT_TRUE(plan.ok()) << plan.status().ToString();
  PagePlan::Scratch scratch;
  std::vector<transfer::Run> runs;
  const auto move = [&](uint32_t first_page, uint32_t layer_begin, uint32_t layer_end) {
    runs.clear();
    const PlanRange range{layer_begin, layer_end, first_page * kTokens, (first_page + kHalf) * kTokens};
    ASSERT_TRUE(plan->Append({from, 0}, {to, 0}, range, scratch, runs).ok());
    Transfer(remote, peer, runs);
  };
  move(0, 0, kLayers);
  for (uint32_t layer = 0; layer < kLayers; ++layer) move(kHalf, layer, layer + 1);
  const std::string got = remote.Read(0, kPages * kPage);
  ASSERT_EQ(got.size(), kPages * kPage);
  for (uint32_t i = 0; i < kPages; ++i)
    ASSERT_EQ(std::memcmp(got.data() + to[i] * kPage, memory_->data() + from[i] * kPage, kPage), 0)
        << "page " << i;
  EXPECT_EQ(remote.Usage().slots_held, 0u);
  EXPECT_EQ(engine_->usage().sends_live, 0u);
}

// The sender pauses between layers; the receiver sees each when it is there, and none before.
TEST_P(ProcessTest, WatermarksFollowTheLayers) {
  constexpr uint32_t kLayers = 6;
  constexpr uint64_t kLayer = 20 * kPage;
  Register(kLayers * kLayer, 3);
  RemoteEngine remote = Partner(0, kLayers * kLayer);
  const PeerId peer = Join(remote);
  const auto [slot, send] = Begin(remote, peer);
  uint32_t writes = 0;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    std::vector<transfer::Run> runs;
    for (uint64_t at = layer * kLayer; at < (layer + 1) * kLayer; at += kPage) runs.push_back({at, at, kPage});
    const auto pushed = engine_->Push(send, runs);
    ASSERT_TRUE(pushed.ok());
    writes += *pushed;
    EXPECT_EQ(remote.Landed(slot), layer);  // without its mark no layer counts, there or not
    ASSERT_TRUE(engine_->Mark(send).ok());
    const TimePoint limit = Now() + 10s;
    while (remote.Landed(slot) <= layer && Now() < limit) std::this_thread::sleep_for(100us);
    ASSERT_EQ(remote.Landed(slot), layer + 1);
    ASSERT_EQ(remote.Read(layer * kLayer, kLayer), memory_->Read(layer * kLayer, kLayer)) << "layer " << layer;
  }
  engine_->Finish(send);
  remote.Seal(slot, writes);
  EXPECT_EQ(remote.WaitSlot(slot).kind, Event::Kind::kReceiveDone);
  const auto sent = log_.WaitSend(send);
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->kind, Event::Kind::kSendDone);
  EXPECT_EQ(sent->writes, writes);
  EXPECT_EQ(remote.Landed(slot), kLayers);
  remote.Release(slot);
}

// All layers at once: whatever the watermark says is there when it says so.
TEST_P(ProcessTest, WatermarksNeverRunAhead) {
  constexpr uint32_t kLayers = 40;
  constexpr uint64_t kLayer = 25 * kPage;
  Register(kLayers * kLayer, 4);
  RemoteEngine remote = Partner(0, kLayers * kLayer);
  const PeerId peer = Join(remote);
  const auto [slot, send] = Begin(remote, peer);
  uint32_t writes = 0;
  for (uint64_t at = 0; at < kLayers * kLayer; at += kPage) {
    const transfer::Run run{at, at, kPage};
    const auto pushed = engine_->Push(send, {&run, 1});
    ASSERT_TRUE(pushed.ok());
    writes += *pushed;
    const bool last_of_layer = (at + kPage) % kLayer == 0;
    ASSERT_TRUE(!last_of_layer || engine_->Mark(send).ok());
  }
  engine_->Finish(send);
  uint32_t seen = 0;
  for (const TimePoint limit = Now() + 10s; seen < kLayers && Now() < limit;) {
    const uint32_t landed = remote.Landed(slot);
    ASSERT_GE(landed, seen);
    ASSERT_LE(landed, kLayers);
    if (landed == seen) continue;
    ASSERT_EQ(remote.Read(seen * kLayer, (landed - seen) * kLayer),
              memory_->Read(seen * kLayer, (landed - seen) * kLayer))
        << "layers " << seen << " to " << landed;
    seen = landed;
  }
  EXPECT_EQ(seen, kLayers);
  remote.Seal(slot, writes);
  EXPECT_EQ(remote.WaitSlot(slot).kind, Event::Kind::kReceiveDone);
  remote.Release(slot);
}

TEST_P(ProcessTest, ReceiverSurvivesTheDeathOfItsSender) {
  Register(kRegion, 0);
  for (int round = 0; round < 2; ++round) {
    RemoteEngine remote = Partner(9);
    const PeerId peer = Join(remote);
    auto slot = engine_->Expect(peer, Now() + 20s);
    ASSERT_TRUE(slot.ok());
    const transfer::Run all{0, 0, kRegion};
    ASSERT_GT(remote.Send(*slot, {&all, 1}, true), 0u);
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + 30 * round));
    remote.Kill();
    const TimePoint killed = Now();
    const auto event = log_.WaitSlot(*slot, 10s);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->kind, Event::Kind::kReceiveFailed);
    EXPECT_LT(Seconds(Now() - killed), 4.0) << event->status.ToString();
    EXPECT_TRUE(log_.WaitPeer(Event::Kind::kPeerLost, peer));
    engine_->Disconnect(peer);
    EXPECT_TRUE(log_.WaitPeer(Event::Kind::kFenced, peer));
    engine_->Release(*slot);
    log_.Clear();
  }
  // The engine still works with a new process.
  RemoteEngine fresh = Partner(11);
  const PeerId peer = Join(fresh);
  auto slot = engine_->Expect(peer, Now() + 20s);
  ASSERT_TRUE(slot.ok());
  const transfer::Run all{0, 0, kRegion};
  const uint32_t writes = fresh.Send(*slot, {&all, 1}, false);
  engine_->Seal(*slot, writes);
  const auto event = log_.WaitSlot(*slot);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, Event::Kind::kReceiveDone) << event->status.ToString();
  for (size_t i = 0; i < memory_->size(); i += 4097)
    ASSERT_EQ(static_cast<uint8_t>(memory_->data()[i]), PatternByte(11, i)) << i;
  engine_->Release(*slot);
}

TEST_P(ProcessTest, SenderSurvivesTheDeathOfItsReceiver) {
  Register(kRegion, 5);
  for (int round = 0; round < 2; ++round) {
    RemoteEngine remote = Partner(0);
    const PeerId peer = Join(remote);
    const Slot slot = remote.Expect(20s);
    auto send = engine_->Begin(peer, slot, {0}, {0}, Now() + 20s);
    ASSERT_TRUE(send.ok());
    const transfer::Run all{0, 0, kRegion};
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(engine_->Push(*send, {&all, 1}).ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(10 + 20 * round));
    remote.Kill();
    const TimePoint killed = Now();
    engine_->Finish(*send);
    const auto event = log_.WaitSend(*send, 10s);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->kind, Event::Kind::kSendFailed);
    EXPECT_LT(Seconds(Now() - killed), 4.0) << event->status.ToString();
    EXPECT_EQ(log_.CountSend(*send), 1u);
    engine_->Disconnect(peer);
    EXPECT_TRUE(log_.WaitPeer(Event::Kind::kFenced, peer));
    log_.Clear();
  }
  RemoteEngine fresh = Partner(0);
  const PeerId peer = Join(fresh);
  const transfer::Run all{0, 0, kRegion};
  Transfer(fresh, peer, {&all, 1});
}

// The receiver leaves while bytes stream in: nothing may land after the fence.
TEST_P(ProcessTest, DisconnectFencesAWritingPeer) {
  Register(kRegion, 0);
  for (int round = 0; round < 3; ++round) {
    RemoteEngine remote = Partner(9);
    const PeerId peer = Join(remote);
    auto slot = engine_->Expect(peer, Now() + 20s);
    ASSERT_TRUE(slot.ok());
    const transfer::Run all{0, 0, kRegion};
    ASSERT_GT(remote.Send(*slot, {&all, 1}, true), 0u);
    std::this_thread::sleep_for(std::chrono::milliseconds(30 + 7 * round));
    engine_->Disconnect(peer);
    ASSERT_TRUE(log_.WaitPeer(Event::Kind::kFenced, peer));
    const auto event = log_.WaitSlot(*slot);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->kind, Event::Kind::kReceiveFailed);
    // From here on the pages are ours again.
    std::memset(memory_->data(), 0x5A, memory_->size());
    std::this_thread::sleep_for(300ms);
    EXPECT_TRUE(Holds(std::byte{0x5A})) << "round " << round << ": bytes landed after the fence";
    engine_->Release(*slot);
    log_.Clear();
  }
}

// A stopped process is lost by its silence; when it goes on it can write no more.
TEST_P(ProcessTest, StoppedPeerIsLostAndFenced) {
  Register(kRegion, 0);
  RemoteEngine remote = Partner(9);
  const PeerId peer = Join(remote);
  auto slot = engine_->Expect(peer, Now() + 20s);
  ASSERT_TRUE(slot.ok());
  const transfer::Run all{0, 0, kRegion};
  ASSERT_GT(remote.Send(*slot, {&all, 1}, true), 0u);
  std::this_thread::sleep_for(40ms);
  remote.Stop();
  const auto event = log_.WaitSlot(*slot);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, Event::Kind::kReceiveFailed);
  engine_->Disconnect(peer);
  ASSERT_TRUE(log_.WaitPeer(Event::Kind::kFenced, peer));
  std::memset(memory_->data(), 0x5A, memory_->size());
  remote.Continue();
  std::this_thread::sleep_for(500ms);
  EXPECT_TRUE(Holds(std::byte{0x5A})) << "bytes landed after the fence";
  engine_->Release(*slot);
}

// An engine closes although a peer, in the middle of a transfer either way, stands still.
TEST_P(ProcessTest, ClosesBesideAStoppedPeer) {
  Register(kRegion, 5);
  RemoteEngine remote = Partner(9);
  const PeerId peer = Join(remote);
  auto slot = engine_->Expect(peer, Now() + 20s);
  ASSERT_TRUE(slot.ok());
  const transfer::Run all{0, 0, kRegion};
  ASSERT_GT(remote.Send(*slot, {&all, 1}, true), 0u);
  const Slot there = remote.Expect(20s);
  auto send = engine_->Begin(peer, there, {0}, {0}, Now() + 20s);
  ASSERT_TRUE(send.ok());
  ASSERT_TRUE(engine_->Push(*send, {&all, 1}).ok());
  std::this_thread::sleep_for(30ms);
  remote.Stop();
  std::this_thread::sleep_for(30ms);
  engine_.reset();
  EXPECT_EQ(log_.CountSlot(*slot), 1u);
  EXPECT_EQ(log_.CountSend(*send), 1u);
  std::memset(memory_->data(), 0x5A, memory_->size());
  remote.Continue();
  std::this_thread::sleep_for(300ms);
  EXPECT_TRUE(Holds(std::byte{0x5A})) << "bytes landed after the end of the engine";
}

INSTANTIATE_TEST_SUITE_P(
    Providers, ProcessTest,
    testing::Values(Way{ProviderKind::kTcp, false, {"rxm", WriteMode::kWrite}},
                    Way{ProviderKind::kTcp, false, {"rxm", WriteMode::kRead}},
                    Way{ProviderKind::kTcp, false, {"native", WriteMode::kRead}},
                    Way{ProviderKind::kTcp, false, {"rxm", WriteMode::kWrite}, {"127.0.0.1", "127.0.0.2"}},
                    Way{ProviderKind::kTcp, false, {"rxm", WriteMode::kRead}, {"127.0.0.1", "127.0.0.2"}},
                    Way{ProviderKind::kTcp, false, {"rxm", WriteMode::kWrite}, {}, true},
                    Way{ProviderKind::kTcp, false, {"rxm", WriteMode::kWrite}, {"127.0.0.1", "127.0.0.2"}, true},
                    Way{ProviderKind::kTcp, false, {"rxm", WriteMode::kRead}, {"127.0.0.1", "127.0.0.2"}, true},
                    Way{ProviderKind::kShm, false}, Way{ProviderKind::kShm, true},
                    Way{ProviderKind::kNixl, false}),
    [](const auto& info) -> std::string {
      const Way& way = info.param;
      if (way.provider == ProviderKind::kNixl) return "Nixl";
      if (way.provider == ProviderKind::kShm) return way.shared ? "ShmMapped" : "Shm";
      if (way.way.fabric == "native") return "TcpNativeRead";
      return std::string("Tcp") + (way.way.mode == WriteMode::kRead ? "Read" : "") +
             (way.rails.empty() ? "" : "Rails") + (way.staged ? "Staged" : "");
    });

}  // namespace
}  // namespace baton::transfer
