// The engine core under thousands of seeded schedules: three engines on the loopback network with
// every fault, a virtual clock, processes that die, restart and stand still.
//
// The world plays the part of the disaggregation layer: grants, seals, cancels and their
// acknowledgements travel as control messages of random delay. It holds the engines to:
// - every Expect and Begin ends in exactly one event;
// - a finished receive holds exactly the bytes that were sent;
// - what a watermark says has landed is there, whole, at every step, and it never falls ("m");
// - a page that nobody is granted never changes: not by late writes, nor by another generation's;
// - source pages are read no more once their send ended (they are scribbled over at once);
// - when all is quiet nothing is held, live or in flight.
// - no completion queue ever overruns, though targets land writes while their process stands still;
// - a corrupted write never ends in a finished receive where checksums are on;
// - afterwards every pair still moves more than its first credits: no credit leaked.
// With rails ("@N") links are silent or break and come back at any time, alone or all together; the
// same must hold, with memory of devices ("@Nd", on the stand-in for CUDA's driver), and with short writes
// between host memories gathered ("@Ng", "@Ndg").
// A failure prints its seed: baton_transfer_test --seed N replays that one; --simulate SECONDS runs
// fresh seeds for so long. The seeds in tests/golden/transfer_seeds.txt each found a bug once.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <sstream>

#include "common/log.h"
#include "common/sanitized.h"
#include "transfer/cuda/cuda_for_tests.h"
#include "transfer/engine_core.h"
#include "transfer/loopback/loopback.h"
#include "transfer/rails/rails.h"
#include "transfer/simulation_for_tests.h"
#include "transfer/staged/staged_fabric.h"

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
  // Marks.
  std::vector<size_t> marks;       // pages pushed before each
  uint32_t landed = 0;             // as last seen
  TimePoint deadline{};            // of the send
  uint64_t errors = 0;             // of the sender's writes, when it began
  bool lingers = false;            // its slot is held until its last mark must have come
  bool all_must_land = false;      // all has ended, and nothing went wrong
  bool receive_done = false, marks_settled = false;
  std::optional<uint64_t> over_at; // the sender's last word came at this step of the receiver
};

struct Node {
  std::vector<std::string> addresses;  // one for each rail
  std::vector<std::byte> host = std::vector<std::byte>(kRegionBytes);
  std::optional<cuda::DeviceBuffer> device;  // then in use, not `host`
  std::span<std::byte> memory = host;
  std::unique_ptr<EngineCore> core;
  std::array<PeerId, kNodes> peers{};      // current; 0: none
  std::array<size_t, kNodes> sessions{};   // names the pair of descriptions behind it
  std::array<TimePoint, kNodes> joined_at{};
  std::vector<int> free_targets, free_sources;
  uint32_t life = 0;
  uint64_t steps = 0;
  bool paused = false;
  bool verifies = false;  // in checksum mode
};

class World {
 public:
  explicit World(const Scenario& scenario)
      : scenario_(scenario),
        random_(scenario.seed),
        mark_random_(scenario.seed ^ 0x4D41524B),
        network_(LoopbackNetwork::Create(scenario.seed ^ 0xF00D)) {
    constexpr uint32_t kQueues[] = {0, 220, 256, 400};
    cq_entries_ = kQueues[Pick(4)];
    // Rails take more of it for each peer, and three peers must find room.
    if (scenario_.rails && cq_entries_) cq_entries_ += 120;
    // Two writes a page, or so many that a paused receiver's queue would overrun but for credits.
    write_bytes_ = Pick(2) ? 40 : 8;
    checksums_ = Pick(3) == 0 && !scenario_.staged;  // they are of host memory only
    if (scenario_.staged) DrawDevices();
    if (scenario_.gathered) DrawGathering();
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
      if (i == scenario_.crash_step && nodes_[scenario_.crash_node].core) Kill(scenario_.crash_node);
      Act();
      StepAll();
    }
    Settle();
    if (!Failed()) CheckAlive();
    if (!Failed()) Close();
  }

 private:
  static bool Failed() {
    return testing::Test::HasFailure() ||
           testing::UnitTest::GetInstance()->ad_hoc_test_result().Failed();
  }
  uint64_t Pick(uint64_t below) { return below ? random_() % below : 0; }
  bool Chance(double p) { return std::uniform_real_distribution<double>(0, 1)(random_) < p; }
  void Advance(Duration d) { now_ += d; }

  // Most nodes get memory of the device, whose copies run late.
  void DrawDevices() {
    if (cq_entries_) cq_entries_ += 400;  // acknowledgements of cells take their part
    mock_.emplace();
    mock_->Set("touchable", 1);
    mock_->Set("ops_per_query", 1 + static_cast<long>(Pick(4)), 3);
    for (Node& node : nodes_) {
      if (Pick(3) == 0) continue;
      node.device.emplace(*cuda::DeviceBuffer::Create(0, kRegionBytes));
      node.memory = {node.device->span().data, kRegionBytes};
    }
  }

  // All writes, or those that are not the first of a page.
  void DrawGathering() {
    gather_below_ = Pick(2) ? 1024 : 33;
    if (cq_entries_ && !scenario_.staged) cq_entries_ += 400;
  }

  LoopbackFaults DrawFaults() {
    LoopbackFaults faults;
    faults.max_delay = std::chrono::microseconds(Pick(2) ? Pick(20'000) : 0);
    faults.keep_order = Pick(3) == 0;
    if (Pick(2)) faults.busy = 0.3 * Chance(0.7) + 0.6 * Chance(0.2);
    if (Pick(12) == 0) faults.busy = 1;  // a storm
    faults.hardware = Pick(2) == 0;
    if (Pick(4) == 0) {
      faults.rnr = 0.2;
      faults.rnr_delay = std::chrono::milliseconds(Pick(150));
    }
    if (Pick(5) == 0) {
      faults.rails = 4;
      faults.lost_rails = static_cast<uint32_t>(Pick(2));
    }
    if (checksums_ && Pick(3) == 0) faults.corrupt = 0.01;
    corrupts_ = corrupts_ || faults.corrupt > 0;
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
    std::unique_ptr<Fabric> fabric = OpenFabric(node);
    EngineCore::Config config{.max_slots = 12,
                                    .max_sends = 8,
                                    .max_queued_runs = 16,
                                    .max_write_bytes = write_bytes_,
                                    .probe_interval = 30ms,
                                    .peer_timeout = 200ms,
                                    .epoch = random_() | 1,
                                    .control_wait = Pick(2) ? 1ms : 0ms,
                                    .checksum = checksums_ && Pick(4) != 0,
                                    .max_peers = 24};
    if (scenario_.rails) config.max_kept_runs = Pick(2) ? 64 : 6;
    node.verifies = config.checksum;
    const uint32_t life = node.life;
    node.core = std::make_unique<EngineCore>(
        std::move(fabric), config, [this, i, life](const Event& e) {
          if (nodes_[i].life == life) OnEvent(i, e);
        });
    ASSERT_TRUE(node.core->Open().ok());
    const MemorySpan host{node.host.data(), node.host.size()};
    ASSERT_TRUE(node.core->Register(node.device ? node.device->span() : host).ok());
  }

  std::unique_ptr<Fabric> OpenFabric(Node& node) {
    node.addresses.clear();
    std::vector<std::unique_ptr<Fabric>> rails(
        scenario_.rails ? 1 + Pick(static_cast<uint64_t>(scenario_.rails)) : 1);
    for (auto& rail : rails) {
      rail = network_->Open(cq_entries_, gather_below_);
      node.addresses.push_back(rail->Address());
    }
    std::unique_ptr<Fabric> fabric = scenario_.rails ? JoinRails(std::move(rails), {.silence = 40ms,
                                                                                    .first_retry = 5ms,
                                                                                    .last_retry = 50ms,
                                                                                    .probe_timeout = 60ms})
                                                     : std::move(rails[0]);
    if (!scenario_.staged && !scenario_.gathered) return fabric;
    return *staged::Wrap(std::move(fabric), node.device ? std::optional(0) : std::nullopt);
  }

  // One rail of a node, or all, change their state.
  void ChangeLinks() {
    const Node& node = nodes_[Pick(kNodes)];
    const auto link = static_cast<LoopbackLink>(Pick(3));
    const bool all = Chance(0.1);
    const size_t one = Pick(node.addresses.size());
    for (size_t r = 0; r < node.addresses.size(); ++r)
      if (all || r == one) network_->SetLink(node.addresses[r], link);
  }

  void Kill(int i) {
    Node& node = nodes_[i];
    for (const std::string& address : node.addresses) network_->Kill(address);
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
    if (!blob.ok()) {  // as many accounts as the queue has room for: asked again by GiveUpJoins
      ASSERT_EQ(blob.status().code(), Code::kResourceExhausted);
      if (healing_) troubles_ += fmt::format("{} cannot describe itself to {}\n", i, j);
      return;
    }
    Later(j, [this, i, j, blob = *blob] {
      // First out with the old, so that the answer is not of its time.
      if (!Join(j, i, blob)) return;
      Result<std::string> answer = nodes_[j].core->Describe();
      if (!answer.ok()) return;
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
    if (!id.ok() && healing_) troubles_ += fmt::format("{} cannot join {}: {}\n", i, j, id.status().message());
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
        if (i == j || now_ - node.joined_at[j] < 300ms) continue;
        Status why;
        if (node.peers[j] != PeerId{}) {
          const bool ready =
              node.core->GetPeerState(node.peers[j], why) == EngineCore::PeerState::kReady;
          // Two introductions that crossed leave two halves that do not fit.
          const bool fits = !healing_ || !nodes_[j].core ||
                            (node.sessions[j] != 0 && node.sessions[j] == nodes_[j].sessions[i]);
          if (ready && (fits || i < j)) continue;
        }
        if (node.peers[j] != PeerId{}) node.core->RemovePeer(node.peers[j], now_);
        node.peers[j] = {};
        node.joined_at[j] = now_;
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
    for (Node& node : nodes_) {
      if (!node.core || node.paused || !Chance(0.85)) continue;
      node.core->Step(now_);
      ++node.steps;
    }
    if (scenario_.marks) CheckWatermarks();
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

  bool Grant(int from, int to, size_t pages, Duration patience) {
    Node& receiver = nodes_[to];
    if (!receiver.core || !nodes_[from].core || receiver.free_targets.size() < pages) return false;
    Result<Slot> slot = receiver.core->Expect(receiver.peers[from], now_ + patience);
    if (!slot.ok()) return false;
    auto t = std::make_shared<Transfer>();
    t->from = from;
    t->to = to;
    t->from_life = nodes_[from].life;
    t->to_life = receiver.life;
    t->sender_id = receiver.peers[from];
    t->slot = *slot;
    t->content = random_();
    t->session = receiver.sessions[from];
    t->lingers = scenario_.marks && mark_random_() % 2;
    CheckFreePages();
    for (size_t k = 0; k < pages; ++k) {
      const size_t at = Pick(receiver.free_targets.size());
      t->targets.push_back(receiver.free_targets[at]);
      receiver.free_targets.erase(receiver.free_targets.begin() + at);
    }
    transfers_.push_back(t);
    TellSender(*t, [this, t] { OnGrant(*t); });
    return true;
  }

  void OnGrant(Transfer& t) {
    Node& sender = nodes_[t.from];
    if (healing_ && (t.session == 0 || t.session != sender.sessions[t.to]))
      troubles_ += fmt::format("{}->{}: grant of session {:x}, now {:x}\n", t.from, t.to, t.session,
                               sender.sessions[t.to]);
    const bool room = sender.free_sources.size() >= t.targets.size();
    const bool current = t.session != 0 && t.session == sender.sessions[t.to];
    if (!room || !current || t.cancel_asked) return Acknowledge(t);
    const Duration patience =
        Chance(healing_ ? 0 : 0.2) ? std::chrono::milliseconds(Pick(20)) : Duration(2s);
    t.receiver_id = sender.peers[t.to];
    Result<SendId> send = sender.core->Begin(t.receiver_id, t.slot, {0}, {0}, now_ + patience,
                                            static_cast<Priority>(Pick(kPriorities)));
    if (!send.ok()) return Acknowledge(t);
    t.send = *send;
    t.begun = true;
    t.deadline = now_ + patience;
    t.errors = ErrorsOf(t);
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
    ASSERT_EQ(*writes, (kPage + write_bytes_ - 1) / write_bytes_ * (until - t.pushed_pages));
    t.writes += *writes;
    t.pushed_pages = until;
    if (scenario_.marks && mark_random_() % 3 && sender.core->Mark(t.send).ok()) t.marks.push_back(until);
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
    if (t.lingers && t.receive_done && !t.marks_settled && !t.fenced) return;
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
        // Without checksums on this side a corrupted write is nobody's to see.
        if (nodes_[i].verifies || !checksums_) CheckContent(*t);
        t->acknowledged = t->receive_done = true;  // all that was sent has landed
      } else {
        if (healing_)
          troubles_ += fmt::format("{}->{} slot {}: {} after {} writes, begun {}, pushed {} of {}\n",
                                   t->from, t->to, t->slot.index, e.status.message(), e.writes,
                                   t->begun, t->pushed_pages, t->targets.size());
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

  // ---- watermarks ------------------------------------------------------------------------------
  uint64_t ErrorsOf(const Transfer& t) {
    return Stats::Get(nodes_[t.from].core->stats()->write_errors);
  }
  void CheckWatermarks() {
    for (size_t i = 0; i < transfers_.size(); ++i) {
      Transfer& t = *transfers_[i];
      if (!ReceiverLives(t) || t.released) continue;
      Node& receiver = nodes_[t.to];
      const uint32_t landed = receiver.core->Landed(t.slot);
      ASSERT_GE(landed, t.landed) << "a watermark fell";
      ASSERT_LE(landed, t.marks.size()) << "more marks came than were made";
      t.landed = landed;
      std::byte expected[kPage];
      for (size_t k = 0; landed && k < t.marks[landed - 1] && !corrupts_; ++k) {
        FillContent(expected, t.content, k);
        ASSERT_EQ(std::memcmp(Target(receiver, t.targets[k]), expected, kPage), 0)
            << "page " << k << " is not there, though mark " << landed << " has landed";
      }
      if (!t.over_at || t.marks_settled || receiver.steps < *t.over_at + 4) continue;
      t.marks_settled = true;
      if (t.receive_done && t.all_must_land) {
        ASSERT_EQ(landed, t.marks.size()) << "a mark is lost, though no write was";
        all_landed_ += landed > 0;
      }
      ReleaseIfSafe(t);
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
      t->all_must_land = t->send_done && now_ < t->deadline && ErrorsOf(*t) == t->errors;
      if (t->lingers) TellReceiver(*t, [this, t] { t->over_at = nodes_[t->to].steps; });
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
      Grant(from, to, 1 + Pick(4),
            Chance(0.2) ? std::chrono::milliseconds(Pick(20)) : Duration(2s));
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
    if (scenario_.rails && Chance(0.06)) ChangeLinks();
    std::erase_if(transfers_, [this](const auto& t) {
      const bool receiver_over = t->released || !ReceiverLives(*t);
      const bool sender_over = !SenderLives(*t) || t->send_ended;
      return receiver_over && sender_over;
    });
  }

  // Everything must come to its end without further help.
  void Settle() {
    network_->SetFaults({});
    for (Node& node : nodes_) {
      node.paused = false;
      for (const std::string& address : node.addresses) network_->SetLink(address, LoopbackLink::kUp);
    }
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
    ASSERT_EQ(network_->cq_overruns(), 0u) << "a completion queue overran";
  }

  bool Joined(int i, int j) {
    Status why;
    return nodes_[i].core && nodes_[i].peers[j] != PeerId{} && nodes_[i].sessions[j] != 0 &&
           nodes_[j].core && nodes_[i].sessions[j] == nodes_[j].sessions[i] &&
           nodes_[i].core->GetPeerState(nodes_[i].peers[j], why) == EngineCore::PeerState::kReady;
  }
  bool AllJoined() {
    for (int i = 0; i < kNodes; ++i)
      for (int j = 0; j < kNodes; ++j)
        if (i != j && !Joined(i, j)) return false;
    return true;
  }

  std::string Joins() {
    std::string text;
    for (int i = 0; i < kNodes; ++i)
      for (int j = 0; j < kNodes && nodes_[i].core; ++j) {
        if (i == j) continue;
        Status why;
        const auto state = nodes_[i].core->GetPeerState(nodes_[i].peers[j], why);
        text += fmt::format("{}->{}: peer {} state {} ({}), session {:x}\n", i, j,
                            nodes_[i].peers[j].value, static_cast<int>(state), why.message(),
                            nodes_[i].sessions[j]);
      }
    for (Node& node : nodes_)
      if (node.core) text += node.core->recorder().Dump(20, now_) + "\n";
    return text;
  }

  // Joined, and no introduction still under way that would replace what is joined.
  void AwaitJoins() {
    const TimePoint until = now_ + kQuiet;
    for (int calm = 0; calm < 60 && now_ < until && !Failed();) {
      Advance(std::chrono::milliseconds(1 + Pick(5)));
      StepAll();
      calm = AllJoined() && control_.empty() ? calm + 1 : 0;
    }
    ASSERT_TRUE(AllJoined()) << "nodes that cannot join any more\n" << troubles_ << Joins();
  }

  // With all faults gone every pair must join and move more writes than it first had credits for.
  // Introductions that crossed may leave one side with revoked keys: it learns so from its first
  // write, and is introduced again.
  void CheckAlive() {
    constexpr int kRounds = 5;
    healing_ = true;
    int good = 0;
    for (int round = 0; round < 3 * kRounds && good < kRounds && !Failed(); ++round) {
      AwaitJoins();
      if (Failed()) return;
      const uint64_t before = done_;
      uint64_t granted = 0;
      for (int i = 0; i < kNodes; ++i)
        for (int j = 0; j < kNodes; ++j) granted += i != j && Grant(i, j, 1 + Pick(4), 20s);
      ASSERT_GT(granted, 0u);
      // Just long enough for control messages and probes, much shorter than any deadline.
      for (const TimePoint end = now_ + 3s; now_ < end && !Failed();) {
        Advance(std::chrono::microseconds(200 + Pick(4000)));
        for (size_t i = 0; i < transfers_.size(); ++i) {
          Transfer& t = *transfers_[i];
          if (SenderLives(t) && t.begun && !t.finished && !t.send_ended) PushSome(t);
        }
        StepAll();
        if (control_.empty() && Quiet()) break;
      }
      good = done_ - before == granted ? good + 1 : 0;
    }
    ASSERT_EQ(good, kRounds) << "transfers without faults do not complete:\n" << troubles_ << Joins();
    ASSERT_EQ(network_->cq_overruns(), 0u) << "a completion queue overran";
  }

  void Close() {
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
  // Transfers of which every mark had to land, and did.
  uint64_t all_landed() const { return all_landed_; }

 private:
  const Scenario scenario_;
  std::optional<cuda::MockCuda> mock_;
  std::mt19937_64 random_;
  std::mt19937_64 mark_random_;  // apart, so that schedules without marks stay what they were
  std::shared_ptr<LoopbackNetwork> network_;
  LoopbackFaults faults_;
  uint32_t cq_entries_ = 0;
  uint64_t write_bytes_ = 40, gather_below_ = 0;
  bool checksums_ = false, healing_ = false, corrupts_ = false;
  std::string troubles_;  // of the last phase, where there should be none
  std::array<Node, kNodes> nodes_;
  std::vector<std::shared_ptr<Transfer>> transfers_;
  std::multimap<TimePoint, std::function<void()>> control_;
  TimePoint now_ = TimePoint{} + 1h;
  uint64_t done_ = 0, all_landed_ = 0;
};

// Sanitizers slow each schedule down by ten and more.
#ifdef BATON_SANITIZED
constexpr uint64_t kSeeds = 100, kCrashSeeds = 1;
#else
constexpr uint64_t kSeeds = 1500, kCrashSeeds = 6;
#endif

uint64_t RunScenario(const Scenario& scenario, uint64_t* all_landed = nullptr) {
  SCOPED_TRACE("replay with --seed " + scenario.ToString());
  World world(scenario);
  world.Run();
  if (all_landed) *all_landed += world.all_landed();
  return world.done();
}

// Lines of "seed[:step:node]", then words about the bug; # begins a comment.
std::vector<Scenario> StoredScenarios() {
  std::ifstream file(BATON_SOURCE_DIR "/tests/golden/transfer_seeds.txt");
  EXPECT_TRUE(file.is_open());
  std::vector<Scenario> scenarios;
  for (std::string line; std::getline(file, line);) {
    const std::string word = line.substr(0, line.find_first_of(" #"));
    if (word.empty()) continue;
    const std::optional<Scenario> scenario = Scenario::Parse(word);
    EXPECT_TRUE(scenario) << line;
    if (scenario) scenarios.push_back(*scenario);
  }
  return scenarios;
}

uint64_t FreshSeed() {
  std::random_device random;
  return (uint64_t{random()} << 32) | random();
}

class Simulation : public testing::Test {
 protected:
  void SetUp() override { spdlog::set_level(spdlog::level::err); }  // lost peers are the point here
  void TearDown() override { spdlog::set_level(spdlog::level::info); }
};

TEST_F(Simulation, EveryScheduleEndsCleanly) {
  uint64_t done = 0;
  for (uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed) done += RunScenario({seed});
  // The schedules must not be so hostile that nothing ever gets through.
  EXPECT_GT(done, 10 * kSeeds);
  RecordProperty("transfers_completed", static_cast<int>(done));
}

TEST_F(Simulation, EveryScheduleWithRailsEndsCleanly) {
  uint64_t done = 0;
  for (uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed)
    done += RunScenario({.seed = seed, .rails = 1 + static_cast<int>(seed % 4)});
  EXPECT_GT(done, 10 * kSeeds);
}

TEST_F(Simulation, EveryScheduleWithMarksEndsCleanly) {
  uint64_t done = 0, all_landed = 0;
  for (uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed)
    done += RunScenario({.seed = seed,
                         .rails = static_cast<int>(seed % 5),
                         .staged = seed % 16 == 7,
                         .marks = true},
                        &all_landed);
  EXPECT_GT(done, 10 * kSeeds);
  EXPECT_GT(all_landed, kSeeds);
}

// Rings of 8 MiB, and copies that are asked about one by one, make these slower.
TEST_F(Simulation, EveryScheduleWithDevicesEndsCleanly) {
  uint64_t done = 0;
  for (uint64_t seed = 1; seed <= kSeeds / 5 && !HasFailure(); ++seed)
    done += RunScenario({.seed = seed, .rails = static_cast<int>(seed % 5), .staged = true});
  EXPECT_GT(done, 2 * kSeeds);
}

TEST_F(Simulation, EveryScheduleWithGatheredWritesEndsCleanly) {
  uint64_t done = 0;
  for (uint64_t seed = 1; seed <= kSeeds / 3 && !HasFailure(); ++seed)
    done += RunScenario({.seed = seed, .rails = static_cast<int>(seed % 5), .staged = seed % 4 == 3, .gathered = true});
  EXPECT_GT(done, 3 * kSeeds);
}

TEST_F(Simulation, SeedsThatOnceFoundABugPass) {
  const std::vector<Scenario> stored = StoredScenarios();
  EXPECT_FALSE(stored.empty());
  for (const Scenario& scenario : stored) RunScenario(scenario);
}

TEST_F(Simulation, EitherPeerMayCrashAtEveryStep) {
  for (uint64_t seed = 1; seed <= kCrashSeeds; ++seed)
    for (int step = 0; step < 150 && !HasFailure(); ++step)
      RunScenario({seed, step, static_cast<int>((seed + step) % kNodes)});
}

TEST_F(Simulation, TheSameSeedRepeatsExactly) {
  for (uint64_t seed = 1; seed <= 20; ++seed) EXPECT_EQ(RunScenario({seed}), RunScenario({seed}));
}

}  // namespace

std::string Scenario::ToString() const {
  std::string name = std::to_string(seed);
  if (crash_step >= 0) name += fmt::format(":{}:{}", crash_step, crash_node);
  if (rails > 0 || staged || gathered)
    name += fmt::format("@{}{}{}", rails, staged ? "d" : "", gathered ? "g" : "");
  if (marks) name += 'm';
  return name;
}

std::optional<Scenario> Scenario::Parse(std::string_view text) {
  Scenario scenario;
  scenario.marks = text.ends_with('m');
  if (scenario.marks) text.remove_suffix(1);
  if (const size_t at = text.find('@'); at != text.npos) {
    std::string_view rails = text.substr(at + 1);
    scenario.gathered = rails.ends_with('g');
    if (scenario.gathered) rails.remove_suffix(1);
    scenario.staged = rails.ends_with('d');
    if (scenario.staged) rails.remove_suffix(1);
    const bool none = scenario.staged || scenario.gathered;
    if (rails.size() != 1 || rails[0] < (none ? '0' : '1') || rails[0] > '8') return std::nullopt;
    scenario.rails = rails[0] - '0';
    text = text.substr(0, at);
  }
  char colon[2] = {':', ':'};
  std::istringstream in{std::string(text)};
  if (!(in >> scenario.seed)) return std::nullopt;
  if (in.eof()) return scenario;
  in >> colon[0] >> scenario.crash_step >> colon[1] >> scenario.crash_node;
  const bool good = !in.fail() && in.eof() && colon[0] == ':' && colon[1] == ':' &&
                    scenario.crash_node >= 0 && scenario.crash_node < kNodes;
  return good ? std::optional(scenario) : std::nullopt;
}

namespace {

// What a failed check leaves behind: the name of the schedule, too.
char running[160];
void NameSchedule(int) { [[maybe_unused]] const ssize_t n = write(STDOUT_FILENO, running, std::strlen(running)); }

}  // namespace

std::optional<int> RunSimulationCommand(int argc, char** argv) {
  const std::string_view command = argc == 3 ? argv[1] : "";
  if (command != "--seed" && command != "--simulate") return std::nullopt;
  spdlog::set_level(spdlog::level::err);
  uint64_t done = 0, schedules = 0;
  const auto report = [&](int code) {
    std::printf("%llu schedules, %llu transfers completed%s\n",
                static_cast<unsigned long long>(schedules), static_cast<unsigned long long>(done),
                code ? "; the last one FAILED" : "");
    return code;
  };
  // Assertions outside of a test print all the same; the result counts them.
  const auto failed = [] { return testing::UnitTest::GetInstance()->ad_hoc_test_result().Failed(); };
  if (command == "--seed") {
    const std::optional<Scenario> scenario = Scenario::Parse(argv[2]);
    if (!scenario) {
      std::fprintf(stderr, "--seed takes SEED or SEED:STEP:NODE, behind it @RAILS, @RAILSd, @RAILSg or @RAILSdg, and m at the end\n");
      return 2;
    }
    done += RunScenario(*scenario);
    ++schedules;
    return report(failed());
  }
  const int seconds = std::atoi(argv[2]);
  std::signal(SIGABRT, NameSchedule);
  for (const TimePoint until = Now() + std::chrono::seconds(seconds); Now() < until; ++schedules) {
    Scenario scenario{FreshSeed()};
    if (schedules % 4 == 3) {
      scenario.crash_step = static_cast<int>(scenario.seed % 300);
      scenario.crash_node = static_cast<int>(scenario.seed / 300 % kNodes);
    }
    if (schedules % 3 != 2) scenario.rails = 1 + static_cast<int>(scenario.seed / 900 % 4);
    scenario.staged = schedules % 4 == 1;
    scenario.marks = scenario.seed / 3600 % 2;
    scenario.gathered = scenario.seed / 7 % 2;
    std::snprintf(running, sizeof running, "ABORTED: replay with --seed %s\n", scenario.ToString().c_str());
    done += RunScenario(scenario);
    if (failed()) {
      std::printf("FAILED: replay with --seed %s\n", scenario.ToString().c_str());
      return report(1);
    }
  }
  return report(0);
}

}  // namespace baton::transfer
