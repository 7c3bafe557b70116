#include "transfer/loopback/loopback.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <unordered_map>
#include <utility>
#include <vector>

#include "transfer/loopback/timed_queue.h"

namespace baton::transfer {
namespace {

constexpr uint32_t kNobody = ~0u;

// A write between posting and arrival.
struct Message {
  uint32_t from = 0, to = 0;
  const std::byte* source = nullptr;  // read on arrival, unless `payload` holds the bytes
  std::unique_ptr<std::vector<std::byte>> payload;  // of a write that outlives its writer
  uint64_t bytes = 0, address = 0, key = 0;
  uint32_t imm = 0;
  OpContext* context = nullptr;       // null: its writer is gone
  bool fails = false;
  bool begun = false;                 // half received: its key was good, and is not asked again
};

// The end of a write, on its way to the writer.
struct Ended {
  OpContext* context = nullptr;
  const char* why = nullptr;  // of the failure
  bool peer_lost = false;
};

// What a completion queue holds of a write that landed.
struct Landed {
  uint32_t imm = 0;
  uint64_t bytes = 0;
};

struct Region {
  std::byte* data = nullptr;
  uint64_t bytes = 0;
  bool used = false;
};

struct Endpoint {
  bool open = false, dead = false, paused = false;
  LoopbackLink link = LoopbackLink::kUp;
  std::vector<Region> regions;
  std::unordered_map<uint64_t, uint32_t> keys;     // key -> region
  TimedQueue<Message> arriving;
  std::vector<std::pair<TimePoint, Message>> held;  // due then, but a link is silent
  TimedQueue<Ended> completing;
  TimedQueue<Landed> landed;                       // unread; times as they landed
  uint32_t cq_entries = 0, next_rail = 0;
  bool signalled = false;                          // wake_fd is readable
  std::vector<uint32_t> peers;                     // handle -> endpoint; kNobody once removed
  std::map<uint32_t, TimePoint> last_arrival;      // per writer, for keep_order
  int wake_fd = -1;
};

class Network;

class LoopbackFabric final : public Fabric {
 public:
  LoopbackFabric(std::shared_ptr<Network> network, uint32_t index, int wake_fd, uint32_t cq_entries,
                 uint64_t gather_below);
  ~LoopbackFabric() override;

  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return traits_.rails[0]; }
  Result<uint32_t> Register(MemorySpan memory) override;
  void Unregister(uint32_t region) override;
  Result<MemoryKey> Expose(uint32_t region) override;
  void Revoke(const MemoryKey& key) override;
  Result<MemoryKey> Renew(const MemoryKey& key) override;
  Result<uint64_t> Insert(std::string_view address) override;
  void Remove(uint64_t peer) override;
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  int wait_fd() const override { return wake_fd_; }
  bool PrepareSleep() override;

 private:
  const std::shared_ptr<Network> network_;
  const uint32_t index_;
  const int wake_fd_;
  FabricTraits traits_;
};

class Network final : public LoopbackNetwork {
 public:
  Network(uint64_t seed, LoopbackFaults faults) : random_(seed), faults_(faults) {}

  std::unique_ptr<Fabric> Open(uint32_t cq_entries, uint64_t gather_below) override {
    std::lock_guard lock(mutex_);
    const auto index = static_cast<uint32_t>(endpoints_.size());
    Endpoint& endpoint = endpoints_.emplace_back();
    endpoint.open = true;
    endpoint.cq_entries = cq_entries;
    endpoint.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return std::make_unique<LoopbackFabric>(std::static_pointer_cast<Network>(shared_from_this()),
                                            index, endpoint.wake_fd, cq_entries, gather_below);
  }

  void SetFaults(LoopbackFaults faults) override {
    std::lock_guard lock(mutex_);
    faults_ = faults;
  }

  void Kill(std::string_view address) override {
    std::lock_guard lock(mutex_);
    const uint32_t index = Find(address);
    if (index == kNobody || endpoints_[index].dead) return;
    endpoints_[index].dead = true;
    Abandon(index, kNobody);
    // What was on its way to the dead endpoint ends now, one way or the other.
    EndArriving(endpoints_[index]);
    endpoints_[index].completing.Clear();
    endpoints_[index].landed.Clear();
  }

  void SetPaused(std::string_view address, bool paused) override {
    std::lock_guard lock(mutex_);
    const uint32_t index = Find(address);
    if (index != kNobody) endpoints_[index].paused = paused;
  }

  void SetLink(std::string_view address, LoopbackLink link) override {
    std::lock_guard lock(mutex_);
    const uint32_t index = Find(address);
    if (index == kNobody) return;
    endpoints_[index].link = link;
    for (uint32_t to = 0; to < endpoints_.size(); ++to)
      if (!endpoints_[to].held.empty()) Wake(to);
    Wake(index);
  }

  size_t writes_under_way() const override {
    std::lock_guard lock(mutex_);
    size_t count = 0;
    for (const Endpoint& e : endpoints_)
      count += e.arriving.size() + e.held.size() + e.completing.size() + e.landed.size();
    return count;
  }
  size_t keys_exposed() const override {
    std::lock_guard lock(mutex_);
    size_t count = 0;
    for (const Endpoint& e : endpoints_) count += e.keys.size();
    return count;
  }

  uint64_t cq_overruns() const override {
    std::lock_guard lock(mutex_);
    return cq_overruns_;
  }

  void Close(uint32_t index) {
    std::lock_guard lock(mutex_);
    Endpoint& endpoint = endpoints_[index];
    Abandon(index, kNobody);
    EndArriving(endpoint);
    close(endpoint.wake_fd);
    endpoint = Endpoint{};
  }

  uint32_t Register(uint32_t index, MemorySpan memory) {
    std::lock_guard lock(mutex_);
    std::vector<Region>& regions = endpoints_[index].regions;
    regions.push_back({memory.data, memory.size_bytes, true});
    return static_cast<uint32_t>(regions.size() - 1);
  }

  void Unregister(uint32_t index, uint32_t region) {
    std::lock_guard lock(mutex_);
    Endpoint& endpoint = endpoints_[index];
    endpoint.regions[region].used = false;
    std::erase_if(endpoint.keys, [&](const auto& key) { return key.second == region; });
  }

  MemoryKey Expose(uint32_t index, uint32_t region) {
    std::lock_guard lock(mutex_);
    const MemoryKey key{.base = 0, .key = last_key_ += 256};
    endpoints_[index].keys[key.key] = region;
    return key;
  }

  MemoryKey Renew(uint32_t index, const MemoryKey& key) {
    std::lock_guard lock(mutex_);
    std::unordered_map<uint64_t, uint32_t>& keys = endpoints_[index].keys;
    const auto found = keys.find(key.key);
    if (found == keys.end()) return key;
    const uint32_t region = found->second;
    keys.erase(found);
    keys[NextKey(key).key] = region;
    return NextKey(key);
  }

  void Revoke(uint32_t index, const MemoryKey& key) {
    std::lock_guard lock(mutex_);
    endpoints_[index].keys.erase(key.key);
  }

  Result<uint64_t> Insert(uint32_t index, std::string_view address) {
    std::lock_guard lock(mutex_);
    const uint32_t target = Find(address);
    if (target == kNobody)
      return Error(Code::kUnavailable, "no endpoint \"{}\" in this loopback network", address);
    endpoints_[index].peers.push_back(target);
    return endpoints_[index].peers.size() - 1;
  }

  void Remove(uint32_t index, uint64_t peer) {
    std::lock_guard lock(mutex_);
    Abandon(index, endpoints_[index].peers[peer]);
    endpoints_[index].peers[peer] = kNobody;
  }

  PostResult Write(uint32_t index, const WriteRequest& request, TimePoint now, Status& why) {
    std::lock_guard lock(mutex_);
    Endpoint& self = endpoints_[index];
    if (self.dead || Chance(faults_.busy)) return PostResult::kAgain;
    const Region& region = self.regions[request.local_region];
    const uint32_t to = self.peers[request.peer];
    if (!region.used || to == kNobody || request.bytes > region.bytes ||
        request.local_offset > region.bytes - request.bytes) {
      why = Error(Code::kInternal, "loopback write from outside of a region or to a removed peer");
      return PostResult::kFailed;
    }
    if (Broken(index, to) && Chance(0.2)) {
      why = Error(Code::kUnavailable, "loopback: the link is broken");
      return PostResult::kFailed;
    }
    Message message{.from = index,
                    .to = to,
                    .source = region.data + request.local_offset,
                    .bytes = request.bytes,
                    .address = request.remote_address,
                    .key = request.remote_key,
                    .imm = request.imm,
                    .context = request.context,
                    .fails = Chance(faults_.fail) || OnLostRail(self)};
    if (endpoints_[to].dead || !endpoints_[to].open) {
      FailOrForget(message, now + Delay());
      return PostResult::kPosted;
    }
    TimePoint at = now + Delay();
    if (Chance(faults_.rnr)) at += faults_.rnr_delay;
    if (faults_.keep_order) {
      TimePoint& last = endpoints_[to].last_arrival[index];
      last = at = std::max(at, last);
    }
    endpoints_[to].arriving.Push(at, std::move(message));
    Wake(to);
    return PostResult::kPosted;
  }

  size_t Poll(uint32_t index, TimePoint now, std::span<Completion> out) {
    std::lock_guard lock(mutex_);
    Endpoint& self = endpoints_[index];
    if (self.dead) return 0;
    if (faults_.hardware)
      for (Endpoint& endpoint : endpoints_)
        if (endpoint.open && !endpoint.dead) LandDue(endpoint, now);
    if (self.paused) return 0;
    if (!faults_.hardware) LandDue(self, now);
    if (self.cq_entries && self.landed.CountDue(now) + self.completing.CountDue(now) > self.cq_entries)
      ++cq_overruns_;
    size_t count = 0;
    while (count < out.size() && self.link != LoopbackLink::kSilent && self.completing.Due(now)) Report(self.completing.Pop(), out[count++]);
    while (count < out.size() && self.landed.Due(now)) {
      const Landed landed = self.landed.Pop();
      out[count] = {};
      out[count].kind = Completion::Kind::kArrived;
      out[count].imm = landed.imm;
      out[count].bytes = landed.bytes;
      ++count;
    }
    return count;
  }

  // True when nothing at all waits for `index`; its eventfd is reset.
  bool Quiet(uint32_t index) {
    std::lock_guard lock(mutex_);
    Endpoint& self = endpoints_[index];
    uint64_t signals;
    if (self.signalled) [[maybe_unused]] const ssize_t n = read(self.wake_fd, &signals, sizeof signals);
    self.signalled = false;
    return self.dead || self.paused ||
           (self.arriving.empty() && self.held.empty() && self.completing.empty() && self.landed.empty());
  }

 private:
  uint32_t Find(std::string_view address) const {
    for (uint32_t i = 0; i < endpoints_.size(); ++i)
      if (address == "loopback-" + std::to_string(i)) return i;
    return kNobody;
  }

  bool Chance(double p) {
    return p > 0 && std::uniform_real_distribution<double>(0, 1)(random_) < p;
  }
  Duration Delay() {
    const auto low = faults_.min_delay.count(), high = faults_.max_delay.count();
    if (high <= low) return faults_.min_delay;
    return Duration(std::uniform_int_distribution<Duration::rep>(low, high)(random_));
  }

  bool OnLostRail(Endpoint& self) {
    if (faults_.lost_rails == 0) return false;
    return self.next_rail++ % std::max(faults_.rails, 1u) < faults_.lost_rails;
  }

  bool Silent(const Message& message) const {
    return endpoints_[message.from].link == LoopbackLink::kSilent ||
           endpoints_[message.to].link == LoopbackLink::kSilent;
  }
  bool Broken(uint32_t from, uint32_t to) const {
    return endpoints_[from].link == LoopbackLink::kBroken || endpoints_[to].link == LoopbackLink::kBroken;
  }

  void Wake(uint32_t index) {
    if (std::exchange(endpoints_[index].signalled, true)) return;
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = write(endpoints_[index].wake_fd, &one, sizeof one);
  }

  void Complete(const Message& message, Ended ended, TimePoint at) {
    Endpoint& writer = endpoints_[message.from];
    if (!message.context || !writer.open || writer.dead) return;
    ended.context = message.context;
    writer.completing.Push(at, ended);
    Wake(message.from);
  }

  static Ended Failure(const char* why, bool peer_lost) { return {.why = why, .peer_lost = peer_lost}; }

  static void Report(const Ended& ended, Completion& out) {
    out.kind = ended.why ? Completion::Kind::kFailed : Completion::Kind::kDone;
    out.peer_lost = ended.peer_lost;
    out.context = ended.context;
    out.status = ended.why ? Status(Code::kUnavailable, std::string("loopback: ") + ended.why) : Status();
  }

  // Everything that reached `self` by now lands.
  void LandDue(Endpoint& self, TimePoint now) {
    if (!self.held.empty()) {
      for (auto& [at, message] : self.held) self.arriving.Push(at, std::move(message));
      self.held.clear();
    }
    while (self.arriving.Due(now)) {
      Message message = self.arriving.Pop();
      if (Silent(message)) {
        if (!message.begun && random_() % 2) BeginToReceive(self, message);
        self.held.emplace_back(now, std::move(message));
        continue;
      }
      if (Broken(message.from, message.to) && message.context && !message.begun) {
        BreakOff(std::move(message), now);
        continue;
      }
      if (Deliver(self, message, now)) self.landed.Push(now, {message.imm, message.bytes});
    }
  }

  // Half of it has come when the link falls silent. The rest is in buffers on its way and comes with
  // the link, whatever becomes of key and writer, unless the target leaves the writer.
  void BeginToReceive(Endpoint& self, Message& message) {
    const auto key = self.keys.find(message.key);
    if (key == self.keys.end() || message.fails || message.payload) return;
    const Region& region = self.regions[key->second];
    if (message.bytes > region.bytes || message.address > region.bytes - message.bytes) return;
    message.begun = true;
    message.payload = std::make_unique<std::vector<std::byte>>(message.source, message.source + message.bytes);
    std::memcpy(region.data + message.address, message.source, message.bytes / 2);
    message.key = key->second;  // from here on the region
  }

  // The writer is told that it failed. One in three lands all the same, one in three later, when the
  // link may be up again.
  void BreakOff(Message message, TimePoint now) {
    Complete(message, Failure("the link broke", true), now + Delay());
    message.context = nullptr;
    const uint64_t fate = random_() % 3;
    if (fate == 0) return;
    message.payload = std::make_unique<std::vector<std::byte>>(message.source, message.source + message.bytes);
    endpoints_[message.to].arriving.Push(fate == 1 ? now : now + std::max<Duration>(faults_.late_by, 20ms),
                                         std::move(message));
  }

  void EndArriving(Endpoint& dead) {
    for (auto& [at, message] : dead.held) FailOrForget(message, at);
    dead.held.clear();
    dead.arriving.RemoveIf([this](TimePoint at, Message& message) {
      FailOrForget(message, at);
      return true;
    });
  }

  // The write cannot arrive because its target is dead.
  void FailOrForget(const Message& message, TimePoint at) {
    if (Chance(faults_.dead_silence)) return;
    Complete(message, Failure("the peer is dead", true), at);
  }

  // Puts the bytes in place. False when nothing is to be reported at the target.
  bool Deliver(Endpoint& self, const Message& message, TimePoint now) {
    const auto key = message.begun ? self.keys.end() : self.keys.find(message.key);
    const Region* region = message.begun ? &self.regions[message.key]
                           : key == self.keys.end() ? nullptr : &self.regions[key->second];
    if (!region || message.bytes > region->bytes || message.address > region->bytes - message.bytes) {
      Complete(message, Failure("the peer refuses the key or the place", true), now + Delay());
      return false;
    }
    const std::byte* from = message.payload ? message.payload->data() : message.source;
    const uint64_t bytes =
        message.fails ? std::uniform_int_distribution<uint64_t>(0, message.bytes)(random_)
                      : message.bytes;
    std::memcpy(region->data + message.address, from, bytes);
    // Only what checksums guard: mails have checks of their own, and are told apart by their size.
    if (bytes && Chance(faults_.corrupt))
      region->data[message.address + random_() % bytes] ^= std::byte{0x40};
    if (message.fails) {
      Complete(message, Failure("injected write failure or lost rail", false), now + Delay());
      return false;
    }
    Complete(message, Ended{}, now + Delay());
    return true;
  }

  // `writer` leaves `target` (or, kNobody, everyone): what is under way is lost or comes late.
  void Abandon(uint32_t writer, uint32_t target) {
    for (uint32_t to = 0; to < endpoints_.size(); ++to) {
      if (target != kNobody && to != target) continue;
      TimedQueue<Message>& arriving = endpoints_[to].arriving;
      for (auto& [at, message] : endpoints_[to].held) arriving.Push(at, std::move(message));
      endpoints_[to].held.clear();
      std::vector<std::pair<TimePoint, Message>> late;
      arriving.RemoveIf([&](TimePoint at, Message& message) {
        if (message.from != writer) return false;
        if (target != kNobody) Complete(message, Failure("the peer was removed", true), at);
        if (message.begun) {
          message.context = nullptr;
          return false;
        }
        if (Chance(faults_.late) && !message.payload) {
          message.payload = std::make_unique<std::vector<std::byte>>(message.source,
                                                                     message.source + message.bytes);
          message.context = nullptr;
          late.emplace_back(at + faults_.late_by, std::move(message));
        }
        return true;
      });
      for (auto& [at, message] : late) arriving.Push(at, std::move(message));
    }
    if (target != kNobody) DropHalves(writer, target);
  }

  // `index` leaves `peer`: what it has half received of it ends here.
  void DropHalves(uint32_t index, uint32_t peer) {
    const auto drop = [&](TimePoint at, Message& message) {
      if (message.from != peer || !message.begun) return false;
      Complete(message, Failure("the target closed the connection", true), at);
      return true;
    };
    endpoints_[index].arriving.RemoveIf(drop);
    std::erase_if(endpoints_[index].held, [&](auto& held) { return drop(held.first, held.second); });
  }

  mutable std::mutex mutex_;
  std::mt19937_64 random_;
  LoopbackFaults faults_;
  std::vector<Endpoint> endpoints_;
  uint64_t last_key_ = 0;
  uint64_t cq_overruns_ = 0;
};

LoopbackFabric::LoopbackFabric(std::shared_ptr<Network> network, uint32_t index, int wake_fd,
                               uint32_t cq_entries, uint64_t gather_below)
    : network_(std::move(network)), index_(index), wake_fd_(wake_fd) {
  traits_.family = traits_.provider = traits_.fabric = "loopback";
  traits_.rails = {"loopback-" + std::to_string(index)};
  traits_.write_path = "software";
  traits_.renews_keys = true;
  traits_.cq_entries = cq_entries;
  traits_.gather_below = gather_below;
  if (cq_entries) traits_.max_in_flight = std::min(traits_.max_in_flight, cq_entries / 4);
  traits_.max_in_flight_peer = std::min(traits_.max_in_flight_peer, traits_.max_in_flight);
}

LoopbackFabric::~LoopbackFabric() { network_->Close(index_); }

Result<uint32_t> LoopbackFabric::Register(MemorySpan memory) {
  if (memory.device != DeviceKind::kHost)
    return Error(Code::kUnsupported, "the loopback provider moves host memory only");
  return network_->Register(index_, memory);
}
void LoopbackFabric::Unregister(uint32_t region) { network_->Unregister(index_, region); }
Result<MemoryKey> LoopbackFabric::Expose(uint32_t region) {
  return network_->Expose(index_, region);
}
void LoopbackFabric::Revoke(const MemoryKey& key) { network_->Revoke(index_, key); }
Result<MemoryKey> LoopbackFabric::Renew(const MemoryKey& key) {
  return network_->Renew(index_, key);
}
Result<uint64_t> LoopbackFabric::Insert(std::string_view address) {
  return network_->Insert(index_, address);
}
void LoopbackFabric::Remove(uint64_t peer) { network_->Remove(index_, peer); }
PostResult LoopbackFabric::Write(const WriteRequest& request, TimePoint now, Status& why) {
  return network_->Write(index_, request, now, why);
}
size_t LoopbackFabric::Poll(TimePoint now, std::span<Completion> out) {
  return network_->Poll(index_, now, out);
}
bool LoopbackFabric::PrepareSleep() { return network_->Quiet(index_); }

}  // namespace

std::shared_ptr<LoopbackNetwork> LoopbackNetwork::Create(uint64_t seed, LoopbackFaults faults) {
  return std::make_shared<Network>(seed, faults);
}

}  // namespace baton::transfer
