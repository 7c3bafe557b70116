#include "transfer/fault_soak_for_tests.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <random>
#include <thread>

#include "common/log.h"
#include "transfer/cuda/cuda_for_tests.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/remote_engine_for_tests.h"

namespace baton::transfer {
namespace {

constexpr uint64_t kPage = 16 << 10;
constexpr uint32_t kPages = 64;
constexpr uint64_t kHalf = kPages * kPage;  // a region is what is sent from, then what is written to
constexpr std::byte kMarker{0x5A};
constexpr std::chrono::milliseconds kPeerTimeout{1000};  // longer than a busy machine keeps a process waiting
constexpr std::chrono::milliseconds kShortPeerTimeout{250};  // for stops: they wait for it
constexpr const char* kNames[kFaults] = {"none",  "cancel-receive", "cancel-send", "deadline",
                                         "leave", "pause",          "stop",        "kill"};

class Soak {
 public:
  explicit Soak(const SoakOptions& options)
      : options_(options),
        random_(options.seed),
        mock_(Stage(options)),
        memory_(2 * kHalf, options.shared, options.staged ? 0 : -1) {}

  Result<SoakResult> RunAll() {
    const TimePoint end = Now() + options_.time;
    Status status = Open();
    size_t files = 0;
    for (uint64_t step = 0; status.ok() && Now() < end; ++step) {
      status = Step(PickFault());
      if (status.ok() && step == 20) files = OpenFiles();
      if (!status.ok()) status = status.Prefixed(fmt::format("seed {} step {}", options_.seed, step));
    }
    if (!status.ok()) return status;
    if (files && OpenFiles() > files + 8)
      return Error(Code::kInternal, "{} files are open after the soak, {} were after 20 steps", OpenFiles(), files);
    return result_;
  }

 private:
  static std::unique_ptr<cuda::MockCuda> Stage(const SoakOptions& options) {
    if (!options.staged) return nullptr;
    auto mock = std::make_unique<cuda::MockCuda>("touchable=1");
    mock->Set("touchable", 1);
    return mock;
  }
  uint32_t Random(uint32_t below) { return static_cast<uint32_t>(random_() % below); }
  static size_t OpenFiles() {
    const std::filesystem::directory_iterator files("/proc/self/fd");
    return static_cast<size_t>(std::distance(begin(files), end(files)));
  }
  static Status Broken(std::string_view what) { return Error(Code::kInternal, "{}", what); }

  // Processes cost far more than the rest, so the hard faults are rarer.
  Fault PickFault() {
    using Weights = std::array<uint32_t, kFaults>;
    constexpr Weights kAll = {10, 30, 30, 12, 30, 4, 1, 3}, kStops = {0, 2, 2, 0, 2, 0, 8, 1};
    const Weights& weights = options_.stops ? kStops : kAll;
    uint32_t at = Random(std::accumulate(weights.begin(), weights.end(), 0u));
    size_t kind = 0;
    while (at >= weights[kind]) at -= weights[kind++];
    return static_cast<Fault>(kind);
  }

  Status Open() {
    Options options;
    options.provider = options_.provider;
    options.fabric = options_.way.fabric;
    options.write_mode = options_.way.mode;
    options.rails = options_.rails;
    if (options_.staged) options.cuda_device = 0;
    options.self_test = false;
    options.peer_timeout = peer_timeout_;
    auto engine = Engine::Open(options, log_.Sink());
    if (!engine.ok()) return engine.status();
    engine_ = *std::move(engine);
    if (auto region = engine_->Register(memory_.span()); !region.ok()) return region.status();
    memory_.Fill(options_.seed);
    Mark();
    return Join();
  }

  Status Join() {
    if (!remote_) {
      remote_seed_ = random_() | 1;
      remote_ = std::make_unique<RemoteEngine>(options_.provider, 2 * kHalf, remote_seed_, options_.shared, peer_timeout_,
                                               options_.way, options_.staged ? 0 : -1, std::nullopt, options_.rails);
      if (!remote_->status().ok()) return remote_->status();
    }
    auto peer = engine_->Connect(remote_->Describe(), Now() + 10s);
    if (!peer.ok()) return peer.status().Prefixed("join");
    peer_ = *peer;
    if (!remote_->Connect(engine_->Describe())) return Broken("the remote could not connect");
    return Status::Ok();
  }

  // After a fence nothing of the old peer may land: the memory is marked here and looked at before
  // it is used again.
  Status Fence() {
    engine_->Disconnect(peer_);
    if (!log_.WaitPeer(Event::Kind::kFenced, peer_)) return Broken("no fence");
    Mark();
    return Status::Ok();
  }
  void Mark() { std::memset(memory_.data() + kHalf, static_cast<int>(kMarker), kHalf); }
  bool Marked() const {
    return std::all_of(memory_.data() + kHalf, memory_.data() + 2 * kHalf, [](std::byte b) { return b == kMarker; });
  }

  Status Step(Fault fault) {
    ++result_.faults[static_cast<size_t>(fault)];
    const bool receive = fault != Fault::kCancelSend &&
                         (fault == Fault::kCancelReceive || fault == Fault::kDeadline ||
                          fault == Fault::kLeave || Random(2) == 0);
    Status status = receive ? Receive(fault) : Send(fault);
    if (status.ok()) status = Settle();
    return status.ok() ? status : status.Prefixed(kNames[static_cast<size_t>(fault)]);
  }

  std::vector<Run> RandomRuns() {
    std::vector<uint32_t> from(kPages), to(kPages);
    std::iota(from.begin(), from.end(), 0u);
    std::iota(to.begin(), to.end(), 0u);
    std::shuffle(from.begin(), from.end(), random_);
    std::shuffle(to.begin(), to.end(), random_);
    std::vector<Run> runs(1 + Random(kPages));
    for (size_t i = 0; i < runs.size(); ++i) runs[i] = {from[i] * kPage, kHalf + to[i] * kPage, kPage};
    return runs;
  }
  void Nap() {
    if (const uint32_t us = Random(1500); us > 300) std::this_thread::sleep_for(std::chrono::microseconds(us));
  }

  // What the fault does to the other process. True when the transfer must still be whole.
  Result<bool> Hit(Fault fault) {
    switch (fault) {
      case Fault::kPause:
        remote_->Stop();
        std::this_thread::sleep_for(std::chrono::milliseconds(1 + Random(60)));
        remote_->Continue();
        return true;
      case Fault::kStop:
        remote_->Stop();
        return false;
      case Fault::kKill:
        remote_->Kill();
        remote_ = nullptr;
        return false;
      default: return true;
    }
  }

  Status Receive(Fault fault) {
    if (!Marked()) return Broken("bytes landed in fenced memory");
    const bool whole = fault == Fault::kNone || fault == Fault::kPause;
    const Duration time = fault == Fault::kDeadline ? std::chrono::milliseconds(1 + Random(5)) : Duration(30s);
    auto slot = engine_->Expect(peer_, Now() + time);
    if (!slot.ok()) return slot.status();
    const std::vector<Run> runs = RandomRuns();
    const uint32_t writes = remote_->Send(*slot, runs, !whole);
    if (!whole) Nap();
    if (fault == Fault::kCancelReceive) engine_->Cancel(*slot);
    if (fault == Fault::kLeave) engine_->Disconnect(peer_);
    if (Result<bool> hit = Hit(fault); !hit.ok()) return hit.status();
    if (whole) engine_->Seal(*slot, writes);
    const auto event = log_.WaitSlot(*slot, 20s);
    if (!event) return Broken("the slot did not end");
    if ((event->kind == Event::Kind::kReceiveDone) != whole)
      return Error(Code::kInternal, "the slot ended as {}", event->status.ToString());
    Status status;
    if (whole) {
      for (const Run& run : runs)
        if (Status s = CheckPage(memory_.data() + run.remote_offset, remote_seed_, run.local_offset); !s.ok()) status = s;
      Mark();
      ++result_.transfers;
    } else {
      status = fault == Fault::kLeave ? Left() : Fence();
    }
    engine_->Release(*slot);
    if (log_.CountSlot(*slot) != 1) return Broken("the slot ended more than once");
    if (status.ok() && !whole) status = Return(fault);
    return status;
  }

  Status Left() {
    if (!log_.WaitPeer(Event::Kind::kFenced, peer_)) return Broken("no fence");
    Mark();
    return Status::Ok();
  }

  // After a fence: the other side settles, then both join anew.
  Status Return(Fault fault) {
    if (fault == Fault::kStop) remote_->Continue();
    if (remote_ && !remote_->Leave()) return Broken("the remote did not leave");
    return Join();
  }

  static Status CheckPage(const std::byte* page, uint64_t seed, uint64_t offset) {
    for (uint64_t i = 0; i < kPage; i += 8) {
      const uint64_t want = PatternWord(seed, (offset + i) / 8);
      if (std::memcmp(page + i, &want, 8) != 0)
        return Error(Code::kDataCorrupt, "a wrong byte in a whole transfer, page {} byte {}", offset / kPage, i);
    }
    return Status::Ok();
  }

  Status Send(Fault fault) {
    if (!Marked()) return Broken("bytes landed in fenced memory");
    const bool whole = fault == Fault::kNone || fault == Fault::kPause;
    const Slot slot = remote_->Expect(whole ? 30s : 2s);
    auto send = engine_->Begin(peer_, slot, {0}, {0}, Now() + 30s);
    if (!send.ok()) return send.status();
    const std::vector<Run> runs = RandomRuns();
    uint32_t writes = 0;
    for (int i = whole ? 1 : 20; i > 0; --i) {
      auto pushed = engine_->Push(*send, runs);
      if (!pushed.ok()) return pushed.status();
      writes += *pushed;
    }
    if (!whole) Nap();
    if (fault == Fault::kCancelSend) engine_->CancelSend(*send);
    // It must not be over before the stop or kill is noticed: then there would be nothing to lose.
    if (Result<bool> hit = Hit(fault); !hit.ok()) return hit.status();
    if (fault == Fault::kStop || fault == Fault::kKill) PushMore(*send, runs);
    engine_->Finish(*send);
    const auto event = log_.WaitSend(*send, 20s);
    if (!event) return Broken("the send did not end");
    const bool done = event->kind == Event::Kind::kSendDone;
    if (done != whole && fault != Fault::kCancelSend)
      return Error(Code::kInternal, "the send ended as {}", event->status.ToString());
    if (fault == Fault::kCancelSend && !event->drained) return Error(Code::kInternal, "a cancelled send was not drained: {}", event->status.ToString());
    if (log_.CountSend(*send) != 1) return Broken("the send ended more than once");
    if (fault == Fault::kStop || fault == Fault::kKill) {
      if (Status s = Fence(); !s.ok()) return s;
      if (fault == Fault::kStop) {
        remote_->Continue();
        remote_->WaitSlot(slot);
        remote_->Release(slot);
      }
      return Return(fault);
    }
    // As many writes as came to an end: the receiver counts the same.
    remote_->Seal(slot, whole ? writes : event->writes);
    const Event received = remote_->WaitSlot(slot);
    remote_->Release(slot);
    if (received.kind != Event::Kind::kReceiveDone)
      return Error(Code::kInternal, "the remote slot ended as {}", received.status.ToString());
    if (!whole) return Status::Ok();
    ++result_.transfers;
    for (const Run& run : runs) {
      const std::string page = remote_->Read(run.remote_offset, kPage);
      if (page.size() != kPage) return Broken("the remote did not answer");
      if (Status s = CheckPage(reinterpret_cast<const std::byte*>(page.data()), options_.seed, run.local_offset); !s.ok())
        return s;
    }
    return Status::Ok();
  }
  void PushMore(SendId send, const std::vector<Run>& runs) {
    for (int i = 0; i < 50; ++i)
      if (!engine_->Push(send, runs).ok()) return;
  }

  // Nothing may be left over on either side.
  Status Settle() {
    Engine::Usage here, there;
    for (int i = 0; i < 2000; ++i) {
      here = engine_->usage();
      there = remote_->Usage();
      if (here.slots_held + here.sends_live + there.slots_held + there.sends_live == 0 && here.peers <= 1) {
        log_.Clear();
        return Status::Ok();
      }
      std::this_thread::sleep_for(1ms);
    }
    return Error(Code::kInternal, "left over: {} slots {} sends {} peers here, {} slots {} sends there", here.slots_held,
                 here.sends_live, here.peers, there.slots_held, there.sends_live);
  }

  const SoakOptions options_;
  const std::chrono::milliseconds peer_timeout_ = options_.stops ? kShortPeerTimeout : kPeerTimeout;
  std::mt19937_64 random_;
  SoakResult result_;
  const std::unique_ptr<cuda::MockCuda> mock_;
  TestMemory memory_;
  EventLog log_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<RemoteEngine> remote_;
  uint64_t remote_seed_ = 0;
  PeerId peer_{};
};

}  // namespace

uint64_t SoakResult::injected() const { return std::accumulate(faults.begin() + 1, faults.end(), uint64_t{0}); }

std::string SoakResult::ToString() const {
  std::string text = fmt::format("{} faults, {} whole transfers:", injected(), transfers);
  for (size_t i = 1; i < kFaults; ++i) text += fmt::format(" {} {}", kNames[i], faults[i]);
  return text;
}

Result<SoakResult> RunSoak(const SoakOptions& options) { return Soak(options).RunAll(); }

int RunSoakCommand(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: baton_transfer_test --soak shm|shm-private|tcp|tcp-rails|tcp-read|tcp-rails-read|native-read|tcp-staged|tcp-rails-staged|tcp-rails-read-staged[-stops] SECONDS [SEED]\n");
    return 2;
  }
  std::string_view name = arguments[0];
  const auto take = [&](std::string_view suffix) {
    const bool there = name.ends_with(suffix);
    if (there) name.remove_suffix(suffix.size());
    return there;
  };
  SoakOptions options;
  options.stops = take("-stops");
  options.staged = take("-staged");
  options.provider = name.starts_with("shm") ? ProviderKind::kShm : ProviderKind::kTcp;
  options.way.fabric = name.starts_with("shm") ? "auto" : name.starts_with("native") ? "native" : "rxm";
  if (name.ends_with("-read")) options.way.mode = WriteMode::kRead;
  if (name.starts_with("tcp-rails")) options.rails = {"127.0.0.1", "127.0.0.2"};
  options.shared = name == "shm";
  options.time = std::chrono::seconds(std::atoi(arguments[1]));
  options.seed = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : std::random_device()();
  log::Init("error", "");  // each lost peer is a warning
  const TimePoint start = Now();
  const Result<SoakResult> result = RunSoak(options);
  if (!result.ok()) {
    std::fprintf(stderr, "soak over %s failed: %s\n", arguments[0], result.status().ToString().c_str());
    return 1;
  }
  std::printf("soak over %s, seed %llu: %s; %.0f faults/s; nothing leaked, no wrong byte\n", arguments[0],
              static_cast<unsigned long long>(options.seed), result->ToString().c_str(),
              static_cast<double>(result->injected()) / Seconds(Now() - start));
  return 0;
}

namespace {

TEST(FaultSoak, AFewSecondsOfEachProvider) {
  for (const SoakOptions& options :
       {SoakOptions{.provider = ProviderKind::kShm, .shared = true, .seed = 11},
        SoakOptions{.provider = ProviderKind::kTcp, .shared = false, .way = {"rxm", WriteMode::kWrite}, .seed = 12},
        SoakOptions{.provider = ProviderKind::kTcp, .shared = false, .way = {"rxm", WriteMode::kRead}, .seed = 13},
        SoakOptions{.provider = ProviderKind::kTcp,
                    .shared = false,
                    .way = {"rxm", WriteMode::kRead},
                    .rails = {"127.0.0.1", "127.0.0.2"},
                    .seed = 14},
        SoakOptions{.provider = ProviderKind::kTcp,
                    .shared = false,
                    .way = {"rxm", WriteMode::kWrite},
                    .rails = {"127.0.0.1", "127.0.0.2"},
                    .staged = true,
                    .seed = 15}}) {
    const Result<SoakResult> result = RunSoak(options);
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    EXPECT_GT(result->injected(), 0u) << result->ToString();
  }
}

}  // namespace
}  // namespace baton::transfer
