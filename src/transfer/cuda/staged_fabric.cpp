#include "transfer/cuda/staged_fabric.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/log.h"
#include "transfer/cuda/staging.h"

namespace baton::transfer::cuda {
namespace {

constexpr size_t kScratch = 256;
constexpr uint32_t kAckReserve = 128;  // of a bounded completion queue, for acknowledgements sent and received

class StagedFabric final : public Fabric {
 public:
  explicit StagedFabric(std::unique_ptr<Fabric> inner) : inner_(std::move(inner)), scratch_(kScratch) {
    ready_.reserve(4 * kMaxCells);
  }
  ~StagedFabric() override;

  Status Open(std::optional<int> device);

  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return EncodeAddress({.inner = inner_->Address()}); }
  Result<std::string> Invite() override;
  Result<uint32_t> Register(MemorySpan memory) override;
  void Unregister(uint32_t region) override;
  Result<MemoryKey> Expose(uint32_t region) override;
  void Revoke(const MemoryKey& key) override;
  Result<uint64_t> Insert(std::string_view address) override;
  void Remove(uint64_t peer) override;
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  int wait_fd() const override { return inner_->wait_fd(); }
  bool PrepareSleep() override;

 private:
  struct Region {
    MemorySpan memory;
    bool staged = false;
    uint32_t inner = 0;  // where it is not
  };
  struct DeviceStreams {
    std::unique_ptr<CopyStream> out, in;  // from the device, to it
  };
  struct Peer {
    uint64_t inner = 0;
    std::unique_ptr<OutgoingRing> ring;
  };

  Status AddDevice(int ordinal);
  Status PrepareRing(OutgoingRing& ring);
  Result<std::unique_ptr<Staging>> TakeStaging();
  CellTarget Locate(const IncomingArea& area, const CellHeader& header);
  void Translate(Completion& completion);
  void CloseArea(uint32_t index);
  void BuryDrained();
  bool InUse() const { return !writers_.empty() || !areas_.empty() || !graves_.empty() || !ring_graves_.empty(); }

  std::shared_ptr<Fabric> inner_;
  FabricTraits traits_;
  Driver* driver_ = nullptr;  // null: no device memory here
  std::vector<Region> regions_;
  std::map<int, DeviceStreams> devices_;  // by ordinal
  std::unordered_map<uint64_t, uint32_t> keys_;  // of device memory: key -> region
  std::vector<uint64_t> fresh_keys_;             // exposed since the last invitation
  uint64_t next_key_ = 0;
  std::unordered_map<uint64_t, Peer> peers_;
  uint64_t next_peer_ = 1;
  std::map<uint32_t, OutgoingRing*> writers_;  // by the number that acknowledgements name: rings in use
  std::map<uint32_t, std::unique_ptr<IncomingArea>> areas_;
  uint32_t next_area_ = 0, most_areas_ = kMaxAreas;
  // Closed, with operations of the fabric below that have not ended.
  std::vector<std::unique_ptr<OutgoingRing>> ring_graves_;
  std::vector<std::unique_ptr<IncomingArea>> graves_;
  std::vector<std::unique_ptr<Staging>> spare_;
  std::vector<Completion> scratch_, ready_;
  size_t ready_read_ = 0;
  const cuda::Report report_ = [this](Completion completion) { ready_.push_back(std::move(completion)); };
};

Status StagedFabric::Open(std::optional<int> device) {
  traits_ = inner_->traits();
  traits_.max_write_bytes = std::min(traits_.max_write_bytes - sizeof(CellHeader), kMaxStagedBytes);
  // One cell is the introduction.
  traits_.max_in_flight_peer = std::min(traits_.max_in_flight_peer, kMaxCells - 1);
  if (traits_.cq_entries > kAckReserve) {
    traits_.cq_entries -= kAckReserve;
    most_areas_ = kAckReserve / 2;  // each has one acknowledgement in flight at most
  }
  std::random_device random;
  next_key_ = uint64_t{random()} << 24;
  if (!device || traits_.registers_cuda) return Status::Ok();
  const Result<Driver*> driver = Driver::Get();
  if (!driver.ok()) return driver.status();
  driver_ = *driver;
  traits_.device_path = "staged";
  return AddDevice(*device);
}

StagedFabric::~StagedFabric() {
  for (auto& [number, area] : areas_) area->WaitForCopies();
  for (auto& [number, ring] : writers_) ring->WaitForCopies();
  inner_.reset();  // before its memory goes nothing may read or write it
}

Status StagedFabric::AddDevice(int ordinal) {
  if (devices_.contains(ordinal)) return Status::Ok();
  DeviceStreams streams;
  for (std::unique_ptr<CopyStream>* stream : {&streams.out, &streams.in}) {
    Result<std::unique_ptr<CopyStream>> made = CopyStream::Create(*driver_, ordinal);
    if (!made.ok()) return made.status();
    *stream = *std::move(made);
  }
  devices_[ordinal] = std::move(streams);
  return Status::Ok();
}

Result<std::unique_ptr<Staging>> StagedFabric::TakeStaging() {
  if (spare_.empty()) return Staging::Create(inner_);
  std::unique_ptr<Staging> staging = std::move(spare_.back());
  spare_.pop_back();
  return staging;
}

Status StagedFabric::PrepareRing(OutgoingRing& ring) {
  if (ring.prepared()) return driver_ ? ring.staging()->Pin(*driver_) : Status::Ok();
  Result<std::unique_ptr<Staging>> staging = TakeStaging();
  if (!staging.ok()) return staging.status();
  return ring.Prepare(*std::move(staging), driver_);
}

Result<uint32_t> StagedFabric::Register(MemorySpan memory) {
  Region region{.memory = memory};
  region.staged = memory.device == DeviceKind::kCuda && !traits_.registers_cuda;
  if (!region.staged) {
    const Result<uint32_t> inner = inner_->Register(memory);
    if (!inner.ok()) return inner;
    region.inner = *inner;
  } else {
    if (!driver_)
      return Error(Code::kInvalidArgument,
                   "memory of CUDA device {} was not announced: set Options::cuda_device", memory.device_index);
    if (Status s = driver_->Bind(memory.device_index); !s.ok()) return s;
    if (Status s = AddDevice(memory.device_index); !s.ok()) return s;
    // Its writers need rings from now on.
    for (auto& [number, peer] : peers_) {
      if (Status s = PrepareRing(*peer.ring); !s.ok()) return s;
      writers_.emplace(static_cast<uint32_t>(number % (1u << 28)), peer.ring.get());
    }
  }
  regions_.push_back(std::move(region));
  return static_cast<uint32_t>(regions_.size() - 1);
}

void StagedFabric::Unregister(uint32_t index) {
  Region& region = regions_[index];
  if (!region.staged) {
    inner_->Unregister(region.inner);
  } else {
    std::erase_if(keys_, [&](const auto& key) { return key.second == index; });
    for (auto& [number, area] : areas_) area->WaitForCopies();
    for (auto& [number, ring] : writers_) ring->WaitForCopies();
  }
  region = {};
}

Result<MemoryKey> StagedFabric::Expose(uint32_t index) {
  if (!regions_[index].staged) return inner_->Expose(regions_[index].inner);
  const MemoryKey key{.base = kStagedBase, .key = ++next_key_};
  keys_[key.key] = index;
  fresh_keys_.push_back(key.key);
  return key;
}

Result<std::string> StagedFabric::Invite() {
  StagedAddress address;
  if (!fresh_keys_.empty()) {
    if (areas_.size() >= most_areas_)
      return Error(Code::kResourceExhausted, "{} peers may write to device memory, which is the most", areas_.size());
    Result<std::unique_ptr<Staging>> staging = TakeStaging();
    if (!staging.ok()) return staging.status();
    if (Status s = (*staging)->Pin(*driver_); !s.ok()) return s;
    while (areas_.contains(next_area_ % kMaxAreas)) ++next_area_;
    const uint32_t index = next_area_++ % kMaxAreas;
    auto area = std::make_unique<IncomingArea>(*inner_, index, *std::move(staging), std::exchange(fresh_keys_, {}));
    Result<StagedAddress> opened = area->Open();
    if (!opened.ok()) return opened.status();
    address = *std::move(opened);
    areas_[index] = std::move(area);
  }
  Result<std::string> inner = inner_->Invite();
  if (!inner.ok()) return inner;
  address.inner = *std::move(inner);
  return EncodeAddress(address);
}

void StagedFabric::Revoke(const MemoryKey& key) {
  if (key.base != kStagedBase) return inner_->Revoke(key);
  keys_.erase(key.key);
  std::erase(fresh_keys_, key.key);
  for (auto& [index, area] : areas_) {
    if (!area->Owns(key.key)) continue;
    area->WaitForCopies();
    std::erase(area->keys(), key.key);
    if (area->keys().empty()) CloseArea(index);
    return;
  }
}

void StagedFabric::CloseArea(uint32_t index) {
  auto area = std::move(areas_.extract(index).mapped());
  area->Close();
  graves_.push_back(std::move(area));
  BuryDrained();
}

Result<uint64_t> StagedFabric::Insert(std::string_view bytes) {
  Result<StagedAddress> address = ParseAddress(bytes);
  if (!address.ok()) return address.status();
  const Result<uint64_t> inner = inner_->Insert(address->inner);
  if (!inner.ok()) return inner;
  const uint64_t handle = next_peer_++;
  const auto writer = static_cast<uint32_t>(handle % (1u << 28));
  const bool staged = address->has_area || driver_;
  auto ring = std::make_unique<OutgoingRing>(*inner_, *std::move(address), *inner, writer);
  if (staged) {
    if (Status s = PrepareRing(*ring); !s.ok()) {
      inner_->Remove(*inner);
      return s;
    }
    writers_[writer] = ring.get();
  }
  peers_[handle] = {*inner, std::move(ring)};
  return handle;
}

void StagedFabric::Remove(uint64_t handle) {
  const auto found = peers_.find(handle);
  if (found == peers_.end()) return;
  Peer peer = std::move(found->second);
  peers_.erase(found);
  inner_->Remove(peer.inner);
  peer.ring->Close(report_);
  writers_.erase(static_cast<uint32_t>(handle % (1u << 28)));
  if (peer.ring->prepared()) ring_graves_.push_back(std::move(peer.ring));
  BuryDrained();
}

// Their memory serves the next ones.
void StagedFabric::BuryDrained() {
  const auto bury = [this](auto& graves) {
    std::erase_if(graves, [this](auto& grave) {
      if (!grave->Drained()) return false;
      spare_.push_back(grave->TakeStaging());
      return true;
    });
  };
  bury(ring_graves_);
  bury(graves_);
}

PostResult StagedFabric::Write(const WriteRequest& request, TimePoint now, Status& why) {
  const auto found = peers_.find(request.peer);
  if (found == peers_.end()) {
    why = Error(Code::kInternal, "write to a removed peer");
    return PostResult::kFailed;
  }
  const Region& region = regions_[request.local_region];
  if (!region.staged && !IsStaged(request.remote_address)) {
    WriteRequest passed = request;
    passed.peer = found->second.inner;
    passed.local_region = region.inner;
    return inner_->Write(passed, now, why);
  }
  CopyStream* const stream = region.staged ? devices_[region.memory.device_index].out.get() : nullptr;
  return found->second.ring->Write(request, region.memory.data + request.local_offset, stream, why);
}

size_t StagedFabric::Poll(TimePoint now, std::span<Completion> out) {
  if (!InUse() && ready_read_ == ready_.size()) return inner_->Poll(now, out);
  for (auto& [ordinal, streams] : devices_) streams.out->Flush();
  for (auto& [number, ring] : writers_) ring->Post(now, report_);
  while (ready_.size() - ready_read_ < out.size()) {
    const size_t most = std::min(scratch_.size(), out.size());
    const size_t count = inner_->Poll(now, std::span(scratch_).first(most));
    for (size_t i = 0; i < count; ++i) Translate(scratch_[i]);
    if (count < most) break;
  }
  for (auto& entry : areas_)
    entry.second->Take([&](const CellHeader& header) { return Locate(*entry.second, header); });
  for (auto& [ordinal, streams] : devices_) streams.in->Flush();
  for (auto& [index, area] : areas_) area->Land(report_, now);
  if (!graves_.empty() || !ring_graves_.empty()) BuryDrained();
  size_t count = 0;
  while (count < out.size() && ready_read_ < ready_.size()) out[count++] = std::move(ready_[ready_read_++]);
  if (ready_read_ == ready_.size()) {
    ready_.clear();
    ready_read_ = 0;
  }
  return count;
}

// What the fabric below reports: ours, or for the user as it is.
void StagedFabric::Translate(Completion& completion) {
  if (completion.kind == Completion::Kind::kPeerGone) {
    for (auto& [handle, peer] : peers_) {
      if (peer.inner != completion.peer) continue;
      Completion gone = completion;
      gone.peer = handle;
      ready_.push_back(std::move(gone));
    }
    return;
  }
  if (completion.kind == Completion::Kind::kArrived) {
    const auto kind = UnpackImm(completion.imm).kind;
    if (kind == ImmKind::kCell) {
      if (const auto area = areas_.find(AreaOf(completion.imm)); area != areas_.end())
        area->second->OnCell(RingOffsetOf(completion.imm));
    } else if (kind == ImmKind::kCellAck) {
      if (const auto ring = writers_.find(WriterOf(completion.imm)); ring != writers_.end())
        ring->second->OnAck(report_);
    } else {
      ready_.push_back(std::move(completion));
    }
    return;
  }
  for (auto& [number, ring] : writers_)
    if (ring->OnInner(completion, report_)) return;
  for (auto& ring : ring_graves_)
    if (ring->OnInner(completion, report_)) return;
  for (auto& [index, area] : areas_)
    if (area->OnInner(completion)) return;
  for (auto& area : graves_)
    if (area->OnInner(completion)) return;
  ready_.push_back(std::move(completion));
}

CellTarget StagedFabric::Locate(const IncomingArea& area, const CellHeader& header) {
  const auto found = keys_.find(header.key);
  if (found == keys_.end() || !area.Owns(header.key)) return {.error = EKEYREVOKED};
  const MemorySpan& memory = regions_[found->second].memory;
  if (header.bytes > memory.size_bytes || header.offset > memory.size_bytes - header.bytes) return {.error = ERANGE};
  return {.place = memory.data + header.offset, .stream = devices_[memory.device_index].in.get()};
}

bool StagedFabric::PrepareSleep() {
  if (ready_read_ < ready_.size()) return false;
  for (const auto& [number, ring] : writers_)
    if (ring->HasWork()) return false;
  for (const auto& [index, area] : areas_)
    if (area->HasWork()) return false;
  return inner_->PrepareSleep();
}

}  // namespace

Result<std::unique_ptr<Fabric>> WrapForDeviceMemory(std::unique_ptr<Fabric> inner, std::optional<int> device) {
  auto fabric = std::make_unique<StagedFabric>(std::move(inner));
  if (Status s = fabric->Open(device); !s.ok()) return s;
  return std::unique_ptr<Fabric>(std::move(fabric));
}

}  // namespace baton::transfer::cuda
