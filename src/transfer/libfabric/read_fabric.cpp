#include "transfer/libfabric/read_fabric.h"

#include <algorithm>
#include <mutex>
#include <random>
#include <thread>
#include <unordered_map>

#include "common/log.h"
#include "transfer/libfabric/read_deliveries.h"
#include "transfer/libfabric/read_orders.h"

namespace baton::transfer {
namespace {

using reads::Operation;

constexpr size_t kReadBatch = 64;
constexpr size_t kMostReceives = 1024;
constexpr Duration kPatience = 100ms;
constexpr Duration kClosingPatience = 1s;

// An endpoint that cannot be closed, and the memory that it writes into.
struct Unclosable {
  Endpoint endpoint;
  std::unique_ptr<std::byte[]> memory;
};
void KeepOpen(Unclosable one) {
  static std::mutex mutex;
  static auto& kept = *new std::vector<Unclosable>;
  std::lock_guard lock(mutex);
  kept.push_back(std::move(one));
}

class ReadFabric final : public Fabric {
 public:
  explicit ReadFabric(Endpoint endpoint) : endpoint_(std::move(endpoint)) {}
  ~ReadFabric() override;

  Status Open();

  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return endpoint_.address; }
  Result<uint32_t> Register(MemorySpan memory) override;
  void Unregister(uint32_t region) override;
  Result<MemoryKey> Expose(uint32_t region) override;
  void Revoke(const MemoryKey& key) override;
  Result<MemoryKey> Renew(const MemoryKey& key) override;
  std::string NameOf(std::string_view address) const override { return endpoint_.NameOf(address); }
  Result<uint64_t> Insert(std::string_view address) override;
  void Remove(uint64_t peer) override;
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  int wait_fd() const override { return endpoint_.wait_fd; }
  bool PrepareSleep() override;

 private:
  void FillTraits(uint32_t orders);
  bool ReadQueue();
  bool ReadErrors();
  void OnCompletion(const fi_cq_data_entry& entry);
  void OnError(const fi_cq_err_entry& error);
  template <typename Busy>
  bool WaitWhile(Busy busy, Duration patience = kPatience);
  bool TakeFromHardware(uint32_t region);
  void Condemn();

  Endpoint endpoint_;
  FabricTraits traits_;
  std::vector<Completion> ready_;  // room for all that there can be
  size_t ready_read_ = 0;
  reads::Orders orders_{endpoint_, ready_};
  reads::Deliveries deliveries_{endpoint_, orders_, ready_};
  std::vector<reads::Region> regions_;
  std::unordered_map<uint64_t, std::string> addresses_;  // by peer
  uint64_t next_key_ = 0;     // of registrations
  uint64_t next_series_ = 0;  // of keys of ours (NextKey)
  Status broken_;
};

Status ReadFabric::Open() {
  const auto receives =
      static_cast<uint32_t>(std::min(endpoint_.info().rx_attr->size, kMostReceives));
  const uint32_t orders = receives / 4;
  if (orders == 0)
    return Error(Code::kUnsupported, "libfabric {}: {} receives are too few to be told of writes",
                 endpoint_.choice.name, receives);
  // At random, so that keys and tickets of an earlier process on the same address fit nothing.
  std::random_device random;
  next_key_ = (uint64_t{random()} << 20) | 1;
  next_series_ = uint64_t{random()} << 24;
  const uint64_t sender = uint64_t{random()} << 32 | random();
  ready_.reserve(size_t{receives + orders} * reads::kMaxPieces);
  if (Status s = orders_.Open(orders, sender, next_key_, random()); !s.ok()) return s;
  if (Status s = deliveries_.Open(receives, orders, sender, next_key_ + 2); !s.ok()) return s;
  next_key_ += 4;
  FillTraits(orders);
  return Status::Ok();
}

// The endpoint goes before the memory that it may write into. With an answer half received it cannot be
// closed (read_deliveries.h), and the peer may never send the rest: then it stays.
ReadFabric::~ReadFabric() {
  const auto reading = [&] { return deliveries_.lands_apart() && deliveries_.reading() > 0; };
  if (!WaitWhile(reading, kClosingPatience)) {
    log::warn("libfabric {}: reads from a peer that stands still are under way: the endpoint stays open "
              "until this process ends", endpoint_.choice.name);
    KeepOpen({std::move(endpoint_), deliveries_.TakeLandings()});
    return;
  }
  endpoint_.ep.reset();
}

void ReadFabric::FillTraits(uint32_t orders) {
  const fi_info& info = endpoint_.info();
  traits_.family = endpoint_.choice.family + "-read";
  traits_.provider = endpoint_.choice.name;
  traits_.fabric = info.fabric_attr->name ? info.fabric_attr->name : "";
  traits_.rails = {info.domain_attr->name ? info.domain_attr->name : ""};
  traits_.version = LibraryVersion();
  traits_.write_path = "read";
  traits_.hardware_rdma = endpoint_.is_efa() && endpoint_.hardware.reads;
  if (traits_.hardware_rdma) traits_.least_in_flight = Pacer::kFloor;
  traits_.max_write_bytes = std::min<uint64_t>(info.ep_attr->max_msg_size, 1 << 30);
  if (endpoint_.is_efa())
    if (const auto longest = efa::LongestRma(endpoint_.ep.get()))
      traits_.max_write_bytes = std::min(traits_.max_write_bytes, *longest);
  traits_.max_in_flight = std::min(1024u, orders * reads::kMaxPieces);
  traits_.max_in_flight_peer = std::min(256u, traits_.max_in_flight / 2);
  if (deliveries_.lands_apart())
    traits_.max_write_bytes = std::min(traits_.max_write_bytes, reads::Deliveries::kLandingBytes);
  traits_.max_invitations = deliveries_.max_writers();
  traits_.renews_keys = true;
}

Result<uint32_t> ReadFabric::Register(MemorySpan memory) {
  if (memory.device != DeviceKind::kHost)
    return Error(Code::kUnsupported,
                 "provider {} cannot register memory of CUDA device {} for reads: register host "
                 "memory and stage through it",
                 endpoint_.choice.name, memory.device_index);
  Result<reads::Region> region = reads::MakeRegion(endpoint_, memory, next_key_++);
  if (!region) return region.status();
  regions_.push_back(*std::move(region));
  return static_cast<uint32_t>(regions_.size() - 1);
}

void ReadFabric::Unregister(uint32_t region) {
  deliveries_.RevokeRegion(region);
  if (!deliveries_.lands_apart() && !WaitWhile([&] { return deliveries_.ReadsInto(region); })) Condemn();
  regions_[region] = {};
}

Result<MemoryKey> ReadFabric::Expose(uint32_t region) {
  const MemoryKey key{.base = 0, .key = next_series_};
  next_series_ += 256;
  deliveries_.Expose(key.key, region);
  return key;
}

Result<MemoryKey> ReadFabric::Renew(const MemoryKey& key) {
  const uint32_t region = deliveries_.RegionOf(key.key);
  if (region == reads::Deliveries::kNone) return key;
  Revoke(key);
  const MemoryKey next = NextKey(key);
  deliveries_.Expose(next.key, region);
  return next;
}

void ReadFabric::Revoke(const MemoryKey& key) {
  const uint32_t region = deliveries_.RegionOf(key.key);
  deliveries_.Revoke(key.key);
  if (deliveries_.lands_apart()) return;
  const auto reading = [&] { return deliveries_.Reads(key.key); };
  if (WaitWhile(reading)) return;
  deliveries_.CutReaders(key.key);
  if (!WaitWhile(reading) && !TakeFromHardware(region)) Condemn();
}

// A card writes only into memory that is registered. Registers it anew: what others have under way
// from or to this region fails.
bool ReadFabric::TakeFromHardware(uint32_t region) {
  if (region == reads::Deliveries::kNone) return false;
  const MemorySpan memory = regions_[region].memory;
  regions_[region].mr.reset();
  deliveries_.Detach(region);
  Result<reads::Region> again = reads::MakeRegion(endpoint_, memory, next_key_++);
  if (!again) return false;
  regions_[region] = *std::move(again);
  log::warn("libfabric {}: a read from a lost peer hangs: registered {} bytes anew",
            endpoint_.choice.name, memory.size_bytes);
  return true;
}

// False when it still is so after `patience`.
template <typename Busy>
bool ReadFabric::WaitWhile(Busy busy, Duration patience) {
  for (const TimePoint deadline = Now() + patience; broken_.ok() && busy();) {
    if (ReadQueue()) continue;
    if (Now() > deadline) return false;
    std::this_thread::sleep_for(20us);
  }
  return true;
}

// Memory that must not change any more is being read into, and nothing ends that: without the
// endpoint nobody writes there. Whoever uses this engine must open another.
void ReadFabric::Condemn() {
  if (!broken_.ok()) return;
  broken_ = Error(Code::kUnavailable,
                  "libfabric {}: the endpoint was closed, because a read from a lost peer could not "
                  "be stopped: restart this server",
                  endpoint_.choice.name);
  log::error("{}", broken_.message());
  endpoint_.ep.reset();
  orders_.FailAll(broken_);
}

Result<uint64_t> ReadFabric::Insert(std::string_view address) {
  if (!broken_.ok()) return broken_;
  Result<uint64_t> peer = orders_.Insert(address);
  if (peer.ok()) addresses_[*peer] = address;
  return peer;
}

void ReadFabric::Remove(uint64_t peer) {
  const auto found = addresses_.find(peer);
  if (found == addresses_.end()) return;
  const std::string address = std::move(found->second);
  addresses_.erase(found);
  // Before the address itself goes, and only if no other peer of ours lives there.
  const bool shared = std::any_of(addresses_.begin(), addresses_.end(),
                                  [&](const auto& other) { return other.second == address; });
  if (!shared && broken_.ok()) deliveries_.Forget(address);
  orders_.Remove(peer);
}

PostResult ReadFabric::Write(const WriteRequest& request, TimePoint, Status& why) {
  if (!broken_.ok()) {
    why = broken_;
    return PostResult::kFailed;
  }
  return orders_.Write(request, regions_[request.local_region], why);
}

size_t ReadFabric::Poll(TimePoint now, std::span<Completion> out) {
  if (broken_.ok()) {
    orders_.Flush(now);
    deliveries_.Advance(regions_);
  }
  size_t count = 0;
  while (count < out.size()) {
    if (ready_read_ < ready_.size()) {
      out[count++] = std::move(ready_[ready_read_++]);
      continue;
    }
    ready_.clear();
    ready_read_ = 0;
    if (!broken_.ok() || !ReadQueue()) break;
    deliveries_.Advance(regions_);
  }
  return count;
}

// False when the queue holds nothing.
bool ReadFabric::ReadQueue() {
  fi_cq_data_entry entries[kReadBatch];
  const ssize_t n = fi_cq_read(endpoint_.cq.get(), entries, kReadBatch);
  if (n == -FI_EAGAIN || n == 0) return false;
  if (n < 0) {
    if (n != -FI_EAVAIL) log::error("{}", endpoint_.Failed("fi_cq_read", n).message());
    return ReadErrors();
  }
  for (ssize_t i = 0; i < n; ++i) OnCompletion(entries[i]);
  return true;
}

void ReadFabric::OnCompletion(const fi_cq_data_entry& entry) {
  if (!entry.op_context) return;
  Operation& operation = *static_cast<Operation*>(entry.op_context);
  switch (operation.kind) {
    case Operation::Kind::kOrder: return orders_.OnSent(operation, Status::Ok());
    case Operation::Kind::kReceive: return deliveries_.OnReceived(operation, entry.len);
    case Operation::Kind::kRead: return deliveries_.OnRead(operation, false);
    case Operation::Kind::kLease: return deliveries_.OnLease(operation, false);
    case Operation::Kind::kAnswer: return deliveries_.OnAnswered(operation);
  }
}

bool ReadFabric::ReadErrors() {
  bool any = false;
  for (;; any = true) {
    fi_cq_err_entry error{};
    if (fi_cq_readerr(endpoint_.cq.get(), &error, 0) <= 0) return any;
    OnError(error);
  }
}

void ReadFabric::OnError(const fi_cq_err_entry& error) {
  if (!error.op_context) {
    log::debug("libfabric {}: error without operation: {}", endpoint_.choice.name,
               fi_strerror(error.err));
    return;
  }
  Operation& operation = *static_cast<Operation*>(error.op_context);
  switch (operation.kind) {
    case Operation::Kind::kOrder:
      return orders_.OnSent(operation, endpoint_.Describe(error, "word of a write to peer"));
    case Operation::Kind::kReceive: return deliveries_.OnReceiveFailed(operation);
    case Operation::Kind::kRead: return deliveries_.OnRead(operation, true);
    case Operation::Kind::kLease: return deliveries_.OnLease(operation, true);
    case Operation::Kind::kAnswer: return deliveries_.OnAnswered(operation);
  }
}

bool ReadFabric::PrepareSleep() {
  if (!broken_.ok()) return true;
  if (!orders_.idle() || !deliveries_.idle() || ready_read_ < ready_.size()) return false;
  return endpoint_.TryWait() == 0;
}

}  // namespace

Result<std::unique_ptr<Fabric>> OpenReadFabric(Endpoint endpoint) {
  auto fabric = std::make_unique<ReadFabric>(std::move(endpoint));
  if (Status s = fabric->Open(); !s.ok()) return s;
  return std::unique_ptr<Fabric>(std::move(fabric));
}

}  // namespace baton::transfer
