// The engine core under thousands of seeded schedules: three engines on the loopback network with
// every fault, a virtual clock, processes that die, restart and stand still.
//
// The world plays the part of the disaggregation layer: grants, seals, cancels and their
// acknowledgements travel as control messages of random delay. It holds the engines to:
// - every Expect and Begin ends in exactly one event;
// - a finished receive holds exactly the bytes that were sent;
// - a page that nobody is granted never changes: not by late writes, nor by another generation's;
// - source pages are read no more once their send ended (they are scribbled over at once);
// - when all is quiet nothing is held, live or in flight.
// A failure prints its seed; BATON_SIM_SEED=<seed> replays that one, BATON_SIM_SECONDS=<s> runs
// fresh seeds for so long.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <random>

#include "common/log.h"
#include "transfer/engine_core.h"
#include "transfer/loopback/loopback.h"

namespace baton::transfer {
namespace {

constexpr int kNodes = 3;
constexpr uint64_t kPage = 64;
constexpr int kTargetPages = 24, kSourcePages = 16;
constexpr uint64_t kRegionBytes = (kTargetPages + kSourcePages) * kPage;
constexpr std::byte kFreeByte{0xEE}, kScribble{0x33};
constexpr Duration kQuiet = 30s;  // virtual: more than every deadline and timeout together

// One granted transfer, both ends.
struct Transfer : std::enable_shared_from_this<Transfer> {
  int from = 0, to = 0;
  uint32_t from_life = 0, to_life = 0;  // which incarnation of the node
  std::vector<int> targets, sources;
  uint64_t content = 0;
  size_t session = 0;  // a grant holds only in the session that it was made in
  // Receiver.
  PeerId sender_id{};
  Slot slot{};
  bool receive_ended = false, acknowledged = false, fenced = false, released = false;
  // Sender.
  PeerId receiver_id{};
  SendId send{};
  bool begun = false, finished = false, send_ended = false, send_done = false, cancel_asked = false;
  size_t pushed_pages = 0;
  uint32_t writes = 0;
};

struct Node {
  std::string address;
  std::vector<std::byte> memory = std::vector<std::byte>(kRegionBytes);
  std::unique_ptr<EngineCore> core;
  std::array<PeerId, kNodes> peers{};      // current; 0: none
  std::array<size_t, kNodes> sessions{};   // names the pair of descriptions behind it
  std::array<TimePoint, kNodes> joined_at{};
  std::vector<int> free_targets, free_sources;
  uint32_t life = 0;
  bool paused = false;
};

class World {
 public:
  explicit World(uint64_t seed) : random_(seed), network_(LoopbackNetwork::Create(seed ^ 0xF00D)) {
    faults_ = DrawFaults();
    network_->SetFaults(faults_);
    for (int i = 0; i < kNodes; ++i) Start(i);
    for (int i = 0; i < kNodes; ++i)
      for (int j = 0; j < i; ++j) Introduce(i, j);
  }

  void Run() {
    const int steps = 150 + static_cast<int>(Pick(250));
    for (int i = 0; i < steps && !Failed(); ++i) {
      Advance(std::chrono::microseconds(Pick(3000)));
      Act();
      StepAll();
    }
    Settle();
  }

 private:
  static bool Failed() { return testing::Test::HasFailure(); }
  uint64_t Pick(uint64_t below) { return below ? random_() % below : 0; }
  bool Chance(double p) { return std::uniform_real_distribution<double>(0, 1)(random_) < p; }
  void Advance(Duration d) { now_ += d; }

  LoopbackFaults DrawFaults() {
    LoopbackFaults faults;
    faults.max_delay = std::chrono::microseconds(Pick(2) ? Pick(20'000) : 0);
    faults.keep_order = Pick(3) == 0;
    if (Pick(2)) faults.busy = 0.3 * Chance(0.7) + 0.6 * Chance(0.2);
    if (Pick(3) == 0) faults.fail = 0.01;
    faults.dead_silence = Pick(3) * 0.5;
    if (Pick(2)) {
      faults.late = 0.7;
      faults.late_by = std::chrono::milliseconds(Pick(100));
    }
    return faults;
  }

  // ---- nodes -----------------------------------------------------------------------------------
  void Start(int i) {
    Node& node = nodes_[i];
    ++node.life;
    node.paused = false;
    node.peers = {};
    node.sessions = {};
    node.free_targets.clear();
    node.free_sources.clear();
    for (int p = 0; p < kTargetPages; ++p) FreeTarget(node, p);
    for (int p = 0; p < kSourcePages; ++p) FreeSource(node, p);
    std::unique_ptr<Fabric> fabric = network_->Open();
    node.address = fabric->Address();
    const EngineCore::Config config{.max_slots = 12,
                                    .max_sends = 8,
                                    .max_queued_runs = 16,
                                    .max_write_bytes = 40,  // each page takes two writes
                                    .probe_interval = 30ms,
                                    .peer_timeout = 200ms,
                                    .epoch = random_() | 1};
    const uint32_t life = node.life;
    node.core = std::make_unique<EngineCore>(
        std::move(fabric), config, [this, i, life](const Event& e) {
          if (nodes_[i].life == life) OnEvent(i, e);
        });
    ASSERT_TRUE(node.core->Open().ok());
    ASSERT_TRUE(node.core->Register({node.memory.data(), node.memory.size()}).ok());
  }

  void Kill(int i) {
    Node& node = nodes_[i];
    network_->Kill(node.address);
    node.core.reset();
    ++node.life;  // what was meant for the dead one finds nobody
    // The others' control connections break.
    for (int j = 0; j < kNodes; ++j) {
      if (j == i) continue;
      Later(j, [this, i, j, id = nodes_[j].peers[i]] {
        if (nodes_[j].peers[i] == id) Drop(j, i);
      });
    }
    std::fill(node.memory.begin(), node.memory.end(), kScribble);
    Later(-1, [this, i] {
      if (nodes_[i].core) return;
      Start(i);
      for (int j = 0; j < kNodes; ++j)
        if (j != i) Introduce(i, j);
    });
  }

  // Node i gives up its current peer for j.
  void Drop(int i, int j) {
    if (nodes_[i].peers[j] != PeerId{}) nodes_[i].core->RemovePeer(nodes_[i].peers[j], now_);
    nodes_[i].peers[j] = {};
  }

  // Node i describes itself to j, which connects and answers with its own description.
  void Introduce(int i, int j) {
    if (!nodes_[i].core) return;
    Result<std::string> blob = nodes_[i].core->Describe();
    ASSERT_TRUE(blob.ok());
    Later(j, [this, i, j, blob = *blob] {
      // First out with the old, so that the answer is not of its time.
      if (!Join(j, i, blob)) return;
      Result<std::string> answer = nodes_[j].core->Describe();
      ASSERT_TRUE(answer.ok());
      const size_t session = std::hash<std::string>()(blob + *answer);
      nodes_[j].sessions[i] = session;
      Later(i, [this, i, j, session, answer = *answer] {
        if (Join(i, j, answer)) nodes_[i].sessions[j] = session;
      });
    });
  }

  bool Join(int i, int j, const std::string& blob) {
    nodes_[i].sessions[j] = 0;
    nodes_[i].joined_at[j] = now_;
    Result<PeerBlob> parsed = ParseBlob(blob);
    EXPECT_TRUE(parsed.ok());
    const PeerId before = nodes_[i].peers[j];
    Result<PeerId> id = nodes_[i].core->AddPeer(*parsed, now_);
    if (!id.ok()) return false;
    nodes_[i].peers[j] = *id;
    if (before != PeerId{} && before != *id) nodes_[i].core->RemovePeer(before, now_);
    return true;
  }

  // Runs `action` after a random delay, if node `at` (or, -1, nobody) still lives its present life.
  void Later(int at, std::function<void()> action) {
    Later(at, at < 0 ? 0 : nodes_[at].life, std::move(action));
  }
  // Control messages about a transfer reach only the incarnation that it is about.
  void TellReceiver(const Transfer& t, std::function<void()> action) {
    Later(t.to, t.to_life, std::move(action));
  }
  void TellSender(const Transfer& t, std::function<void()> action) {
    Later(t.from, t.from_life, std::move(action));
  }
  void Later(int at, uint32_t life, std::function<void()> action) {
    control_.emplace(now_ + std::chrono::microseconds(Pick(8000)),
                     [this, at, life, action = std::move(action)] {
                       if (at < 0 || (nodes_[at].core && nodes_[at].life == life)) action();
                     });
  }

  // What Engine::Connect does at its deadline, and then a new attempt.
  void GiveUpJoins() {
    for (int i = 0; i < kNodes; ++i) {
      Node& node = nodes_[i];
      for (int j = 0; j < kNodes && node.core; ++j) {
        if (node.peers[j] == PeerId{} || now_ - node.joined_at[j] < 300ms) continue;
        Status why;
        if (node.core->GetPeerState(node.peers[j], why) == EngineCore::PeerState::kReady) continue;
        node.core->RemovePeer(node.peers[j], now_);
        node.peers[j] = {};
        Introduce(i, j);
      }
    }
  }

  void StepAll() {
    GiveUpJoins();
    while (!control_.empty() && control_.begin()->first <= now_) {
      const std::function<void()> action = std::move(control_.begin()->second);
      control_.erase(control_.begin());
      action();
    }
    for (Node& node : nodes_)
      if (node.core && !node.paused && Chance(0.85)) node.core->Step(now_);
  }

  // ---- pages -----------------------------------------------------------------------------------
  std::byte* Target(Node& node, int page) { return node.memory.data() + page * kPage; }
  std::byte* Source(Node& node, int page) {
    return node.memory.data() + (kTargetPages + page) * kPage;
  }
  void FreeTarget(Node& node, int page) {
    std::memset(Target(node, page), static_cast<int>(kFreeByte), kPage);
    node.free_targets.push_back(page);
  }
  void FreeSource(Node& node, int page) {
    std::memset(Source(node, page), static_cast<int>(kScribble), kPage);
    node.free_sources.push_back(page);
  }
  void FillContent(std::byte* page, uint64_t content, size_t index) {
    for (uint64_t k = 0; k < kPage; ++k)
      page[k] = static_cast<std::byte>((content * 131 + index * 17 + k * 7) % 251);
  }
  void CheckFreePages() {
    for (int i = 0; i < kNodes; ++i) {
      if (!nodes_[i].core) continue;
      for (const int page : nodes_[i].free_targets)
        for (uint64_t k = 0; k < kPage; ++k)
          ASSERT_EQ(Target(nodes_[i], page)[k], kFreeByte)
              << "node " << i << ": a free page was written to";
    }
  }

  // ---- transfers -------------------------------------------------------------------------------
  bool ReceiverLives(const Transfer& t) {
    return nodes_[t.to].core && nodes_[t.to].life == t.to_life;
  }
  bool SenderLives(const Transfer& t) {
    return nodes_[t.from].core && nodes_[t.from].life == t.from_life;
  }

  void Grant(int from, int to) {
    Node& receiver = nodes_[to];
    const size_t pages = 1 + Pick(4);
    if (!receiver.core || !nodes_[from].core || receiver.free_targets.size() < pages) return;
    const Duration patience = Chance(0.2) ? std::chrono::milliseconds(Pick(20)) : Duration(2s);
    Result<Slot> slot = receiver.core->Expect(receiver.peers[from], now_ + patience);
    if (!slot.ok()) return;
    auto t = std::make_shared<Transfer>();
    t->from = from;
    t->to = to;
    t->from_life = nodes_[from].life;
    t->to_life = receiver.life;
    t->sender_id = receiver.peers[from];
    t->slot = *slot;
    t->content = random_();
    t->session = receiver.sessions[from];
    CheckFreePages();
    for (size_t k = 0; k < pages; ++k) {
      const size_t at = Pick(receiver.free_targets.size());
      t->targets.push_back(receiver.free_targets[at]);
      receiver.free_targets.erase(receiver.free_targets.begin() + at);
    }
    transfers_.push_back(t);
    TellSender(*t, [this, t] { OnGrant(*t); });
  }

  void OnGrant(Transfer& t) {
    Node& sender = nodes_[t.from];
    const bool room = sender.free_sources.size() >= t.targets.size();
    const bool current = t.session != 0 && t.session == sender.sessions[t.to];
    if (!room || !current || t.cancel_asked) return Acknowledge(t);
    const Duration patience = Chance(0.2) ? std::chrono::milliseconds(Pick(20)) : Duration(2s);
    t.receiver_id = sender.peers[t.to];
    Result<SendId> send = sender.core->Begin(t.receiver_id, t.slot, {0}, {0}, now_ + patience);
    if (!send.ok()) return Acknowledge(t);
    t.send = *send;
    t.begun = true;
    for (size_t k = 0; k < t.targets.size(); ++k) {
      t.sources.push_back(sender.free_sources.back());
      sender.free_sources.pop_back();
      FillContent(Source(sender, t.sources[k]), t.content, k);
    }
  }

  // Pushes some more of a send; after the last page finishes it and seals.
  void PushSome(Transfer& t) {
    Node& sender = nodes_[t.from];
    std::vector<transfer::Run> runs;
    const size_t until = std::min(t.targets.size(), t.pushed_pages + Pick(3));
    for (size_t k = t.pushed_pages; k < until; ++k)
      runs.push_back({(kTargetPages + t.sources[k]) * kPage, t.targets[k] * kPage, kPage});
    if (Chance(0.2)) runs.push_back({0, 0, 0});
    Result<uint32_t> writes = sender.core->Push(t.send, runs);
    if (!writes.ok()) return;  // full, or ended: then its event tells
    ASSERT_EQ(*writes, 2 * (until - t.pushed_pages));
    t.writes += *writes;
    t.pushed_pages = until;
    if (until < t.targets.size()) return;
    sender.core->Finish(t.send);
    t.finished = true;
    auto self = t.shared_from_this();
    TellReceiver(t, [this, self] { nodes_[self->to].core->Seal(self->slot, self->writes); });
  }

  // The sender says that it writes no more.
  void Acknowledge(Transfer& t) {
    t.send_ended = true;
    auto self = t.shared_from_this();
    TellReceiver(t, [this, self] {
      self->acknowledged = true;
      nodes_[self->to].core->Cancel(self->slot);  // no effect when it is done or sealed and landed
      ReleaseIfSafe(*self);
    });
  }

  void CancelAtSender(Transfer& t) {
    t.cancel_asked = true;
    if (t.send_done) return Acknowledge(t);
    if (t.begun && !t.send_ended) nodes_[t.from].core->CancelSend(t.send);
  }

  // Pages go back when nothing can land in them any more.
  void ReleaseIfSafe(Transfer& t) {
    if (!t.receive_ended || t.released || !(t.acknowledged || t.fenced)) return;
    t.released = true;
    Node& receiver = nodes_[t.to];
    receiver.core->Release(t.slot);
    for (const int page : t.targets) FreeTarget(receiver, page);
  }

  // ---- events ----------------------------------------------------------------------------------
  void OnEvent(int i, const Event& e) {
    switch (e.kind) {
      case Event::Kind::kReceiveDone:
      case Event::Kind::kReceiveFailed:
        return OnReceiveEnd(i, e);
      case Event::Kind::kSendDone:
      case Event::Kind::kSendFailed:
        return OnSendEnd(i, e);
      case Event::Kind::kPeerLost:
        return OnPeerLost(i, e.peer);
      case Event::Kind::kFenced:
        for (auto& t : transfers_) {
          if (t->to != i || !ReceiverLives(*t) || t->sender_id != e.peer) continue;
          t->fenced = true;
          ReleaseIfSafe(*t);
        }
        return;
    }
  }

  void OnReceiveEnd(int i, const Event& e) {
    for (auto& t : transfers_) {
      if (t->to != i || !ReceiverLives(*t) || t->released || t->slot != e.slot) continue;
      ASSERT_FALSE(t->receive_ended) << "a second end of one receive";
      t->receive_ended = true;
      if (e.kind == Event::Kind::kReceiveDone) {
        ++done_;
        ASSERT_EQ(e.writes, t->writes);
        CheckContent(*t);
        t->acknowledged = true;  // all that was sent has landed
      } else {
        TellSender(*t, [this, t] { CancelAtSender(*t); });
      }
      return ReleaseIfSafe(*t);
    }
    FAIL() << "an end of a receive that nobody expects";
  }

  void CheckContent(const Transfer& t) {
    std::byte expected[kPage];
    for (size_t k = 0; k < t.targets.size(); ++k) {
      FillContent(expected, t.content, k);
      ASSERT_EQ(std::memcmp(Target(nodes_[t.to], t.targets[k]), expected, kPage), 0)
          << "page " << k << " of a finished receive has other bytes";
    }
  }

  void OnSendEnd(int i, const Event& e) {
    for (auto& t : transfers_) {
      if (t->from != i || !SenderLives(*t) || !t->begun || t->send != e.send) continue;
      ASSERT_FALSE(t->send_ended) << "a second end of one send";
      if (e.kind == Event::Kind::kSendDone) {
        ASSERT_TRUE(t->finished);
        ASSERT_EQ(e.writes, t->writes);
        ASSERT_EQ(e.bytes, t->targets.size() * kPage);
        t->send_ended = t->send_done = true;
      } else {
        // Drained: the receiver may have its pages back. Else its fence must tell.
        t->send_ended = true;
        if (e.drained)
          Acknowledge(*t);
        else
          TellReceiver(*t, [this, t] { AwaitFence(*t); });
      }
      for (const int page : t->sources) FreeSource(nodes_[i], page);
      return;
    }
    FAIL() << "an end of a send that nobody began";
  }

  // The sender lost its way to us: only a fence tells that none of its writes is left.
  void AwaitFence(Transfer& t) {
    Node& receiver = nodes_[t.to];
    if (t.fenced || t.released) return;
    receiver.core->RemovePeer(t.sender_id, now_);
    if (receiver.peers[t.from] == t.sender_id) {
      receiver.peers[t.from] = {};
      Introduce(t.to, t.from);
    }
  }

  void OnPeerLost(int i, PeerId id) {
    Later(i, [this, i, id] {
      nodes_[i].core->RemovePeer(id, now_);
      for (int j = 0; j < kNodes; ++j) {
        if (nodes_[i].peers[j] != id) continue;
        nodes_[i].peers[j] = {};
        Introduce(i, j);
      }
    });
  }

  // ---- schedule --------------------------------------------------------------------------------
  void Act() {
    if (Chance(0.4)) {
      const int from = static_cast<int>(Pick(kNodes));
      const int to = static_cast<int>((from + 1 + Pick(kNodes - 1)) % kNodes);
      Grant(from, to);
    }
    for (size_t i = 0; i < transfers_.size(); ++i) {
      Transfer& t = *transfers_[i];
      if (SenderLives(t) && t.begun && !t.finished && !t.send_ended && Chance(0.5)) PushSome(t);
      if (SenderLives(t) && t.begun && !t.send_ended && Chance(0.005)) CancelAtSender(t);
      if (ReceiverLives(t) && !t.receive_ended && Chance(0.005)) nodes_[t.to].core->Cancel(t.slot);
    }
    if (Chance(0.004)) Kill(static_cast<int>(Pick(kNodes)));
    if (Chance(0.01)) {
      const int i = static_cast<int>(Pick(kNodes));
      nodes_[i].paused = !nodes_[i].paused;
    }
    if (Chance(0.02)) network_->SetFaults(faults_ = DrawFaults());
    std::erase_if(transfers_, [this](const auto& t) {
      const bool receiver_over = t->released || !ReceiverLives(*t);
      const bool sender_over = !SenderLives(*t) || t->send_ended;
      return receiver_over && sender_over;
    });
  }

  // Everything must come to its end without further help.
  void Settle() {
    network_->SetFaults({});
    for (Node& node : nodes_) node.paused = false;
    const TimePoint until = now_ + kQuiet;
    while (now_ < until && !Failed()) {
      Advance(std::chrono::milliseconds(2 + Pick(20)));
      for (size_t i = 0; i < transfers_.size(); ++i) {
        Transfer& t = *transfers_[i];
        if (SenderLives(t) && t.begun && !t.finished && !t.send_ended) PushSome(t);
      }
      StepAll();
      if (control_.empty() && Quiet()) break;
    }
    CheckFreePages();
    for (const auto& t : transfers_) {
      ASSERT_TRUE(!ReceiverLives(*t) || t->receive_ended) << "a receive without end";
      ASSERT_TRUE(!ReceiverLives(*t) || t->released) << "pages that never came back";
      ASSERT_TRUE(!SenderLives(*t) || !t->begun || t->send_ended) << "a send without end";
    }
    for (int i = 0; i < kNodes; ++i) CheckNothingHeld(i);
    for (Node& node : nodes_) {
      if (node.core) node.core->Shutdown(now_);
      node.core.reset();
    }
    ASSERT_EQ(network_->keys_exposed(), 0u);
  }

  bool Quiet() {
    for (const auto& t : transfers_) {
      if (ReceiverLives(*t) && !t->released) return false;
      if (SenderLives(*t) && t->begun && !t->send_ended) return false;
    }
    for (Node& node : nodes_) {
      if (!node.core) return false;
      const Engine::Usage usage = node.core->usage();
      if (usage.slots_held || usage.sends_live || Stats::Get(node.core->stats()->writes_in_flight))
        return false;
    }
    return true;
  }

  void CheckNothingHeld(int i) {
    ASSERT_TRUE(nodes_[i].core);
    const Engine::Usage usage = nodes_[i].core->usage();
    EXPECT_EQ(usage.slots_held, 0u) << "node " << i;
    EXPECT_EQ(usage.sends_live, 0u) << "node " << i;
    EXPECT_EQ(Stats::Get(nodes_[i].core->stats()->writes_in_flight), 0u) << "node " << i;
  }

 public:
  uint64_t done() const { return done_; }

 private:
  std::mt19937_64 random_;
  std::shared_ptr<LoopbackNetwork> network_;
  LoopbackFaults faults_;
  std::array<Node, kNodes> nodes_;
  std::vector<std::shared_ptr<Transfer>> transfers_;
  std::multimap<TimePoint, std::function<void()>> control_;
  TimePoint now_ = TimePoint{} + 1h;
  uint64_t done_ = 0;
};

// Sanitizers slow each schedule down by ten and more.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 200;
#else
constexpr uint64_t kSeeds = 1500;
#endif

// Each once broke the engine (or a mutant of it that plain seeds let through).
constexpr uint64_t kStoredSeeds[] = {
    7922659381823037482u,  // a peer lost before its slots were opened kept keys
    119769748677176983u,   // ... and before it named itself
    1634960628454069152u,  // a cancelled send said that it drained when its peer was lost
};

uint64_t RunSeed(uint64_t seed) {
  SCOPED_TRACE(fmt::format("replay with BATON_SIM_SEED={}", seed));
  World world(seed);
  world.Run();
  return world.done();
}

TEST(Simulation, EveryScheduleEndsCleanly) {
  spdlog::set_level(spdlog::level::err);  // lost peers are the point here
  uint64_t done = 0, schedules = 0;
  if (const char* seed = std::getenv("BATON_SIM_SEED")) {
    RunSeed(std::strtoull(seed, nullptr, 10));
  } else if (const char* seconds = std::getenv("BATON_SIM_SECONDS")) {
    const TimePoint until = Now() + std::chrono::seconds(std::atoi(seconds));
    std::random_device random;
    while (Now() < until && !HasFailure()) {
      done += RunSeed((uint64_t{random()} << 32) | random());
      ++schedules;
    }
    std::printf("%llu schedules, %llu transfers completed\n",
                static_cast<unsigned long long>(schedules), static_cast<unsigned long long>(done));
  } else {
    for (const uint64_t seed : kStoredSeeds) RunSeed(seed);
    for (uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed) done += RunSeed(seed);
    // The schedules must not be so hostile that nothing ever gets through.
    EXPECT_GT(done, 3 * kSeeds);
    RecordProperty("transfers_completed", static_cast<int>(done));
  }
  spdlog::set_level(spdlog::level::info);
}

}  // namespace
}  // namespace baton::transfer
