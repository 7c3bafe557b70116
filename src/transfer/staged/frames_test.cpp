// Frames over the loopback network, single writes by hand: what shares one, what a refused entry, a lost
// word or a fence does to the writes in it. Between engines: simulation_test.cpp, rails_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <optional>

#include "transfer/cuda/cuda_for_tests.h"
#include "transfer/loopback/loopback.h"
#include "transfer/staged/outgoing_ring.h"
#include "transfer/staged/staged_fabric.h"

namespace baton::transfer {
namespace {

// What the fabric below is asked to write, and a hand to stop it.
class Tap final : public Fabric {
 public:
  enum class Fate { kGoes, kLost, kInDoubt };  // lost: it counts as done
  struct Seen {
    ImmKind kind;
    uint64_t bytes, local_offset;
  };

  explicit Tap(std::unique_ptr<Fabric> below) : below_(std::move(below)) {}
  const FabricTraits& traits() const override { return below_->traits(); }
  std::string Address() const override { return below_->Address(); }
  Result<std::string> Invite() override { return below_->Invite(); }
  Result<uint32_t> Register(MemorySpan memory) override { return below_->Register(memory); }
  void Unregister(uint32_t region) override { below_->Unregister(region); }
  Result<MemoryKey> Expose(uint32_t region) override { return below_->Expose(region); }
  void Revoke(const MemoryKey& key) override { below_->Revoke(key); }
  Result<MemoryKey> Renew(const MemoryKey& key) override { return below_->Renew(key); }
  // As rails do: the keys that the peer was given stay good.
  void Follow(uint64_t, const MemoryKey& key) override { followed_[key.key] = NextKey(followed_.contains(key.key) ? followed_[key.key] : key); }
  Result<uint64_t> Insert(std::string_view address) override { return below_->Insert(address); }
  void Remove(uint64_t peer) override { below_->Remove(peer); }
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override {
    const ImmKind kind = UnpackImm(request.imm).kind;
    seen.push_back({kind, request.bytes, request.local_offset});
    const Fate what = fate ? fate(seen.back()) : Fate::kGoes;
    if (what == Fate::kGoes) {
      WriteRequest followed = request;
      if (const auto key = followed_.find(request.remote_key); key != followed_.end()) followed.remote_key = key->second.key;
      return below_->Write(followed, now, why);
    }
    Completion end;
    end.context = request.context;
    if (what == Fate::kInDoubt) {
      end.kind = Completion::Kind::kFailed;
      end.in_doubt = true;
      end.status = Error(Code::kUnavailable, "in doubt");
    }
    ends_.push_back(end);
    return PostResult::kPosted;
  }
  size_t Poll(TimePoint now, std::span<Completion> out) override {
    size_t count = below_->Poll(now, out);
    for (; count < out.size() && !ends_.empty(); ends_.pop_back()) out[count++] = ends_.back();
    return count;
  }
  size_t Count(ImmKind kind) const {
    return static_cast<size_t>(std::count_if(seen.begin(), seen.end(), [&](const Seen& one) { return one.kind == kind; }));
  }

  std::vector<Seen> seen;
  std::function<Fate(const Seen&)> fate;

 private:
  std::unique_ptr<Fabric> below_;
  std::map<uint64_t, MemoryKey> followed_;
  std::vector<Completion> ends_;
};

// A writer and a target with two regions each (0 and 1), open to the writer by one invitation.
class Frames : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 1 << 20, kBelow = 8 << 10, kBlock = 4096;

  void SetUp() override { Make(std::nullopt); }
  void Make(std::optional<int> device) {
    network_ = LoopbackNetwork::Create(9, {});
    writer_ = Open(writers_tap_, device);
    target_ = Open(targets_tap_, device);
    source_ = cuda::RandomBytes(kBytes, 2);
    from_ = *writer_->Register(cuda::SpanOf(source_));
    keys_.clear();
    for (int i = 0; i < 2; ++i) {
      sinks_[i].assign(kBytes, std::byte{0});
      const bool on_device = device && i == 1;
      if (on_device) sink_device_.emplace(*cuda::DeviceBuffer::Create(*device, kBytes));
      const uint32_t region = *target_->Register(on_device ? sink_device_->span() : cuda::SpanOf(sinks_[i]));
      keys_.push_back(*target_->Expose(region));
    }
    peer_ = *writer_->Insert(*target_->Invite());
    own_ = *writer_->Expose(from_);
    ASSERT_TRUE(target_->Insert(*writer_->Invite()).ok());  // acknowledgements go there
  }
  std::unique_ptr<Fabric> Open(Tap*& tap, std::optional<int> device) {
    auto below = std::make_unique<Tap>(network_->Open(0, kBelow));
    tap = below.get();
    return *staged::Wrap(std::move(below), device);
  }
  PostResult Post(uint32_t i, uint64_t offset, uint64_t bytes, const MemoryKey& key, ImmKind kind = ImmKind::kData) {
    Status why;
    const PostResult result = writer_->Write({.peer = peer_,
                                              .local_region = from_,
                                              .local_offset = offset % (kBytes - bytes + 1),
                                              .bytes = bytes,
                                              .remote_address = key.base + offset,
                                              .remote_key = key.key,
                                              .imm = PackImm({.slot = i, .kind = kind}),
                                              .context = &contexts_[i]},
                                             now_, why);
    why_ = why;
    return result;
  }
  void Write(uint32_t i, uint64_t offset, uint64_t bytes, const MemoryKey& key, ImmKind kind = ImmKind::kData) {
    ASSERT_EQ(Post(i, offset, bytes, key, kind), PostResult::kPosted) << why_.ToString();
  }
  // Two make a frame: one alone would go by itself.
  void WritePair(uint32_t i, uint64_t offset) {
    Write(i, offset, kBlock, keys_[0]);
    Write(i + 1, offset + kBlock, kBlock, keys_[0]);
  }
  void PollWriter() { Take(*writer_, ended_); }
  void PollTarget() { Take(*target_, arrived_); }
  void Step(int times = 1) {
    for (int i = 0; i < times; ++i) {
      now_ += 100us;
      PollWriter();
      PollTarget();
    }
  }
  void Take(Fabric& fabric, std::vector<Completion>& into) {
    Completion batch[64];
    const size_t count = fabric.Poll(now_, batch);
    into.insert(into.end(), batch, batch + count);
  }
  size_t Count(Completion::Kind kind) const {
    return static_cast<size_t>(std::count_if(ended_.begin(), ended_.end(), [&](const auto& one) { return one.kind == kind; }));
  }
  bool Landed(int sink, uint64_t offset, uint64_t bytes) const {
    return std::memcmp(&sinks_[sink][offset], &source_[offset], bytes) == 0;
  }
  bool Untouched(int sink, uint64_t offset, uint64_t bytes) const {
    return std::all_of(&sinks_[sink][offset], &sinks_[sink][offset] + bytes, [](std::byte b) { return b == std::byte{0}; });
  }

  TimePoint now_ = TimePoint{} + 1h;
  std::shared_ptr<LoopbackNetwork> network_;
  std::vector<std::byte> source_, sinks_[2];
  std::optional<cuda::DeviceBuffer> sink_device_;
  Tap *writers_tap_ = nullptr, *targets_tap_ = nullptr;
  std::unique_ptr<Fabric> writer_, target_;
  std::vector<MemoryKey> keys_;
  uint32_t from_ = 0;
  MemoryKey own_;
  uint64_t peer_ = 0;
  Status why_;
  OpContext contexts_[1024];
  std::vector<Completion> ended_, arrived_;
};

TEST_F(Frames, WritesOfARoundShareOneAndOneAcknowledgement) {
  for (uint32_t i = 0; i < 10; ++i) Write(i, i * 2 * kBlock, kBlock - 3 * i, keys_[i % 2]);
  EXPECT_TRUE(writers_tap_->seen.empty());
  EXPECT_FALSE(writer_->PrepareSleep());
  PollWriter();
  ASSERT_EQ(writers_tap_->Count(ImmKind::kFrame), 1u);
  EXPECT_EQ(writers_tap_->seen.size(), 1u);
  Step(20);
  EXPECT_EQ(targets_tap_->Count(ImmKind::kFrameAck), 1u);
  ASSERT_EQ(arrived_.size(), 10u);
  ASSERT_EQ(Count(Completion::Kind::kDone), 10u);
  for (uint32_t i = 0; i < 10; ++i) {
    EXPECT_EQ(arrived_[i].imm, PackImm({.slot = i}));
    EXPECT_EQ(arrived_[i].bytes, kBlock - 3 * i);
    EXPECT_EQ(ended_[i].context, &contexts_[i]);
    EXPECT_TRUE(Landed(i % 2, i * 2 * kBlock, kBlock - 3 * i)) << i;
    EXPECT_TRUE(Untouched(i % 2, i * 2 * kBlock + kBlock - 3 * i, 3 * i)) << i;
  }
  EXPECT_TRUE(writer_->PrepareSleep());
}

TEST_F(Frames, DoneMeansLandedAndTheSourceIsFreeAtOnce) {
  const std::vector<std::byte> before = source_;
  WritePair(0, 0);
  std::fill(source_.begin(), source_.end(), std::byte{0x77});
  for (int i = 0; i < 10; ++i) {
    now_ += 100us;
    PollWriter();  // the target does nothing
  }
  EXPECT_TRUE(ended_.empty());
  for (int i = 0; i < 20 && ended_.empty(); ++i) Step();
  EXPECT_EQ(Count(Completion::Kind::kDone), 2u);
  EXPECT_EQ(std::memcmp(sinks_[0].data(), before.data(), 2 * kBlock), 0);
}

// No frame, no acknowledgement; and frames go on where they were.
TEST_F(Frames, ALoneWriteGoesByItself) {
  for (uint32_t i = 0; i < 8; i += 4) {
    WritePair(i, i * kBlock);
    PollWriter();
    Write(i + 2, (i + 2) * kBlock, kBlock, keys_[0], DataKind(1));
    PollWriter();
    Write(i + 3, (i + 3) * kBlock, 100, keys_[1]);
    Step(30);
  }
  EXPECT_EQ(writers_tap_->Count(ImmKind::kFrame), 2u);
  EXPECT_EQ(writers_tap_->Count(DataKind(1)), 2u);
  EXPECT_EQ(writers_tap_->Count(ImmKind::kData), 2u);
  EXPECT_EQ(targets_tap_->seen.size(), 2u) << "acknowledgements";
  EXPECT_EQ(Count(Completion::Kind::kDone), 8u);
  EXPECT_EQ(arrived_.size(), 8u);
  for (uint32_t i = 0; i < 8; i += 4) {
    EXPECT_TRUE(Landed(0, i * kBlock, 3 * kBlock) && Landed(1, (i + 3) * kBlock, 100)) << i;
    EXPECT_TRUE(Untouched(1, (i + 3) * kBlock + 100, 28)) << i;
  }
}

TEST_F(Frames, AFullOneGoesAtOnceTheRestWithPoll) {
  constexpr uint32_t kWrites = staged::kMaxEntries + 7;
  for (const uint64_t bytes : {uint64_t{64}, kBlock}) {
    writers_tap_->seen.clear();
    ended_.clear();
    for (uint32_t i = 0; i < kWrites; ++i) {
      EXPECT_EQ(writers_tap_->seen.size(), i < staged::kMaxEntries ? 0u : 1u) << i;
      Write(i, i * bytes, bytes, keys_[0]);
    }
    PollWriter();
    ASSERT_EQ(writers_tap_->Count(ImmKind::kFrame), 2u);
    EXPECT_LE(writers_tap_->seen[0].bytes, staged::kFrameBytes);
    Step(30);
    EXPECT_EQ(Count(Completion::Kind::kDone), kWrites);
    EXPECT_TRUE(Landed(0, 0, kWrites * bytes));
  }
}

TEST_F(Frames, OnlyShortDataIsGathered) {
  Write(0, 0, kBelow, keys_[0]);
  EXPECT_EQ(writers_tap_->Count(ImmKind::kData), 1u);
  for (const ImmKind mail : {ImmKind::kHello, ImmKind::kCredit, ImmKind::kManifest, ImmKind::kConsent}) {
    Write(static_cast<uint32_t>(mail), 64, 40, keys_[0], mail);
    EXPECT_EQ(writers_tap_->Count(mail), 1u);
  }
  for (uint32_t i : {20, 21}) Write(i, 0, kBelow - 1, keys_[0], DataKind(1));
  EXPECT_EQ(writers_tap_->seen.size(), 5u);
  Step(20);
  EXPECT_EQ(writers_tap_->Count(ImmKind::kFrame), 1u);
  EXPECT_EQ(Count(Completion::Kind::kDone), 7u);
  EXPECT_EQ(arrived_.size(), 7u);
}

// Where nothing else is in flight the ring begins anew: few writes use the same few pages.
TEST_F(Frames, FewWritesTouchLittleMemory) {
  for (uint32_t i = 0; i < 50; i += 2) {
    WritePair(i, 0);
    Step(10);
  }
  EXPECT_EQ(Count(Completion::Kind::kDone), 50u);
  for (const auto& one : writers_tap_->seen) EXPECT_EQ(one.local_offset, 0u);
}

TEST_F(Frames, AFullRingSaysAgainAndLosesNothing) {
  uint32_t posted = 0;
  while (Post(posted, posted * 512, kBlock, keys_[0]) == PostResult::kPosted) {
    ++posted;
    PollWriter();
  }
  ASSERT_TRUE(why_.ok()) << why_.ToString();
  EXPECT_EQ(posted, staged::kMaxFrames);  // one to each
  Step(1000);
  EXPECT_EQ(Count(Completion::Kind::kDone), posted);
  for (posted = 0; Post(posted, posted * 16, 16, keys_[0]) == PostResult::kPosted;) ++posted;
  EXPECT_EQ(posted, staged::OutgoingRing::kMaxWrites);
  Step(1000);
  EXPECT_EQ(Count(Completion::Kind::kDone), staged::kMaxFrames + posted);
  EXPECT_EQ(arrived_.size(), staged::kMaxFrames + posted);
}

// A bad key, a bad place, one that was exposed to nobody: the entries before it stand, the rest of the frame
// and all later ones do not land, and the writer learns of it.
TEST_F(Frames, ARefusedEntryEndsTheArea) {
  const MemoryKey foreign{.base = keys_[0].base, .key = keys_[0].key + 12345};
  for (const auto& [key, offset] : {std::pair(foreign, uint64_t{0}), std::pair(keys_[0], kBytes - kBlock + 1),
                                    std::pair(keys_[0], ~uint64_t{0} - 100), std::pair(own_, uint64_t{0})}) {
    Make(std::nullopt);
    ended_.clear();
    arrived_.clear();
    const MemoryKey bad{.base = key.base, .key = key.key == foreign.key || key == own_ ? foreign.key : keys_[0].key};
    Write(0, 0, kBlock, keys_[0]);
    Write(1, 0, kBlock, keys_[1]);
    Write(2, offset, kBlock, bad);
    Write(3, 2 * kBlock, kBlock, keys_[0]);
    PollWriter();
    WritePair(4, 3 * kBlock);
    Step(30);
    EXPECT_EQ(writers_tap_->Count(ImmKind::kFrame), 2u);
    ASSERT_EQ(arrived_.size(), 2u);
    EXPECT_TRUE(Landed(0, 0, kBlock) && Landed(1, 0, kBlock));
    EXPECT_TRUE(Untouched(0, kBlock, kBytes - kBlock));
    ASSERT_EQ(Count(Completion::Kind::kFailed), 6u);
    for (const Completion& one : ended_) {
      EXPECT_TRUE(one.peer_lost && !one.in_doubt);
      EXPECT_NE(one.status.message().find("refused"), std::string::npos) << one.status.message();
    }
    ended_.clear();
    Write(6, 0, kBlock, keys_[0]);
    PollWriter();
    EXPECT_EQ(Count(Completion::Kind::kFailed), 1u);
    EXPECT_TRUE(ended_[0].peer_lost);
  }
}

TEST_F(Frames, NothingLandsAfterRevoke) {
  // In mid-frame: of two keys one goes while the frame is on its way.
  for (uint32_t i = 0; i < 4; ++i) Write(i, i * kBlock, kBlock, keys_[i % 2]);
  PollWriter();
  target_->Revoke(keys_[1]);
  Step(30);
  ASSERT_EQ(arrived_.size(), 1u);
  EXPECT_TRUE(Landed(0, 0, kBlock));
  EXPECT_TRUE(Untouched(0, kBlock, kBytes - kBlock));
  EXPECT_TRUE(Untouched(1, 0, kBytes));
  EXPECT_EQ(Count(Completion::Kind::kFailed), 4u);
  // All of them: the area goes.
  Make(std::nullopt);
  arrived_.clear();
  ended_.clear();
  for (uint32_t i = 0; i < 4; ++i) Write(i, i * kBlock, kBlock, keys_[i % 2]);
  PollWriter();
  for (const MemoryKey& key : keys_) target_->Revoke(key);
  Step(30);
  EXPECT_TRUE(arrived_.empty());
  EXPECT_TRUE(Untouched(0, 0, kBytes) && Untouched(1, 0, kBytes));
  writer_->Remove(peer_);
  Step(5);
  EXPECT_EQ(Count(Completion::Kind::kFailed), 4u);
}

TEST_F(Frames, ALostAcknowledgementIsAskedForAndSoIsALostAnswer) {
  int lost = 0;
  targets_tap_->fate = [&](const Tap::Seen& one) {
    return one.kind == ImmKind::kFrameAck && lost++ < 2 ? Tap::Fate::kLost : Tap::Fate::kGoes;
  };
  for (uint32_t i = 0; i < 3; ++i) Write(i, i * kBlock, kBlock, keys_[0]);
  Step(30);
  EXPECT_EQ(arrived_.size(), 3u);
  EXPECT_TRUE(ended_.empty());
  Step(2000);
  EXPECT_EQ(Count(Completion::Kind::kDone), 3u);
  EXPECT_EQ(arrived_.size(), 3u);
  EXPECT_EQ(lost, 3);
}

// A rail failed under it: nobody has to ask.
TEST_F(Frames, AnAcknowledgementInDoubtIsWrittenAgain) {
  int acks = 0;
  targets_tap_->fate = [&](const Tap::Seen& one) {
    return one.kind == ImmKind::kFrameAck && acks++ == 0 ? Tap::Fate::kInDoubt : Tap::Fate::kGoes;
  };
  WritePair(0, 0);
  Step(20);
  EXPECT_EQ(acks, 2);
  EXPECT_EQ(Count(Completion::Kind::kDone), 2u);
  EXPECT_EQ(writers_tap_->Count(ImmKind::kFrame), 1u);
}

TEST_F(Frames, ALostQuestionIsAskedAgain) {
  int lost = 0;
  targets_tap_->fate = [&](const Tap::Seen& one) {
    return one.kind == ImmKind::kFrameAck && lost++ == 0 ? Tap::Fate::kLost : Tap::Fate::kGoes;
  };
  int questions = 0;
  writers_tap_->fate = [&](const Tap::Seen& one) {
    const bool question = one.kind == ImmKind::kFrame && one.bytes == sizeof(staged::FrameHeader);
    return question && questions++ == 0 ? Tap::Fate::kLost : Tap::Fate::kGoes;
  };
  WritePair(0, 0);
  Step(3000);
  EXPECT_EQ(questions, 2);
  EXPECT_EQ(Count(Completion::Kind::kDone), 2u);
  EXPECT_EQ(arrived_.size(), 2u);
}

// A rail failed under a frame: its writes are in doubt, with all behind it; the fence renews the keys, and what
// comes late of the first time does not land.
TEST_F(Frames, WritesInDoubtAreFencedAndWrittenAnew) {
  writers_tap_->fate = [](const Tap::Seen& one) {
    return one.kind == ImmKind::kFrame ? Tap::Fate::kInDoubt : Tap::Fate::kGoes;
  };
  for (uint32_t i = 0; i < 3; ++i) Write(i, i * kBlock, kBlock, keys_[0]);
  PollWriter();
  Step(5);
  ASSERT_EQ(Count(Completion::Kind::kFailed), 3u);
  for (const Completion& one : ended_) EXPECT_TRUE(one.in_doubt && !one.peer_lost);
  EXPECT_EQ(Post(3, 0, kBlock, keys_[0]), PostResult::kAgain);  // until the fence
  writers_tap_->fate = nullptr;
  for (MemoryKey& key : keys_) ASSERT_TRUE(target_->Renew(key).ok());
  for (const MemoryKey& key : keys_) writer_->Follow(peer_, key);
  for (MemoryKey& key : keys_) key = NextKey(key);  // what loopback calls them now
  for (uint32_t i = 3; i < 6; ++i) Write(i, i * kBlock, kBlock, keys_[i % 2]);
  Step(30);
  EXPECT_EQ(Count(Completion::Kind::kDone), 3u);
  EXPECT_EQ(arrived_.size(), 3u);
  EXPECT_TRUE(Untouched(0, 0, 3 * kBlock));
  EXPECT_TRUE(Landed(0, 4 * kBlock, kBlock) && Landed(1, 5 * kBlock, kBlock));
}

// Posted before the fence, on its way over a slow rail, and there after it.
TEST_F(Frames, AFrameOfBeforeTheFenceNeverLands) {
  network_->SetFaults({.min_delay = 10ms, .max_delay = 10ms});
  WritePair(0, 0);
  PollWriter();
  for (MemoryKey& key : keys_) key = *target_->Renew(key);
  Step(1000);
  EXPECT_TRUE(arrived_.empty());
  EXPECT_TRUE(Untouched(0, 0, kBytes));
}

TEST_F(Frames, OneHoldsWritesToDevicesAndToTheHost) {
  cuda::MockCuda mock;
  Make(0);
  std::vector<std::byte> zeros(kBytes);
  cuda::Upload(sink_device_->span(), zeros);
  for (uint32_t i = 0; i < 8; ++i) Write(i, i * kBlock, kBlock, keys_[i % 2]);
  PollWriter();
  EXPECT_EQ(writers_tap_->Count(ImmKind::kFrame), 1u);
  for (int i = 0; i < 1000 && ended_.size() < 8; ++i) Step();
  ASSERT_EQ(Count(Completion::Kind::kDone), 8u);
  EXPECT_EQ(arrived_.size(), 8u);
  const std::vector<std::byte> got = cuda::Download(sink_device_->span());
  for (uint32_t i = 0; i < 8; ++i)
    EXPECT_EQ(std::memcmp(i % 2 ? &got[i * kBlock] : &sinks_[0][i * kBlock], &source_[i * kBlock], kBlock), 0) << i;
  // A lone write to a device stays a frame.
  ended_.clear();
  Write(9, 9 * kBlock, kBlock, keys_[1]);
  for (int i = 0; i < 1000 && ended_.empty(); ++i) Step();
  EXPECT_EQ(Count(Completion::Kind::kDone), 1u);
  EXPECT_EQ(writers_tap_->Count(ImmKind::kFrame), 2u);
  // A stalled device holds back what is behind it in the frame, and the acknowledgement; then its key goes.
  mock.Set("stall", 1);
  ended_.clear();
  arrived_.clear();
  for (uint32_t i = 0; i < 4; ++i) Write(i, i * kBlock, kBlock, keys_[i < 2 ? 0 : 1]);
  Step(100);
  EXPECT_EQ(arrived_.size(), 2u);
  EXPECT_TRUE(ended_.empty());
  mock.Set("stall", 0);
  Step(100);
  EXPECT_EQ(Count(Completion::Kind::kDone), 4u);
  writer_.reset();
  target_.reset();
  sink_device_.reset();
}

}  // namespace
}  // namespace baton::transfer
