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
#include "transfer/index_pool.h"

namespace baton::transfer::cuda {
namespace {

constexpr size_t kScratch = 256;
constexpr uint32_t kBoundedAreas = 64;  // of a bounded completion queue
// ... and what one may bring beside its cells: questions, and the end of an acknowledgement.
constexpr uint32_t kExtraOfArea = kMostAsked + 1;

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
  Ways TakeDoubts(uint64_t peer) override { return inner_->TakeDoubts(peers_.at(peer).inner); }
  void CloseWays(uint64_t peer, const Ways& ways, TimePoint now) override {
    inner_->CloseWays(peers_.at(peer).inner, ways, now);
  }
  Result<MemoryKey> Renew(const MemoryKey& key) override;
  void Follow(uint64_t peer, const MemoryKey& key) override;
  std::string NameOf(std::string_view address) const override {
    const Result<StagedAddress> parsed = ParseAddress(address);
    return parsed.ok() ? inner_->NameOf(parsed->inner) : "";
  }
  Result<uint64_t> Insert(std::string_view address) override;
  void Remove(uint64_t peer) override;
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  int wait_fd() const override { return inner_->wait_fd(); }
  bool PrepareSleep() override;
  std::shared_ptr<const RailsStats> rail_stats() const override { return inner_->rail_stats(); }

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
    uint32_t place = 0;  // of our board
    std::unique_ptr<OutgoingRing> ring;
  };
  // What an invitation opened, by the first of its keys: they go together.
  struct Board {
    MemoryKey first, board;
  };

  Status AddDevice(int ordinal);
  void ReserveQueue();
  Status PrepareRing(Peer& peer);
  Result<std::unique_ptr<Staging>> TakeStaging();
  Status OpenArea(StagedAddress& address);
  IncomingArea* AreaOfKey(uint64_t key);
  const Peer* WriterOf(const IncomingArea& area) const;
  CellTarget Locate(const IncomingArea& area, const CellHeader& header);
  void Translate(Completion& completion, TimePoint now);
  void CloseArea(uint32_t index);
  void BuryDrained();

  std::shared_ptr<Fabric> inner_;
  FabricTraits traits_;
  Driver* driver_ = nullptr;  // null: no device memory here
  std::vector<Region> regions_;
  std::map<int, DeviceStreams> devices_;  // by ordinal
  std::unordered_map<uint64_t, uint32_t> keys_;  // of device memory: key -> region
  std::vector<uint64_t> fresh_keys_;             // exposed since the last invitation
  std::optional<MemoryKey> first_key_;           // likewise, of any memory
  uint64_t next_key_ = 0;
  uint64_t name_ = 0;                            // random: in the cells that we write
  std::vector<CellAck> board_ = std::vector<CellAck>(kMaxRings);
  uint32_t board_region_ = 0;
  std::vector<Board> boards_;
  std::unordered_map<uint64_t, Peer> peers_;
  std::unordered_map<uint64_t, uint64_t> names_;  // of peers: to the handle of the latest one
  uint64_t next_peer_ = 1;
  IndexPool places_{kMaxRings};
  std::map<uint32_t, OutgoingRing*> writers_;    // by place: rings in use
  std::map<uint32_t, std::unique_ptr<IncomingArea>> areas_;
  uint32_t next_area_ = 0, most_areas_ = kMaxAreas;
  bool in_use_ = false;                          // there was a ring or an area
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
  traits_.max_in_flight_peer = std::min(traits_.max_in_flight_peer, kMaxCells);
  ReserveQueue();
  const Result<uint32_t> board = inner_->Register({reinterpret_cast<std::byte*>(board_.data()), board_.size() * sizeof(CellAck)});
  if (!board.ok()) return board.status();
  board_region_ = *board;
  std::random_device random;
  next_key_ = uint64_t{random()} << 24;
  name_ = uint64_t{random()} << 32 | random();
  if (!device || traits_.registers_cuda) return Status::Ok();
  const Result<Driver*> driver = Driver::Get();
  if (!driver.ok()) return driver.status();
  driver_ = *driver;
  traits_.device_path = "staged";
  return AddDevice(*device);
}

// Beside the arrivals that are granted a bounded queue takes an acknowledgement of each write in flight, and
// what areas bring.
void StagedFabric::ReserveQueue() {
  if (traits_.cq_entries == 0) return;
  most_areas_ = kBoundedAreas;
  const uint32_t extra = std::min(kBoundedAreas * kExtraOfArea, traits_.cq_entries / 4);
  most_areas_ = extra / kExtraOfArea;
  traits_.max_in_flight = std::min(traits_.max_in_flight, traits_.cq_entries / 8);
  traits_.max_in_flight_peer = std::min(traits_.max_in_flight_peer, traits_.max_in_flight);
  traits_.cq_entries -= extra + traits_.max_in_flight;
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

Status StagedFabric::PrepareRing(Peer& peer) {
  if (peer.ring->prepared()) return driver_ ? peer.ring->staging()->Pin(*driver_) : Status::Ok();
  Result<std::unique_ptr<Staging>> staging = TakeStaging();
  if (!staging.ok()) return staging.status();
  if (Status s = peer.ring->Prepare(*std::move(staging), driver_); !s.ok()) return s;
  writers_[peer.place] = peer.ring.get();
  in_use_ = true;
  return Status::Ok();
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
    for (auto& [handle, peer] : peers_)
      if (Status s = PrepareRing(peer); !s.ok()) return s;
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
  Result<MemoryKey> key = MemoryKey{.base = kStagedBase, .key = next_key_ + 1};
  if (!regions_[index].staged) key = inner_->Expose(regions_[index].inner);
  if (!key.ok()) return key;
  if (!first_key_) first_key_ = *key;
  if (!regions_[index].staged) return key;
  keys_[++next_key_] = index;
  fresh_keys_.push_back(next_key_);
  return key;
}

Result<std::string> StagedFabric::Invite() {
  StagedAddress address{.writer = name_};
  if (!fresh_keys_.empty())
    if (Status s = OpenArea(address); !s.ok()) return s;
  if (first_key_) {
    const Result<MemoryKey> board = inner_->Expose(board_region_);
    if (!board.ok()) return board.status();
    address.board = *board;
    boards_.push_back({*std::exchange(first_key_, std::nullopt), *board});
  }
  Result<std::string> inner = inner_->Invite();
  if (!inner.ok()) return inner;
  address.inner = *std::move(inner);
  return EncodeAddress(address);
}

Status StagedFabric::OpenArea(StagedAddress& address) {
  if (areas_.size() >= most_areas_)
    return Error(Code::kResourceExhausted, "{} peers may write to device memory, which is the most", areas_.size());
  Result<std::unique_ptr<Staging>> staging = TakeStaging();
  if (!staging.ok()) return staging.status();
  if (Status s = (*staging)->Pin(*driver_); !s.ok()) return s;
  while (areas_.contains(next_area_ % kMaxAreas)) ++next_area_;
  const uint32_t index = next_area_++ % kMaxAreas;
  auto area = std::make_unique<IncomingArea>(*inner_, index, *std::move(staging), std::exchange(fresh_keys_, {}));
  if (Status s = area->Open(address); !s.ok()) return s;
  areas_[index] = std::move(area);
  in_use_ = true;
  return Status::Ok();
}

IncomingArea* StagedFabric::AreaOfKey(uint64_t key) {
  for (auto& [index, area] : areas_)
    if (area->Owns(key)) return area.get();
  return nullptr;
}

void StagedFabric::Revoke(const MemoryKey& key) {
  if (first_key_ == key) first_key_.reset();
  const auto board = std::find_if(boards_.begin(), boards_.end(), [&](const Board& one) { return one.first == key; });
  if (board != boards_.end()) {
    inner_->Revoke(board->board);
    boards_.erase(board);
  }
  if (key.base != kStagedBase) return inner_->Revoke(key);
  keys_.erase(key.key);
  std::erase(fresh_keys_, key.key);
  IncomingArea* const area = AreaOfKey(key.key);
  if (!area) return;
  area->WaitForCopies();
  std::erase(area->keys(), key.key);
  if (area->keys().empty()) CloseArea(area->index());
}

Result<MemoryKey> StagedFabric::Renew(const MemoryKey& key) {
  if (key.base != kStagedBase) return inner_->Renew(key);
  if (IncomingArea* const area = AreaOfKey(key.key))
    if (Status s = area->Renew(); !s.ok()) return s;
  return key;
}

void StagedFabric::Follow(uint64_t handle, const MemoryKey& key) {
  const Peer& peer = peers_.at(handle);
  const bool area = key.base == kStagedBase;
  inner_->Follow(peer.inner, area ? peer.ring->address().key : key);
  peer.ring->Resume(area);
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
  const std::optional<uint32_t> place = places_.Take();
  if (!place) return Error(Code::kResourceExhausted, "{} peers are connected, which is the most", kMaxRings);
  const Result<uint64_t> inner = inner_->Insert(address->inner);
  if (!inner.ok()) {
    places_.Put(*place);
    return inner;
  }
  const uint64_t handle = next_peer_++;
  names_[address->writer] = handle;
  const bool staged = address->has_area || driver_;
  Peer& peer = peers_[handle];
  peer = {.inner = *inner, .place = *place, .ring = nullptr};
  peer.ring = std::make_unique<OutgoingRing>(*inner_, *std::move(address), *inner, name_, *place);
  if (!staged) return handle;
  if (Status s = PrepareRing(peer); !s.ok()) {
    Remove(handle);
    return s;
  }
  return handle;
}

void StagedFabric::Remove(uint64_t handle) {
  const auto found = peers_.find(handle);
  if (found == peers_.end()) return;
  Peer peer = std::move(found->second);
  peers_.erase(found);
  const uint64_t name = peer.ring->address().writer;
  if (names_[name] == handle) names_.erase(name);
  // An earlier description of the same process may still be in use.
  for (const auto& [other, its] : peers_)
    if (its.ring->address().writer == name) names_.try_emplace(name, other);
  inner_->Remove(peer.inner);
  peer.ring->Close(report_);
  writers_.erase(peer.place);
  places_.Put(peer.place);
  if (peer.ring->prepared()) ring_graves_.push_back(std::move(peer.ring));
  BuryDrained();
}

const StagedFabric::Peer* StagedFabric::WriterOf(const IncomingArea& area) const {
  const auto name = names_.find(area.writer());
  return name == names_.end() ? nullptr : &peers_.at(name->second);
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
  if (!in_use_) return inner_->Poll(now, out);
  for (auto& [ordinal, streams] : devices_) streams.out->Flush();
  for (auto& [place, ring] : writers_) ring->Post(now, report_);
  while (ready_.size() - ready_read_ < out.size()) {
    const size_t most = std::min(scratch_.size(), out.size());
    const size_t count = inner_->Poll(now, std::span(scratch_).first(most));
    for (size_t i = 0; i < count; ++i) Translate(scratch_[i], now);
    if (count < most) break;
  }
  for (auto& entry : areas_)
    entry.second->Take([&](const CellHeader& header) { return Locate(*entry.second, header); });
  for (auto& [ordinal, streams] : devices_) streams.in->Flush();
  for (auto& [index, area] : areas_) {
    area->Land(report_);
    if (!area->HasToTell()) continue;
    if (const Peer* const writer = WriterOf(*area)) area->Tell(writer->inner, writer->ring->address().board, now);
  }
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
void StagedFabric::Translate(Completion& completion, TimePoint now) {
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
      if (const auto ring = writers_.find(PlaceOf(completion.imm)); ring != writers_.end())
        ring->second->OnAck(board_[ring->first], now, report_);
    } else {
      ready_.push_back(std::move(completion));
    }
    return;
  }
  for (auto& [number, ring] : writers_)
    if (ring->OnInner(completion, now, report_)) return;
  for (auto& ring : ring_graves_)
    if (ring->OnInner(completion, now, report_)) return;
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
    if (area->HasCopies() || (area->HasToTell() && WriterOf(*area))) return false;
  return inner_->PrepareSleep();
}

}  // namespace

Result<std::unique_ptr<Fabric>> WrapForDeviceMemory(std::unique_ptr<Fabric> inner, std::optional<int> device) {
  auto fabric = std::make_unique<StagedFabric>(std::move(inner));
  if (Status s = fabric->Open(device); !s.ok()) return s;
  return std::unique_ptr<Fabric>(std::move(fabric));
}

}  // namespace baton::transfer::cuda
