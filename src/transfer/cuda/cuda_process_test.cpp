// Device memory between two processes: lent on shared memory, staged over tcp. Byte-exact in every
// mix, deaths, fences; on the stand-in for CUDA, and on GPUs (CudaGpu).
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <optional>
#include <random>
#include <thread>

#include "transfer/cuda/cuda_for_tests.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/remote_engine_for_tests.h"

namespace baton::transfer {
namespace {

using cuda::MockCuda;

constexpr uint64_t kPage = 16 << 10;

// Memory of the two ends: a device, or the host for -1, there `shared` or private.
struct Mix {
  ProviderKind provider;
  int here, there;
  bool shared = true;
  bool announced = true;  // CUDA is named at Open of a host-only end too
};

class Pair {
 public:
  Pair(const Mix& mix, uint64_t bytes, uint64_t seed_here, uint64_t seed_there)
      : memory_(bytes, mix.shared, mix.here),
        remote_(mix.provider, bytes, seed_there, mix.shared, std::chrono::milliseconds(3000), {}, mix.there, Announced(mix)) {
    Options options;
    options.provider = mix.provider;
    options.self_test = false;
    options.peer_timeout = std::chrono::milliseconds(3000);
    options.cuda_device = mix.here >= 0 ? mix.here : Announced(mix);
    auto opened = Engine::Open(options, log_.Sink());
    BATON_CHECK(opened.ok(), "{}", opened.status().ToString());
    engine_ = *std::move(opened);
    if (seed_here) memory_.Fill(seed_here);
    const Status registered = engine_->Register(memory_.span()).status();
    BATON_CHECK(registered.ok(), "{}", registered.ToString());
    BATON_CHECK(remote_.status().ok(), "{}", remote_.status().ToString());
    const std::string blob = engine_->Describe();
    auto peer = engine_->Connect(remote_.Describe(), Now() + 20s);
    BATON_CHECK(peer.ok(), "{}", peer.status().ToString());
    peer_ = *peer;
    BATON_CHECK(remote_.Connect(blob));
  }
  static std::optional<int> Announced(const Mix& mix) {
    if (!mix.announced) return std::nullopt;
    return std::max(mix.here, mix.there) >= 0 ? std::optional(0) : std::nullopt;
  }

  // From here to there.
  void Send(std::span<const transfer::Run> runs) {
    const Slot slot = remote_.Expect(30s);
    const SendId send = *engine_->Begin(peer_, slot, {0}, {0}, Now() + 30s);
    auto writes = engine_->Push(send, runs);
    ASSERT_TRUE(writes.ok()) << writes.status().ToString();
    engine_->Finish(send);
    remote_.Seal(slot, *writes);
    const Event received = remote_.WaitSlot(slot);
    ASSERT_EQ(received.kind, Event::Kind::kReceiveDone) << received.status.ToString();
    const auto sent = log_.WaitSend(send, 20s);
    ASSERT_TRUE(sent);
    EXPECT_EQ(sent->kind, Event::Kind::kSendDone) << sent->status.ToString();
    remote_.Release(slot);
  }
  void Receive(std::span<const transfer::Run> runs) {
    const Slot slot = *engine_->Expect(peer_, Now() + 30s);
    const uint32_t writes = remote_.Send(slot, runs, false);
    ASSERT_GT(writes, 0u);
    engine_->Seal(slot, writes);
    const auto event = log_.WaitSlot(slot, 30s);
    ASSERT_TRUE(event);
    ASSERT_EQ(event->kind, Event::Kind::kReceiveDone) << event->status.ToString();
    engine_->Release(slot);
  }

  EventLog log_;
  TestMemory memory_;
  RemoteEngine remote_;
  std::unique_ptr<Engine> engine_;
  PeerId peer_{};
};

// Pages in random order, some split at odd places so that sizes are no multiples of anything.
std::vector<transfer::Run> PageRuns(uint64_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  const uint64_t pages = bytes / kPage;
  std::vector<uint64_t> from(pages), to(pages);
  for (uint64_t i = 0; i < pages; ++i) from[i] = to[i] = i;
  std::shuffle(from.begin(), from.end(), random);
  std::shuffle(to.begin(), to.end(), random);
  std::vector<transfer::Run> runs;
  for (uint64_t i = 0; i < pages; ++i) {
    const uint64_t cut = random() % 4 ? kPage : 1 + random() % (kPage - 1);
    runs.push_back({from[i] * kPage, to[i] * kPage, cut});
    if (cut < kPage) runs.push_back({from[i] * kPage + cut, to[i] * kPage + cut, kPage - cut});
  }
  return runs;
}

// What bytes of `seed` look like after `runs` moved all of them.
std::string Expected(uint64_t bytes, uint64_t seed, std::span<const transfer::Run> runs) {
  std::string result(bytes, '\0');
  for (const auto& run : runs)
    for (uint64_t i = 0; i < run.bytes; ++i)
      result[run.remote_offset + i] = static_cast<char>(PatternByte(seed, run.local_offset + i));
  return result;
}

void MovesExactly(const Mix& mix, uint64_t bytes) {
  SCOPED_TRACE(fmt::format("provider {} from {} to {}{}{}", static_cast<int>(mix.provider), mix.here, mix.there,
                           mix.shared ? "" : " private", mix.announced ? "" : " unannounced"));
  Pair pair(mix, bytes, 5, 0);
  std::vector<transfer::Run> runs = PageRuns(bytes, 1);
  pair.Send(runs);
  if (testing::Test::HasFatalFailure()) return;
  ASSERT_TRUE(pair.remote_.Read(0, bytes) == Expected(bytes, 5, runs));
  // One long run back over what is here.
  const transfer::Run all{0, 0, bytes};
  pair.Receive({&all, 1});
  if (testing::Test::HasFatalFailure()) return;
  ASSERT_TRUE(pair.memory_.Read(0, bytes) == Expected(bytes, 5, runs));
  EXPECT_EQ(pair.remote_.Usage().slots_held, 0u);
  EXPECT_EQ(pair.engine_->usage().sends_live, 0u);
}

std::vector<Mix> AllMixes(int second) {
  std::vector<Mix> mixes;
  for (const auto& [here, there] : {std::pair(0, 0), std::pair(0, second), std::pair(0, -1), std::pair(-1, second)}) {
    mixes.push_back({ProviderKind::kShm, here, there, true});
    if (here < 0 || there < 0) mixes.push_back({ProviderKind::kShm, here, there, false});
  }
  mixes.push_back({ProviderKind::kTcp, 0, second});
  return mixes;
}

// A writer dies, or is taken from us, while its bytes stream in: nothing lands after the fence.
void FencesHold(const Mix& mix, uint64_t bytes, bool kill_it) {
  Pair pair(mix, bytes, 0, 9);
  const Slot slot = *pair.engine_->Expect(pair.peer_, Now() + 30s);
  const transfer::Run all{0, 0, bytes};
  ASSERT_GT(pair.remote_.Send(slot, {&all, 1}, true), 0u);
  std::this_thread::sleep_for(60ms);
  if (kill_it) {
    pair.remote_.Kill();
    const TimePoint killed = Now();
    const auto event = pair.log_.WaitSlot(slot, 20s);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->kind, Event::Kind::kReceiveFailed);
    EXPECT_LT(Seconds(Now() - killed), 10.0);
  }
  pair.engine_->Disconnect(pair.peer_);
  ASSERT_TRUE(pair.log_.WaitPeer(Event::Kind::kFenced, pair.peer_, 20s));
  std::vector<std::byte> marks(bytes, std::byte{0x5A});
  cuda::Upload(pair.memory_.span(), marks);
  std::this_thread::sleep_for(300ms);
  EXPECT_TRUE(cuda::Download(pair.memory_.span()) == marks) << "bytes landed after the fence";
  pair.engine_->Release(slot);
}

// The receiver dies while we write: the send ends, and a new process gets its bytes.
void SenderSurvives(const Mix& mix, uint64_t bytes) {
  Pair pair(mix, bytes, 5, 0);
  const Slot slot = pair.remote_.Expect(30s);
  const SendId send = *pair.engine_->Begin(pair.peer_, slot, {0}, {0}, Now() + 30s);
  const transfer::Run all{0, 0, bytes};
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(pair.engine_->Push(send, {&all, 1}).ok());
  std::this_thread::sleep_for(2ms);
  pair.remote_.Stop();  // so that something is left, however fast this machine is
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(pair.engine_->Push(send, {&all, 1}).ok());
  std::this_thread::sleep_for(20ms);
  pair.remote_.Kill();
  pair.engine_->Finish(send);
  const auto event = pair.log_.WaitSend(send, 20s);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, Event::Kind::kSendFailed);
  pair.engine_->Disconnect(pair.peer_);
  EXPECT_TRUE(pair.log_.WaitPeer(Event::Kind::kFenced, pair.peer_, 20s));
  RemoteEngine fresh(mix.provider, bytes, 0, mix.shared, std::chrono::milliseconds(3000), {}, mix.there, Pair::Announced(mix));
  ASSERT_TRUE(fresh.status().ok()) << fresh.status().ToString();
  const std::string blob = pair.engine_->Describe();
  auto peer = pair.engine_->Connect(fresh.Describe(), Now() + 20s);
  ASSERT_TRUE(peer.ok()) << peer.status().ToString();
  ASSERT_TRUE(fresh.Connect(blob));
  const Slot again = fresh.Expect(30s);
  const SendId second = *pair.engine_->Begin(*peer, again, {0}, {0}, Now() + 30s);
  const uint32_t writes = *pair.engine_->Push(second, {&all, 1});
  pair.engine_->Finish(second);
  fresh.Seal(again, writes);
  EXPECT_EQ(fresh.WaitSlot(again).kind, Event::Kind::kReceiveDone);
  EXPECT_TRUE(fresh.Read(0, bytes) == pair.memory_.Read(0, bytes));
}

TEST(CudaProcess, EveryMixByteExact) {
  MockCuda mock;
  for (const Mix& mix : AllMixes(1)) {
    MovesExactly(mix, 4 << 20);
    if (HasFatalFailure()) return;
  }
  // An end without device memory that did not announce any loads CUDA when its peer has some.
  MovesExactly({ProviderKind::kShm, 0, -1, true, false}, 4 << 20);
  EXPECT_EQ(mock.Get("allocated"), 0);
  EXPECT_EQ(mock.Get("opened"), 0);
  EXPECT_EQ(mock.Get("registered"), 0);
  EXPECT_EQ(mock.Get("streams"), 0);
}

TEST(CudaProcess, WithoutPinningKernelOrPeersToo) {
  for (const char* settings : {"no_host_register=1", "no_kernel=1", "no_peer=1"}) {
    MockCuda mock(settings);
    mock.Set(std::string(settings).substr(0, std::string(settings).find('=')).c_str(), 1);
    for (const Mix& mix : {Mix{ProviderKind::kShm, 0, -1}, Mix{ProviderKind::kShm, -1, 0}, Mix{ProviderKind::kShm, 0, 0}}) {
      MovesExactly(mix, 2 << 20);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(CudaProcess, FencesHoldAgainstWritersThatLiveOrDie) {
  MockCuda mock;
  for (const Mix& mix : {Mix{ProviderKind::kShm, 0, 1}, Mix{ProviderKind::kShm, 0, -1, false}, Mix{ProviderKind::kShm, -1, 0, false},
                         Mix{ProviderKind::kTcp, 0, 1}})
    for (const bool kill_it : {false, true}) {
      FencesHold(mix, 8 << 20, kill_it);
      if (HasFatalFailure()) return;
    }
}

TEST(CudaProcess, SenderSurvivesTheDeathOfItsReceiver) {
  MockCuda mock;
  for (const Mix& mix : {Mix{ProviderKind::kShm, 0, 1}, Mix{ProviderKind::kShm, 0, -1}, Mix{ProviderKind::kTcp, 0, 1}}) {
    SenderSurvives(mix, 8 << 20);
    if (HasFatalFailure()) return;
  }
}

// A peer that cannot open the memory says so; the transfer fails and does not hang.
TEST(CudaProcess, MemoryThatCannotBeReachedFailsWithItsCause) {
  MockCuda mock("devices=1");  // there; here are two
  Pair pair({ProviderKind::kShm, 1, -1}, 1 << 20, 5, 0);
  const Slot slot = pair.remote_.Expect(30s);
  const SendId send = *pair.engine_->Begin(pair.peer_, slot, {0}, {0}, Now() + 30s);
  const transfer::Run all{0, 0, 1 << 20};
  ASSERT_TRUE(pair.engine_->Push(send, {&all, 1}).ok());
  pair.engine_->Finish(send);
  const auto event = pair.log_.WaitSend(send, 20s);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, Event::Kind::kSendFailed);
  EXPECT_NE(event->status.message().find("visible to both processes"), std::string::npos) << event->status.message();
}

// A writer whose first transfers came from host memory: device memory that it registers later is lent
// on the way that is there already.
TEST(CudaProcess, DeviceMemoryMayComeLater) {
  MockCuda mock;
  constexpr uint64_t kBytes = 1 << 20;
  Options options;
  options.provider = ProviderKind::kShm;
  options.self_test = false;
  options.cuda_device = 0;
  EventLog log_a, log_b;
  auto a = *Engine::Open(options, log_a.Sink()), b = *Engine::Open(options, log_b.Sink());
  TestMemory host(kBytes, true), device(kBytes, false, 1), sink(kBytes, true);
  host.Fill(3);
  device.Fill(4);
  ASSERT_TRUE(a->Register(host.span()).ok() && b->Register(sink.span()).ok());
  const std::string of_a = a->Describe();
  const PeerId to_b = *a->Connect(b->Describe(), Now() + 10s), to_a = *b->Connect(of_a, Now() + 10s);
  for (uint32_t region = 0; region < 2; ++region) {
    if (region == 1) {
      ASSERT_TRUE(a->Register(device.span()).ok());
    }
    const Slot slot = *b->Expect(to_a, Now() + 20s);
    const SendId send = *a->Begin(to_b, slot, {region}, {0}, Now() + 20s);
    const std::vector<transfer::Run> runs = PageRuns(kBytes, region + 1);
    const uint32_t writes = *a->Push(send, runs);
    a->Finish(send);
    b->Seal(slot, writes);
    const auto event = log_b.WaitSlot(slot, 30s);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->kind, Event::Kind::kReceiveDone) << event->status.ToString();
    EXPECT_EQ(event->writes, writes);
    EXPECT_TRUE(sink.Read(0, kBytes) == Expected(kBytes, 3 + region, runs));
    b->Release(slot);
  }
  EXPECT_EQ(b->usage().stray_writes, 0u);
}

TEST(CudaProcess, MemoryWithoutHandlesIsRefusedAtRegistration) {
  MockCuda mock;
  mock.Set("no_ipc", 1);
  Options options;
  options.provider = ProviderKind::kShm;
  options.self_test = false;
  options.cuda_device = 0;
  EventLog log;
  auto engine = *Engine::Open(options, log.Sink());
  EXPECT_NE(engine->report().ToString().find("cuda=ipc"), std::string::npos);
  TestMemory memory(4096, false, 0);
  const Status s = engine->Register(memory.span()).status();
  EXPECT_EQ(s.code(), Code::kUnsupported);
  EXPECT_NE(s.message().find("cuIpcGetMemHandle"), std::string::npos) << s.message();
  EXPECT_NE(s.message().find("provider tcp"), std::string::npos) << s.message();
}

TEST(CudaProcess, SelfTestRunsOnTheDevice) {
  MockCuda mock;
  Options options;
  options.provider = ProviderKind::kShm;
  options.cuda_device = 1;
  EventLog log;
  const long before = mock.Get("copies") + mock.Get("kernel_copies");
  auto engine = Engine::Open(options, log.Sink());
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  EXPECT_GT((*engine)->report().self_test_gb_per_s, 0);
  EXPECT_GE(mock.Get("copies") + mock.Get("kernel_copies") - before, 32);
}

class CudaGpuProcess : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = cuda::MissingGpus(1); !why.empty()) GTEST_SKIP() << why;
    second_ = cuda::MissingGpus(2).empty() ? 1 : 0;
    std::printf("device memory on CUDA devices 0 and %d\n", second_);
  }
  int second_ = 0;
};

TEST_F(CudaGpuProcess, EveryMixByteExact) {
  for (const Mix& mix : AllMixes(second_)) {
    MovesExactly(mix, 64 << 20);
    if (HasFatalFailure()) return;
  }
  MovesExactly({ProviderKind::kShm, 0, -1, true, false}, 16 << 20);
}

TEST_F(CudaGpuProcess, FencesHoldAgainstWritersThatLiveOrDie) {
  for (const Mix& mix : {Mix{ProviderKind::kShm, 0, second_}, Mix{ProviderKind::kShm, 0, 0}, Mix{ProviderKind::kShm, -1, 0, false},
                         Mix{ProviderKind::kShm, 0, -1}, Mix{ProviderKind::kTcp, 0, second_}})
    for (const bool kill_it : {false, true}) {
      FencesHold(mix, 256 << 20, kill_it);
      if (HasFatalFailure()) return;
    }
}

TEST_F(CudaGpuProcess, SenderSurvivesTheDeathOfItsReceiver) {
  for (const Mix& mix : {Mix{ProviderKind::kShm, 0, second_}, Mix{ProviderKind::kShm, 0, -1}, Mix{ProviderKind::kTcp, 0, second_}}) {
    SenderSurvives(mix, 64 << 20);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace baton::transfer
