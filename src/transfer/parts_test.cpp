// The small parts below the engine: immediates, blobs, timers, queues.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <thread>

#include "transfer/blob.h"
#include "transfer/dirty_list.h"
#include "transfer/imm.h"
#include "transfer/index_pool.h"
#include "transfer/run_ring.h"
#include "transfer/timer_wheel.h"

namespace baton::transfer {
namespace {

TEST(Imm, PacksTwentyEightFourBits) {
  EXPECT_EQ(PackImm({0xABCDE, 0x12, ImmKind::kHello}), 0xABCDE121u);
  const Imm imm = UnpackImm(PackImm({kImmSlots - 1, 255, ImmKind::kData}));
  EXPECT_EQ(imm.slot, kImmSlots - 1);
  EXPECT_EQ(imm.generation, 255);
  EXPECT_EQ(imm.kind, ImmKind::kData);
}

PeerBlob SampleBlob() {
  PeerBlob blob;
  blob.family = "tcp";
  blob.epoch = 0x1122334455667788;
  blob.key_set = 17;
  blob.key_set_generation = 3;
  blob.address = std::string("\x02\x00\x1f\x90\x7f\x00\x00\x01", 8);
  blob.mailbox = {0, 99};
  blob.regions = {{{0x7f0000000000, 5}, 1 << 30}, {{0, 6}, 4096}};
  return blob;
}

TEST(Blob, ReadsWhatItWrote) {
  const PeerBlob blob = SampleBlob();
  Result<PeerBlob> read = ParseBlob(EncodeBlob(blob));
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(*read, blob);
}

TEST(Blob, RefusesEveryTruncationAndEveryFlippedBit) {
  const std::string bytes = EncodeBlob(SampleBlob());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const Result<PeerBlob> read = ParseBlob(bytes.substr(0, size));
    ASSERT_FALSE(read.ok()) << size;
    EXPECT_EQ(read.status().code(), Code::kDataCorrupt);
  }
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_FALSE(ParseBlob(damaged).ok()) << "bit " << bit;
  }
  EXPECT_FALSE(ParseBlob(bytes + "x").ok());
}

TEST(Blob, NamesBothProtocolVersions) {
  std::string bytes = EncodeBlob(SampleBlob());
  bytes[4] = 9;
  const Result<PeerBlob> read = ParseBlob(bytes);
  EXPECT_EQ(read.status().code(), Code::kUnsupported);
  EXPECT_NE(read.status().message().find('9'), std::string::npos);
  EXPECT_NE(read.status().message().find(std::to_string(kProtocolVersion)), std::string::npos);
}

TEST(Blob, RefusesValuesThatCannotBe) {
  const auto refused = [](auto change) {
    PeerBlob blob = SampleBlob();
    change(blob);
    return ParseBlob(EncodeBlob(blob)).status().code() == Code::kDataCorrupt;
  };
  EXPECT_TRUE(refused([](PeerBlob& b) { b.key_set = kMailboxCells; }));
  EXPECT_TRUE(refused([](PeerBlob& b) { b.address.clear(); }));
  EXPECT_TRUE(refused([](PeerBlob& b) { b.address.assign(kMaxAddressBytes + 1, 'a'); }));
  EXPECT_TRUE(refused([](PeerBlob& b) { b.family.clear(); }));
  EXPECT_TRUE(refused([](PeerBlob& b) { b.regions[0].size_bytes = 0; }));
  EXPECT_TRUE(refused([](PeerBlob& b) { b.regions[0].key.base = ~0ull - 10; }));
  EXPECT_TRUE(refused([](PeerBlob& b) { b.mailbox.base = ~0ull; }));
  EXPECT_TRUE(refused([](PeerBlob& b) { b.regions.resize(kMaxRegions + 1, b.regions[0]); }));
}

TEST(TimerWheel, FiresLikeASortedMap) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    constexpr uint32_t kTimers = 50;
    TimerWheel wheel(kTimers);
    std::map<uint32_t, TimePoint> armed;
    TimePoint now = TimePoint{} + 1h;
    for (int step = 0; step < 300; ++step) {
      const uint32_t id = random() % kTimers;
      if (random() % 3) {
        const TimePoint at = now + std::chrono::microseconds(int(random() % 3'000'000) - 5000);
        wheel.Arm(id, at);
        armed[id] = at;
      } else {
        wheel.Disarm(id);
        armed.erase(id);
      }
      now += std::chrono::microseconds(random() % (random() % 20 ? 5000 : 2'000'000));
      std::set<uint32_t> due, fired;
      for (const auto& [timer, at] : armed)
        if (at <= now) due.insert(timer);
      wheel.Advance(now, [&](uint32_t timer) { EXPECT_TRUE(fired.insert(timer).second); });
      ASSERT_EQ(fired, due) << "step " << step;
      for (const uint32_t timer : due) armed.erase(timer);
      ASSERT_EQ(wheel.armed(), armed.size());
    }
  }
}

TEST(TimerWheel, AHandlerMayDisarmAndRearm) {
  TimerWheel wheel(3);
  const TimePoint start = TimePoint{} + 1h;
  wheel.Arm(0, start);
  wheel.Arm(1, start);
  uint32_t fired = 0;
  wheel.Advance(start + 1ms, [&](uint32_t id) {
    ++fired;
    wheel.Disarm(1 - id);
    wheel.Arm(2, start + 1s);
  });
  EXPECT_EQ(fired, 1u);
  EXPECT_EQ(wheel.armed(), 1u);
}

TEST(IndexPool, HandsOutTheOldestFirst) {
  IndexPool pool(3);
  EXPECT_EQ(pool.Take(), 0u);
  EXPECT_EQ(pool.Take(), 1u);
  pool.Put(0);
  EXPECT_EQ(pool.Take(), 2u);
  EXPECT_EQ(pool.Take(), 0u);
  EXPECT_EQ(pool.Take(), std::nullopt);
}

TEST(DirtyList, LosesNoMarkBetweenThreads) {
  constexpr uint32_t kEntries = 8, kThreads = 3, kRounds = 20'000;
  DirtyList list(kEntries);
  std::array<std::atomic<uint32_t>, kEntries> wanted{};
  std::array<uint32_t, kEntries> seen{};
  std::atomic<uint32_t> running{kThreads};
  std::vector<std::jthread> threads;
  for (uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (uint32_t i = 0; i < kRounds; ++i) {
        const uint32_t entry = random() % kEntries;
        wanted[entry].fetch_add(1, std::memory_order_relaxed);
        list.Mark(entry);
      }
      running.fetch_sub(1);
    });
  }
  const auto take = [&] {
    list.TakeAll([&](uint32_t entry) { seen[entry] += wanted[entry].exchange(0); });
  };
  while (running.load()) take();
  take();
  uint32_t total = 0;
  for (const uint32_t count : seen) total += count;
  EXPECT_EQ(total, kThreads * kRounds);
  EXPECT_TRUE(list.empty());
}

TEST(RunRing, KeepsEachThreadsOrderAndItsBound) {
  constexpr uint32_t kBound = 64, kThreads = 3;
  constexpr uint64_t kRuns = 20'000;
  RunRing ring(kBound);
  std::vector<std::jthread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < kRuns;) {
        uint64_t position;
        const uint32_t count = static_cast<uint32_t>(std::min<uint64_t>(1 + i % 5, kRuns - i));
        if (!ring.Reserve(count, position)) {
          std::this_thread::yield();
          continue;
        }
        for (uint32_t k = 0; k < count; ++k) ring.Put(position + k, {t}, {i++, 0, 1});
      }
    });
  }
  std::array<uint64_t, kThreads> next{};
  uint64_t total = 0;
  while (total < kThreads * kRuns) {
    EXPECT_LE(ring.held(), kBound + 5 * kThreads);  // refused reservations show for a moment
    SendId id;
    transfer::Run run;
    if (!ring.Take(ring.Snapshot(), id, run)) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(run.local_offset, next[id.value]++);
    ++total;
    ring.GiveBack(1);
  }
  EXPECT_EQ(ring.held(), 0u);
}

TEST(RunRing, RefusesAboveTheBound) {
  RunRing ring(4);
  uint64_t position;
  EXPECT_FALSE(ring.Reserve(5, position));
  EXPECT_TRUE(ring.Reserve(4, position));
  EXPECT_FALSE(ring.Reserve(1, position));
  ring.GiveBack(1);
  EXPECT_TRUE(ring.Reserve(1, position));
}

}  // namespace
}  // namespace baton::transfer
