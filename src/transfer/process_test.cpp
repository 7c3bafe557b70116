// Two processes over real providers: byte-exact pages, SIGKILL in mid-transfer, restart.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>

#include "common/bytes.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/plan.h"
#include "transfer/remote_engine_for_tests.h"
#include "transfer/simulation_for_tests.h"

extern char** environ;

namespace baton::transfer {
namespace {

enum class Op : uint8_t { kOpen, kDescribe, kConnect, kExpect, kSeal, kRelease, kWait, kRead, kSend, kUsage };

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(n);
  }
  return true;
}
bool ReadAll(int fd, char* to, size_t bytes) {
  while (bytes) {
    const ssize_t n = read(fd, to, bytes);
    if (n <= 0) return false;
    to += n;
    bytes -= n;
  }
  return true;
}
bool SendMessage(int fd, std::string_view message) {
  ByteWriter writer;
  writer.PutString(message);
  return WriteAll(fd, writer.bytes());
}
bool ReceiveMessage(int fd, std::string& message) {
  uint32_t size = 0;
  if (!ReadAll(fd, reinterpret_cast<char*>(&size), sizeof size)) return false;
  message.resize(size);
  return ReadAll(fd, message.data(), size);
}

void PutSlot(ByteWriter& writer, Slot slot) {
  writer.Put(slot.index);
  writer.Put(slot.generation);
}
Slot GetSlot(ByteReader& reader) {
  Slot slot;
  slot.index = reader.Get<uint32_t>();
  slot.generation = reader.Get<uint8_t>();
  return slot;
}

Options TestOptions(ProviderKind provider) {
  Options options;
  options.provider = provider;
  options.self_test = false;
  return options;
}

// The engine of the child process.
class Server {
 public:
  std::string Handle(std::string_view request) {
    ByteReader reader(request);
    ByteWriter reply;
    switch (reader.Get<Op>()) {
      case Op::kOpen: {
        const auto provider = reader.Get<ProviderKind>();
        memory_.resize(reader.Get<uint64_t>());
        if (const auto seed = reader.Get<uint64_t>())
          for (size_t i = 0; i < memory_.size(); ++i)
            memory_[i] = static_cast<std::byte>(PatternByte(seed, i));
        auto opened = Engine::Open(TestOptions(provider), log_.Sink());
        if (opened.ok()) {
          engine_ = *std::move(opened);
          auto region = engine_->Register({memory_.data(), memory_.size()});
          reply.PutString(region.ok() ? "" : region.status().ToString());
        } else {
          reply.PutString(opened.status().ToString());
        }
        break;
      }
      case Op::kDescribe:
        reply.PutString(engine_->Describe());
        break;
      case Op::kConnect: {
        auto peer = engine_->Connect(reader.GetString(1 << 20), Now() + 5s);
        if (peer.ok()) peer_ = *peer;
        else fprintf(stderr, "child connect: %s\n", peer.status().ToString().c_str());
        reply.Put(peer.ok());
        break;
      }
      case Op::kExpect: {
        auto slot = engine_->Expect(peer_, Now() + std::chrono::milliseconds(reader.Get<uint64_t>()));
        PutSlot(reply, slot.ok() ? *slot : Slot{});
        break;
      }
      case Op::kSeal: {
        const Slot slot = GetSlot(reader);
        engine_->Seal(slot, reader.Get<uint32_t>());
        break;
      }
      case Op::kRelease:
        engine_->Release(GetSlot(reader));
        break;
      case Op::kWait: {
        const auto event = log_.WaitSlot(GetSlot(reader), 20s);
        reply.Put(event.has_value());
        if (event) {
          reply.Put(event->kind);
          reply.Put(event->writes);
          reply.PutString(event->status.ToString());
        }
        break;
      }
      case Op::kRead: {
        const auto offset = reader.Get<uint64_t>();
        reply.PutString({reinterpret_cast<char*>(memory_.data()) + offset, reader.Get<uint64_t>()});
        break;
      }
      case Op::kSend:
        reply.Put(Send(reader));
        break;
      case Op::kUsage: {
        const Engine::Usage usage = engine_->usage();
        reply.Put(usage.slots_held);
        reply.Put(usage.sends_live);
        reply.Put(usage.stray_writes);
        break;
      }
    }
    return std::move(reply).bytes();
  }

 private:
  uint32_t Send(ByteReader& reader) {
    const Slot slot = GetSlot(reader);
    const bool endless = reader.Get<uint8_t>();
    std::vector<Run> runs(reader.Get<uint32_t>());
    for (Run& run : runs) {
      run.local_offset = reader.Get<uint64_t>();
      run.remote_offset = reader.Get<uint64_t>();
      run.bytes = reader.Get<uint64_t>();
    }
    auto send = engine_->Begin(peer_, slot, {0}, {0}, Now() + 30s);
    if (!send.ok()) return 0;
    auto writes = engine_->Push(*send, runs);
    if (endless) {
      pusher_ = std::jthread([this, runs, id = *send](std::stop_token stop) {
        while (!stop.stop_requested())
          if (!engine_->Push(id, runs).ok()) std::this_thread::sleep_for(1ms);
      });
    } else {
      engine_->Finish(*send);
    }
    return writes.ok() ? *writes : 0;
  }

  EventLog log_;
  std::vector<std::byte> memory_;
  std::unique_ptr<Engine> engine_;
  PeerId peer_{};
  std::jthread pusher_;
};

}  // namespace

int RunRemoteEngine(int fd) {
  Server server;
  std::string request;
  while (ReceiveMessage(fd, request))
    if (!SendMessage(fd, server.Handle(request))) break;
  return 0;
}

RemoteEngine::RemoteEngine(ProviderKind provider, uint64_t region_bytes, uint64_t seed) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
    status_ = Error(Code::kInternal, "socketpair: {}", errno);
    return;
  }
  fd_ = fds[0];
  // The child gets its end as descriptor 3; everything else closes on exec.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fds[1], 3);
  std::string program = "/proc/self/exe", flag = kRemoteEngineFlag;
  char* arguments[] = {program.data(), flag.data(), nullptr};
  if (posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, environ) != 0)
    status_ = Error(Code::kInternal, "posix_spawn: {}", errno);
  posix_spawn_file_actions_destroy(&actions);
  close(fds[1]);
  if (!status_.ok()) return;
  ByteWriter writer;
  writer.Put(Op::kOpen);
  writer.Put(provider);
  writer.Put(region_bytes);
  writer.Put(seed);
  const std::string reply = Call(std::move(writer).bytes());
  const std::string error = ByteReader(reply).GetString(4096);
  if (!error.empty()) status_ = Error(Code::kUnavailable, "{}", error);
}

RemoteEngine::~RemoteEngine() {
  if (fd_ >= 0) close(fd_);
  if (pid_ <= 0) return;
  // It ends by itself when its socket closes; a stuck one must not hang the test.
  for (int i = 0; i < 500; ++i) {
    if (waitpid(pid_, nullptr, WNOHANG) != 0) return;
    std::this_thread::sleep_for(10ms);
  }
  ADD_FAILURE() << "remote engine did not end";
  Kill();
}

void RemoteEngine::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::string RemoteEngine::Call(std::string request) {
  std::string reply;
  if (!SendMessage(fd_, request) || !ReceiveMessage(fd_, reply)) return {};
  return reply;
}

std::string RemoteEngine::Describe() {
  ByteWriter writer;
  writer.Put(Op::kDescribe);
  return ByteReader(Call(std::move(writer).bytes())).GetString(1 << 20);
}
bool RemoteEngine::Connect(const std::string& blob) {
  ByteWriter writer;
  writer.Put(Op::kConnect);
  writer.PutString(blob);
  return ByteReader(Call(std::move(writer).bytes())).Get<bool>();
}
Slot RemoteEngine::Expect(Duration timeout) {
  ByteWriter writer;
  writer.Put(Op::kExpect);
  writer.Put(static_cast<uint64_t>(Milliseconds(timeout)));
  const std::string reply = Call(std::move(writer).bytes());
  ByteReader reader(reply);
  return GetSlot(reader);
}
void RemoteEngine::Seal(Slot slot, uint32_t writes) {
  ByteWriter writer;
  writer.Put(Op::kSeal);
  PutSlot(writer, slot);
  writer.Put(writes);
  Call(std::move(writer).bytes());
}
void RemoteEngine::Release(Slot slot) {
  ByteWriter writer;
  writer.Put(Op::kRelease);
  PutSlot(writer, slot);
  Call(std::move(writer).bytes());
}
Event RemoteEngine::WaitSlot(Slot slot) {
  ByteWriter writer;
  writer.Put(Op::kWait);
  PutSlot(writer, slot);
  const std::string reply = Call(std::move(writer).bytes());
  ByteReader reader(reply);
  Event event{};
  event.kind = Event::Kind::kReceiveFailed;
  if (!reader.Get<bool>()) {
    event.status = Error(Code::kInternal, "no event came");
    return event;
  }
  event.kind = reader.Get<Event::Kind>();
  event.writes = reader.Get<uint32_t>();
  if (const std::string text = reader.GetString(4096); event.kind == Event::Kind::kReceiveFailed)
    event.status = Error(Code::kUnavailable, "{}", text);
  return event;
}
std::string RemoteEngine::Read(uint64_t offset, uint64_t bytes) {
  ByteWriter writer;
  writer.Put(Op::kRead);
  writer.Put(offset);
  writer.Put(bytes);
  return ByteReader(Call(std::move(writer).bytes())).GetString(1u << 31);
}
uint32_t RemoteEngine::Send(Slot slot, std::span<const Run> runs, bool endless) {
  ByteWriter writer;
  writer.Put(Op::kSend);
  PutSlot(writer, slot);
  writer.Put(uint8_t{endless});
  writer.Put(static_cast<uint32_t>(runs.size()));
  for (const Run& run : runs) {
    writer.Put(run.local_offset);
    writer.Put(run.remote_offset);
    writer.Put(run.bytes);
  }
  return ByteReader(Call(std::move(writer).bytes())).Get<uint32_t>();
}
Engine::Usage RemoteEngine::Usage() {
  ByteWriter writer;
  writer.Put(Op::kUsage);
  const std::string reply = Call(std::move(writer).bytes());
  ByteReader reader(reply);
  Engine::Usage usage;
  usage.slots_held = reader.Get<uint32_t>();
  usage.sends_live = reader.Get<uint32_t>();
  usage.stray_writes = reader.Get<uint64_t>();
  return usage;
}

namespace {

constexpr uint64_t kPage = 16 << 10;
constexpr uint64_t kRegion = 32 << 20;

class ProcessTest : public testing::TestWithParam<ProviderKind> {
 protected:
  void SetUp() override {
    auto opened = Engine::Open(TestOptions(GetParam()), log_.Sink());
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    engine_ = *std::move(opened);
  }
  void Register(uint64_t bytes, uint64_t seed) {
    memory_.resize(bytes);
    for (size_t i = 0; i < bytes; ++i) memory_[i] = static_cast<std::byte>(seed ? PatternByte(seed, i) : 0);
    ASSERT_TRUE(engine_->Register({memory_.data(), memory_.size()}).ok());
  }
  // Connects both ways.
  PeerId Join(RemoteEngine& remote) {
    EXPECT_TRUE(remote.status().ok()) << remote.status().ToString();
    auto peer = engine_->Connect(remote.Describe(), Now() + 5s);
    EXPECT_TRUE(peer.ok()) << peer.status().ToString();
    EXPECT_TRUE(remote.Connect(engine_->Describe()));
    return peer.ok() ? *peer : PeerId{};
  }
  // Sends `runs` and waits for both ends.
  void Transfer(RemoteEngine& remote, PeerId peer, std::span<const transfer::Run> runs) {
    const Slot slot = remote.Expect(20s);
    auto send = engine_->Begin(peer, slot, {0}, {0}, Now() + 20s);
    ASSERT_TRUE(send.ok()) << send.status().ToString();
    auto writes = engine_->Push(*send, runs);
    ASSERT_TRUE(writes.ok()) << writes.status().ToString();
    engine_->Finish(*send);
    remote.Seal(slot, *writes);
    const Event received = remote.WaitSlot(slot);
    EXPECT_EQ(received.kind, Event::Kind::kReceiveDone) << received.status.ToString();
    EXPECT_EQ(received.writes, *writes);
    const auto sent = log_.WaitSend(*send);
    ASSERT_TRUE(sent);
    EXPECT_EQ(sent->kind, Event::Kind::kSendDone) << sent->status.ToString();
    EXPECT_EQ(log_.CountSend(*send), 1u);
    remote.Release(slot);
  }

  EventLog log_;
  std::vector<std::byte> memory_;
  std::unique_ptr<Engine> engine_;
};

std::vector<PageId> Shuffled(uint32_t pages, std::mt19937& random) {
  std::vector<PageId> ids(pages);
  for (uint32_t i = 0; i < pages; ++i) ids[i] = static_cast<PageId>(i);
  std::shuffle(ids.begin(), ids.end(), random);
  return ids;
}

TEST_P(ProcessTest, MovesRandomPagesByteExact) {
  constexpr uint32_t kPages = 512;
  Register(kPages * kPage, 7);
  RemoteEngine remote(GetParam(), kPages * kPage, 0);
  const PeerId peer = Join(remote);
  std::mt19937 random(42);
  const std::vector<PageId> from = Shuffled(kPages, random), to = Shuffled(kPages, random);
  // Half of the pages in one transfer, the rest layer by layer.
  std::vector<transfer::Run> runs;
  constexpr uint32_t kHalf = kPages / 2;
  PlanPages(std::span(from).first(kHalf), std::span(to).first(kHalf), {kPage, 0, kPage}, runs);
  Transfer(remote, peer, runs);
  for (uint64_t layer = 0; layer < 4; ++layer) {
    runs.clear();
    PlanPages(std::span(from).last(kHalf), std::span(to).last(kHalf),
              {kPage, layer * kPage / 4, kPage / 4}, runs);
    Transfer(remote, peer, runs);
  }
  const std::string got = remote.Read(0, kPages * kPage);
  ASSERT_EQ(got.size(), kPages * kPage);
  for (uint32_t i = 0; i < kPages; ++i)
    ASSERT_EQ(std::memcmp(got.data() + to[i] * kPage, memory_.data() + from[i] * kPage, kPage), 0)
        << "page " << i;
  EXPECT_EQ(remote.Usage().slots_held, 0u);
  EXPECT_EQ(engine_->usage().sends_live, 0u);
}

TEST_P(ProcessTest, ReceiverSurvivesTheDeathOfItsSender) {
  Register(kRegion, 0);
  for (int round = 0; round < 2; ++round) {
    RemoteEngine remote(GetParam(), kRegion, 9);
    const PeerId peer = Join(remote);
    auto slot = engine_->Expect(peer, Now() + 20s);
    ASSERT_TRUE(slot.ok());
    const transfer::Run all{0, 0, kRegion};
    ASSERT_GT(remote.Send(*slot, {&all, 1}, true), 0u);
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + 30 * round));
    remote.Kill();
    const TimePoint killed = Now();
    const auto event = log_.WaitSlot(*slot, 10s);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->kind, Event::Kind::kReceiveFailed);
    EXPECT_LT(Seconds(Now() - killed), 4.0) << event->status.ToString();
    EXPECT_TRUE(log_.WaitPeer(Event::Kind::kPeerLost, peer));
    engine_->Disconnect(peer);
    EXPECT_TRUE(log_.WaitPeer(Event::Kind::kFenced, peer));
    engine_->Release(*slot);
    log_.Clear();
  }
  // The engine still works with a new process.
  RemoteEngine fresh(GetParam(), kRegion, 11);
  const PeerId peer = Join(fresh);
  auto slot = engine_->Expect(peer, Now() + 20s);
  ASSERT_TRUE(slot.ok());
  const transfer::Run all{0, 0, kRegion};
  const uint32_t writes = fresh.Send(*slot, {&all, 1}, false);
  engine_->Seal(*slot, writes);
  const auto event = log_.WaitSlot(*slot);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, Event::Kind::kReceiveDone) << event->status.ToString();
  for (size_t i = 0; i < memory_.size(); i += 4097)
    ASSERT_EQ(static_cast<uint8_t>(memory_[i]), PatternByte(11, i)) << i;
  engine_->Release(*slot);
}

TEST_P(ProcessTest, SenderSurvivesTheDeathOfItsReceiver) {
  Register(kRegion, 5);
  for (int round = 0; round < 2; ++round) {
    RemoteEngine remote(GetParam(), kRegion, 0);
    const PeerId peer = Join(remote);
    const Slot slot = remote.Expect(20s);
    auto send = engine_->Begin(peer, slot, {0}, {0}, Now() + 20s);
    ASSERT_TRUE(send.ok());
    const transfer::Run all{0, 0, kRegion};
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(engine_->Push(*send, {&all, 1}).ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(10 + 20 * round));
    remote.Kill();
    const TimePoint killed = Now();
    engine_->Finish(*send);
    const auto event = log_.WaitSend(*send, 10s);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->kind, Event::Kind::kSendFailed);
    EXPECT_LT(Seconds(Now() - killed), 4.0) << event->status.ToString();
    EXPECT_EQ(log_.CountSend(*send), 1u);
    engine_->Disconnect(peer);
    EXPECT_TRUE(log_.WaitPeer(Event::Kind::kFenced, peer));
    log_.Clear();
  }
  RemoteEngine fresh(GetParam(), kRegion, 0);
  const PeerId peer = Join(fresh);
  const transfer::Run all{0, 0, kRegion};
  Transfer(fresh, peer, {&all, 1});
}

// The receiver leaves while bytes stream in: nothing may land after the fence.
TEST_P(ProcessTest, DisconnectFencesAWritingPeer) {
  Register(kRegion, 0);
  for (int round = 0; round < 3; ++round) {
    RemoteEngine remote(GetParam(), kRegion, 9);
    const PeerId peer = Join(remote);
    auto slot = engine_->Expect(peer, Now() + 20s);
    ASSERT_TRUE(slot.ok());
    const transfer::Run all{0, 0, kRegion};
    ASSERT_GT(remote.Send(*slot, {&all, 1}, true), 0u);
    std::this_thread::sleep_for(std::chrono::milliseconds(30 + 7 * round));
    engine_->Disconnect(peer);
    ASSERT_TRUE(log_.WaitPeer(Event::Kind::kFenced, peer));
    const auto event = log_.WaitSlot(*slot);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->kind, Event::Kind::kReceiveFailed);
    // From here on the pages are ours again.
    std::memset(memory_.data(), 0x5A, memory_.size());
    std::this_thread::sleep_for(300ms);
    const bool clean = std::all_of(memory_.begin(), memory_.end(),
                                   [](std::byte b) { return b == std::byte{0x5A}; });
    EXPECT_TRUE(clean) << "round " << round << ": bytes landed after the fence";
    engine_->Release(*slot);
    log_.Clear();
  }
}

// A stopped process is lost by its silence; when it goes on it can write no more.
TEST_P(ProcessTest, StoppedPeerIsLostAndFenced) {
  Register(kRegion, 0);
  RemoteEngine remote(GetParam(), kRegion, 9);
  const PeerId peer = Join(remote);
  auto slot = engine_->Expect(peer, Now() + 20s);
  ASSERT_TRUE(slot.ok());
  const transfer::Run all{0, 0, kRegion};
  ASSERT_GT(remote.Send(*slot, {&all, 1}, true), 0u);
  std::this_thread::sleep_for(40ms);
  kill(remote.pid(), SIGSTOP);
  const auto event = log_.WaitSlot(*slot);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, Event::Kind::kReceiveFailed);
  engine_->Disconnect(peer);
  ASSERT_TRUE(log_.WaitPeer(Event::Kind::kFenced, peer));
  std::memset(memory_.data(), 0x5A, memory_.size());
  kill(remote.pid(), SIGCONT);
  std::this_thread::sleep_for(500ms);
  const bool clean = std::all_of(memory_.begin(), memory_.end(),
                                 [](std::byte b) { return b == std::byte{0x5A}; });
  EXPECT_TRUE(clean) << "bytes landed after the fence";
  engine_->Release(*slot);
}

INSTANTIATE_TEST_SUITE_P(Providers, ProcessTest,
                         testing::Values(ProviderKind::kTcp, ProviderKind::kShm),
                         [](const auto& info) {
                           return info.param == ProviderKind::kTcp ? "Tcp" : "Shm";
                         });

// Not a test: `baton_transfer_test --bench tcp 72 16` prints the speed of 72 MiB in 16 KiB pages.
int Bench(ProviderKind provider, uint64_t total, uint64_t page) {
  EventLog log;
  auto opened = Engine::Open(TestOptions(provider), log.Sink());
  if (!opened.ok()) return 1;
  std::unique_ptr<Engine> engine = *std::move(opened);
  std::vector<std::byte> memory(total, std::byte{3});
  if (!engine->Register({memory.data(), memory.size()}).ok()) return 1;
  RemoteEngine remote(provider, total, 1);
  auto peer = engine->Connect(remote.Describe(), Now() + 5s);
  if (!peer.ok() || !remote.Connect(engine->Describe())) return 1;
  std::mt19937 random(1);
  const auto pages = static_cast<uint32_t>(total / page);
  double best = 0, sum = 0;
  constexpr int kRounds = 8;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<Run> runs;
    PlanPages(Shuffled(pages, random), Shuffled(pages, random), {page, 0, page}, runs);
    const Slot slot = remote.Expect(30s);
    const TimePoint start = Now();
    auto send = engine->Begin(*peer, slot, {0}, {0}, Now() + 30s);
    auto writes = engine->Push(*send, runs);
    engine->Finish(*send);
    remote.Seal(slot, *writes);
    const Event event = remote.WaitSlot(slot);
    const double seconds = Seconds(Now() - start);
    if (event.kind != Event::Kind::kReceiveDone) {
      std::fprintf(stderr, "failed: %s\n", event.status.ToString().c_str());
      return 1;
    }
    remote.Release(slot);
    best = std::max(best, total / seconds / 1e9);
    sum += seconds;
  }
  std::printf("%s %llu MiB in %llu KiB pages: mean %.2f GB/s, best %.2f GB/s\n",
              engine->report().provider.c_str(), static_cast<unsigned long long>(total >> 20),
              static_cast<unsigned long long>(page >> 10), kRounds * total / sum / 1e9, best);
  return 0;
}

}  // namespace
}  // namespace baton::transfer

int main(int argc, char** argv) {
  using namespace baton::transfer;
  if (argc > 1 && std::string_view(argv[1]) == kRemoteEngineFlag) return RunRemoteEngine(3);
  if (argc > 4 && std::string_view(argv[1]) == "--bench")
    return Bench(*ParseProvider(argv[2]), std::stoull(argv[3]) << 20, std::stoull(argv[4]) << 10);
  testing::InitGoogleTest(&argc, argv);
  if (const auto code = RunSimulationCommand(argc, argv)) return *code;
  return RUN_ALL_TESTS();
}
