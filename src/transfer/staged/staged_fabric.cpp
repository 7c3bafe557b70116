#include "transfer/staged/staged_fabric.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/log.h"
#include "transfer/index_pool.h"
#include "transfer/staged/incoming_area.h"
#include "transfer/staged/outgoing_ring.h"

namespace baton::transfer::staged {
namespace {

constexpr size_t kReady = 2048;
constexpr uint32_t kBoundedAreas = 64;  // of a bounded completion queue
// ... and what one may bring beside its frames: questions, and the end of an acknowledgement.
constexpr uint32_t kExtraOfArea = kMostAsked + 1;
// Gathered writes take no place of the fabric below, so that more of them may be in flight.
constexpr uint32_t kGatheredInFlight = 4 * OutgoingRing::kMaxWrites;

class StagedFabric final : public Fabric {
 public:
  explicit StagedFabric(std::unique_ptr<Fabric> inner) : inner_(std::move(inner)) { ready_.reserve(kReady); }
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
  void Flush(TimePoint now) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  int wait_fd() const override { return inner_->wait_fd(); }
  bool PrepareSleep() override;
  std::shared_ptr<const RailsStats> rail_stats() const override { return inner_->rail_stats(); }

 private:
  static constexpr uint32_t kNoArea = ~0u;
  struct Region {
    MemorySpan memory;
    bool on_device = false;  // not known to the fabric below
    uint32_t inner = 0;      // where it is
  };
  struct DeviceStreams {
    std::unique_ptr<cuda::CopyStream> out, in;  // from the device, to it
  };
  // A key that frames may name.
  struct Exposed {
    MemoryKey key;
    uint32_t region = 0, area = kNoArea;  // the area from its invitation on
  };
  using Keys = std::unordered_map<uint64_t, Exposed>;
  struct Area {
    std::unique_ptr<IncomingArea> area;
    uint32_t keys = 0;  // that its peer may still use
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
  struct Extent {
    uintptr_t end = 0;
    Poster* poster = nullptr;
  };

  Status AddDevice(int ordinal);
  void ReserveQueue();
  Status PrepareRing(Peer& peer);
  Result<std::unique_ptr<Staging>> TakeStaging();
  Keys& KeysOf(uint64_t address) { return IsStaged(address) ? device_keys_ : host_keys_; }
  Status OpenArea(StagedAddress& address);
  Result<MemoryKey> OpenBoard();
  void RevokeBoard(const MemoryKey& key);
  void CloseArea(uint32_t index);
  bool Gathers(const WriteRequest& request, const Peer& peer) const;
  const Peer* WriterOf(const IncomingArea& area) const;
  EntryTarget Locate(const IncomingArea& area, const FrameEntry& entry);
  bool Translate(Completion& completion, TimePoint now);
  bool TranslateArrival(const Completion& completion, TimePoint now);
  void TranslateGone(const Completion& completion);
  void MoveAreas(TimePoint now);
  template <typename End>
  void List(std::vector<End*>& busy, End& end);
  template <typename End>
  void Enter(End& end);
  void Leave(const Poster& end) { posters_.erase(reinterpret_cast<uintptr_t>(&end)); }
  void BuryDrained();

  std::shared_ptr<Fabric> inner_;
  FabricTraits traits_;
  cuda::Driver* driver_ = nullptr;  // null: no device memory here
  std::vector<Region> regions_;
  std::map<int, DeviceStreams> devices_;  // by ordinal
  Keys device_keys_, host_keys_;          // those of host memory while short writes are gathered
  std::vector<MemoryKey> fresh_keys_;     // of both, exposed since the last invitation
  std::optional<MemoryKey> first_key_;    // likewise, of any memory
  uint64_t next_key_ = 0;
  uint64_t name_ = 0;                     // random: in the frames that we write
  std::vector<FrameAck> board_ = std::vector<FrameAck>(kMaxRings);
  uint32_t board_region_ = 0;
  std::vector<Board> boards_;
  std::unordered_map<uint64_t, Peer> peers_;
  std::unordered_map<uint64_t, uint64_t> names_;  // of peers: to the handle of the latest one
  uint64_t next_peer_ = 1;
  IndexPool places_{kMaxRings};
  std::map<uint32_t, OutgoingRing*> rings_;  // by place: those prepared
  std::map<uint32_t, Area> areas_;
  uint32_t next_area_ = 0, most_areas_ = kMaxAreas;
  bool in_use_ = false;                      // there was a ring or an area
  std::vector<OutgoingRing*> busy_rings_;
  std::vector<IncomingArea*> busy_areas_;
  std::map<uintptr_t, Extent> posters_;      // by where they begin
  // Closed, with operations of the fabric below that have not ended.
  std::vector<std::unique_ptr<OutgoingRing>> ring_graves_;
  std::vector<std::unique_ptr<IncomingArea>> graves_;
  std::vector<std::unique_ptr<Staging>> spare_;
  std::vector<Completion> ready_;
  size_t ready_read_ = 0;
  const Report report_ = [this](Completion completion) { ready_.push_back(std::move(completion)); };
};

Status StagedFabric::Open(std::optional<int> device) {
  traits_ = inner_->traits();
  traits_.max_write_bytes = std::min(traits_.max_write_bytes - (kMostFrameBytes - kMaxStagedBytes), kMaxStagedBytes);
  if (traits_.gather_below == 0) {
    traits_.max_in_flight_peer = std::min(traits_.max_in_flight_peer, kMaxFrames);
  } else if (traits_.cq_entries == 0) {
    traits_.max_in_flight_peer = OutgoingRing::kMaxWrites;
    traits_.max_in_flight += kGatheredInFlight;
  }
  ReserveQueue();
  const Result<uint32_t> board = inner_->Register({reinterpret_cast<std::byte*>(board_.data()), board_.size() * sizeof(FrameAck)});
  if (!board.ok()) return board.status();
  board_region_ = *board;
  std::random_device random;
  next_key_ = uint64_t{random()} << 24;
  name_ = uint64_t{random()} << 32 | random();
  if (!device || traits_.registers_cuda) return Status::Ok();
  const Result<cuda::Driver*> driver = cuda::Driver::Get();
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
  for (auto& [index, area] : areas_) area.area->WaitForCopies();
  for (auto& [place, ring] : rings_) ring->WaitForCopies();
  inner_.reset();  // before its memory goes nothing may read or write it
}

Status StagedFabric::AddDevice(int ordinal) {
  if (devices_.contains(ordinal)) return Status::Ok();
  DeviceStreams streams;
  for (std::unique_ptr<cuda::CopyStream>* stream : {&streams.out, &streams.in}) {
    Result<std::unique_ptr<cuda::CopyStream>> made = cuda::CopyStream::Create(*driver_, ordinal);
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
  if (peer.ring->prepared()) return Status::Ok();
  Result<std::unique_ptr<Staging>> staging = TakeStaging();
  if (!staging.ok()) return staging.status();
  if (Status s = peer.ring->Prepare(*std::move(staging), driver_); !s.ok()) return s;
  rings_[peer.place] = peer.ring.get();
  Enter(*peer.ring);
  return Status::Ok();
}

// ---- memory and keys ---------------------------------------------------------------------------------

Result<uint32_t> StagedFabric::Register(MemorySpan memory) {
  Region region{.memory = memory};
  region.on_device = memory.device == DeviceKind::kCuda && !traits_.registers_cuda;
  if (!region.on_device) {
    const Result<uint32_t> inner = inner_->Register(memory);
    if (!inner.ok()) return inner;
    region.inner = *inner;
  } else {
    if (!driver_)
      return Error(Code::kInvalidArgument,
                   "memory of CUDA device {} was not announced: set Options::cuda_device", memory.device_index);
    if (Status s = driver_->Bind(memory.device_index); !s.ok()) return s;
    if (Status s = AddDevice(memory.device_index); !s.ok()) return s;
  }
  regions_.push_back(std::move(region));
  return static_cast<uint32_t>(regions_.size() - 1);
}

void StagedFabric::Unregister(uint32_t index) {
  Region& region = regions_[index];
  if (!region.on_device) inner_->Unregister(region.inner);
  for (Keys* keys : {&device_keys_, &host_keys_})
    std::erase_if(*keys, [&](const auto& key) { return key.second.region == index; });
  for (auto& [number, area] : areas_) area.area->WaitForCopies();
  for (auto& [place, ring] : rings_) ring->WaitForCopies();
  region = {};
}

Result<MemoryKey> StagedFabric::Expose(uint32_t index) {
  const bool on_device = regions_[index].on_device;
  Result<MemoryKey> key = MemoryKey{.base = kStagedBase, .key = next_key_ + 1};
  if (!on_device) key = inner_->Expose(regions_[index].inner);
  if (!key.ok()) return key;
  if (!first_key_) first_key_ = *key;
  if (!on_device && traits_.gather_below == 0) return key;
  next_key_ += on_device;
  KeysOf(key->base)[key->key] = {.key = *key, .region = index};
  fresh_keys_.push_back(*key);
  return key;
}

Result<std::string> StagedFabric::Invite() {
  StagedAddress address{.writer = name_};
  for (const MemoryKey& key : fresh_keys_)
    address.takes |= IsStaged(key.base) ? StagedAddress::kDevice : StagedAddress::kHost;
  if (address.takes & StagedAddress::kDevice || areas_.size() < most_areas_) {
    if (Status s = OpenArea(address); !s.ok()) return s;
  } else {
    address.takes = 0;  // host memory is written without
  }
  fresh_keys_.clear();
  if (first_key_) {
    const Result<MemoryKey> board = OpenBoard();
    if (!board.ok()) return board.status();
    address.board = *board;
  }
  Result<std::string> inner = inner_->Invite();
  if (!inner.ok()) return inner;
  address.inner = *std::move(inner);
  return EncodeAddress(address);
}

Result<MemoryKey> StagedFabric::OpenBoard() {
  const Result<MemoryKey> board = inner_->Expose(board_region_);
  if (board.ok()) boards_.push_back({*std::exchange(first_key_, std::nullopt), *board});
  return board;
}

Status StagedFabric::OpenArea(StagedAddress& address) {
  if (address.takes == 0) return Status::Ok();
  if (areas_.size() >= most_areas_)
    return Error(Code::kResourceExhausted, "{} peers may write to device memory, which is the most", areas_.size());
  Result<std::unique_ptr<Staging>> staging = TakeStaging();
  if (!staging.ok()) return staging.status();
  if (address.takes & StagedAddress::kDevice)
    if (Status s = (*staging)->Pin(*driver_); !s.ok()) return s;
  while (areas_.contains(next_area_ % kMaxAreas)) ++next_area_;
  const uint32_t index = next_area_++ % kMaxAreas;
  auto area = std::make_unique<IncomingArea>(*inner_, index, *std::move(staging));
  if (Status s = area->Open(address); !s.ok()) return s;
  for (const MemoryKey& key : fresh_keys_) KeysOf(key.base).at(key.key).area = index;
  Enter(*area);
  areas_[index] = {std::move(area), static_cast<uint32_t>(fresh_keys_.size())};
  return Status::Ok();
}

void StagedFabric::Revoke(const MemoryKey& key) {
  RevokeBoard(key);
  std::erase(fresh_keys_, key);
  if (!IsStaged(key.base)) inner_->Revoke(key);
  Keys& keys = KeysOf(key.base);
  const auto found = keys.find(key.key);
  if (found == keys.end()) return;
  const auto area = areas_.find(found->second.area);
  keys.erase(found);
  if (area == areas_.end()) return;
  area->second.area->WaitForCopies();
  if (--area->second.keys == 0) CloseArea(area->first);
}

void StagedFabric::RevokeBoard(const MemoryKey& key) {
  if (first_key_ == key) first_key_.reset();
  const auto board = std::find_if(boards_.begin(), boards_.end(), [&](const Board& one) { return one.first == key; });
  if (board == boards_.end()) return;
  inner_->Revoke(board->board);
  boards_.erase(board);
}

Result<MemoryKey> StagedFabric::Renew(const MemoryKey& key) {
  Result<MemoryKey> next = key;
  if (!IsStaged(key.base)) next = inner_->Renew(key);
  if (!next.ok()) return next;
  Keys& keys = KeysOf(key.base);
  const auto found = keys.find(key.key);
  if (found == keys.end()) return next;
  Exposed exposed = found->second;
  exposed.key = *next;
  keys.erase(found);
  keys[next->key] = exposed;
  // The board goes with the first key, whatever that is called now.
  for (Board& board : boards_)
    if (board.first == key) board.first = *next;
  if (const auto area = areas_.find(exposed.area); area != areas_.end())
    if (Status s = area->second.area->Renew(); !s.ok()) return s;
  return next;
}

void StagedFabric::Follow(uint64_t handle, const MemoryKey& key) {
  const Peer& peer = peers_.at(handle);
  const StagedAddress& address = peer.ring->address();
  const bool on_device = IsStaged(key.base);
  if (!on_device) inner_->Follow(peer.inner, key);
  const bool has_area = address.takes & (on_device ? StagedAddress::kDevice : StagedAddress::kHost);
  if (has_area) inner_->Follow(peer.inner, address.key);
  peer.ring->Resume(has_area);
}

void StagedFabric::CloseArea(uint32_t index) {
  std::unique_ptr<IncomingArea> area = std::move(areas_.extract(index).mapped().area);
  area->Close();
  std::erase(busy_areas_, area.get());
  graves_.push_back(std::move(area));
  BuryDrained();
}

// ---- peers -------------------------------------------------------------------------------------------

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
  const bool needs_ring = address->takes || driver_;
  Peer& peer = peers_[handle];
  peer = {.inner = *inner, .place = *place, .ring = nullptr};
  peer.ring = std::make_unique<OutgoingRing>(*inner_, *std::move(address), *inner, name_, *place,
                                             traits_.rails.size() > 1 ? kRailFrameBytes : kFrameBytes);
  if (!needs_ring) return handle;
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
  rings_.erase(peer.place);
  std::erase(busy_rings_, peer.ring.get());
  places_.Put(peer.place);
  if (peer.ring->prepared()) ring_graves_.push_back(std::move(peer.ring));
  BuryDrained();
}

const StagedFabric::Peer* StagedFabric::WriterOf(const IncomingArea& area) const {
  const auto name = names_.find(area.writer());
  return name == names_.end() ? nullptr : &peers_.at(name->second);
}

template <typename End>
void StagedFabric::Enter(End& end) {
  const auto begin = reinterpret_cast<uintptr_t>(static_cast<Poster*>(&end));
  posters_[begin] = {begin + sizeof(End), &end};
  in_use_ = true;
}

// Their memory serves the next ones.
void StagedFabric::BuryDrained() {
  const auto bury = [this](auto& graves) {
    std::erase_if(graves, [this](auto& grave) {
      if (!grave->Drained()) return false;
      spare_.push_back(grave->TakeStaging());
      Leave(*grave);
      return true;
    });
  };
  bury(ring_graves_);
  bury(graves_);
}

// ---- writes and completions --------------------------------------------------------------------------

bool StagedFabric::Gathers(const WriteRequest& request, const Peer& peer) const {
  return request.bytes < traits_.gather_below && peer.ring->address().takes & StagedAddress::kHost &&
         IsData(UnpackImm(request.imm).kind);
}

PostResult StagedFabric::Write(const WriteRequest& request, TimePoint now, Status& why) {
  const auto found = peers_.find(request.peer);
  if (found == peers_.end()) {
    why = Error(Code::kInternal, "write to a removed peer");
    return PostResult::kFailed;
  }
  const Peer& peer = found->second;
  const Region& region = regions_[request.local_region];
  const bool framed = IsStaged(request.remote_address) || Gathers(request, peer);
  if (!region.on_device && !framed) {
    WriteRequest passed = request;
    passed.peer = peer.inner;
    passed.local_region = region.inner;
    return inner_->Write(passed, now, why);
  }
  List(busy_rings_, *peer.ring);
  const OutgoingRing::Source source{
      .data = region.memory.data + request.local_offset,
      .stream = region.on_device ? devices_[region.memory.device_index].out.get() : nullptr};
  return peer.ring->Write(request, framed, source, now, report_, why);
}

template <typename End>
void StagedFabric::List(std::vector<End*>& busy, End& end) {
  if (!std::exchange(end.listed, true)) busy.push_back(&end);
}

size_t StagedFabric::Poll(TimePoint now, std::span<Completion> out) {
  if (!in_use_) return inner_->Poll(now, out);
  Flush(now);
  size_t count = 0;
  while (count < out.size()) {
    const std::span<Completion> room = out.subspan(count);
    const size_t got = inner_->Poll(now, room);
    for (size_t i = 0; i < got; ++i) {
      if (!Translate(room[i], now)) continue;
      if (&out[count] != &room[i]) out[count] = std::move(room[i]);
      ++count;
    }
    if (got < room.size()) break;
  }
  MoveAreas(now);
  if (!graves_.empty() || !ring_graves_.empty()) BuryDrained();
  while (count < out.size() && ready_read_ < ready_.size()) out[count++] = std::move(ready_[ready_read_++]);
  if (ready_read_ == ready_.size()) {
    ready_.clear();
    ready_read_ = 0;
  }
  return count;
}

void StagedFabric::Flush(TimePoint now) {
  for (auto& [ordinal, streams] : devices_) streams.out->Flush();
  std::erase_if(busy_rings_, [&](OutgoingRing* ring) {
    ring->Post(now, report_);
    ring->listed = ring->Busy();
    return !ring->listed;
  });
  inner_->Flush(now);
}

void StagedFabric::MoveAreas(TimePoint now) {
  for (IncomingArea* const area : busy_areas_)
    area->Take([this, area](const FrameEntry& entry) { return Locate(*area, entry); });
  for (auto& [ordinal, streams] : devices_) streams.in->Flush();
  std::erase_if(busy_areas_, [&](IncomingArea* area) {
    area->Land(report_);
    if (area->HasToTell())
      if (const Peer* const writer = WriterOf(*area)) area->Tell(writer->inner, writer->ring->address().board, now);
    area->listed = area->Busy();
    return !area->listed;
  });
}

// What the fabric below reports; false when it is ours, not the user's.
bool StagedFabric::Translate(Completion& completion, TimePoint now) {
  if (completion.kind == Completion::Kind::kPeerGone) {
    TranslateGone(completion);
    return false;
  }
  if (completion.kind == Completion::Kind::kArrived) return TranslateArrival(completion, now);
  const auto context = reinterpret_cast<uintptr_t>(completion.context);
  auto next = posters_.upper_bound(context);
  if (next == posters_.begin() || (--next)->second.end <= context) return true;
  next->second.poster->OnInner(completion, now, report_);
  return false;
}

bool StagedFabric::TranslateArrival(const Completion& completion, TimePoint now) {
  const ImmKind kind = UnpackImm(completion.imm).kind;
  if (kind == ImmKind::kFrame) {
    if (const auto found = areas_.find(AreaOf(completion.imm)); found != areas_.end()) {
      found->second.area->OnFrame(RingOffsetOf(completion.imm));
      List(busy_areas_, *found->second.area);
    }
  } else if (kind == ImmKind::kFrameAck) {
    if (const auto ring = rings_.find(staged::PlaceOf(completion.imm)); ring != rings_.end())
      ring->second->OnAck(board_[ring->first], now, report_);
  } else {
    return true;
  }
  return false;
}

void StagedFabric::TranslateGone(const Completion& completion) {
  for (auto& [handle, peer] : peers_) {
    if (peer.inner != completion.peer) continue;
    Completion gone = completion;
    gone.peer = handle;
    ready_.push_back(std::move(gone));
  }
}

EntryTarget StagedFabric::Locate(const IncomingArea& area, const FrameEntry& entry) {
  const Keys& keys = KeysOf(entry.address);
  const auto found = keys.find(entry.key);
  if (found == keys.end() || found->second.area != area.index()) return {.error = EKEYREVOKED};
  const MemorySpan& memory = regions_[found->second.region].memory;
  const uint64_t offset = entry.address - found->second.key.base;
  if (entry.bytes > memory.size_bytes || offset > memory.size_bytes - entry.bytes) return {.error = ERANGE};
  const bool on_device = IsStaged(entry.address);
  return {.place = memory.data + offset, .stream = on_device ? devices_[memory.device_index].in.get() : nullptr};
}

bool StagedFabric::PrepareSleep() {
  if (ready_read_ < ready_.size()) return false;
  for (const OutgoingRing* const ring : busy_rings_)
    if (ring->HasWork()) return false;
  for (const IncomingArea* const area : busy_areas_)
    if (area->HasCopies() || (area->HasToTell() && WriterOf(*area))) return false;
  return inner_->PrepareSleep();
}

}  // namespace

Result<std::unique_ptr<Fabric>> Wrap(std::unique_ptr<Fabric> inner, std::optional<int> device) {
  auto fabric = std::make_unique<StagedFabric>(std::move(inner));
  if (Status s = fabric->Open(device); !s.ok()) return s;
  return std::unique_ptr<Fabric>(std::move(fabric));
}

}  // namespace baton::transfer::staged
