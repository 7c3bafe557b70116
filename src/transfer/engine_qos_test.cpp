// EngineCore stepped by hand over the loopback network: classes, pacing, credits with many writers,
// checksums, metrics.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "common/log.h"
#include "transfer/engine_core.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/loopback/loopback.h"

namespace baton::transfer {
namespace {

constexpr uint64_t kBytes = 1 << 16;

struct Station {
  std::vector<std::byte> memory = std::vector<std::byte>(kBytes);
  std::vector<Event> events;
  std::unique_ptr<EngineCore> core;

  Station(LoopbackNetwork& network, uint64_t epoch, EngineCore::Config config, uint32_t cq_entries) {
    config.epoch = epoch;
    config.max_peers = 64;
    core = std::make_unique<EngineCore>(network.Open(cq_entries), config,
                                        [this](const Event& e) { events.push_back(e); });
    EXPECT_TRUE(core->Open().ok());
    EXPECT_TRUE(core->Register({memory.data(), memory.size()}).ok());
  }
  const Event* Find(Event::Kind kind, size_t nth = 0) const {
    for (const Event& e : events)
      if (e.kind == kind && nth-- == 0) return &e;
    return nullptr;
  }
};

class Hub : public testing::Test {
 protected:
  // Station 0 receives, the others send.
  void Make(int senders, EngineCore::Config config = {}, uint32_t cq_entries = 0) {
    for (int i = 0; i <= senders; ++i)
      stations_.push_back(std::make_unique<Station>(*network_, i + 1, config, cq_entries));
    for (int i = 1; i <= senders; ++i) {
      to_hub_.push_back(*stations_[i]->core->AddPeer(*ParseBlob(*stations_[0]->core->Describe()), now_));
      to_sender_.push_back(*stations_[0]->core->AddPeer(*ParseBlob(*stations_[i]->core->Describe()), now_));
    }
    Run(50);
  }
  void Run(int steps, Duration step = 100us) {
    for (int i = 0; i < steps; ++i) {
      now_ += step;
      for (auto& station : stations_) station->core->Step(now_);
    }
  }
  struct Send {
    Slot slot;
    SendId id;
    uint32_t writes = 0;
  };
  Send Begin(int sender, Priority priority = Priority::kDecode) {
    Send send;
    send.slot = *hub().core->Expect(to_sender_[sender - 1], now_ + 100s);
    send.id = *stations_[sender]->core->Begin(to_hub_[sender - 1], send.slot, {0}, {0}, now_ + 100s,
                                              priority);
    return send;
  }
  void Push(int sender, Send& send, const std::vector<transfer::Run>& runs) {
    auto writes = stations_[sender]->core->Push(send.id, runs);
    ASSERT_TRUE(writes.ok()) << writes.status().ToString();
    send.writes += *writes;
  }
  void Finish(int sender, const Send& send) {
    stations_[sender]->core->Finish(send.id);
    hub().core->Seal(send.slot, send.writes);
  }
  Station& hub() { return *stations_[0]; }

  std::shared_ptr<LoopbackNetwork> network_ = LoopbackNetwork::Create(3);
  std::vector<std::unique_ptr<Station>> stations_;
  std::vector<PeerId> to_hub_, to_sender_;
  TimePoint now_ = TimePoint{} + 1h;
};

TEST_F(Hub, ManyWritersCannotOverrunTheQueueOfASleepingReceiver) {
  constexpr int kSenders = 8;
  Make(kSenders, {}, 512);
  LoopbackFaults faults;
  faults.hardware = true;
  network_->SetFaults(faults);
  std::vector<Send> sends;
  for (int i = 1; i <= kSenders; ++i) {
    sends.push_back(Begin(i));
    Push(i, sends.back(), std::vector<transfer::Run>(1000, {0, uint64_t(i) * 64, 64}));
    Finish(i, sends.back());
  }
  hub().core->Step(now_);
  for (int turn = 0; turn < 3000 && hub().events.size() < kSenders; ++turn) {
    // The receiver sleeps most of the time; its card takes writes all the same.
    now_ += 100us;
    for (int i = 1; i <= kSenders; ++i) stations_[i]->core->Step(now_);
    if (turn % 50 == 49) hub().core->Step(now_);
    ASSERT_EQ(network_->cq_overruns(), 0u);
  }
  EXPECT_EQ(hub().events.size(), static_cast<size_t>(kSenders));
  for (const Event& e : hub().events) EXPECT_EQ(e.kind, Event::Kind::kReceiveDone) << e.status.ToString();
  EXPECT_GT(Stats::Get(stations_[1]->core->stats()->seats[0].credit_stalls), 0u);
}

TEST_F(Hub, TheFirstOfManyRunsGoOutBeforeTheLastIsTaken) {
  Make(1);
  Send send = Begin(1);
  Push(1, send, std::vector<transfer::Run>(3 * SendTable::kTakenAtOnce, {0, 0, 16}));
  Finish(1, send);
  EngineCore& writer = *stations_[1]->core;
  writer.Step(now_);
  EXPECT_GT(writer.usage().bytes_sent, 0u);
  EXPECT_TRUE(writer.has_requests()) << "runs wait, and nobody sleeps over them";
  Run(200);
  ASSERT_NE(hub().Find(Event::Kind::kReceiveDone), nullptr);
  EXPECT_EQ(hub().Find(Event::Kind::kReceiveDone)->writes, send.writes);
}

TEST_F(Hub, MoreWritersThanTheQueueHasRoomForAreRefused) {
  Make(4, {}, 256);
  Status last;
  for (int i = 0; i < 20 && last.ok(); ++i) last = hub().core->Describe().status();
  // Unused descriptions are taken back one by one, and used ones never.
  Run(50);
  for (int i = 1; i <= 4; ++i) {
    Send send = Begin(i);
    Push(i, send, {{0, 0, 64}});
    Finish(i, send);
  }
  Run(20);
  EXPECT_EQ(hub().events.size(), 4u);
  for (const Event& e : hub().events) EXPECT_EQ(e.kind, Event::Kind::kReceiveDone) << e.status.ToString();
}

// Keys cannot tell them apart: the first one owns them, and the second's end takes nothing from it.
TEST_F(Hub, ASecondPeerOnOneDescriptionOwnsNothing) {
  Make(0);
  const std::string blob = *hub().core->Describe();
  for (int i = 1; i <= 2; ++i) {
    stations_.push_back(std::make_unique<Station>(*network_, i + 1, EngineCore::Config{}, 0));
    to_hub_.push_back(*stations_[i]->core->AddPeer(*ParseBlob(blob), now_));
    to_sender_.push_back(*hub().core->AddPeer(*ParseBlob(*stations_[i]->core->Describe()), now_));
    Run(50);
  }
  EXPECT_GE(hub().core->usage().stray_writes, 1u);
  hub().core->RemovePeer(to_sender_[1], now_);
  Run(50);
  ASSERT_TRUE(hub().Find(Event::Kind::kFenced));
  Send send = Begin(1);
  Push(1, send, {{0, 0, 64}});
  Finish(1, send);
  Run(50);
  EXPECT_TRUE(hub().Find(Event::Kind::kReceiveDone));
}

TEST_F(Hub, TheFirstSealStands) {
  Make(1);
  Send send = Begin(1);
  hub().core->Seal(send.slot, 2);
  hub().core->Seal(send.slot, 1);
  Run(5);
  hub().core->Seal(send.slot, 1);
  Push(1, send, {{0, 0, 64}});
  Run(20);
  EXPECT_TRUE(hub().events.empty());
  Push(1, send, {{64, 64, 64}});
  Run(20);
  ASSERT_TRUE(hub().Find(Event::Kind::kReceiveDone));
  EXPECT_EQ(hub().events[0].writes, 2u);
}

TEST_F(Hub, ControlPassesDataAndBackgroundStillMoves) {
  EngineCore::Config config;
  config.max_write_bytes = 1024;
  Make(1, config);
  network_->SetFaults({.min_delay = 1ms, .max_delay = 1ms, .keep_order = true});
  Send background = Begin(1, Priority::kBackground);
  Push(1, background, {{0, 0, kBytes}});
  Finish(1, background);
  std::vector<Send> decodes;
  for (int i = 0; i < 40; ++i) {
    decodes.push_back(Begin(1, Priority::kDecode));
    Push(1, decodes.back(), std::vector<transfer::Run>(10, {0, 0, kBytes}));
    Finish(1, decodes.back());
  }
  Run(20);
  Send control = Begin(1, Priority::kControl);
  Push(1, control, {{0, 0, 512}});
  Finish(1, control);
  while (!hub().Find(Event::Kind::kReceiveDone) && now_ < TimePoint{} + 2h) Run(1);
  ASSERT_TRUE(hub().Find(Event::Kind::kReceiveDone));
  EXPECT_EQ(hub().Find(Event::Kind::kReceiveDone)->slot, control.slot);
  const auto received = [&](Slot slot) {
    return std::any_of(hub().events.begin(), hub().events.end(),
                       [&](const Event& e) { return e.slot == slot; });
  };
  while (!received(background.slot) && now_ < TimePoint{} + 2h) Run(1);
  // Background's 64 writes: four turns, each after fifteen of decode's, which has plenty more.
  const auto& flows = stations_[1]->core->stats()->seats[0].flows;
  EXPECT_GE(Stats::Get(flows[1].writes), 3u * 15 * 16);
  EXPECT_LT(Stats::Get(flows[1].writes), 25'600u);
  while (hub().events.size() < 42 && now_ < TimePoint{} + 2h) Run(1);
  ASSERT_EQ(hub().events.size(), 42u);
}

TEST_F(Hub, DataInFlightIsHeldToWhatMovesInTheWait) {
  EngineCore::Config config;
  config.max_write_bytes = 1 << 15;
  Make(1, config);
  // 128 writes of 32 KiB would be 4 MiB; the way takes 10 ms for each.
  network_->SetFaults({.min_delay = 10ms, .max_delay = 10ms, .keep_order = true});
  Send send = Begin(1);
  for (int i = 0; i < 100; ++i) Push(1, send, std::vector<transfer::Run>(8, {0, 0, kBytes}));
  uint64_t most = 0;
  for (int i = 0; i < 3000; ++i) {
    Run(1);
    if (i > 1000) most = std::max(most, Stats::Get(stations_[1]->core->stats()->writes_in_flight) << 15);
  }
  EXPECT_GT(most, Pacer::kFloor / 2);
  EXPECT_LE(most, 4u << 20);
}

TEST_F(Hub, ChecksumsPassWhatIsRightAndCatchWhatIsNot) {
  EngineCore::Config config;
  config.checksum = true;
  config.max_write_bytes = 500;
  Make(1, config, 400);
  std::mt19937 random(1);
  for (std::byte& b : stations_[1]->memory) b = static_cast<std::byte>(random());
  Send good = Begin(1);
  for (uint64_t i = 0; i < 100; ++i) Push(1, good, {{i * 600, 60'000 - i * 600, 550}});
  Finish(1, good);
  Run(200);
  ASSERT_TRUE(hub().Find(Event::Kind::kReceiveDone));
  EXPECT_EQ(hub().Find(Event::Kind::kReceiveDone)->writes, 200u);
  EXPECT_EQ(Stats::Get(hub().core->stats()->checksums_checked), 200u);

  // A byte that changes on the target after it landed, before the transfer is complete.
  Send bad = Begin(1);
  Push(1, bad, {{0, 1000, 400}, {400, 3000, 400}});
  Run(10);
  ASSERT_EQ(hub().core->usage().bytes_received, 100u * 550 + 800);
  hub().memory[3200] ^= std::byte{1};
  Finish(1, bad);
  Run(10);
  const Event* failed = hub().Find(Event::Kind::kReceiveFailed);
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->slot, bad.slot);
  EXPECT_EQ(failed->status.code(), Code::kDataCorrupt);
  EXPECT_NE(failed->status.message().find("3000"), std::string::npos) << failed->status.message();
  EXPECT_EQ(Stats::Get(hub().core->stats()->checksum_errors), 1u);
  EXPECT_EQ(Stats::Get(hub().core->stats()->slots_quarantined), 1u);
  hub().core->Release(bad.slot);
  Run(2);
  EXPECT_EQ(Stats::Get(hub().core->stats()->slots_quarantined), 0u);
}

TEST_F(Hub, ACardThatAnswersForADeadEngineIsNotLife) {
  EngineCore::Config config;
  config.probe_interval = 50ms;
  config.peer_timeout = 300ms;
  Make(1, config);
  LoopbackFaults faults;
  faults.hardware = true;
  network_->SetFaults(faults);
  Begin(1);
  Run(200);  // all is well for 20 ms ...
  EXPECT_TRUE(stations_[1]->events.empty());
  for (int i = 0; i < 10'000 && stations_[1]->events.empty(); ++i) {
    now_ += 100us;  // ... then the receiver's process stands still, its card does not
    stations_[1]->core->Step(now_);
  }
  ASSERT_TRUE(stations_[1]->Find(Event::Kind::kPeerLost));
}

TEST_F(Hub, DeadlinesDumpTheFlightRecorder) {
  spdlog::set_level(spdlog::level::err);
  Make(1);
  const Slot slot = *hub().core->Expect(to_sender_[0], now_ + 5ms);
  Run(100);
  spdlog::set_level(spdlog::level::info);
  ASSERT_TRUE(hub().Find(Event::Kind::kReceiveFailed));
  const std::string dump = hub().core->recorder().Dump(50, now_);
  EXPECT_NE(dump.find(fmt::format("#{} DEADLINE", slot.index)), std::string::npos) << dump;
  EXPECT_NE(dump.find("slot opened"), std::string::npos) << dump;
}

TEST(EngineMetrics, NamePeersAndClasses) {
  const auto network = LoopbackNetwork::Create();
  Options options;
  options.provider = ProviderKind::kLoopback;
  options.loopback = network;
  options.self_test = false;
  metrics::Registry registry;
  EventLog log_a, log_b;
  auto a = *Engine::Open(options, log_a.Sink()), b = *Engine::Open(options, log_b.Sink());
  a->ExportMetrics(registry);
  std::vector<std::byte> memory(1 << 12);
  ASSERT_TRUE(a->Register({memory.data(), memory.size()}).ok());
  ASSERT_TRUE(b->Register({memory.data(), memory.size()}).ok());
  const PeerId to_b = *a->Connect(b->Describe(), Now() + 5s);
  const PeerId to_a = *b->Connect(a->Describe(), Now() + 5s);
  const Slot slot = *b->Expect(to_a, Now() + 10s);
  const SendId send = *a->Begin(to_b, slot, {0}, {0}, Now() + 10s, Priority::kBackground);
  const auto writes = a->Push(send, std::vector<transfer::Run>{{0, 0, 100}, {200, 200, 300}});
  a->Finish(send);
  b->Seal(slot, *writes);
  ASSERT_TRUE(log_b.WaitSlot(slot) && log_a.WaitSend(send));
  const std::string text = registry.Render();
  for (const char* line : {
           "baton_transfer_peer_bytes_total{provider=\"loopback\",peer=\"0\",class=\"background\"} 400",
           "baton_transfer_peer_writes_total{provider=\"loopback\",peer=\"0\",class=\"background\"} 2",
           "baton_transfer_peer_bytes_per_write{provider=\"loopback\",peer=\"0\",class=\"background\"} 200",
           "baton_transfer_peer_write_seconds_count{provider=\"loopback\",peer=\"0\",class=\"background\"} 2",
           "baton_transfer_registrations_total{provider=\"loopback\"} 1",
           "baton_transfer_registration_ms_total{provider=\"loopback\"} ",
           "baton_transfer_peer_data_in_flight_bytes{provider=\"loopback\",peer=\"0\"} 0",
           "baton_transfer_info{provider=\"loopback\",fabric=\"", "write_path=\"", "rdma=\"no\""})
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  EXPECT_EQ(text.find("peer=\"1\""), std::string::npos);
}

}  // namespace
}  // namespace baton::transfer
