// Device memory over loopback and tcp, on the stand-in for CUDA and on GPUs (CudaGpu): every mix of
// memories byte-exact, fences, failures. Two processes: cuda_process_test.cpp.
#include "transfer/staged/staged_fabric.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "transfer/cuda/cuda_for_tests.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/loopback/loopback.h"
#include "transfer/staged/wire.h"
#include "transfer/transfer.h"

namespace baton::transfer {
namespace {

using cuda::DeviceBuffer;
using cuda::Download;
using cuda::MockCuda;
using cuda::RandomBytes;
using cuda::SpanOf;
using cuda::Upload;

constexpr uint64_t kPage = 16 << 10;

// An engine with one region: of a device, or of the host for -1.
struct End {
  End(ProviderKind provider, std::shared_ptr<LoopbackNetwork> network, int device, uint64_t bytes, bool self_test = false) {
    Options options;
    options.provider = provider;
    options.loopback = std::move(network);
    options.self_test = self_test;
    if (device >= 0) options.cuda_device = device;
    auto opened = Engine::Open(options, log.Sink());
    if (!opened.ok()) {
      status = opened.status();
      return;
    }
    if (device >= 0) {
      auto made = DeviceBuffer::Create(device, bytes);
      if (!made.ok()) {
        status = made.status();
        return;
      }
      buffer.emplace(*std::move(made));
    } else {
      host.resize(bytes);
    }
    engine = *std::move(opened);
    status = engine->Register(span()).status();
  }
  MemorySpan span() { return buffer ? buffer->span() : SpanOf(host); }

  EventLog log;
  Status status;
  std::optional<DeviceBuffer> buffer;
  std::vector<std::byte> host;
  std::unique_ptr<Engine> engine;
  PeerId peer{};
};

void Join(End& a, End& b) {
  ASSERT_TRUE(a.status.ok()) << a.status.ToString();
  ASSERT_TRUE(b.status.ok()) << b.status.ToString();
  const std::string of_a = a.engine->Describe(), of_b = b.engine->Describe();
  auto to_b = a.engine->Connect(of_b, Now() + 10s);
  ASSERT_TRUE(to_b.ok()) << to_b.status().ToString();
  auto to_a = b.engine->Connect(of_a, Now() + 10s);
  ASSERT_TRUE(to_a.ok()) << to_a.status().ToString();
  a.peer = *to_b;
  b.peer = *to_a;
}

void Transfer(End& from, End& to, std::span<const transfer::Run> runs) {
  const Slot slot = *to.engine->Expect(to.peer, Now() + 30s);
  const SendId send = *from.engine->Begin(from.peer, slot, {0}, {0}, Now() + 30s);
  auto writes = from.engine->Push(send, runs);
  ASSERT_TRUE(writes.ok()) << writes.status().ToString();
  from.engine->Finish(send);
  to.engine->Seal(slot, *writes);
  const auto received = to.log.WaitSlot(slot, 40s);
  ASSERT_TRUE(received);
  EXPECT_EQ(received->kind, Event::Kind::kReceiveDone) << received->status.ToString();
  EXPECT_EQ(received->writes, *writes);
  const auto sent = from.log.WaitSend(send, 40s);
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->kind, Event::Kind::kSendDone) << sent->status.ToString();
  to.engine->Release(slot);
}

// Runs of random sizes that cover everything once, from random places to random places.
std::vector<transfer::Run> RandomRuns(uint64_t bytes, uint64_t longest, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint64_t> sizes;
  for (uint64_t left = bytes; left;) {
    uint64_t size = 1 + random() % longest;
    if (random() % 2) size = (size + 15) / 16 * 16;
    sizes.push_back(std::min(size, left));
    left -= sizes.back();
  }
  std::vector<size_t> from(sizes.size()), to(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) from[i] = to[i] = i;
  std::shuffle(from.begin(), from.end(), random);
  std::vector<transfer::Run> runs(sizes.size());
  uint64_t at = 0;
  for (const size_t i : from) {
    runs[i].local_offset = at;
    at += runs[i].bytes = sizes[i];
  }
  std::shuffle(to.begin(), to.end(), random);
  at = 0;
  for (const size_t i : to) {
    runs[i].remote_offset = at;
    at += sizes[i];
  }
  std::shuffle(runs.begin(), runs.end(), random);
  return runs;
}

// Both directions, several sizes; what arrives is what a plain copy would have made.
void MovesExactly(ProviderKind provider, std::shared_ptr<LoopbackNetwork> network, int device_a, int device_b, uint64_t bytes) {
  End a(provider, network, device_a, bytes), b(provider, network, device_b, bytes);
  Join(a, b);
  if (testing::Test::HasFatalFailure()) return;
  uint64_t seed = 1;
  for (const uint64_t longest : {uint64_t{3000}, uint64_t{100000}, uint64_t{3 << 20}}) {
    for (const bool forth : {true, false}) {
      End& from = forth ? a : b;
      End& to = forth ? b : a;
      std::vector<std::byte> source = RandomBytes(bytes, ++seed), zeros(bytes), expected(bytes);
      Upload(from.span(), source);
      Upload(to.span(), zeros);
      const std::vector<transfer::Run> runs = RandomRuns(bytes, longest, seed);
      for (const auto& run : runs) std::memcpy(&expected[run.remote_offset], &source[run.local_offset], run.bytes);
      Transfer(from, to, runs);
      if (testing::Test::HasFatalFailure()) return;
      ASSERT_TRUE(Download(to.span()) == expected) << longest << (forth ? " there" : " back");
    }
  }
  EXPECT_EQ(a.engine->usage().sends_live, 0u);
  EXPECT_EQ(b.engine->usage().slots_held, 0u);
}

TEST(CudaStaged, EveryMixOverLoopbackByteExact) {
  MockCuda mock;
  for (const bool reordered : {false, true}) {
    LoopbackFaults faults;
    if (reordered) {
      faults.max_delay = 300us;
      faults.busy = 0.05;
    }
    for (const auto& [a, b] : {std::pair(0, 1), std::pair(0, -1), std::pair(-1, 0), std::pair(-1, -1)})
      MovesExactly(ProviderKind::kLoopback, LoopbackNetwork::Create(5, faults), a, b, 3 << 20);
  }
  EXPECT_EQ(mock.Get("allocated"), 0);
  EXPECT_EQ(mock.Get("registered"), 0);
  EXPECT_EQ(mock.Get("streams"), 0);
}

TEST(CudaStaged, EveryMixOverTcpByteExact) {
  MockCuda mock;
  for (const auto& [a, b] : {std::pair(0, 1), std::pair(0, -1), std::pair(-1, 1), std::pair(-1, -1)})
    MovesExactly(ProviderKind::kTcp, nullptr, a, b, 8 << 20);
  EXPECT_EQ(mock.Get("allocated"), 0);
}

TEST(CudaStaged, HostMemoryNeedsNoCuda) {
  MockCuda mock;
  setenv(cuda::kLibraryVariable, "/nonexistent", 1);
  MovesExactly(ProviderKind::kTcp, nullptr, -1, -1, 1 << 20);
  End device(ProviderKind::kTcp, nullptr, 0, 1 << 20);
  EXPECT_EQ(device.status.code(), Code::kUnsupported);
  EXPECT_NE(device.status.message().find("/nonexistent"), std::string::npos) << device.status.message();
}

TEST(CudaStaged, ReportsItsWayAndTestsIt) {
  MockCuda mock;
  const long before = mock.Get("copies") + mock.Get("kernel_copies");
  End device(ProviderKind::kTcp, nullptr, 1, 1 << 20, true);
  ASSERT_TRUE(device.status.ok()) << device.status.ToString();
  EXPECT_EQ(device.engine->report().device_path, "staged");
  EXPECT_NE(device.engine->report().ToString().find("cuda=staged"), std::string::npos);
  EXPECT_GE(mock.Get("copies") + mock.Get("kernel_copies") - before, 32);  // 16 writes there and 16 on
  End host(ProviderKind::kTcp, nullptr, -1, 1 << 20);
  EXPECT_NE(host.engine->report().ToString().find("cuda=none"), std::string::npos);
  auto buffer = DeviceBuffer::Create(0, 4096);
  const Status refused = host.engine->Register(buffer->span()).status();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_NE(refused.message().find("cuda_device"), std::string::npos) << refused.message();
}

// A device that fails ends the transfer at both ends, before any deadline.
TEST(CudaStaged, AFailingDeviceFailsTheTransfer) {
  for (const int target : {-1, 1}) {
    MockCuda mock;
    const auto network = LoopbackNetwork::Create(5, {});
    End a(ProviderKind::kLoopback, network, 0, 8 << 20), b(ProviderKind::kLoopback, network, target, 8 << 20);
    Join(a, b);
    mock.Set("fail_copy_after", mock.Get("copies") + mock.Get("kernel_copies") + 20);
    const Slot slot = *b.engine->Expect(b.peer, Now() + 30s);
    const SendId send = *a.engine->Begin(a.peer, slot, {0}, {0}, Now() + 30s);
    const std::vector<transfer::Run> runs = RandomRuns(8 << 20, 30000, 3);
    ASSERT_TRUE(a.engine->Push(send, runs).ok());
    a.engine->Finish(send);
    const TimePoint start = Now();
    const auto sent = a.log.WaitSend(send, 40s);
    ASSERT_TRUE(sent);
    EXPECT_EQ(sent->kind, Event::Kind::kSendFailed);
    EXPECT_LT(Seconds(Now() - start), 20.0) << sent->status.ToString();
    b.engine->Cancel(slot);
    EXPECT_TRUE(b.log.WaitSlot(slot, 20s));
  }
}

// Fabrics without an engine: what happens to single writes.
class CudaStagedFabric : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 1 << 20;

  void SetUp() override {
    network_ = LoopbackNetwork::Create(9, {});
    writer_ = *staged::Wrap(network_->Open(0), 0);
    target_ = *staged::Wrap(network_->Open(0), 1);
    source_.emplace(*DeviceBuffer::Create(0, kBytes));
    sink_.emplace(*DeviceBuffer::Create(1, kBytes));
    bytes_ = RandomBytes(kBytes, 2);
    Upload(source_->span(), bytes_);
    std::vector<std::byte> zeros(kBytes);
    Upload(sink_->span(), zeros);
    from_ = *writer_->Register(source_->span());
    to_ = *target_->Register(sink_->span());
    key_ = *target_->Expose(to_);
    peer_ = *writer_->Insert(*target_->Invite());
    writers_own_ = *writer_->Expose(from_);
    ASSERT_TRUE(target_->Insert(*writer_->Invite()).ok());  // acknowledgements go there
  }
  void Write(uint32_t i, uint64_t offset, uint64_t bytes, uint64_t key) {
    Status why;
    ASSERT_EQ(writer_->Write({.peer = peer_,
                              .local_region = from_,
                              .local_offset = std::min(offset % kBytes, kBytes - bytes),
                              .bytes = bytes,
                              .remote_address = key_.base + offset,
                              .remote_key = key,
                              .imm = i << 4,
                              .context = &contexts_[i]},
                             now_, why),
              PostResult::kPosted)
        << why.ToString();
  }
  void Step(int times = 1) {
    for (int i = 0; i < times; ++i) {
      now_ += 100us;
      Completion batch[16];
      const size_t w = writer_->Poll(now_, batch);
      ended_.insert(ended_.end(), batch, batch + w);
      const size_t t = target_->Poll(now_, batch);
      arrived_.insert(arrived_.end(), batch, batch + t);
    }
  }
  size_t Count(Completion::Kind kind) const {
    return std::count_if(ended_.begin(), ended_.end(), [&](const auto& one) { return one.kind == kind; });
  }

  MockCuda mock_;
  TimePoint now_ = TimePoint{} + 1h;
  std::shared_ptr<LoopbackNetwork> network_;
  std::optional<DeviceBuffer> source_, sink_;
  std::unique_ptr<Fabric> writer_, target_;
  std::vector<std::byte> bytes_;
  uint32_t from_ = 0, to_ = 0;
  MemoryKey key_, writers_own_;
  uint64_t peer_ = 0;
  OpContext contexts_[256];
  std::vector<Completion> ended_, arrived_;
};

TEST_F(CudaStagedFabric, DoneMeansThatTheBytesAreInTheTargetsDevice) {
  Write(0, 4096, 50000, key_.key);
  for (int i = 0; i < 10000 && ended_.empty(); ++i) {
    Step();
    if (!arrived_.empty() || !ended_.empty()) {
      const std::vector<std::byte> got = Download(sink_->span());
      ASSERT_EQ(std::memcmp(&got[4096], &bytes_[4096], 50000), 0);
    }
  }
  ASSERT_EQ(Count(Completion::Kind::kDone), 1u);
  EXPECT_EQ(ended_[0].context, &contexts_[0]);
  ASSERT_EQ(arrived_.size(), 1u);
  EXPECT_EQ(arrived_[0].bytes, 50000u);
}

TEST_F(CudaStagedFabric, KeysAndBoundsAreHonoured) {
  const MemoryKey other = *target_->Expose(to_);  // of another peer's area
  (void)*target_->Invite();
  for (const auto& [offset, bytes, key] : {std::tuple(kBytes - 100, uint64_t{101}, key_.key),
                                           std::tuple((uint64_t{1} << 47), uint64_t{16}, key_.key),
                                           std::tuple(uint64_t{0}, uint64_t{64}, other.key),
                                           std::tuple(uint64_t{0}, uint64_t{64}, uint64_t{12345})}) {
    ended_.clear();
    peer_ = *writer_->Insert(*[&] {
      key_ = *target_->Expose(to_);
      return target_->Invite();
    }());
    Write(0, offset, bytes, key == other.key || key == 12345 ? key : key_.key);
    Step(2000);
    ASSERT_EQ(Count(Completion::Kind::kFailed), 1u);
    EXPECT_TRUE(ended_[0].peer_lost);
    EXPECT_NE(ended_[0].status.message().find("refused"), std::string::npos) << ended_[0].status.message();
  }
  EXPECT_TRUE(arrived_.empty());
  EXPECT_EQ(Download(sink_->span()), std::vector<std::byte>(kBytes));
}

// The bytes are on their way when the key goes: none lands afterwards.
TEST_F(CudaStagedFabric, NothingLandsAfterRevoke) {
  for (uint32_t i = 0; i < 20; ++i) Write(i, i * kPage, kPage, key_.key);
  for (int i = 0; i < 10000 && arrived_.size() < 3; ++i) Step();
  target_->Revoke(key_);
  std::vector<std::byte> marks(kBytes, std::byte{0x5A});
  Upload(sink_->span(), marks);
  Step(3000);
  EXPECT_EQ(Download(sink_->span()), marks);
  writer_->Remove(peer_);
  Step(5);
  EXPECT_EQ(Count(Completion::Kind::kDone) + Count(Completion::Kind::kFailed), 20u);
}

// A stalled device stalls only the writes: nothing blocks, the ring bounds what is taken.
TEST_F(CudaStagedFabric, AFullRingSaysAgain) {
  mock_.Set("stall", 1);
  Status why;
  uint32_t posted = 0;
  const auto post = [&] {
    return writer_->Write({.peer = peer_, .local_region = from_, .bytes = kBytes, .remote_address = key_.base,
                           .remote_key = key_.key, .imm = posted << 4, .context = &contexts_[posted]}, now_, why);
  };
  while (posted < 100 && post() == PostResult::kPosted) {
    ++posted;
    Step();
  }
  EXPECT_GE(posted, 6u);
  EXPECT_LE(posted, 8u);
  EXPECT_FALSE(writer_->PrepareSleep());
  EXPECT_TRUE(ended_.empty());
  mock_.Set("stall", 0);
  Step(1000);
  EXPECT_EQ(Count(Completion::Kind::kDone), posted);
  EXPECT_EQ(arrived_.size(), posted);
  EXPECT_EQ(post(), PostResult::kPosted);
  Step(1000);
  EXPECT_EQ(Download(sink_->span()), bytes_);
}

TEST_F(CudaStagedFabric, PeersComeAndGoWithoutLeaks) {
  for (int round = 0; round < 40; ++round) {
    const MemoryKey key = *target_->Expose(to_);
    peer_ = *writer_->Insert(*target_->Invite());
    key_ = key;
    Write(0, 0, 5000, key.key);
    Step(round % 3 ? 200 : 2);
    target_->Revoke(key);
    writer_->Remove(peer_);
    Step(20);
  }
  // Two rings and areas at a time: the first pair's and the round's.
  EXPECT_LE(mock_.Get("registered"), 8);
}

TEST(CudaGpuStaged, EveryMixOverTcpByteExact) {
  if (const std::string why = cuda::MissingGpus(1); !why.empty()) GTEST_SKIP() << why;
  const int second = cuda::MissingGpus(2).empty() ? 1 : 0;
  for (const auto& [a, b] : {std::pair(0, second), std::pair(0, -1), std::pair(-1, second)})
    MovesExactly(ProviderKind::kTcp, nullptr, a, b, 64 << 20);
}

TEST(StagedWire, AddressesSurviveTheWayAndTheRestIsRefused) {
  const staged::StagedAddress address{
      .inner = "abc", .writer = 5, .board = {3, 4}, .takes = staged::StagedAddress::kHost, .area = 7, .tag = 9, .key = {1, 2}};
  EXPECT_EQ(*staged::ParseAddress(EncodeAddress(address)), address);
  EXPECT_EQ(*staged::ParseAddress(staged::EncodeAddress({.inner = "x"})), (staged::StagedAddress{.inner = "x"}));
  const std::string text = EncodeAddress(address);
  for (size_t i = 0; i < text.size(); ++i) EXPECT_FALSE(staged::ParseAddress(text.substr(0, i)).ok()) << i;
  EXPECT_FALSE(staged::ParseAddress(text + "x").ok());
  EXPECT_FALSE(staged::ParseAddress("12:some-shm-name").ok());
  for (const uint32_t offset : {0u, 64u, staged::kRingBytes - 64}) {
    const uint32_t imm = staged::FrameImm(staged::kMaxAreas - 1, offset);
    EXPECT_EQ(UnpackImm(imm).kind, ImmKind::kFrame);
    EXPECT_EQ(staged::AreaOf(imm), staged::kMaxAreas - 1);
    EXPECT_EQ(staged::RingOffsetOf(imm), offset);
  }
  EXPECT_EQ(UnpackImm(staged::AckImm(12345)).kind, ImmKind::kFrameAck);
  EXPECT_EQ(staged::PlaceOf(staged::AckImm(12345)), 12345u);
}

TEST(StagedWire, ADamagedAcknowledgementIsNone) {
  const staged::FrameAck ack = staged::MakeAck(0x1234567812345678u, 7, 0);
  for (size_t i = 0; i < sizeof ack; ++i) {
    staged::FrameAck damaged = ack;
    reinterpret_cast<std::byte*>(&damaged)[i] ^= std::byte{0x40};
    EXPECT_NE(damaged, staged::MakeAck(damaged.tag, damaged.landed, damaged.error)) << i;
  }
}

// Two entries, whole; then with each byte of the header and the entries changed.
TEST(StagedWire, AFrameIsReadAsItWasWrittenOrNotAtAll) {
  alignas(64) std::byte memory[256] = {};
  staged::FrameHeader header{.tag = 3, .sequence = 4, .writer = 5, .place = 6, .entries = 2, .bytes = 2 * staged::EntrySpan(20)};
  header.check = HeaderCheck(header);
  std::memcpy(memory, &header, sizeof header);
  const auto offset = [](uint32_t i) { return sizeof header + i * staged::EntrySpan(20); };
  for (uint32_t i = 0; i < 2; ++i) {
    staged::FrameEntry entry{.address = 100 + i, .key = 7, .bytes = 20, .imm = i};
    entry.check = EntryCheck(header, entry);
    std::memcpy(memory + offset(i), &entry, sizeof entry);
  }
  const auto read = [&](uint64_t room) {
    staged::FrameReader frame(memory, room);
    uint32_t entries = 0;
    staged::FrameEntry entry;
    for (const std::byte* bytes = nullptr; frame.Next(entry, bytes); ++entries) {
      EXPECT_EQ(entry.address, 100 + entries);
      EXPECT_EQ(bytes, memory + offset(entries) + sizeof entry);
    }
    return entries;
  };
  EXPECT_EQ(read(sizeof memory), 2u);
  EXPECT_EQ(read(offset(2)), 2u);
  EXPECT_EQ(read(offset(2) - 1), 0u);
  EXPECT_EQ(read(sizeof header - 1), 0u);
  for (size_t i = 0; i < offset(2); ++i) {
    const bool in_bytes = i >= sizeof header && (i - sizeof header) % staged::EntrySpan(20) >= sizeof(staged::FrameEntry);
    const bool in_question = i >= offsetof(staged::FrameHeader, again) && i < offsetof(staged::FrameHeader, again) + 4;
    memory[i] ^= std::byte{0x10};
    EXPECT_EQ(read(sizeof memory), in_bytes || in_question ? 2u : i < offset(1) ? 0u : 1u) << i;
    memory[i] ^= std::byte{0x10};
  }
}

}  // namespace
}  // namespace baton::transfer
