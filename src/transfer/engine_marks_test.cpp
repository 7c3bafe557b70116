// Watermarks, on engine cores stepped by hand over the loopback network: what Landed says while writes
// and marks overtake each other, stay away, come late, and while rails are lost.
#include <cstring>

#include "common/log.h"
#include "transfer/engine_pair_for_tests.h"

namespace baton::transfer {
namespace {

using Marks = EnginePair;

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

// All of them are due at once, behind data that has used up the credits.
TEST_F(Marks, ObeyCredits) {
  constexpr uint32_t kMore = 300, kMarksOfEach = 5;
  Make({}, 300);
  LoopbackFaults faults;
  faults.hardware = true;
  faults.min_delay = faults.max_delay = 3ms;
  network_->SetFaults(faults);
  Begin();
  PushLayer(0);
  Run(100us);
  faults.min_delay = faults.max_delay = 0ms;
  network_->SetFaults(faults);
  for (uint32_t i = 0; i < kMore; ++i) {
    PushLayer(i % kLayers);
    for (uint32_t k = 1; k < kMarksOfEach; ++k) ASSERT_TRUE(sender_.core->Mark(send_).ok());
  }
  Finish();
  for (int turn = 0; turn < 2000; ++turn) {  // the receiver sleeps nearly always
    now_ += 100us;
    sender_.core->Step(now_);
    if (turn % 50 == 49) receiver_.core->Step(now_);
    ASSERT_EQ(network_->cq_overruns(), 0u);
  }
  Run(1s);
  EXPECT_EQ(receiver_.Count(Event::Kind::kReceiveDone), 1u);
  EXPECT_EQ(Landed(), 1 + kMore * kMarksOfEach);
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

TEST_F(Marks, DueAtTheTimeOfACancelAreNotPosted) {
  Make();
  Begin();
  PushSlowLayer(0, 20ms);
  PushSlowLayer(1, 60ms);
  SetBusy(1);
  Run(30ms);
  ASSERT_TRUE(IsThere(0) && !IsThere(1));
  sender_.core->CancelSend(send_);
  Run(1ms);
  SetBusy(0);
  Run(50ms);
  EXPECT_EQ(sender_.Count(Event::Kind::kSendFailed), 1u);
  EXPECT_EQ(Landed(), 0u);
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
