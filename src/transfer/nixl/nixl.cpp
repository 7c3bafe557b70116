#include "transfer/nixl/nixl.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <random>
#include <unordered_map>

#include "common/bytes.h"
#include "common/log.h"
#include "transfer/nixl/agent.h"
#include "transfer/nixl/notice.h"
#include "transfer/nixl/ucx.h"

namespace baton::transfer {
namespace {

using nixl::Agent;
using nixl::Place;

constexpr uint32_t kMagic = 0x494E5442;  // "BTNI"
constexpr size_t kMaxMetadata = 256 << 10;
// A request this long is posted at once, so that several are under way.
constexpr uint32_t kBatchWrites = 128;
constexpr uint64_t kBatchBytes = 4 << 20;
static_assert(kBatchWrites <= nixl::kMaxBatchWrites);

// A key says where the memory is, and names the description that it belongs to.
uint64_t PackKey(uint64_t door, Place place) {
  return door << 16 | uint64_t{place.type == nixl::MemoryType::kVram} << 15 | (place.device & 0x7FFF);
}
uint64_t DoorOf(uint64_t key) { return key >> 16; }
Place PlaceOfKey(uint64_t key) {
  return {key >> 15 & 1 ? nixl::MemoryType::kVram : nixl::MemoryType::kDram,
          static_cast<uint16_t>(key & 0x7FFF)};
}

struct Batch {
  uint64_t peer = 0;
  Place local, remote;
  uint64_t bytes = 0;
  std::vector<nixl::Descriptor> pieces;
  std::vector<nixl::NoticeEntry> notice;
  std::vector<OpContext*> contexts;
  nixl::RequestHandle* request = nullptr;
};

// Where one peer may write: an agent of its own.
struct Door {
  std::unique_ptr<Agent> agent;
  uint32_t keys = 0;  // exposed and not revoked
};

class NixlFabric final : public Fabric {
 public:
  explicit NixlFabric(std::shared_ptr<const nixl::Library> library, std::string backend)
      : library_(std::move(library)), backend_(std::move(backend)) {}
  ~NixlFabric() override;
  Status Open();

  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return writer_->name(); }
  Result<uint32_t> Register(MemorySpan memory) override;
  void Unregister(uint32_t region) override;
  Result<MemoryKey> Expose(uint32_t region) override;
  Result<std::string> Invite() override;
  void Revoke(const MemoryKey& key) override;
  Result<uint64_t> Insert(std::string_view invitation) override;
  void Remove(uint64_t peer) override;
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  bool PrepareSleep() override;

 private:
  struct Peer {
    std::string name;        // of its receiving agent
    std::string connection;  // metadata of its writing agent; empty for UCX
    std::string writer;      // that agent's name
    std::unique_ptr<Batch> open;
    bool dead = false;
  };

  Result<std::unique_ptr<Agent>> OpenAgent(std::string_view role);
  bool ShakesHands() const { return backend_ != "UCX"; }
  bool Knows(const std::string& writer) const;
  void Admit(Agent& door, const Peer& peer);
  void Post(Peer& peer);
  void PostOpen();
  void CheckPosted();
  void Fail(Batch& batch, const Status& why);
  void OnNotice(std::string_view bytes);
  std::unique_ptr<Batch> TakeBatch();

  const std::shared_ptr<const nixl::Library> library_;
  const std::string backend_;
  FabricTraits traits_;
  std::unique_ptr<Agent> writer_;
  std::vector<MemorySpan> regions_;  // size 0: taken back
  std::unordered_map<uint64_t, Door> doors_;
  uint64_t next_door_ = 1;
  bool door_open_ = false;  // doors_[next_door_] takes keys until Invite
  std::unordered_map<uint64_t, Peer> peers_;
  uint64_t next_peer_ = 1;
  std::vector<std::unique_ptr<Batch>> posted_;  // oldest first
  std::vector<std::unique_ptr<Batch>> stuck_;   // NIXL would not give them up
  std::vector<std::unique_ptr<Batch>> spare_;
  std::deque<Completion> ready_;
  std::vector<nixl::NoticeEntry> entries_;
  std::string notice_;
};

Status NixlFabric::Open() {
  Result<std::unique_ptr<Agent>> writer = OpenAgent("writer");
  if (!writer) return writer.status();
  writer_ = *std::move(writer);
  nixl::KeepLoaded();
  traits_.family = traits_.provider = "nixl/" + backend_;
  const char* const transports = backend_ == "UCX" ? std::getenv("UCX_TLS") : nullptr;
  traits_.fabric = transports ? fmt::format("UCX_TLS={}", transports) : "chosen by NIXL";
  traits_.rails = {"chosen by NIXL"};
  traits_.write_path = "nixl";
  traits_.nixl_version = library_->version + " " + library_->file;
  traits_.max_write_bytes = 1 << 30;
  traits_.max_in_flight = 4096;
  traits_.max_in_flight_peer = 1024;
  traits_.max_invitations = 256;
  return Status::Ok();
}

NixlFabric::~NixlFabric() {
  for (auto& batch : posted_) writer_->Release(batch->request);
  for (auto& [id, peer] : peers_) writer_->Invalidate(peer.name);
}

Result<std::unique_ptr<Agent>> NixlFabric::OpenAgent(std::string_view role) {
  // Random: a name that a peer ever heard must not come again (a restarted process, too).
  std::random_device random;
  const uint64_t number = uint64_t{random()} << 32 | random();
  return Agent::Open(library_, fmt::format("baton-{}-{:016x}", role, number), backend_);
}

Result<uint32_t> NixlFabric::Register(MemorySpan memory) {
  const uint32_t region = static_cast<uint32_t>(regions_.size());
  if (Status s = writer_->Register(region, memory); !s.ok()) return s;
  regions_.push_back(memory);
  return region;
}

void NixlFabric::Unregister(uint32_t region) {
  for (auto& [id, door] : doors_) door.agent->Deregister(region);
  writer_->Deregister(region);
  regions_[region] = {};
}

Result<MemoryKey> NixlFabric::Expose(uint32_t region) {
  if (!door_open_) {
    Result<std::unique_ptr<Agent>> agent = OpenAgent("reader");
    if (!agent) return agent.status();
    doors_[next_door_].agent = *std::move(agent);
    door_open_ = true;
  }
  Door& door = doors_[next_door_];
  const MemorySpan& memory = regions_[region];
  if (Status s = door.agent->Register(region, memory); !s.ok()) return s;
  ++door.keys;
  return MemoryKey{reinterpret_cast<uint64_t>(memory.data),
                   PackKey(next_door_, nixl::PlaceOf(memory))};
}

// u32 magic, then strings: metadata of the receiving agent, and where hands are shaken metadata and
// name of the writing one.
Result<std::string> NixlFabric::Invite() {
  if (!door_open_) return Error(Code::kInternal, "NIXL: an invitation without keys");
  Agent& agent = *doors_[next_door_].agent;
  ByteWriter invitation;
  invitation.Put(kMagic);
  Result<std::string> metadata = agent.Metadata();
  if (!metadata) return metadata.status();
  invitation.PutString(*metadata);
  std::string connection;
  if (ShakesHands()) {
    Result<std::string> own = writer_->ConnectionMetadata();
    if (!own) return own.status();
    connection = *std::move(own);
    std::vector<std::string> admitted;
    for (const auto& [id, peer] : peers_) {
      if (std::find(admitted.begin(), admitted.end(), peer.writer) != admitted.end()) continue;
      Admit(agent, peer);
      admitted.push_back(peer.writer);
    }
  }
  invitation.PutString(connection);
  invitation.PutString(writer_->name());
  door_open_ = false;
  ++next_door_;
  return std::move(invitation).bytes();
}

void NixlFabric::Revoke(const MemoryKey& key) {
  const auto found = doors_.find(DoorOf(key.key));
  if (found == doors_.end() || found->second.keys == 0 || --found->second.keys != 0) return;
  if (found->first == next_door_) {
    door_open_ = false;  // never sent
    ++next_door_;
  }
  doors_.erase(found);
}

Result<uint64_t> NixlFabric::Insert(std::string_view invitation) {
  ByteReader reader(invitation);
  const uint32_t magic = reader.Get<uint32_t>();
  const std::string metadata = reader.GetString(kMaxMetadata);
  Peer peer;
  peer.connection = reader.GetString(kMaxMetadata);
  peer.writer = reader.GetString(256);
  if (magic != kMagic || !reader.Finish().ok() || metadata.empty())
    return Error(Code::kDataCorrupt, "an address of {} bytes is none of provider {}",
                 invitation.size(), traits_.provider);
  Result<std::string> name = writer_->Load(metadata);
  if (!name) return name.status();
  peer.name = *std::move(name);
  if (!Knows(peer.writer))
    for (auto& [id, door] : doors_) Admit(*door.agent, peer);
  const uint64_t handle = next_peer_++;
  peers_.emplace(handle, std::move(peer));
  return handle;
}

// Whether a peer is joined that writes by this agent: one that joins anew does so before the old
// pairing is gone.
bool NixlFabric::Knows(const std::string& writer) const {
  return std::any_of(peers_.begin(), peers_.end(),
                     [&](const auto& peer) { return peer.second.writer == writer; });
}

// Lets a peer's writer complete its handshake with this agent; we do not know yet which of our
// descriptions it was given. It gains no access: the metadata of the memory is what opens that.
void NixlFabric::Admit(Agent& door, const Peer& peer) {
  if (!ShakesHands() || peer.connection.empty()) return;
  if (Result<std::string> name = door.Load(peer.connection); !name)
    log::warn("transfer over NIXL: cannot admit writer {}: {}", peer.writer, name.status().message());
}

void NixlFabric::Remove(uint64_t handle) {
  const auto found = peers_.find(handle);
  if (found == peers_.end()) return;
  Peer& peer = found->second;
  const Status why = Error(Code::kUnavailable, "transfer over NIXL: the peer was removed");
  if (peer.open) Fail(*peer.open, why);
  std::erase_if(posted_, [&](std::unique_ptr<Batch>& batch) {
    if (batch->peer != handle) return false;
    if (writer_->Release(batch->request)) {
      Fail(*batch, why);
      spare_.push_back(std::move(batch));
    } else {
      stuck_.push_back(std::move(batch));  // may still read the source: its contexts stay NIXL's
    }
    return true;
  });
  writer_->Invalidate(peer.name);
  const std::string writer = peer.writer;
  peers_.erase(found);
  if (ShakesHands() && !Knows(writer))
    for (auto& [id, door] : doors_) door.agent->Invalidate(writer);
}

std::unique_ptr<Batch> NixlFabric::TakeBatch() {
  if (spare_.empty()) return std::make_unique<Batch>();
  std::unique_ptr<Batch> batch = std::move(spare_.back());
  spare_.pop_back();
  batch->bytes = 0;
  batch->pieces.clear();
  batch->notice.clear();
  batch->contexts.clear();
  batch->request = nullptr;
  return batch;
}

PostResult NixlFabric::Write(const WriteRequest& request, TimePoint, Status& why) {
  const auto found = peers_.find(request.peer);
  if (found == peers_.end()) {
    why = Error(Code::kInternal, "transfer over NIXL: write to a removed peer");
    return PostResult::kFailed;
  }
  Peer& peer = found->second;
  if (peer.dead) return PostResult::kAgain;
  const MemorySpan& memory = regions_[request.local_region];
  const Place local = nixl::PlaceOf(memory), remote = PlaceOfKey(request.remote_key);
  if (peer.open && !(peer.open->local == local && peer.open->remote == remote)) Post(peer);
  if (!peer.open) {
    peer.open = TakeBatch();
    peer.open->peer = request.peer;
    peer.open->local = local;
    peer.open->remote = remote;
  }
  Batch& batch = *peer.open;
  batch.pieces.push_back({reinterpret_cast<uint64_t>(memory.data) + request.local_offset,
                          request.remote_address, request.bytes});
  nixl::AddWrite(batch.notice, request.imm, request.bytes);
  batch.contexts.push_back(request.context);
  batch.bytes += request.bytes;
  if (batch.contexts.size() >= kBatchWrites || batch.bytes >= kBatchBytes) Post(peer);
  return PostResult::kPosted;
}

void NixlFabric::Post(Peer& peer) {
  std::unique_ptr<Batch> batch = std::move(peer.open);
  nixl::EncodeNotice(batch->notice, notice_);
  Status why;
  batch->request = writer_->Post(peer.name, batch->local, batch->remote, batch->pieces, notice_, why);
  if (batch->request) {
    posted_.push_back(std::move(batch));
    return;
  }
  peer.dead = true;  // what NIXL refuses once it refuses until the peer joins anew
  Fail(*batch, why.Prefixed("transfer over NIXL"));
  spare_.push_back(std::move(batch));
}

void NixlFabric::PostOpen() {
  for (auto& [handle, peer] : peers_)
    if (peer.open) Post(peer);
}

void NixlFabric::Fail(Batch& batch, const Status& why) {
  for (OpContext* context : batch.contexts) {
    Completion& failed = ready_.emplace_back();
    failed.kind = Completion::Kind::kFailed;
    failed.peer_lost = true;
    failed.context = context;
    failed.status = why;
  }
}

void NixlFabric::CheckPosted() {
  size_t kept = 0;
  for (size_t i = 0; i < posted_.size(); ++i) {
    std::unique_ptr<Batch>& batch = posted_[i];
    const nixl::CallStatus status = writer_->Check(batch->request);
    if (status == nixl::kInProgress) {
      std::swap(posted_[kept++], batch);
      continue;
    }
    const bool released = writer_->Release(batch->request);
    if (status == nixl::kSuccess) {
      for (OpContext* context : batch->contexts) ready_.emplace_back().context = context;
    } else {
      Fail(*batch, Error(Code::kUnavailable,
                         "transfer over NIXL: a write failed with status {}: the peer or the way to "
                         "it is gone", status));
      if (const auto peer = peers_.find(batch->peer); peer != peers_.end()) peer->second.dead = true;
    }
    (released ? spare_ : stuck_).push_back(std::move(batch));
  }
  posted_.resize(kept);
}

void NixlFabric::OnNotice(std::string_view bytes) {
  if (Status s = nixl::ParseNotice(bytes, entries_); !s.ok()) {
    log::warn("transfer over NIXL: {}", s.message());
    return;
  }
  for (const nixl::NoticeEntry& entry : entries_) {
    for (uint32_t i = 0; i < entry.writes; ++i) {
      Completion& arrived = ready_.emplace_back();
      arrived.kind = Completion::Kind::kArrived;
      arrived.imm = entry.imm;
      arrived.bytes = i == 0 ? entry.bytes : 0;
    }
  }
}

size_t NixlFabric::Poll(TimePoint, std::span<Completion> out) {
  PostOpen();
  if (ready_.size() < out.size()) {
    CheckPosted();
    const auto on_notice = [this](std::string_view bytes) { OnNotice(bytes); };
    // Nobody sends notices to the writing agent; this drives what it has not finished.
    writer_->Progress([](std::string_view) {});
    for (auto& [id, door] : doors_) door.agent->Progress(on_notice);
  }
  size_t count = 0;
  for (; count < out.size() && !ready_.empty(); ++count) {
    out[count] = std::move(ready_.front());
    ready_.pop_front();
  }
  return count;
}

bool NixlFabric::PrepareSleep() {
  const bool open = std::any_of(peers_.begin(), peers_.end(),
                                [](const auto& peer) { return peer.second.open != nullptr; });
  PostOpen();
  return !open && ready_.empty();
}

}  // namespace

Result<std::unique_ptr<Fabric>> OpenNixl(const Options& options) {
  if (options.require_rdma)
    return Error(Code::kUnsupported,
                 "RDMA is required, but NIXL does not tell whether its backend has it: use Baton's own "
                 "provider efa, or drop --require-rdma and limit the backend yourself (UCX_TLS=rc)");
  std::string backend = options.nixl.backend;
  if (backend.empty()) {
    const char* const named = std::getenv("BATON_NIXL_BACKEND");
    backend = named && *named ? named : "UCX";
  }
  if (backend == "UCX")
    if (Status s = nixl::FenceTransports(); !s.ok()) return s;
  Result<std::shared_ptr<const nixl::Library>> library = nixl::LoadLibrary(options.nixl.path);
  if (!library) return library.status();
  auto fabric = std::make_unique<NixlFabric>(*std::move(library), std::move(backend));
  if (Status s = fabric->Open(); !s.ok()) return s;
  return std::unique_ptr<Fabric>(std::move(fabric));
}

}  // namespace baton::transfer
