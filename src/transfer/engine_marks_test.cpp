// Watermarks, on engine cores stepped by hand over the loopback network: what Landed says while writes
// and marks overtake each other, stay away, come late, and while rails are lost.
#include <gtest/gtest.h>

#include <cstring>

#include "common/log.h"
#include "transfer/engine_core.h"
#include "transfer/loopback/loopback.h"
#include "transfer/rails/rails.h"

namespace baton::transfer {
namespace {

constexpr uint64_t kLayer = 256;
constexpr uint32_t kLayers = 8;

class Marks : public testing::Test {
 protected:
  struct Station {
    std::vector<std::byte> memory = std::vector<std::byte>(kLayers * kLayer);
    std::vector<std::string> addresses;
    std::vector<Event> events;
    std::unique_ptr<EngineCore> core;
    size_t Count(Event::Kind kind) const {
      return std::count_if(events.begin(), events.end(), [&](const Event& e) { return e.kind == kind; });
    }
  };

  void Make(EngineCore::Config config = {}, uint32_t cq_entries = 0, size_t rails = 0) {
    for (Station* station : {&sender_, &receiver_}) {
      config.epoch = ++epochs_;
      config.max_peers = 8;
      std::vector<std::unique_ptr<Fabric>> fabrics(std::max<size_t>(rails, 1));
      for (auto& fabric : fabrics) {
        fabric = network_->Open(cq_entries);
        station->addresses.push_back(fabric->Address());
      }
      std::unique_ptr<Fabric> fabric =
          rails ? JoinRails(std::move(fabrics), {.silence = 40ms, .first_retry = 500ms}) : std::move(fabrics[0]);
      station->core = std::make_unique<EngineCore>(std::move(fabric), config,
                                                   [station](const Event& e) { station->events.push_back(e); });
      ASSERT_TRUE(station->core->Open().ok());
      ASSERT_TRUE(station->core->Register({station->memory.data(), station->memory.size()}).ok());
    }
    for (size_t i = 0; i < sender_.memory.size(); ++i) sender_.memory[i] = static_cast<std::byte>(1 + i % 251);
    const std::string of_sender = *sender_.core->Describe(), of_receiver = *receiver_.core->Describe();
    to_receiver_ = *sender_.core->AddPeer(*ParseBlob(of_receiver), now_);
    to_sender_ = *receiver_.core->AddPeer(*ParseBlob(of_sender), now_);
    Run(5ms);
  }
  void Run(Duration time) {
    for (const TimePoint end = now_ + time; now_ < end;) {
      now_ += 100us;
      sender_.core->Step(now_);
      receiver_.core->Step(now_);
    }
  }
  void Begin(Duration patience = 100s) {
    slot_ = *receiver_.core->Expect(to_sender_, now_ + 100s);
    send_ = *sender_.core->Begin(to_receiver_, slot_, {0}, {0}, now_ + patience);
    writes_ = 0;
  }
  void PushLayer(uint32_t layer) {
    const transfer::Run run{layer * kLayer, layer * kLayer, kLayer};
    const auto pushed = sender_.core->Push(send_, {&run, 1});
    ASSERT_TRUE(pushed.ok());
    writes_ += *pushed;
    ASSERT_TRUE(sender_.core->Mark(send_).ok());
  }
  // Pushes a layer whose write takes so long.
  void PushSlowLayer(uint32_t layer, Duration delay) {
    Run(1ms);  // what was pushed before is not slow, nor its mark
    SetDelay(delay);
    PushLayer(layer);
    Run(100us);
    SetDelay(0ms);
  }
  void SetDelay(Duration delay) { network_->SetFaults({.min_delay = delay, .max_delay = delay}); }
  void SetBusy(double busy) {
    LoopbackFaults faults;
    faults.busy = busy;
    network_->SetFaults(faults);
  }
  void Finish() {
    sender_.core->Finish(send_);
    receiver_.core->Seal(slot_, writes_);
  }
  uint32_t Landed() const { return receiver_.core->Landed(slot_); }
  bool IsThere(uint32_t layer) const {
    return std::memcmp(&receiver_.memory[layer * kLayer], &sender_.memory[layer * kLayer], kLayer) == 0;
  }
  uint64_t Strays() const { return receiver_.core->usage().stray_writes; }

  std::shared_ptr<LoopbackNetwork> network_ = LoopbackNetwork::Create(5);
  Station sender_, receiver_;
  PeerId to_receiver_, to_sender_;
  Slot slot_;
  SendId send_;
  uint32_t writes_ = 0;
  uint64_t epochs_ = 0;
  TimePoint now_ = TimePoint{} + 1h;
};

TEST_F(Marks, CountLayersAndAreNoneOfTheSealsWrites) {
  Make();
  Begin();
  EXPECT_EQ(Landed(), 0u);
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    PushLayer(layer);
    Run(1ms);
    EXPECT_EQ(Landed(), layer + 1);
    EXPECT_TRUE(IsThere(layer));
  }
  Finish();
  Run(1ms);
  ASSERT_EQ(receiver_.Count(Event::Kind::kReceiveDone), 1u);
  EXPECT_EQ(receiver_.events[0].writes, kLayers);
  ASSERT_EQ(sender_.Count(Event::Kind::kSendDone), 1u);
  EXPECT_EQ(sender_.events[0].writes, kLayers);
  EXPECT_EQ(sender_.events[0].bytes, kLayers * kLayer);
  EXPECT_EQ(Landed(), kLayers);
  receiver_.core->Release(slot_);
  Run(1ms);
  EXPECT_EQ(Landed(), 0u);
  EXPECT_EQ(receiver_.core->Landed({1u << 30, 0}), 0u);
  EXPECT_EQ(Strays(), 0u);
}

TEST_F(Marks, AWriteThatIsHeldBackHoldsItsMarkAndAllLaterOnes) {
  for (const uint32_t slow : {0, 1, 3}) {
    SCOPED_TRACE(slow);
    sender_ = {}, receiver_ = {};
    Make();
    Begin();
    for (uint32_t layer = 0; layer < 5; ++layer)
      layer == slow ? PushSlowLayer(layer, 50ms) : PushLayer(layer);
    Run(20ms);
    for (uint32_t layer = 0; layer < 5; ++layer) EXPECT_EQ(IsThere(layer), layer != slow);
    EXPECT_EQ(Landed(), slow);
    Run(50ms);
    EXPECT_EQ(Landed(), 5u);
  }
}

// Writes of two layers under way, the second's done first: only then the first's.
TEST_F(Marks, LayersUnderWayCountInTheirOrder) {
  Make();
  Begin();
  PushLayer(0);
  PushSlowLayer(1, 60ms);
  PushSlowLayer(2, 30ms);
  PushLayer(3);
  Run(20ms);
  EXPECT_EQ(Landed(), 1u);
  Run(20ms);
  EXPECT_TRUE(IsThere(2) && IsThere(3) && !IsThere(1));
  EXPECT_EQ(Landed(), 1u);
  Run(30ms);
  EXPECT_EQ(Landed(), 4u);
}

TEST_F(Marks, ThatOvertakeEachOtherCount) {
  Make();
  Begin();
  PushLayer(0);
  for (int i = 0; i < 20 && !IsThere(0); ++i) Run(100us);
  SetDelay(50ms);  // of the first mark
  Run(1ms);
  SetDelay(0ms);
  PushLayer(1);
  PushLayer(2);
  Run(5ms);
  EXPECT_TRUE(IsThere(1) && IsThere(2));
  EXPECT_EQ(Landed(), 2u);  // two have come, whichever: so the first two layers are there
  Run(60ms);
  EXPECT_EQ(Landed(), 3u);
}

TEST_F(Marks, WithNothingBetweenThemCount) {
  Make();
  Begin();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(sender_.core->Mark(send_).ok());
  Run(1ms);
  EXPECT_EQ(Landed(), 3u);
  PushLayer(0);
  ASSERT_TRUE(sender_.core->Mark(send_).ok());
  Run(1ms);
  EXPECT_EQ(Landed(), 5u);
}

TEST_F(Marks, OfAnEarlierGenerationAreStray) {
  Make({.max_slots = 1});
  Begin();
  const Slot first = slot_;
  PushLayer(0);
  for (int i = 0; i < 20 && !IsThere(0); ++i) Run(100us);
  SetDelay(20ms);
  Run(1ms);
  SetDelay(0ms);
  receiver_.core->Release(first);
  Run(1ms);
  slot_ = *receiver_.core->Expect(to_sender_, now_ + 100s);
  ASSERT_EQ(slot_.index, first.index);
  Run(30ms);
  EXPECT_EQ(Landed(), 0u);
  EXPECT_EQ(receiver_.core->Landed(first), 0u);
  EXPECT_EQ(Strays(), 1u);
}

// The receiver releases its slot at once, so that each transfer's last mark finds it free or another's.
TEST_F(Marks, LateOnesCostNoCredits) {
  Make({.max_slots = 4}, 300);
  for (int i = 0; i < 400; ++i) {
    Begin();
    PushLayer(0);
    Finish();
    for (int turn = 0; turn < 20 && receiver_.events.empty(); ++turn) Run(100us);
    ASSERT_EQ(receiver_.Count(Event::Kind::kReceiveDone), 1u) << i;
    receiver_.core->Release(slot_);
    Run(1ms);
    ASSERT_EQ(sender_.Count(Event::Kind::kSendDone), 1u) << i;
    receiver_.events.clear(), sender_.events.clear();
  }
  EXPECT_EQ(Strays(), 400u);
  EXPECT_EQ(Stats::Get(sender_.core->stats()->seats[0].credit_stalls), 0u);
  EXPECT_EQ(network_->cq_overruns(), 0u);
}

TEST_F(Marks, ObeyCredits) {
  Make({}, 300);
  LoopbackFaults faults;
  faults.hardware = true;
  network_->SetFaults(faults);
  Begin();
  for (int i = 0; i < 400; ++i) PushLayer(i % kLayers);
  Finish();
  receiver_.core->Step(now_);
  for (int turn = 0; turn < 2000; ++turn) {  // the receiver sleeps nearly always
    now_ += 100us;
    sender_.core->Step(now_);
    if (turn % 50 == 49) receiver_.core->Step(now_);
    ASSERT_EQ(network_->cq_overruns(), 0u);
  }
  Run(1s);
  EXPECT_EQ(receiver_.Count(Event::Kind::kReceiveDone), 1u);
  EXPECT_EQ(Landed(), 400u);
  EXPECT_GT(Stats::Get(sender_.core->stats()->seats[0].credit_stalls), 0u);
}

TEST_F(Marks, ACancelledSendWaitsForTheMarkUnderWayAndPostsNoMore) {
  Make();
  Begin();
  PushLayer(0);
  for (int i = 0; i < 20 && !IsThere(0); ++i) Run(100us);
  SetDelay(20ms);
  Run(1ms);  // the mark is posted
  PushLayer(1);
  Run(1ms);
  sender_.core->CancelSend(send_);
  Run(5ms);
  EXPECT_TRUE(sender_.events.empty());
  Run(60ms);
  ASSERT_EQ(sender_.Count(Event::Kind::kSendFailed), 1u);
  EXPECT_TRUE(sender_.events[0].drained);
  EXPECT_TRUE(IsThere(1));  // it could not be taken back, but nobody says so
  EXPECT_EQ(Landed(), 1u);
  EXPECT_EQ(sender_.core->Mark(send_).code(), Code::kCancelled);
  EXPECT_EQ(Stats::Get(sender_.core->stats()->writes_in_flight), 0u);
}

TEST_F(Marks, ADeadlineDoesNotFailASendOfWhichOnlyMarksAreLeft) {
  Make();
  Begin(30ms);
  PushLayer(0);
  Finish();
  for (int i = 0; i < 20 && !IsThere(0); ++i) Run(100us);
  SetBusy(1);
  Run(20ms);
  EXPECT_TRUE(sender_.events.empty());
  Run(20ms);
  EXPECT_EQ(sender_.Count(Event::Kind::kSendDone), 1u);
  EXPECT_EQ(sender_.events.size(), 1u);
  SetBusy(0);
  Run(10ms);
  EXPECT_EQ(Landed(), 0u);
}

TEST_F(Marks, AMarkThatFailsLeavesTheWatermarkBehind) {
  Make();
  Begin();
  PushLayer(0);
  for (int i = 0; i < 20 && !IsThere(0); ++i) Run(100us);
  LoopbackFaults faults;
  faults.fail = 1;
  network_->SetFaults(faults);
  Run(1ms);
  network_->SetFaults({});
  PushLayer(1);
  Finish();
  Run(5ms);
  EXPECT_EQ(Landed(), 1u);
  EXPECT_EQ(receiver_.Count(Event::Kind::kReceiveDone), 1u);
  EXPECT_EQ(sender_.Count(Event::Kind::kSendDone), 1u);
}

TEST_F(Marks, TakePlacesOfTheQueueAndEndWithTheirSend) {
  Make({.max_queued_runs = 4});
  Begin();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(sender_.core->Mark(send_).ok());
  EXPECT_EQ(sender_.core->Mark(send_).code(), Code::kResourceExhausted);
  Run(1ms);
  EXPECT_EQ(Landed(), 4u);
  ASSERT_TRUE(sender_.core->Mark(send_).ok());
  Finish();
  EXPECT_EQ(sender_.core->Mark(send_).code(), Code::kCancelled);
  Run(1ms);
  EXPECT_EQ(Landed(), 5u);
  EXPECT_EQ(sender_.core->Mark(send_).code(), Code::kCancelled);
  EXPECT_EQ(sender_.core->Mark({~0u}).code(), Code::kInvalidArgument);
}

TEST_F(Marks, WhatLandedStaysLandedWhenARailIsLost) {
  spdlog::set_level(spdlog::level::err);
  Make({}, 0, 2);
  Run(50ms);
  Begin();
  for (uint32_t layer = 0; layer < 3; ++layer) PushLayer(layer);
  Run(5ms);
  ASSERT_EQ(Landed(), 3u);
  // Layers on both rails under way when one falls silent.
  SetDelay(2ms);
  for (uint32_t layer = 3; layer < kLayers - 1; ++layer) PushLayer(layer);
  Run(1ms);
  network_->SetLink(sender_.addresses[0], LoopbackLink::kSilent);
  SetDelay(0ms);
  std::memset(&receiver_.memory[0], 0x77, kLayer);  // to see that all of it is written anew
  uint32_t last = 3;
  for (int i = 0; i < 3000 && Stats::Get(sender_.core->stats()->sends_repeated) == 0; ++i) {
    Run(100us);
    ASSERT_GE(Landed(), last);
    last = Landed();
    for (uint32_t layer = 3; layer < last; ++layer) ASSERT_TRUE(IsThere(layer));
  }
  EXPECT_EQ(Stats::Get(sender_.core->stats()->sends_repeated), 1u);
  PushLayer(kLayers - 1);
  Finish();
  Run(50ms);
  spdlog::set_level(spdlog::level::info);
  EXPECT_EQ(receiver_.Count(Event::Kind::kReceiveDone), 1u);
  EXPECT_EQ(sender_.Count(Event::Kind::kSendDone), 1u);
  for (uint32_t layer = 0; layer < kLayers; ++layer) EXPECT_TRUE(IsThere(layer));
  EXPECT_EQ(Landed(), kLayers);
  EXPECT_EQ(Strays(), 0u);
}

// The mark itself is on a rail that breaks: whether it comes is the network's whim, twice it never does.
TEST_F(Marks, InDoubtAreFencedAndNeverPostedAgain) {
  spdlog::set_level(spdlog::level::err);
  uint32_t came = 0, lost = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    network_ = LoopbackNetwork::Create(seed);
    sender_ = {}, receiver_ = {};
    Make({}, 0, 2);
    Run(50ms);
    Begin();
    PushLayer(0);
    for (int i = 0; i < 20 && !IsThere(0); ++i) Run(100us);
    SetDelay(2ms);
    Run(1ms);  // the mark is posted
    network_->SetLink(sender_.addresses[seed % 2], LoopbackLink::kBroken);
    SetDelay(0ms);
    Run(200ms);
    PushLayer(1);
    Finish();
    Run(200ms);
    ASSERT_EQ(receiver_.Count(Event::Kind::kReceiveDone), 1u);
    ASSERT_EQ(sender_.Count(Event::Kind::kSendDone), 1u);
    ASSERT_EQ(Stats::Get(sender_.core->stats()->sends_repeated), 0u);
    ASSERT_LE(Landed(), 2u);
    ASSERT_GE(Landed(), 1u);
    if (Stats::Get(sender_.core->stats()->fences_asked)) ++(Landed() == 2 ? came : lost);
    else ASSERT_EQ(Landed(), 2u);
  }
  spdlog::set_level(spdlog::level::info);
  EXPECT_GT(came, 0u);
  EXPECT_GT(lost, 0u);
}

}  // namespace
}  // namespace baton::transfer
