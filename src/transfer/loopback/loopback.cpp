#include "transfer/loopback/loopback.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <vector>

namespace baton::transfer {
namespace {

constexpr uint32_t kNobody = ~0u;

// A write between posting and arrival.
struct Message {
  uint32_t from = 0, to = 0;
  const std::byte* source = nullptr;  // read on arrival, unless `payload` holds the bytes
  std::vector<std::byte> payload;     // of a write that outlives its writer
  uint64_t bytes = 0, address = 0, key = 0;
  uint32_t imm = 0;
  OpContext* context = nullptr;       // null: its writer is gone
  bool fails = false;
};

struct Region {
  std::byte* data = nullptr;
  uint64_t bytes = 0;
  bool used = false;
};

struct Endpoint {
  bool open = false, dead = false, paused = false;
  std::vector<Region> regions;
  std::map<uint64_t, uint32_t> keys;               // key -> region
  std::multimap<TimePoint, Message> arriving;      // equal times: in order of posting
  std::multimap<TimePoint, Completion> completing;
  std::vector<uint32_t> peers;                     // handle -> endpoint; kNobody once removed
  std::map<uint32_t, TimePoint> last_arrival;      // per writer, for keep_order
  int wake_fd = -1;
};

class Network;

class LoopbackFabric final : public Fabric {
 public:
  LoopbackFabric(std::shared_ptr<Network> network, uint32_t index, int wake_fd);
  ~LoopbackFabric() override;

  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return traits_.rails[0]; }
  Result<uint32_t> Register(MemorySpan memory) override;
  void Unregister(uint32_t region) override;
  Result<MemoryKey> Expose(uint32_t region) override;
  void Revoke(const MemoryKey& key) override;
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

  std::unique_ptr<Fabric> Open() override {
    std::lock_guard lock(mutex_);
    const auto index = static_cast<uint32_t>(endpoints_.size());
    Endpoint& endpoint = endpoints_.emplace_back();
    endpoint.open = true;
    endpoint.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return std::make_unique<LoopbackFabric>(std::static_pointer_cast<Network>(shared_from_this()),
                                            index, endpoint.wake_fd);
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
    for (auto& [at, message] : endpoints_[index].arriving) FailOrForget(message, at);
    endpoints_[index].arriving.clear();
    endpoints_[index].completing.clear();
  }

  void SetPaused(std::string_view address, bool paused) override {
    std::lock_guard lock(mutex_);
    const uint32_t index = Find(address);
    if (index != kNobody) endpoints_[index].paused = paused;
  }

  size_t writes_under_way() const override {
    std::lock_guard lock(mutex_);
    size_t count = 0;
    for (const Endpoint& e : endpoints_) count += e.arriving.size() + e.completing.size();
    return count;
  }
  size_t keys_exposed() const override {
    std::lock_guard lock(mutex_);
    size_t count = 0;
    for (const Endpoint& e : endpoints_) count += e.keys.size();
    return count;
  }

  void Close(uint32_t index) {
    std::lock_guard lock(mutex_);
    Endpoint& endpoint = endpoints_[index];
    Abandon(index, kNobody);
    for (auto& [at, message] : endpoint.arriving) FailOrForget(message, at);
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
    const MemoryKey key{.base = 0, .key = ++last_key_};
    endpoints_[index].keys[key.key] = region;
    return key;
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
    Message message{.from = index,
                    .to = to,
                    .source = region.data + request.local_offset,
                    .bytes = request.bytes,
                    .address = request.remote_address,
                    .key = request.remote_key,
                    .imm = request.imm,
                    .context = request.context,
                    .fails = Chance(faults_.fail)};
    if (endpoints_[to].dead || !endpoints_[to].open) {
      FailOrForget(message, now + Delay());
      return PostResult::kPosted;
    }
    TimePoint at = now + Delay();
    if (faults_.keep_order) {
      TimePoint& last = endpoints_[to].last_arrival[index];
      last = at = std::max(at, last);
    }
    endpoints_[to].arriving.emplace(at, std::move(message));
    Wake(to);
    return PostResult::kPosted;
  }

  size_t Poll(uint32_t index, TimePoint now, std::span<Completion> out) {
    std::lock_guard lock(mutex_);
    Endpoint& self = endpoints_[index];
    if (self.dead || self.paused) return 0;
    size_t count = 0;
    while (count < out.size() && !self.completing.empty() && self.completing.begin()->first <= now) {
      out[count++] = std::move(self.completing.begin()->second);
      self.completing.erase(self.completing.begin());
    }
    while (count < out.size() && !self.arriving.empty() && self.arriving.begin()->first <= now) {
      Message message = std::move(self.arriving.begin()->second);
      self.arriving.erase(self.arriving.begin());
      if (Deliver(self, message, now)) {
        out[count] = {};
        out[count].kind = Completion::Kind::kArrived;
        out[count].imm = message.imm;
        out[count].bytes = message.bytes;
        ++count;
      }
    }
    return count;
  }

  // True when nothing at all waits for `index`; its eventfd is reset.
  bool Quiet(uint32_t index) {
    std::lock_guard lock(mutex_);
    Endpoint& self = endpoints_[index];
    uint64_t signals;
    [[maybe_unused]] const ssize_t n = read(self.wake_fd, &signals, sizeof signals);
    return self.dead || self.paused || (self.arriving.empty() && self.completing.empty());
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

  void Wake(uint32_t index) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = write(endpoints_[index].wake_fd, &one, sizeof one);
  }

  void Complete(const Message& message, Completion completion, TimePoint at) {
    Endpoint& writer = endpoints_[message.from];
    if (!message.context || !writer.open || writer.dead) return;
    completion.context = message.context;
    writer.completing.emplace(at, std::move(completion));
    Wake(message.from);
  }

  static Completion Failure(std::string why, bool peer_lost) {
    Completion completion;
    completion.kind = Completion::Kind::kFailed;
    completion.peer_lost = peer_lost;
    completion.status = Status(Code::kUnavailable, "loopback: " + std::move(why));
    return completion;
  }

  // The write cannot arrive because its target is dead.
  void FailOrForget(const Message& message, TimePoint at) {
    if (Chance(faults_.dead_silence)) return;
    Complete(message, Failure("the peer is dead", true), at);
  }

  // Puts the bytes in place. False when nothing is to be reported at the target.
  bool Deliver(Endpoint& self, Message& message, TimePoint now) {
    const auto key = self.keys.find(message.key);
    const Region* region = key == self.keys.end() ? nullptr : &self.regions[key->second];
    if (!region || message.bytes > region->bytes || message.address > region->bytes - message.bytes) {
      Complete(message, Failure("the peer refuses the key or the place", true), now + Delay());
      return false;
    }
    const std::byte* from = message.payload.empty() ? message.source : message.payload.data();
    const uint64_t bytes =
        message.fails ? std::uniform_int_distribution<uint64_t>(0, message.bytes)(random_)
                      : message.bytes;
    std::memcpy(region->data + message.address, from, bytes);
    if (message.fails) {
      Complete(message, Failure("injected write failure", false), now + Delay());
      return false;
    }
    Complete(message, Completion{}, now + Delay());
    return true;
  }

  // `writer` leaves `target` (or, kNobody, everyone): what is under way is lost or comes late.
  void Abandon(uint32_t writer, uint32_t target) {
    for (uint32_t to = 0; to < endpoints_.size(); ++to) {
      if (target != kNobody && to != target) continue;
      std::multimap<TimePoint, Message>& arriving = endpoints_[to].arriving;
      std::multimap<TimePoint, Message> late;
      for (auto at = arriving.begin(); at != arriving.end();) {
        Message& message = at->second;
        if (message.from != writer) {
          ++at;
          continue;
        }
        if (target != kNobody) Complete(message, Failure("the peer was removed", true), at->first);
        if (Chance(faults_.late) && message.payload.empty()) {
          message.payload.assign(message.source, message.source + message.bytes);
          message.context = nullptr;
          late.emplace(at->first + faults_.late_by, std::move(message));
        }
        at = arriving.erase(at);
      }
      arriving.merge(late);
    }
  }

  mutable std::mutex mutex_;
  std::mt19937_64 random_;
  LoopbackFaults faults_;
  std::vector<Endpoint> endpoints_;
  uint64_t last_key_ = 0;
};

LoopbackFabric::LoopbackFabric(std::shared_ptr<Network> network, uint32_t index, int wake_fd)
    : network_(std::move(network)), index_(index), wake_fd_(wake_fd) {
  traits_.family = traits_.provider = traits_.fabric = "loopback";
  traits_.rails = {"loopback-" + std::to_string(index)};
  traits_.write_path = "software";
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
