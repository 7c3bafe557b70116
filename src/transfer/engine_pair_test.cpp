// Between two engine cores: what a writer says about its credits and what a receiver gives back
// (credits.h), verdicts on sends in doubt (engine_repeat.cpp), blocks of the manifest that come twice.
#include <cstdlib>

#include "common/log.h"
#include "transfer/engine_pair_for_tests.h"

namespace baton::transfer {
namespace {

class Credits : public EnginePair {
 protected:
  void PushWrites(uint32_t writes) {
    const std::vector<transfer::Run> runs(writes, {0, 0, 64});
    ASSERT_TRUE(sender_.core->Push(send_, runs).ok());
  }
  // Of the newest such note in the station's flight recorder; -1: none.
  int64_t LastNote(const Station& station, FlightRecorder::What what) const {
    const std::string dump = station.core->recorder().Dump(FlightRecorder::kKept, now_), name(FlightRecorder::NameOf(what));
    const size_t at = dump.rfind(name);
    return at == std::string::npos ? -1 : std::atoll(dump.c_str() + at + name.size());
  }
};

// Else the writer would have to stall and ask, time and again.
TEST_F(Credits, OfWritesToACancelledSlotComeBackUnasked) {
  Make({}, 300);
  Begin();
  receiver_.core->Cancel(slot_);
  Run(1ms);
  const uint64_t asked = Stats::Get(sender_.core->stats()->hellos_sent);
  PushWrites(2000);
  sender_.core->Finish(send_);
  Run(50ms);
  EXPECT_EQ(sender_.Count(Event::Kind::kSendDone), 1u);
  EXPECT_EQ(Strays(), 2000u);
  EXPECT_EQ(Stats::Get(sender_.core->stats()->hellos_sent), asked);
}

TEST_F(Credits, WhatIsUnderWayIsNotSaidToHaveLanded) {
  Make({}, 300, 2, 10s);
  Run(50ms);
  Begin();
  receiver_.core->Release(slot_);  // else it would ask for life, too, and so give a sign of its own
  SetDelay(5s);
  PushWrites(20);
  Run(1ms);
  SetDelay(0ms);
  const uint64_t asked = Stats::Get(sender_.core->stats()->hellos_sent);
  Run(1s);
  ASSERT_GT(Stats::Get(sender_.core->stats()->hellos_sent), asked);
  EXPECT_EQ(LastNote(sender_, FlightRecorder::What::kHelloSent), 20);
  EXPECT_EQ(LastNote(receiver_, FlightRecorder::What::kHelloSeen), 0);
}

// It may land yet, and then takes a place in the queue.
TEST_F(Credits, WhatIsInDoubtIsNotSaidToHaveLanded) {
  spdlog::set_level(spdlog::level::err);
  Make({}, 300, 2);
  Run(50ms);
  Begin();
  LoopbackFaults faults;
  faults.hardware = true;
  faults.min_delay = faults.max_delay = 2ms;
  network_->SetFaults(faults);
  PushWrites(400);
  const auto step_sender = [&](Duration time) {  // the receiver's process stands still
    for (const TimePoint end = now_ + time; now_ < end; now_ += 100us) sender_.core->Step(now_);
  };
  step_sender(1ms);
  network_->SetLink(sender_.addresses[0], LoopbackLink::kBroken);
  step_sender(100ms);
  const auto in_doubt = static_cast<int64_t>(Stats::Get(sender_.core->stats()->write_errors));
  const int64_t posted = LastNote(sender_, FlightRecorder::What::kHelloSent);
  ASSERT_GT(in_doubt, 0);
  ASSERT_GT(posted, in_doubt);
  receiver_.core->Step(now_);
  spdlog::set_level(spdlog::level::info);
  EXPECT_EQ(LastNote(receiver_, FlightRecorder::What::kHelloSeen), posted - in_doubt);
}

// The receiver's slot has ended and is free when it is asked about a send in doubt.
TEST_F(EnginePair, ASendInDoubtEndsAsItsReleasedSlotDid) {
  spdlog::set_level(spdlog::level::err);
  for (const bool failed : {true, false}) {
    SCOPED_TRACE(failed);
    network_ = LoopbackNetwork::Create(3);
    sender_ = {}, receiver_ = {};
    Make({.max_slots = 1}, 0, 2);
    Run(50ms);
    Begin();
    SetDelay(2ms);
    for (uint32_t layer = 0; layer < kLayers; ++layer) PushLayer(layer);
    Finish();
    Run(1ms);
    network_->SetLink(sender_.addresses[0], LoopbackLink::kSilent);  // what lands is not told to the sender
    if (failed) receiver_.core->Cancel(slot_);
    if (!failed) network_->SetLink(sender_.addresses[0], LoopbackLink::kUp);
    for (int i = 0; i < 20 && !IsThere(kLayers - 1); ++i) {
      now_ += 200us;
      receiver_.core->Step(now_);
    }
    network_->SetLink(sender_.addresses[0], LoopbackLink::kSilent);
    receiver_.core->Release(slot_);
    receiver_.core->Step(now_);
    receiver_.core->Step(now_);
    ASSERT_EQ(receiver_.Count(failed ? Event::Kind::kReceiveFailed : Event::Kind::kReceiveDone), 1u);
    ASSERT_TRUE(receiver_.core->Expect(to_sender_, now_ + 100s).ok());  // its successor
    Run(300ms);
    EXPECT_GE(Stats::Get(sender_.core->stats()->fences_asked), 1u);
    EXPECT_EQ(sender_.Count(failed ? Event::Kind::kSendFailed : Event::Kind::kSendDone), 1u);
  }
  spdlog::set_level(spdlog::level::info);
}

TEST(KeySets, ABlockThatComesTwiceIsReadOnce) {
  const auto network = LoopbackNetwork::Create();
  const auto fabric = network->Open();
  CreditBook credits(0, 0);
  KeySets sets(*fabric, credits, true, 4);
  ASSERT_TRUE(sets.Open().ok());
  PeerBlob blob;
  ASSERT_TRUE(sets.HandOut({}, [](uint64_t) { return false; }, blob).ok());
  EXPECT_EQ(sets.CountBlock(blob.key_set, 1), 1u);
  EXPECT_EQ(sets.CountBlock(blob.key_set, 1), std::nullopt);
  EXPECT_EQ(sets.blocks(blob.key_set), 0u);
  EXPECT_EQ(sets.CountBlock(blob.key_set, 0), 0u);
  EXPECT_EQ(sets.blocks(blob.key_set), 2u);
  for (const uint32_t read : {0, 1}) EXPECT_EQ(sets.CountBlock(blob.key_set, read), std::nullopt);
  EXPECT_EQ(sets.CountBlock(blob.key_set, 2), 2u);
}

}  // namespace
}  // namespace baton::transfer
