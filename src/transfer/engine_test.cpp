// The public engine with its thread, over the perfect loopback network.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>

#include "transfer/blob.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/imm.h"
#include "transfer/loopback/loopback.h"

namespace baton::transfer {
namespace {

constexpr uint64_t kBytes = 1 << 16;

// An engine with one region and its events.
struct Side {
  EventLog log;
  std::vector<std::byte> memory = std::vector<std::byte>(kBytes);
  std::unique_ptr<Engine> engine;
  std::string address;

  explicit Side(const std::shared_ptr<LoopbackNetwork>& network, Options options = {}) {
    options.provider = ProviderKind::kLoopback;
    options.loopback = network;
    options.self_test = false;
    auto opened = Engine::Open(options, log.Sink());
    EXPECT_TRUE(opened.ok()) << opened.status().ToString();
    engine = *std::move(opened);
    EXPECT_TRUE(engine->Register({memory.data(), memory.size()}).ok());
    address = engine->report().rails[0];
  }
  PeerId Connect(Side& other) {
    auto peer = engine->Connect(other.engine->Describe(), Now() + 5s);
    EXPECT_TRUE(peer.ok()) << peer.status().ToString();
    return peer.ok() ? *peer : PeerId{};
  }
};

// A sender and a receiver that know each other.
class EngineTest : public testing::Test {
 protected:
  explicit EngineTest(Options options = {}) : sender_(network_, options), receiver_(network_, options) {
    to_receiver_ = sender_.Connect(receiver_);
    to_sender_ = receiver_.Connect(sender_);
    for (size_t i = 0; i < kBytes; ++i) sender_.memory[i] = static_cast<std::byte>(i * 31 >> 3);
  }

  Slot Expect(Duration patience = 10s) {
    auto slot = receiver_.engine->Expect(to_sender_, Now() + patience);
    EXPECT_TRUE(slot.ok()) << slot.status().ToString();
    return slot.ok() ? *slot : Slot{};
  }
  SendId Begin(Slot slot, Duration patience = 10s) {
    auto send = sender_.engine->Begin(to_receiver_, slot, {0}, {0}, Now() + patience);
    EXPECT_TRUE(send.ok()) << send.status().ToString();
    return send.ok() ? *send : SendId{};
  }
  uint32_t Push(SendId send, std::vector<transfer::Run> runs) {
    auto writes = sender_.engine->Push(send, runs);
    EXPECT_TRUE(writes.ok()) << writes.status().ToString();
    return writes.ok() ? *writes : 0;
  }
  Event::Kind WaitSlot(Slot slot) {
    const auto event = receiver_.log.WaitSlot(slot);
    EXPECT_TRUE(event);
    if (event) last_status_ = event->status;
    return event ? event->kind : Event::Kind::kFenced;
  }
  Event::Kind WaitSend(SendId send) {
    const auto event = sender_.log.WaitSend(send);
    EXPECT_TRUE(event);
    if (event) last_status_ = event->status;
    return event ? event->kind : Event::Kind::kFenced;
  }
  // Waits until nothing is held on either side.
  void ExpectIdle() {
    for (int i = 0; i < 2000; ++i) {
      const auto a = sender_.engine->usage(), b = receiver_.engine->usage();
      if (a.slots_held + a.sends_live + b.slots_held + b.sends_live == 0) return;
      std::this_thread::sleep_for(1ms);
    }
    ADD_FAILURE() << "slots or sends are still held";
  }

  std::shared_ptr<LoopbackNetwork> network_ = LoopbackNetwork::Create(7);
  Side sender_, receiver_;
  PeerId to_receiver_, to_sender_;
  Status last_status_;
};

TEST_F(EngineTest, MovesRunsAndCountsThem) {
  const Slot slot = Expect();
  const SendId send = Begin(slot);
  uint32_t writes = Push(send, {{0, 1000, 500}, {600, 0, 100}});
  writes += Push(send, {{4096, 8192, 4096}});
  EXPECT_EQ(writes, 3u);
  sender_.engine->Finish(send);
  EXPECT_EQ(WaitSend(send), Event::Kind::kSendDone);
  receiver_.engine->Seal(slot, writes);
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveDone);
  EXPECT_EQ(std::memcmp(&receiver_.memory[1000], &sender_.memory[0], 500), 0);
  EXPECT_EQ(std::memcmp(&receiver_.memory[0], &sender_.memory[600], 100), 0);
  EXPECT_EQ(std::memcmp(&receiver_.memory[8192], &sender_.memory[4096], 4096), 0);
  const auto sent = sender_.log.WaitSend(send);
  EXPECT_EQ(sent->bytes, 4696u);
  EXPECT_EQ(sent->writes, 3u);
  receiver_.engine->Release(slot);
  ExpectIdle();
  EXPECT_EQ(sender_.engine->usage().bytes_sent, 4696u);
  EXPECT_EQ(receiver_.engine->usage().bytes_received, 4696u);
}

TEST_F(EngineTest, TheSealMayComeFirst) {
  const Slot slot = Expect();
  receiver_.engine->Seal(slot, 2);
  const SendId send = Begin(slot);
  Push(send, {{0, 0, 10}});
  EXPECT_FALSE(receiver_.log.WaitSlot(slot, 50ms));
  Push(send, {{0, 0, 10}});
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveDone);
  sender_.engine->Finish(send);
  EXPECT_EQ(WaitSend(send), Event::Kind::kSendDone);
}

TEST_F(EngineTest, NothingToSendIsDoneAtOnce) {
  const Slot slot = Expect();
  const SendId send = Begin(slot);
  EXPECT_EQ(Push(send, {{0, 0, 0}}), 0u);
  sender_.engine->Finish(send);
  EXPECT_EQ(WaitSend(send), Event::Kind::kSendDone);
  receiver_.engine->Seal(slot, 0);
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveDone);
}

TEST_F(EngineTest, MoreWritesThanSealedFailTheSlot) {
  const Slot slot = Expect();
  const SendId send = Begin(slot);
  Push(send, {{0, 0, 10}, {0, 0, 10}});
  sender_.engine->Finish(send);
  WaitSend(send);
  // Both arrivals are counted before the seal comes: a send's end says nothing about them.
  const TimePoint limit = Now() + 5s;
  while (receiver_.engine->usage().bytes_received < 20 && Now() < limit) std::this_thread::sleep_for(1ms);
  receiver_.engine->Seal(slot, 1);
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveFailed);
  EXPECT_EQ(last_status_.code(), Code::kDataCorrupt);
}

TEST_F(EngineTest, CancelledSlotFailsOnceAndLaterWritesAreStray) {
  const Slot slot = Expect();
  receiver_.engine->Cancel(slot);
  receiver_.engine->Cancel(slot);
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveFailed);
  EXPECT_EQ(last_status_.code(), Code::kCancelled);
  const SendId send = Begin(slot);
  Push(send, {{0, 0, 10}});
  sender_.engine->Finish(send);
  EXPECT_EQ(WaitSend(send), Event::Kind::kSendDone);
  receiver_.engine->Release(slot);
  ExpectIdle();
  EXPECT_EQ(receiver_.engine->usage().stray_writes, 1u);
  EXPECT_EQ(receiver_.log.CountSlot(slot), 1u);
}

TEST_F(EngineTest, AnOlderGenerationNeverCounts) {
  // One index, used twice: the first holder's writes must not complete the second's transfer.
  Options options;
  options.max_slots = 1;
  Side receiver(network_, options);
  const PeerId from = receiver.Connect(sender_);
  const PeerId to = sender_.Connect(receiver);
  auto first = receiver.engine->Expect(from, Now() + 10s);
  receiver.engine->Release(*first);
  ASSERT_TRUE(receiver.log.WaitSlot(*first));
  Result<Slot> second = Error(Code::kInternal, "not yet");
  for (int i = 0; i < 1000 && !second.ok(); ++i) {
    second = receiver.engine->Expect(from, Now() + 10s);
    if (!second.ok()) std::this_thread::sleep_for(1ms);
  }
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->index, first->index);
  EXPECT_NE(second->generation, first->generation);
  receiver.engine->Seal(*second, 1);
  auto stale = sender_.engine->Begin(to, *first, {0}, {0}, Now() + 10s);
  ASSERT_TRUE(sender_.engine->Push(*stale, std::vector<transfer::Run>{{0, 0, 10}}).ok());
  sender_.engine->Finish(*stale);
  EXPECT_TRUE(sender_.log.WaitSend(*stale));
  EXPECT_FALSE(receiver.log.WaitSlot(*second, 50ms));
  EXPECT_EQ(receiver.engine->usage().stray_writes, 1u);
  // Calls by the former holder do nothing to the new one.
  receiver.engine->Cancel(*first);
  receiver.engine->Seal(*first, 0);
  receiver.engine->Release(*first);
  EXPECT_FALSE(receiver.log.WaitSlot(*second, 50ms));
  EXPECT_EQ(receiver.engine->usage().slots_held, 1u);
}

TEST_F(EngineTest, DeadlinesEndBothSides) {
  const Slot slot = Expect(30ms);
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveFailed);
  EXPECT_EQ(last_status_.code(), Code::kDeadlineExceeded);
  const SendId send = Begin(slot, 30ms);
  EXPECT_EQ(WaitSend(send), Event::Kind::kSendFailed);
  EXPECT_EQ(last_status_.code(), Code::kDeadlineExceeded);
  EXPECT_EQ(sender_.engine->Push(send, std::vector<transfer::Run>{{0, 0, 1}}).status().code(),
            Code::kCancelled);
}

TEST_F(EngineTest, CancelledSendWaitsForWhatIsInFlight) {
  network_->SetFaults({.min_delay = 50ms, .max_delay = 60ms});
  const Slot slot = Expect();
  const SendId send = Begin(slot);
  Push(send, {{0, 0, 1000}});
  std::this_thread::sleep_for(10ms);
  const TimePoint cancelled = Now();
  sender_.engine->CancelSend(send);
  EXPECT_EQ(WaitSend(send), Event::Kind::kSendFailed);
  EXPECT_EQ(last_status_.code(), Code::kCancelled);
  // The write could not be taken back, so its bytes are there when the event comes.
  EXPECT_GT(Now() - cancelled, 20ms);
  EXPECT_EQ(std::memcmp(&receiver_.memory[0], &sender_.memory[0], 1000), 0);
}

TEST_F(EngineTest, RunsOutsideOfARegionAreRefused) {
  const SendId send = Begin(Expect());
  const auto code = [&](transfer::Run run) {
    return sender_.engine->Push(send, std::vector<transfer::Run>{run}).status().code();
  };
  EXPECT_EQ(code({kBytes - 5, 0, 6}), Code::kOutOfRange);
  EXPECT_EQ(code({0, kBytes - 5, 6}), Code::kOutOfRange);
  EXPECT_EQ(code({~0ull, 0, 2}), Code::kOutOfRange);
  EXPECT_EQ(code({0, ~0ull - 1, 2}), Code::kOutOfRange);
  EXPECT_EQ(code({0, 0, ~0ull}), Code::kOutOfRange);
  EXPECT_EQ(code({kBytes - 6, kBytes - 6, 6}), Code::kOk);
}

TEST_F(EngineTest, BadHandlesAreRefused) {
  const Slot slot = Expect();
  EXPECT_FALSE(sender_.engine->Begin({77}, slot, {0}, {0}, Now() + 1s).ok());
  EXPECT_FALSE(sender_.engine->Begin(to_receiver_, slot, {9}, {0}, Now() + 1s).ok());
  EXPECT_FALSE(sender_.engine->Begin(to_receiver_, slot, {0}, {9}, Now() + 1s).ok());
  EXPECT_FALSE(sender_.engine->Begin(to_receiver_, {kImmSlots, 0}, {0}, {0}, Now() + 1s).ok());
  EXPECT_FALSE(receiver_.engine->Expect({77}, Now() + 1s).ok());
  EXPECT_FALSE(sender_.engine->Push({}, std::vector<transfer::Run>{{0, 0, 1}}).ok());
  EXPECT_FALSE(sender_.engine->Push({~0ull}, std::vector<transfer::Run>{{0, 0, 1}}).ok());
  receiver_.engine->Seal({1 << 30, 3}, 1);
  receiver_.engine->Release({5, 3});
  sender_.engine->Finish({123});
  sender_.engine->CancelSend({~0ull});
  EXPECT_FALSE(sender_.engine->Register({nullptr, 10}).ok());
  EXPECT_FALSE(
      sender_.engine->Register({sender_.memory.data(), 10, DeviceKind::kCuda, 0}).ok());
}

TEST_F(EngineTest, PushAfterFinishIsRefused) {
  const SendId send = Begin(Expect());
  sender_.engine->Finish(send);
  EXPECT_EQ(sender_.engine->Push(send, std::vector<transfer::Run>{{0, 0, 1}}).status().code(),
            Code::kCancelled);
}

TEST_F(EngineTest, ReleasingAnOpenSlotEndsItFirst) {
  const Slot slot = Expect();
  receiver_.engine->Release(slot);
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveFailed);
  ExpectIdle();
  EXPECT_EQ(receiver_.log.CountSlot(slot), 1u);
}

TEST_F(EngineTest, DisconnectFailsEverythingThenFences) {
  const Slot slot = Expect();
  network_->SetFaults({.min_delay = 1h, .max_delay = 1h});
  const SendId send = Begin(slot);
  Push(send, {{0, 0, 100}});
  std::this_thread::sleep_for(5ms);
  sender_.engine->Disconnect(to_receiver_);
  EXPECT_EQ(WaitSend(send), Event::Kind::kSendFailed);
  EXPECT_TRUE(sender_.log.WaitPeer(Event::Kind::kFenced, to_receiver_));
  EXPECT_FALSE(sender_.engine->Begin(to_receiver_, slot, {0}, {0}, Now() + 1s).ok());
  receiver_.engine->Disconnect(to_sender_);
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveFailed);
  EXPECT_TRUE(receiver_.log.WaitPeer(Event::Kind::kFenced, to_sender_));
  EXPECT_FALSE(receiver_.engine->Expect(to_sender_, Now() + 1s).ok());
}

TEST_F(EngineTest, ADeadPeerIsLostOnBothSides) {
  const Slot slot = Expect();
  network_->Kill(sender_.address);
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveFailed);
  EXPECT_EQ(last_status_.code(), Code::kUnavailable);
  EXPECT_TRUE(receiver_.log.WaitPeer(Event::Kind::kPeerLost, to_sender_));
  receiver_.engine->Disconnect(to_sender_);
  EXPECT_TRUE(receiver_.log.WaitPeer(Event::Kind::kFenced, to_sender_));
}

TEST_F(EngineTest, ASilentPeerIsLost) {
  network_->SetPaused(receiver_.address, true);
  const SendId send = Begin({3, 0});
  Push(send, {{0, 0, 100}});
  EXPECT_EQ(WaitSend(send), Event::Kind::kSendFailed);
  EXPECT_EQ(last_status_.code(), Code::kUnavailable);
  network_->SetPaused(receiver_.address, false);
}

TEST_F(EngineTest, ConnectSaysWhatIsWrong) {
  EXPECT_EQ(sender_.engine->Connect("junk", Now() + 1s).status().code(), Code::kDataCorrupt);
  EXPECT_EQ(sender_.engine->Connect("", Now() + 1s).status().code(), Code::kDataCorrupt);
  PeerBlob blob = *ParseBlob(receiver_.engine->Describe());
  const std::string address = blob.address;
  blob.family = "efa";
  const Status family = sender_.engine->Connect(EncodeBlob(blob), Now() + 1s).status();
  EXPECT_EQ(family.code(), Code::kUnsupported);
  EXPECT_NE(family.message().find("efa"), std::string::npos);
  EXPECT_NE(family.message().find("loopback"), std::string::npos);
  blob.family = "loopback";
  blob.epoch = 99;
  blob.address = "loopback-77";
  EXPECT_FALSE(sender_.engine->Connect(EncodeBlob(blob), Now() + 1s).ok());
  // A peer that refuses our hello (its key is wrong) does not hang us.
  blob.address = address;
  blob.mailbox.key = 12345;
  const TimePoint start = Now();
  EXPECT_EQ(sender_.engine->Connect(EncodeBlob(blob), Now() + 10s).status().code(),
            Code::kUnavailable);
  EXPECT_LT(Now() - start, 5s);
  // One that does not answer at all is given up at the deadline.
  network_->SetPaused(receiver_.address, true);
  EXPECT_EQ(sender_.engine->Connect(receiver_.engine->Describe(), Now() + 100ms).status().code(),
            Code::kDeadlineExceeded);
  network_->SetPaused(receiver_.address, false);
  // What never joined is forgotten.
  for (int i = 0; i < 1000 && sender_.engine->usage().peers > 1; ++i)
    std::this_thread::sleep_for(1ms);
  EXPECT_EQ(sender_.engine->usage().peers, 1u);
}

TEST_F(EngineTest, TheSameDescriptionIsTheSamePeer) {
  const std::string blob = receiver_.engine->Describe();
  const auto once = sender_.engine->Connect(blob, Now() + 1s);
  const auto twice = sender_.engine->Connect(blob, Now() + 1s);
  ASSERT_TRUE(once.ok() && twice.ok());
  EXPECT_EQ(*once, *twice);
  // A new description of the same engine replaced the first one.
  EXPECT_NE(*once, to_receiver_);
  EXPECT_TRUE(sender_.log.WaitPeer(Event::Kind::kPeerLost, to_receiver_));
}

TEST_F(EngineTest, DescriptionsNeverRunOut) {
  for (uint32_t i = 0; i < kMailboxCells + 100; ++i)
    ASSERT_FALSE(receiver_.engine->Describe().empty()) << i;
  EXPECT_TRUE(sender_.engine->Connect(receiver_.engine->Describe(), Now() + 1s).ok());
}

TEST_F(EngineTest, ClosingFailsWhatIsOpen) {
  const Slot slot = Expect();
  network_->SetFaults({.min_delay = 1h, .max_delay = 1h});
  const SendId send = Begin(slot);
  Push(send, {{0, 0, 100}});
  sender_.engine.reset();
  receiver_.engine.reset();
  EXPECT_EQ(sender_.log.CountSend(send), 1u);
  EXPECT_EQ(receiver_.log.CountSlot(slot), 1u);
}

TEST_F(EngineTest, ManyThreadsPushAtOnce) {
  constexpr int kThreads = 4, kSends = 30;
  std::atomic<uint32_t> failures{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      const uint64_t base = t * (kBytes / kThreads);
      for (int i = 0; i < kSends; ++i) {
        auto slot = receiver_.engine->Expect(to_sender_, Now() + 20s);
        auto send = sender_.engine->Begin(to_receiver_, *slot, {0}, {0}, Now() + 20s);
        if (!slot.ok() || !send.ok()) {
          ++failures;
          continue;
        }
        uint32_t writes = 0;
        for (int p = 0; p < 20; ++p) {
          const uint64_t at = base + random() % 1000;
          auto pushed = sender_.engine->Push(*send, std::vector<transfer::Run>(3, {at, at, 50}));
          if (pushed.ok()) writes += *pushed;
        }
        sender_.engine->Finish(*send);
        receiver_.engine->Seal(*slot, writes);
        const auto received = receiver_.log.WaitSlot(*slot);
        const auto sent = sender_.log.WaitSend(*send);
        if (!received || received->kind != Event::Kind::kReceiveDone || received->writes != writes ||
            !sent || sent->kind != Event::Kind::kSendDone)
          ++failures;
        receiver_.engine->Release(*slot);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(failures.load(), 0u);
  ExpectIdle();
}

// The worker may end a send before Begin has returned.
TEST_F(EngineTest, SendsThatEndAtOnceKeepTheirNames) {
  constexpr int kThreads = 4, kSends = 150;
  const Slot slot = Expect();
  std::atomic<uint32_t> failures{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kSends; ++i) {
        const auto send = sender_.engine->Begin(to_receiver_, slot, {0}, {0}, Now() - 1s);
        if (!send.ok()) {
          ++failures;
          continue;
        }
        const std::vector<transfer::Run> runs = {{0, 0, 8}, {8, 8, 8}};
        (void)sender_.engine->Push(*send, runs);  // it may be over already
        const auto event = sender_.log.WaitSend(*send);
        if (!event || event->kind != Event::Kind::kSendFailed || sender_.log.CountSend(*send) != 1) ++failures;
        if (sender_.engine->Push(*send, runs).ok()) ++failures;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(failures.load(), 0u);
  receiver_.engine->Release(slot);
  ExpectIdle();
}

class SmallEngineTest : public EngineTest {
 protected:
  static Options Small() {
    Options options;
    options.max_slots = 2;
    options.max_sends = 2;
    options.max_queued_runs = 4;
    options.max_write_bytes = 100;
    return options;
  }
  SmallEngineTest() : EngineTest(Small()) {}
};

TEST_F(SmallEngineTest, BoundsAreKeptAndNamed) {
  Expect();
  Expect();
  const Status no_slot = receiver_.engine->Expect(to_sender_, Now() + 1s).status();
  EXPECT_EQ(no_slot.code(), Code::kResourceExhausted);
  const SendId send = Begin({0, 0});
  Begin({1, 0});
  EXPECT_EQ(sender_.engine->Begin(to_receiver_, {0, 0}, {0}, {0}, Now() + 1s).status().code(),
            Code::kResourceExhausted);
  EXPECT_EQ(sender_.engine->Push(send, std::vector<transfer::Run>(5, {0, 0, 1})).status().code(),
            Code::kResourceExhausted);
  EXPECT_EQ(Push(send, {{0, 0, 1}}), 1u);
}

TEST_F(SmallEngineTest, LongRunsAreCut) {
  const Slot slot = Expect();
  const SendId send = Begin(slot);
  const uint32_t writes = Push(send, {{5, 9, 250}, {1000, 2000, 100}});
  EXPECT_EQ(writes, 4u);
  sender_.engine->Finish(send);
  receiver_.engine->Seal(slot, writes);
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveDone);
  EXPECT_EQ(std::memcmp(&receiver_.memory[9], &sender_.memory[5], 250), 0);
}

TEST_F(SmallEngineTest, RunsMayBePushedForeverThroughASmallQueue) {
  const Slot slot = Expect();
  const SendId send = Begin(slot);
  uint32_t writes = 0;
  for (int i = 0; i < 500;) {
    auto pushed = sender_.engine->Push(send, std::vector<transfer::Run>{{0, 0, 30}});
    if (!pushed.ok()) {
      ASSERT_EQ(pushed.status().code(), Code::kResourceExhausted);
      std::this_thread::yield();
      continue;
    }
    writes += *pushed;
    ++i;
  }
  sender_.engine->Finish(send);
  receiver_.engine->Seal(slot, writes);
  EXPECT_EQ(WaitSlot(slot), Event::Kind::kReceiveDone);
  EXPECT_EQ(WaitSend(send), Event::Kind::kSendDone);
}

TEST(EngineOptions, AreChecked) {
  Options options;
  options.provider = ProviderKind::kLoopback;
  EXPECT_EQ(Engine::Open(options, [](const Event&) {}).status().code(), Code::kInvalidArgument);
  options.loopback = LoopbackNetwork::Create();
  options.max_slots = kImmSlots + 1;
  EXPECT_EQ(Engine::Open(options, [](const Event&) {}).status().code(), Code::kInvalidArgument);
  options.max_slots = 10;
  options.require_rdma = true;
  EXPECT_EQ(Engine::Open(options, [](const Event&) {}).status().code(), Code::kUnsupported);
  EXPECT_FALSE(ParseProvider("ib").ok());
  EXPECT_EQ(*ParseProvider("shm"), ProviderKind::kShm);
}

TEST(EngineIdle, TakesFewTurns) {
  Side side(LoopbackNetwork::Create());
  metrics::Registry registry;
  side.engine->ExportMetrics(registry);
  const auto steps = [&] {
    const std::string text = registry.Render();
    const size_t at = text.find("\nbaton_transfer_worker_steps_total");
    return std::stod(text.substr(text.find(' ', at + 1)));
  };
  const double before = steps();
  std::this_thread::sleep_for(300ms);
  EXPECT_LT(steps() - before, 60);  // every 10 ms
}

}  // namespace
}  // namespace baton::transfer
