// Rails over the loopback network, driven by hand: which paths carry how much, what a lost rail
// costs, and that fences hold on all of them. With memory of the host, of devices (staged above the rails, on
// the stand-in for CUDA's driver), and of the host with all writes gathered.
#include "transfer/rails/rails.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "common/log.h"
#include "transfer/cuda/cuda_for_tests.h"
#include "transfer/engine_core.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/fabric_probe.h"
#include "transfer/loopback/loopback.h"
#include "transfer/rails/invitation.h"
#include "transfer/rails/rail_stats.h"
#include "transfer/staged/staged_fabric.h"

namespace baton::transfer {
namespace {

constexpr uint64_t kBytes = 1 << 20;

enum class Way { kHost, kDevices, kGathered };

// One engine with rails. Each rail may be of a network of its own, to be slow or dead alone.
struct Station {
  std::vector<std::byte> host = std::vector<std::byte>(kBytes);
  std::optional<cuda::DeviceBuffer> device;
  std::span<std::byte> memory = host;
  std::vector<std::string> addresses;
  std::vector<Event> events;
  std::shared_ptr<const RailsStats> stats;
  std::unique_ptr<EngineCore> core;

  Station(const std::vector<std::shared_ptr<LoopbackNetwork>>& networks, uint64_t epoch,
          EngineCore::Config config, Way way) {
    std::vector<std::unique_ptr<Fabric>> rails;
    for (const auto& network : networks) {
      rails.push_back(network->Open(0, way == Way::kGathered ? kBytes : 0));
      addresses.push_back(rails.back()->Address());
    }
    std::unique_ptr<Fabric> joined = JoinRails(std::move(rails));
    stats = joined->rail_stats();
    if (way == Way::kDevices) {
      device.emplace(*cuda::DeviceBuffer::Create(0, kBytes));
      memory = {device->span().data, kBytes};
    }
    if (way != Way::kHost) joined = *staged::Wrap(std::move(joined), device ? std::optional(0) : std::nullopt);
    config.epoch = epoch;
    core = std::make_unique<EngineCore>(std::move(joined), config,
                                        [this](const Event& e) { events.push_back(e); });
    EXPECT_TRUE(core->Open().ok());
    EXPECT_TRUE(core->Register(device ? device->span() : cuda::SpanOf(host)).ok());
  }
  size_t Count(Event::Kind kind) const {
    return static_cast<size_t>(std::count_if(events.begin(), events.end(),
                                             [&](const Event& e) { return e.kind == kind; }));
  }
};

class Rails : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    spdlog::set_level(spdlog::level::err);
    if (GetParam() != Way::kDevices) return;
    mock_.emplace();
    mock_->Set("touchable", 1);
  }
  void TearDown() override { spdlog::set_level(spdlog::level::info); }

  void Make(size_t sender_rails, size_t receiver_rails, EngineCore::Config config = {}) {
    Make(std::vector(sender_rails, network_), std::vector(receiver_rails, network_), config);
  }
  void Make(const std::vector<std::shared_ptr<LoopbackNetwork>>& sender_networks,
            const std::vector<std::shared_ptr<LoopbackNetwork>>& receiver_networks,
            EngineCore::Config config = {}) {
    if (config.max_write_bytes == EngineCore::Config{}.max_write_bytes) config.max_write_bytes = 4096;
    sender_.emplace(sender_networks, 1, config, GetParam());
    receiver_.emplace(receiver_networks, 2, config, GetParam());
    to_receiver_ = *sender_->core->AddPeer(*ParseBlob(*receiver_->core->Describe()), now_);
    to_sender_ = *receiver_->core->AddPeer(*ParseBlob(*sender_->core->Describe()), now_);
    Run(30ms);
  }
  void Step(Duration d = 100us) {
    now_ += d;
    sender_->core->Step(now_);
    receiver_->core->Step(now_);
  }
  void Run(Duration d) {
    for (const TimePoint until = now_ + d; now_ < until;) Step();
  }
  struct Moved {
    Slot slot;
    SendId send;
    size_t sent, received;  // events before
  };
  // All of the memory, in one transfer.
  Moved Begin(uint64_t seed, Duration deadline = 20s) {
    for (uint64_t i = 0; i < kBytes; ++i)
      sender_->memory[i] = static_cast<std::byte>((i * 31 + seed * 7 + i / 4096) % 251);
    std::fill(receiver_->memory.begin(), receiver_->memory.end(), std::byte{0});
    Moved moved{.sent = sender_->events.size(), .received = receiver_->events.size()};
    moved.slot = *receiver_->core->Expect(to_sender_, now_ + deadline);
    moved.send = *sender_->core->Begin(to_receiver_, moved.slot, {0}, {0}, now_ + deadline);
    std::vector<transfer::Run> runs;
    for (uint64_t at = 0; at < kBytes; at += 64 << 10) runs.push_back({at, at, 64 << 10});
    const uint32_t writes = *sender_->core->Push(moved.send, runs);
    sender_->core->Finish(moved.send);
    receiver_->core->Seal(moved.slot, writes);
    return moved;
  }
  // True when the transfer was completed at both ends with the right bytes.
  bool End(const Moved& moved, Duration patience = 15s) {
    const size_t sent = moved.sent, received = moved.received;
    for (const TimePoint until = now_ + patience;
         now_ < until && (sender_->events.size() == sent || receiver_->events.size() == received);)
      Step();
    why_ = "no end\n" + History();
    if (sender_->events.size() == sent || receiver_->events.size() == received) return false;
    for (const Event* e : {&sender_->events.back(), &receiver_->events.back()})
      if (!e->status.ok()) {
        why_ = e->status.ToString() + "\n" + History();
        return false;
      }
    receiver_->core->Release(moved.slot);
    Run(1ms);
    return std::memcmp(sender_->memory.data(), receiver_->memory.data(), kBytes) == 0;
  }
  std::string History() const {
    return "sender:\n" + sender_->core->recorder().Dump(30, now_) + "\nreceiver:\n" +
           receiver_->core->recorder().Dump(30, now_);
  }
  uint64_t BytesOf(size_t rail) const { return Stats::Get(sender_->stats->rails[rail].bytes); }

  std::optional<cuda::MockCuda> mock_;
  std::shared_ptr<LoopbackNetwork> network_ = LoopbackNetwork::Create(5);
  std::optional<Station> sender_, receiver_;
  PeerId to_receiver_{}, to_sender_{};
  TimePoint now_ = TimePoint{} + 1h;
  std::string why_;
};

INSTANTIATE_TEST_SUITE_P(Memory, Rails, testing::Values(Way::kHost, Way::kDevices, Way::kGathered), [](const auto& one) {
  return one.param == Way::kHost ? "OfTheHost" : one.param == Way::kDevices ? "OfDevices" : "Gathered";
});

TEST_P(Rails, AnyNumberOfRailsReachesAnyOther) {
  for (const auto& [m, n] : {std::pair<size_t, size_t>{1, 1}, {1, 3}, {3, 1}, {2, 2}, {2, 4}, {4, 3}}) {
    SCOPED_TRACE(fmt::format("{} rails to {}", m, n));
    Make(m, n);
    network_->SetFaults({.min_delay = 1ms, .max_delay = 2ms});
    for (uint64_t seed = 0; seed < 3; ++seed) EXPECT_TRUE(End(Begin(seed))) << why_;
    for (size_t r = 0; r < m; ++r) EXPECT_GT(BytesOf(r), 0u) << "rail " << r << " is not used";
    EXPECT_EQ(Stats::Get(sender_->core->stats()->write_errors), 0u);
    network_->SetFaults({});
  }
}

TEST_P(Rails, SharesFollowTheSpeedOfTheRails) {
  const auto fast = LoopbackNetwork::Create(1), slow = LoopbackNetwork::Create(2);
  Make({fast, slow}, {fast, slow}, {.max_write_bytes = 32 << 10});
  fast->SetFaults({.min_delay = 1ms, .max_delay = 1ms});
  slow->SetFaults({.min_delay = 4ms, .max_delay = 4ms});
  for (uint64_t seed = 0; seed < 20; ++seed) ASSERT_TRUE(End(Begin(seed))) << why_;
  const double share = static_cast<double>(BytesOf(0)) / static_cast<double>(BytesOf(0) + BytesOf(1));
  EXPECT_GT(share, 0.65);
  EXPECT_LT(share, 0.95);
  // They change places, and so do the shares: what is slow is tried now and then.
  fast->SetFaults({.min_delay = 4ms, .max_delay = 4ms});
  slow->SetFaults({.min_delay = 1ms, .max_delay = 1ms});
  for (uint64_t seed = 0; seed < 20; ++seed) ASSERT_TRUE(End(Begin(seed))) << why_;
  const uint64_t before[] = {BytesOf(0), BytesOf(1)};
  for (uint64_t seed = 0; seed < 20; ++seed) ASSERT_TRUE(End(Begin(seed))) << why_;
  EXPECT_GT(BytesOf(1) - before[1], 2 * (BytesOf(0) - before[0]));
}

// Every set of lost rails but all, at either side, in either way, in the middle of transfers.
TEST_P(Rails, LosingSomeLosesNoTransfer) {
  constexpr size_t kRails = 3;
  for (const LoopbackLink how : {LoopbackLink::kSilent, LoopbackLink::kBroken})
    for (const bool at_sender : {true, false})
      for (uint32_t lost = 1; lost + 1 < 1u << kRails; ++lost) {
        SCOPED_TRACE(fmt::format("{} rails {:b} lost at the {}", how == LoopbackLink::kSilent ? "silent" : "broken",
                                 lost, at_sender ? "sender" : "receiver"));
        network_->SetFaults({});
        Make(kRails, kRails);
        network_->SetFaults({.min_delay = 100us, .max_delay = 2ms, .late = 0.5, .late_by = 30ms});
        const Station& side = at_sender ? *sender_ : *receiver_;
        const Moved moved = Begin(lost);
        Step();  // some writes are under way on each
        for (size_t r = 0; r < kRails; ++r)
          if (lost >> r & 1) network_->SetLink(side.addresses[r], how);
        ASSERT_TRUE(End(moved)) << why_;
        ASSERT_TRUE(End(Begin(lost + 100))) << why_;
        EXPECT_EQ(sender_->Count(Event::Kind::kPeerLost) + receiver_->Count(Event::Kind::kPeerLost), 0u);
        for (const std::string& address : side.addresses) network_->SetLink(address, LoopbackLink::kUp);
        Run(3s);
        EXPECT_EQ(Stats::Get(sender_->stats->rails[0].paths_closed), 0u);
        // All that came back carries again; frames are few, and prefer what is fastest.
        std::array<uint64_t, kRails> before{};
        for (size_t r = 0; r < kRails; ++r) before[r] = BytesOf(r);
        for (uint64_t more = 0; more < 20; ++more) ASSERT_TRUE(End(Begin(lost + 200 + more))) << why_;
        for (size_t r = 0; r < kRails; ++r) EXPECT_GT(BytesOf(r), before[r]) << "rail " << r;
      }
}

TEST_P(Rails, OneAfterTheOtherMayGoAndComeBack) {
  Make(2, 2);
  network_->SetFaults({.min_delay = 100us, .max_delay = 1ms, .late = 0.5, .late_by = 100ms});
  for (uint64_t turn = 0; turn < 12; ++turn) {
    const Moved moved = Begin(turn);
    Step();
    network_->SetLink(sender_->addresses[turn % 2], turn % 3 ? LoopbackLink::kSilent : LoopbackLink::kBroken);
    ASSERT_TRUE(End(moved)) << "turn " << turn << ": " << why_;
    network_->SetLink(sender_->addresses[turn % 2], LoopbackLink::kUp);
    Run(2s);
  }
  EXPECT_GT(Stats::Get(sender_->core->stats()->sends_repeated), 0u);
  EXPECT_EQ(sender_->core->usage().sends_live, 0u);
}

// The last rail goes when the other one is back, but not yet tried: that is no loss of the peer.
TEST_P(Rails, TheLastMayGoWhenAnotherIsJustBack) {
  for (const LoopbackLink how : {LoopbackLink::kSilent, LoopbackLink::kBroken}) {
    network_->SetFaults({});
    Make(2, 2);
    network_->SetFaults({.min_delay = 100us, .max_delay = 1ms});
    for (uint64_t turn = 0; turn < 6; ++turn) {
      network_->SetLink(receiver_->addresses[turn % 2], how);
      ASSERT_TRUE(End(Begin(turn))) << "turn " << turn << ": " << why_;
      Run(4s);  // it is tried once a second now
      const Moved moved = Begin(turn + 100);
      Step();
      network_->SetLink(receiver_->addresses[turn % 2], LoopbackLink::kUp);
      network_->SetLink(receiver_->addresses[1 - turn % 2], how);
      ASSERT_TRUE(End(moved)) << "turn " << turn << ": " << why_;
      network_->SetLink(receiver_->addresses[1 - turn % 2], LoopbackLink::kUp);
      Run(2s);
    }
    EXPECT_EQ(sender_->Count(Event::Kind::kPeerLost) + receiver_->Count(Event::Kind::kPeerLost), 0u);
  }
}

TEST_P(Rails, LosingAllLosesThePeer) {
  for (const LoopbackLink how : {LoopbackLink::kSilent, LoopbackLink::kBroken}) {
    network_->SetFaults({});
    Make(2, 2);
    network_->SetFaults({.min_delay = 1ms, .max_delay = 2ms});
    Begin(1);
    Step();
    for (const std::string& address : sender_->addresses) network_->SetLink(address, how);
    Run(4s);
    EXPECT_EQ(sender_->Count(Event::Kind::kPeerLost), 1u);
    EXPECT_EQ(sender_->Count(Event::Kind::kSendFailed), 1u);
    EXPECT_EQ(receiver_->Count(Event::Kind::kReceiveFailed), 1u);
    EXPECT_EQ(sender_->core->usage().sends_live, 0u);
  }
}

TEST_P(Rails, RailsThatNeverWorkHurtNobody) {
  const auto other = LoopbackNetwork::Create(9), another = LoopbackNetwork::Create(10);
  // No address of one network shall be one of another's.
  for (int i = 0; i < 20; ++i) other->Open();
  for (int i = 0; i < 40; ++i) another->Open();
  // Each side has a rail that reaches nobody, and not in the same place.
  Make({other, network_, network_}, {network_, another, network_});
  for (uint64_t seed = 0; seed < 3; ++seed) ASSERT_TRUE(End(Begin(seed))) << why_;
  EXPECT_EQ(Stats::Get(sender_->core->stats()->write_errors), 0u);
  EXPECT_EQ(BytesOf(0), 0u);
  EXPECT_GT(BytesOf(1) + BytesOf(2), 3 * kBytes);
}

TEST_P(Rails, ASendTooLargeToBeKeptFailsAndNamesTheCause) {
  Make(2, 2, {.max_kept_runs = 4});
  network_->SetFaults({.min_delay = 1ms, .max_delay = 2ms});
  Begin(1);
  Run(1ms);
  network_->SetLink(sender_->addresses[0], LoopbackLink::kBroken);
  Run(3s);
  ASSERT_EQ(sender_->Count(Event::Kind::kSendFailed), 1u);
  EXPECT_EQ(sender_->events[0].status.code(), Code::kUnavailable);
  EXPECT_NE(sender_->events[0].status.message().find("too large to be repeated"), std::string::npos);
  EXPECT_TRUE(sender_->events[0].drained) << "fenced before it ended";
  EXPECT_EQ(sender_->Count(Event::Kind::kPeerLost), 0u);
}

// Without an engine: what Revoke and Renew promise holds on each rail.
class RailKeys : public testing::Test {
 protected:
  void SetUp() override {
    for (std::unique_ptr<Fabric>* side : {&target_, &writer_}) {
      std::vector<std::unique_ptr<Fabric>> rails;
      for (int i = 0; i < 2; ++i) rails.push_back(network_->Open());
      *side = JoinRails(std::move(rails));
    }
    ASSERT_TRUE(target_->Register({memory_.data(), memory_.size()}).ok());
    ASSERT_TRUE(writer_->Register({source_.data(), source_.size()}).ok());
    key_ = *target_->Expose(0);
    peer_ = *writer_->Insert(*target_->Invite());
    Poll(20);
  }
  void Poll(int times) {
    for (int i = 0; i < times; ++i) {
      now_ += 1ms;
      arrived_ += target_->Poll(now_, completions_);
      const size_t count = writer_->Poll(now_, completions_);
      for (size_t k = 0; k < count; ++k) ++(completions_[k].kind == Completion::Kind::kDone ? done_ : failed_);
    }
  }
  // 16 writes, so that each rail has some.
  void WriteAll(std::byte value) {
    std::fill(source_.begin(), source_.end(), value);
    arrived_ = done_ = failed_ = 0;
    for (uint64_t i = 0; i < 16; ++i) {
      Status why;
      writer_->Write({.peer = peer_, .local_offset = i * 64, .bytes = 64, .remote_address = i * 64,
                      .remote_key = key_.key, .imm = 0, .context = &contexts_[i]}, now_, why);
    }
    Poll(50);
  }
  bool Holds(std::byte value) const {
    return std::all_of(memory_.begin(), memory_.end(), [&](std::byte b) { return b == value; });
  }

  std::shared_ptr<LoopbackNetwork> network_ = LoopbackNetwork::Create(6);
  std::vector<std::byte> memory_ = std::vector<std::byte>(1024), source_ = memory_;
  std::unique_ptr<Fabric> target_, writer_;
  MemoryKey key_;
  uint64_t peer_ = 0;
  std::array<OpContext, 16> contexts_;
  std::vector<Completion> completions_ = std::vector<Completion>(64);
  TimePoint now_ = TimePoint{} + 1h;
  size_t arrived_ = 0, done_ = 0, failed_ = 0;
};

TEST_F(RailKeys, RenewingFencesAllRailsUntilTheWriterFollows) {
  WriteAll(std::byte{1});
  EXPECT_EQ(done_, 16u);
  EXPECT_EQ(arrived_, 16u);
  EXPECT_TRUE(Holds(std::byte{1}));
  EXPECT_EQ(*target_->Renew(key_), key_);
  WriteAll(std::byte{2});
  EXPECT_EQ(done_, 0u);
  EXPECT_TRUE(Holds(std::byte{1}));
  Poll(200);  // what was refused is tried again: the rails work
  writer_->Follow(peer_, key_);
  WriteAll(std::byte{3});
  EXPECT_EQ(done_, 16u);
  EXPECT_TRUE(Holds(std::byte{3}));
}

// A rail that can expose no more fails a description. The next one must be as good as the first.
TEST_F(RailKeys, AnInvitationThatCameToNothingSpoilsNoLaterOne) {
  class Limited final : public Fabric {
   public:
    Limited(std::unique_ptr<Fabric> rail, int* exposures, int* invitations)
        : rail_(std::move(rail)), exposures_(exposures), invitations_(invitations) {}
    const FabricTraits& traits() const override { return rail_->traits(); }
    std::string Address() const override { return rail_->Address(); }
    Result<std::string> Invite() override {
      if ((*invitations_)-- == 0) return Error(Code::kUnavailable, "no invitation");
      return rail_->Invite();
    }
    Result<uint32_t> Register(MemorySpan memory) override { return rail_->Register(memory); }
    void Unregister(uint32_t region) override { rail_->Unregister(region); }
    Result<MemoryKey> Expose(uint32_t region) override {
      if ((*exposures_)-- == 0) return Error(Code::kResourceExhausted, "no key");
      return rail_->Expose(region);
    }
    void Revoke(const MemoryKey& key) override { rail_->Revoke(key); }
    Result<uint64_t> Insert(std::string_view address) override { return rail_->Insert(address); }
    void Remove(uint64_t peer) override { rail_->Remove(peer); }
    PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override {
      return rail_->Write(request, now, why);
    }
    size_t Poll(TimePoint now, std::span<Completion> out) override { return rail_->Poll(now, out); }

   private:
    const std::unique_ptr<Fabric> rail_;
    int* const exposures_;
    int* const invitations_;
  };
  int exposures = -1, invitations = -1;
  std::vector<std::unique_ptr<Fabric>> rails;
  rails.push_back(network_->Open());
  rails.push_back(std::make_unique<Limited>(network_->Open(), &exposures, &invitations));
  target_ = JoinRails(std::move(rails));
  ASSERT_TRUE(target_->Register({memory_.data(), memory_.size()}).ok());
  // What KeySets does of it: the first key is taken back when the second cannot be had, and all are
  // when the invitation fails.
  for (int round = 0; round < 3; ++round) {
    exposures = 1;
    key_ = *target_->Expose(0);
    EXPECT_FALSE(target_->Expose(0).ok());
    exposures = -1;
    target_->Revoke(key_);
    key_ = *target_->Expose(0);
    const MemoryKey last = *target_->Expose(0);
    invitations = 0;
    EXPECT_FALSE(target_->Invite().ok());
    EXPECT_EQ(target_->Invite().ok(), true);  // of nothing
    target_->Revoke(last);
    target_->Revoke(key_);
    EXPECT_EQ(network_->keys_exposed(), 0u);
  }
  (void)*target_->Expose(0);
  target_->Revoke(*target_->Expose(0));
  key_ = *target_->Expose(0);
  const std::string invitation = *target_->Invite();
  EXPECT_EQ(ParseRails(invitation)->ids.size(), 2u);
  const auto peer = writer_->Insert(invitation);
  ASSERT_TRUE(peer.ok()) << peer.status().ToString();
  peer_ = *peer;
  Poll(20);
  WriteAll(std::byte{7});
  EXPECT_EQ(done_, 16u);
  EXPECT_TRUE(Holds(std::byte{7}));
}

TEST_F(RailKeys, RevokingFencesAllRailsForGood) {
  target_->Revoke(key_);
  WriteAll(std::byte{2});
  Poll(3000);
  WriteAll(std::byte{2});
  EXPECT_EQ(done_, 0u);
  EXPECT_TRUE(Holds(std::byte{0}));
  EXPECT_EQ(network_->keys_exposed(), 0u);
}

TEST(RailsInvitation, EverythingDamagedIsRefused) {
  RailsInvitation invitation{.rails = {{"a", true, {1, 2}}, {"bc", false, {3, 4}}},
                             .ids = {0x10000, 0x10001},
                             .keys = {{5, 6}, {7, 8}, {9, 10}, {11, 12}}};
  const std::string bytes = EncodeRails(invitation);
  ASSERT_EQ(*ParseRails(bytes), invitation);
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_EQ(ParseRails(bytes.substr(0, size)).status().code(), Code::kDataCorrupt) << size;
  EXPECT_EQ(ParseRails(bytes + "x").status().code(), Code::kDataCorrupt);
  std::string none = bytes;
  none[5] = 0;
  EXPECT_EQ(ParseRails(none).status().code(), Code::kDataCorrupt);
  none[5] = 17;
  EXPECT_EQ(ParseRails(none).status().code(), Code::kDataCorrupt);
}

TEST(RailsSelfTest, MovesBytesOverAllRails) {
  const auto network = LoopbackNetwork::Create(3);
  std::vector<std::unique_ptr<Fabric>> rails;
  for (int i = 0; i < 3; ++i) rails.push_back(network->Open());
  const std::unique_ptr<Fabric> joined = JoinRails(std::move(rails));
  const Result<double> speed = RunSelfTest(*joined, std::nullopt, Now() + 20s);
  ASSERT_TRUE(speed.ok()) << speed.status().ToString();
  for (const RailStats& rail : joined->rail_stats()->rails) EXPECT_GT(Stats::Get(rail.bytes), 0u);
  EXPECT_EQ(network->keys_exposed(), 0u);
}

}  // namespace
}  // namespace baton::transfer
