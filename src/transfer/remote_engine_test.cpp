// The engine in another process (remote_engine_for_tests.h), and the test program's main().
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "common/bytes.h"
#include "common/log.h"
#include "common/shared_memory.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/fault_soak_for_tests.h"
#include "transfer/remote_engine_for_tests.h"
#include "transfer/simulation_for_tests.h"

extern char** environ;

namespace baton::transfer {
namespace {

enum class Op : uint8_t { kOpen, kDescribe, kConnect, kExpect, kSeal, kRelease, kLanded, kWait, kRead, kSend, kUsage, kLeave };

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

// The engine of the child process.
class Server {
 public:
  std::string Handle(std::string_view request) {
    ByteReader reader(request);
    ByteWriter reply;
    switch (reader.Get<Op>()) {
      case Op::kOpen: {
        Options options;
        options.self_test = false;
        options.provider = reader.Get<ProviderKind>();
        const auto bytes = reader.Get<uint64_t>(), seed = reader.Get<uint64_t>();
        const bool shared = reader.Get<uint8_t>() != 0;
        options.peer_timeout = std::chrono::milliseconds(reader.Get<uint32_t>());
        options.fabric = reader.GetString(64);
        options.write_mode = reader.Get<WriteMode>();
        const auto device = reader.Get<int32_t>(), cuda_device = reader.Get<int32_t>();
        if (cuda_device >= 0) options.cuda_device = cuda_device;
        memory_.emplace(bytes, shared, device);
        for (auto names = reader.Get<uint32_t>(); names > 0; --names)
          options.rails.push_back(reader.GetString(256));
        if (seed) memory_->Fill(seed);
        auto opened = Engine::Open(options, log_.Sink());
        if (opened.ok()) {
          engine_ = *std::move(opened);
          auto region = engine_->Register(memory_->span());
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
        reply.PutString(memory_->Read(offset, reader.Get<uint64_t>()));
        break;
      }
      case Op::kSend:
        reply.Put(Send(reader));
        break;
      case Op::kLanded:
        reply.Put(engine_->Landed(GetSlot(reader)));
        break;
      case Op::kUsage: {
        const Engine::Usage usage = engine_->usage();
        reply.Put(usage.slots_held);
        reply.Put(usage.sends_live);
        reply.Put(usage.stray_writes);
        break;
      }
      case Op::kLeave: {
        pusher_ = {};
        engine_->Disconnect(peer_);
        reply.Put(log_.WaitPeer(Event::Kind::kFenced, peer_).has_value());
        log_.Clear();
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
  std::optional<TestMemory> memory_;
  std::unique_ptr<Engine> engine_;
  PeerId peer_{};
  std::jthread pusher_;
};

}  // namespace

TestMemory::TestMemory(uint64_t bytes, bool shared, int device) {
  if (device >= 0) {
    auto memory = cuda::DeviceBuffer::Create(device, bytes);
    BATON_CHECK(memory.ok(), "{}", memory.status().ToString());
    device_.emplace(*std::move(memory));
    std::vector<std::byte> zeros(bytes);
    const Status s = cuda::CopyNow(span(), {zeros.data(), bytes}, Now() + 20s);
    BATON_CHECK(s.ok(), "{}", s.ToString());
  } else if (shared) {
    auto memory = SharedMemory::Create(bytes, SharedMemory::Pages::kOnDemand);
    BATON_CHECK(memory.ok(), "{}", memory.status().ToString());
    shared_.emplace(*std::move(memory));
  } else {
    private_.resize(bytes);
  }
}

MemorySpan TestMemory::span() {
  if (device_) return device_->span();
  return shared_ ? shared_->span() : MemorySpan{private_.data(), private_.size()};
}

void TestMemory::Fill(uint64_t seed) {
  std::vector<std::byte> bytes(device_ ? size() : 0);
  std::byte* const place = device_ ? bytes.data() : data();
  for (uint64_t i = 0; i < size(); i += 8) {
    const uint64_t word = PatternWord(seed, i / 8);
    std::memcpy(place + i, &word, std::min<uint64_t>(8, size() - i));
  }
  if (!device_) return;
  const Status s = cuda::CopyNow(span(), {place, size()}, Now() + 20s);
  BATON_CHECK(s.ok(), "{}", s.ToString());
}

std::string TestMemory::Read(uint64_t offset, uint64_t bytes) {
  MemorySpan piece = span();
  piece.data += offset;
  piece.size_bytes = bytes;
  std::string result(bytes, '\0');
  const Status s = cuda::CopyNow({reinterpret_cast<std::byte*>(result.data()), bytes}, piece, Now() + 20s);
  BATON_CHECK(s.ok(), "{}", s.ToString());
  return result;
}

int RunRemoteEngine(int fd) {
  log::Init("error", "");  // the tests take its peers away all the time
  Server server;
  std::string request;
  while (ReceiveMessage(fd, request))
    if (!SendMessage(fd, server.Handle(request))) break;
  return 0;
}

RemoteEngine::RemoteEngine(ProviderKind provider, uint64_t region_bytes, uint64_t seed, bool shared,
                           std::chrono::milliseconds peer_timeout, const FabricWay& way, int device,
                           std::optional<int> cuda_device, const std::vector<std::string>& rails) {
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
  writer.Put(uint8_t{shared});
  writer.Put(static_cast<uint32_t>(peer_timeout.count()));
  writer.PutString(way.fabric);
  writer.Put(way.mode);
  writer.Put(int32_t{device});
  writer.Put(int32_t{device >= 0 ? device : cuda_device.value_or(-1)});
  writer.Put(static_cast<uint32_t>(rails.size()));
  for (const std::string& name : rails) writer.PutString(name);
  const std::string reply = Call(std::move(writer).bytes());
  const std::string error = ByteReader(reply).GetString(4096);
  if (!error.empty()) status_ = Error(Code::kUnavailable, "{}", error);
}

// Each thread of the process: its state and where it waits.
static std::string WhatItDoes(int pid) {
  std::string text;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), error)) {
    const auto line = [&](const char* file) {
      std::string first;
      std::getline(std::ifstream(task.path() / file), first);
      return first;
    };
    text += fmt::format("{}: {}, in {}, {}\n", line("comm"), line("stat"), line("wchan"), line("syscall"));
  }
  return text;
}

RemoteEngine::~RemoteEngine() {
  if (fd_ >= 0) close(fd_);
  if (pid_ <= 0) return;
  Continue();
  // It ends by itself when its socket closes; a stuck one must not hang the test.
  for (int i = 0; i < 500; ++i) {
    if (waitpid(pid_, nullptr, WNOHANG) != 0) return;
    std::this_thread::sleep_for(10ms);
  }
  ADD_FAILURE() << "remote engine did not end:\n" << WhatItDoes(pid_);
  Kill();
}

void RemoteEngine::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void RemoteEngine::Stop() {
  kill(pid_, SIGSTOP);
  for (int i = 0; i < 5000; ++i) {
    if (waitpid(pid_, nullptr, WNOHANG | WUNTRACED) != 0) return;
    std::this_thread::sleep_for(1ms);
  }
  ADD_FAILURE() << "remote engine did not stop:\n" << WhatItDoes(pid_);
}

void RemoteEngine::Continue() { kill(pid_, SIGCONT); }

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
uint32_t RemoteEngine::Landed(Slot slot) {
  ByteWriter writer;
  writer.Put(Op::kLanded);
  PutSlot(writer, slot);
  return ByteReader(Call(std::move(writer).bytes())).Get<uint32_t>();
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
bool RemoteEngine::Leave() {
  ByteWriter writer;
  writer.Put(Op::kLeave);
  return ByteReader(Call(std::move(writer).bytes())).Get<bool>();
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

}  // namespace baton::transfer

int main(int argc, char** argv) {
  using namespace baton::transfer;
  if (argc > 1 && std::string_view(argv[1]) == kRemoteEngineFlag) return RunRemoteEngine(3);
  if (argc > 1 && std::string_view(argv[1]) == kSoakFlag) return RunSoakCommand(argc - 2, argv + 2);
  testing::InitGoogleTest(&argc, argv);
  if (const auto code = RunSimulationCommand(argc, argv)) return *code;
  return RUN_ALL_TESTS();
}
