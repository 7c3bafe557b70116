// Reads in place of writes, over tcp: every rule of fabric.h that differs from plain writes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "transfer/fabric_probe.h"
#include "transfer/libfabric/libfabric.h"
#include "transfer/libfabric/read_messages.h"
#include "transfer/transfer.h"

namespace baton::transfer {
namespace {

class ReadFabricTest : public testing::TestWithParam<const char*> {
 protected:
  static constexpr uint64_t kBytes = 1 << 20;

  ReadFabricTest() : source_(kBytes), sink_(kBytes) {
    for (size_t i = 0; i < kBytes; ++i) source_[i] = static_cast<std::byte>(i * 131 >> 7);
  }
  void SetUp() override {
    Options options;
    options.provider = ProviderKind::kTcp;
    options.fabric = GetParam();
    options.write_mode = WriteMode::kRead;
    auto writer = OpenLibfabric(options), target = OpenLibfabric(options);
    ASSERT_TRUE(writer.ok()) << writer.status().ToString();
    ASSERT_TRUE(target.ok()) << target.status().ToString();
    writer_ = *std::move(writer);
    target_ = *std::move(target);
    from_ = *writer_->Register({source_.data(), kBytes});
    into_ = *target_->Register({sink_.data(), kBytes});
    key_ = *target_->Expose(into_);
    peer_ = *writer_->Insert(target_->Address());
  }
  PostResult Write(OpContext* context, uint64_t offset, uint64_t bytes, uint64_t key, uint32_t imm) {
    Status why;
    return writer_->Write({.peer = peer_,
                           .local_region = from_,
                           .local_offset = offset <= kBytes - bytes ? offset : 0,
                           .bytes = bytes,
                           .remote_address = offset,
                           .remote_key = key,
                           .imm = imm,
                           .context = context},
                          Now(), why);
  }
  // Polls both (or one) until `done()`, at most 20 s.
  template <typename Done>
  bool PollUntil(Done done, bool writer = true, bool target = true, Duration time = 20s) {
    for (const TimePoint deadline = Now() + time; Now() < deadline;) {
      Completion some[7];
      if (writer) Sort(writer_->Poll(Now(), some), some);
      if (target) Sort(target_->Poll(Now(), some), some);
      if (done()) return true;
    }
    return false;
  }
  void Sort(size_t count, Completion* some) {
    for (size_t i = 0; i < count; ++i)
      (some[i].kind == Completion::Kind::kArrived ? arrived_ : done_).push_back(some[i]);
  }

  std::vector<std::byte> source_, sink_;
  std::unique_ptr<Fabric> writer_, target_;
  uint32_t from_ = 0, into_ = 0;
  MemoryKey key_;
  uint64_t peer_ = 0;
  std::vector<Completion> done_, arrived_;
};

TEST_P(ReadFabricTest, RenewingRefusesWhatWasPostedWithTheKeyBefore) {
  ASSERT_TRUE(target_->traits().renews_keys);
  OpContext contexts[3];
  ASSERT_EQ(Write(&contexts[0], 0, 4096, key_.key, 1), PostResult::kPosted);
  EXPECT_TRUE(PollUntil([&] { return done_.size() == 1; }));
  EXPECT_EQ(arrived_.size(), 1u);
  // Under way when the key is renewed: the target has not looked at the order yet.
  ASSERT_EQ(Write(&contexts[1], 4096, 4096, key_.key, 2), PostResult::kPosted);
  Completion none[4];
  writer_->Poll(Now(), none);
  const Result<MemoryKey> next = target_->Renew(key_);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(*next, NextKey(key_));
  EXPECT_TRUE(PollUntil([&] { return done_.size() == 2; }));
  EXPECT_EQ(done_[1].kind, Completion::Kind::kFailed);
  EXPECT_EQ(arrived_.size(), 1u);
  EXPECT_TRUE(std::all_of(sink_.begin() + 4096, sink_.begin() + 8192, [](std::byte b) { return b == std::byte{0}; }));
  ASSERT_EQ(Write(&contexts[2], 4096, 4096, next->key, 3), PostResult::kPosted);
  EXPECT_TRUE(PollUntil([&] { return done_.size() == 3; }));
  EXPECT_EQ(done_[2].kind, Completion::Kind::kDone);
  EXPECT_EQ(std::memcmp(sink_.data(), source_.data(), 8192), 0);
}

TEST_P(ReadFabricTest, EveryWriteEndsAndArrivesOnce) {
  EXPECT_EQ(writer_->traits().write_path, "read");
  constexpr uint32_t kWrites = 4096, kEach = kBytes / kWrites;
  std::vector<OpContext> contexts(kWrites);
  uint32_t posted = 0;
  EXPECT_TRUE(PollUntil([&] {
    while (posted < kWrites && Write(&contexts[posted], posted * kEach, kEach, key_.key, posted) == PostResult::kPosted)
      ++posted;
    return done_.size() >= kWrites && arrived_.size() >= kWrites;
  })) << posted << " posted, " << done_.size() << " done, " << arrived_.size() << " arrived";
  std::vector<uint32_t> ended(kWrites), seen(kWrites);
  for (const Completion& one : done_) {
    ASSERT_EQ(one.kind, Completion::Kind::kDone) << one.status.ToString();
    ++ended[static_cast<size_t>(one.context - contexts.data())];
  }
  for (const Completion& one : arrived_) {
    ASSERT_LT(one.imm, kWrites);
    ++seen[one.imm];
    EXPECT_EQ(one.bytes, kEach);
  }
  EXPECT_EQ(ended, std::vector<uint32_t>(kWrites, 1));
  EXPECT_EQ(seen, std::vector<uint32_t>(kWrites, 1));
  EXPECT_EQ(source_, sink_);
}

// As at the start of every server, also where the longest write is no fraction of what the test moves.
TEST_P(ReadFabricTest, PassesTheSelfTest) {
  const Result<double> speed = RunSelfTest(*target_, std::nullopt, Now() + 20s);
  ASSERT_TRUE(speed.ok()) << speed.status().ToString();
  EXPECT_GT(*speed, 0);
}

TEST_P(ReadFabricTest, RevokedKeysAndBadPlacesAreRefused) {
  const MemoryKey revoked = *target_->Expose(into_);
  target_->Revoke(revoked);
  OpContext contexts[4];
  EXPECT_EQ(Write(&contexts[0], 0, 100, revoked.key, 0), PostResult::kPosted);
  EXPECT_EQ(Write(&contexts[1], kBytes - 96, 97, key_.key, 1), PostResult::kPosted);
  EXPECT_EQ(Write(&contexts[2], ~uint64_t{5}, 10, key_.key, 2), PostResult::kPosted);
  EXPECT_EQ(Write(&contexts[3], 3996, 100, key_.key, 3), PostResult::kPosted);
  ASSERT_TRUE(PollUntil([&] { return done_.size() == 4 && arrived_.size() == 1; }));
  EXPECT_EQ(arrived_[0].imm, 3u);
  for (const Completion& one : done_) {
    const bool good = one.context == &contexts[3];
    EXPECT_EQ(one.kind, good ? Completion::Kind::kDone : Completion::Kind::kFailed);
  }
  EXPECT_EQ(sink_[3995], std::byte{0});
  EXPECT_EQ(std::memcmp(&sink_[3996], &source_[3996], 100), 0);
  EXPECT_EQ(sink_[4096], std::byte{0});
}

// The writer stands still with reads of its memory under way: Revoke returns in bounded time, and no
// byte lands after it, also when the writer goes on.
TEST_P(ReadFabricTest, RevokeEndsReadsUnderWay) {
  OpContext first;
  ASSERT_EQ(Write(&first, 0, 64, key_.key, 1), PostResult::kPosted);
  ASSERT_TRUE(PollUntil([&] { return done_.size() == 1 && arrived_.size() == 1; }));
  OpContext second;
  ASSERT_EQ(Write(&second, 0, 256 << 10, key_.key, 2), PostResult::kPosted);
  PollUntil([] { return false; }, true, false, 50ms);  // the order goes out
  PollUntil([] { return false; }, false, true, 50ms);  // the read is asked for
  const TimePoint start = Now();
  target_->Revoke(key_);
  EXPECT_LT(Seconds(Now() - start), 5.0);
  std::fill(sink_.begin(), sink_.end(), std::byte{0x5A});
  PollUntil([] { return false; }, true, true, 300ms);
  for (const std::byte b : sink_) ASSERT_EQ(b, std::byte{0x5A}) << "a byte landed after the key was revoked";
  EXPECT_EQ(arrived_.size(), 1u);
}

// The target takes leave of the session before this one while the first order of the new one waits to be
// read, or is half done: the connection and the order are gone, and nobody tells the writer.
TEST_P(ReadFabricTest, TheFirstOrderIsNotLostWithTheSessionBefore) {
  for (const bool begun : {false, true}) {
    const uint64_t back = *target_->Insert(writer_->Address());
    OpContext before, first;
    ASSERT_EQ(Write(&before, 0, 64, key_.key, 1), PostResult::kPosted);
    ASSERT_TRUE(PollUntil([&] { return done_.size() == 1 && arrived_.size() == 1; }));
    const uint64_t again = *writer_->Insert(target_->Address());
    writer_->Remove(std::exchange(peer_, again));
    ASSERT_EQ(Write(&first, 0, 4096, key_.key, 2), PostResult::kPosted);
    PollUntil([] { return false; }, true, false, 20ms);             // the order goes out
    if (begun) PollUntil([] { return false; }, false, true, 20ms);  // the read is asked for
    target_->Remove(back);
    EXPECT_TRUE(PollUntil([&] { return done_.size() == 2; }, true, true, 5s)) << "begun: " << begun;
    PollUntil([] { return false; }, true, true, 300ms);
    ASSERT_EQ(done_.size(), 2u);
    EXPECT_EQ(done_[1].kind, Completion::Kind::kDone) << done_[1].status.ToString();
    ASSERT_EQ(arrived_.size(), 2u);
    EXPECT_EQ(arrived_[1].imm, 2u);
    done_.clear();
    arrived_.clear();
  }
  EXPECT_EQ(std::memcmp(sink_.data(), source_.data(), 4096), 0);
}

// The first order is repeated while the target stands still, and carried out once.
TEST_P(ReadFabricTest, ARepeatedOrderArrivesOnce) {
  OpContext contexts[3];
  ASSERT_EQ(Write(&contexts[0], 0, 64, key_.key, 1), PostResult::kPosted);
  ASSERT_TRUE(PollUntil([&] { return done_.size() == 1; }));
  const uint64_t again = *writer_->Insert(target_->Address());
  writer_->Remove(std::exchange(peer_, again));
  ASSERT_EQ(Write(&contexts[1], 0, 4096, key_.key, 2), PostResult::kPosted);
  PollUntil([] { return false; }, true, false, 400ms);
  ASSERT_TRUE(PollUntil([&] { return done_.size() == 2; }));
  ASSERT_EQ(Write(&contexts[2], 4096, 4096, key_.key, 3), PostResult::kPosted);
  ASSERT_TRUE(PollUntil([&] { return done_.size() == 3; }));
  PollUntil([] { return false; }, true, true, 300ms);
  EXPECT_EQ(done_.size(), 3u);
  EXPECT_EQ(arrived_.size(), 3u);
}

// The writer takes its memory back (Remove) before the target has read: nothing is reported, for what
// would be read may be anything.
TEST_P(ReadFabricTest, NothingArrivesFromAWriterThatRemovedUs) {
  OpContext first;
  ASSERT_EQ(Write(&first, 0, 64, key_.key, 1), PostResult::kPosted);
  ASSERT_TRUE(PollUntil([&] { return done_.size() == 1 && arrived_.size() == 1; }));
  OpContext second;
  ASSERT_EQ(Write(&second, 0, 4096, key_.key, 2), PostResult::kPosted);
  PollUntil([] { return false; }, true, false, 50ms);  // the order goes out
  writer_->Remove(peer_);
  std::fill(source_.begin(), source_.end(), std::byte{0xEE});
  ASSERT_TRUE(PollUntil([&] { return done_.size() == 2; }));
  EXPECT_EQ(done_[1].kind, Completion::Kind::kFailed);
  EXPECT_EQ(done_[1].context, &second);
  PollUntil([] { return false; }, true, true, 300ms);
  EXPECT_EQ(arrived_.size(), 1u);
  Status why;
  EXPECT_EQ(writer_->Write({.peer = peer_, .bytes = 1, .context = &first}, Now(), why), PostResult::kFailed);
}

INSTANTIATE_TEST_SUITE_P(Ways, ReadFabricTest, testing::Values("rxm", "native"),
                         [](const auto& info) { return std::string(info.param); });

TEST(ReadMessages, OnlyWholeOnesAreTaken) {
  using namespace reads;
  Order order;
  order.header.pieces = 3;
  order.address_bytes = 16;
  const auto bytes = [](const auto& message, size_t size) {
    return std::span(reinterpret_cast<const std::byte*>(&message), size);
  };
  EXPECT_EQ(KindOf(bytes(order, OrderBytes(3))), Kind::kOrder);
  EXPECT_EQ(KindOf(bytes(order, OrderBytes(3) - 1)), Kind{});
  EXPECT_EQ(KindOf(bytes(order, OrderBytes(2))), Kind{});
  EXPECT_EQ(KindOf(bytes(order, sizeof(Header) - 1)), Kind{});
  EXPECT_EQ(KindOf({}), Kind{});
  for (const uint16_t pieces : {0, 33, 0xFFFF}) {
    order.header.pieces = pieces;
    EXPECT_EQ(KindOf(bytes(order, std::min(sizeof order, OrderBytes(pieces)))), Kind{});
  }
  order.header.pieces = 1;
  for (const uint32_t size : {0u, 65u, ~0u}) {
    order.address_bytes = size;
    EXPECT_EQ(KindOf(bytes(order, OrderBytes(1))), Kind{});
  }
  Answer answer;
  answer.header.kind = Kind::kAnswer;
  EXPECT_EQ(KindOf(bytes(answer, sizeof answer)), Kind::kAnswer);
  EXPECT_EQ(KindOf(bytes(answer, sizeof answer - 1)), Kind{});
  answer.header.magic = 1;
  EXPECT_EQ(KindOf(bytes(answer, sizeof answer)), Kind{});
}

}  // namespace
}  // namespace baton::transfer
