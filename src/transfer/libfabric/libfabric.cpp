#include "transfer/libfabric/libfabric.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "common/log.h"
#include "transfer/cuda/driver.h"
#include "transfer/libfabric/batches.h"
#include "transfer/libfabric/choice.h"
#include "transfer/libfabric/device_mr.h"
#include "transfer/libfabric/endpoint.h"
#include "transfer/libfabric/handles.h"
#include "transfer/libfabric/read_fabric.h"
#include "transfer/topology/topology.h"

namespace baton::transfer {
namespace {

constexpr size_t kReadBatch = 64;
// A message that holds this much waits for no further writes: what each costs is hardly seen any more.
constexpr uint64_t kMessageBytes = 1 << 20;

// Writes of this length are as fast by themselves as gathered, shorter ones slower (docs/transfer-engine.md).
constexpr uint64_t kGatherBelow = 32 << 10;

// Hardware that reads but would emulate writes by messages (p4d) does better to read. tcp's own
// datagrams must: removing an address does not close its connection there (1.17 to 2.6), so a write
// that is half received when its key is revoked goes on landing.
bool ReadsInstead(WriteMode mode, const Endpoint& endpoint) {
  if (mode != WriteMode::kAuto) return mode == WriteMode::kRead;
  if (endpoint.choice.family == kNativeTcpFamily) return true;
  return endpoint.is_efa() && !endpoint.hardware.writes && endpoint.hardware.reads;
}

bool SplitsImmediates(const ProviderChoice& choice) {
  return choice.name.find("ofi_rxm") != std::string::npos;
}

class LibfabricFabric final : public Fabric {
 public:
  explicit LibfabricFabric(Endpoint endpoint) : endpoint_(std::move(endpoint)) {}
  ~LibfabricFabric() override { ep_.reset(); }  // before the memory that it may write into

  Status Open(std::optional<int> cuda_device);

  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return endpoint_.address; }
  Result<uint32_t> Register(MemorySpan memory) override;
  void Unregister(uint32_t region) override { regions_[region] = {}; }
  Result<MemoryKey> Expose(uint32_t region) override;
  void Revoke(const MemoryKey& key) override { exposed_.erase(key.key); }
  Result<MemoryKey> Renew(const MemoryKey& key) override;
  std::string NameOf(std::string_view address) const override { return endpoint_.NameOf(address); }
  Result<uint64_t> Insert(std::string_view address) override { return endpoint_.Insert(address); }
  void Remove(uint64_t peer) override;
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override;
  void Flush(TimePoint now) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  int wait_fd() const override { return endpoint_.wait_fd; }
  bool PrepareSleep() override;

 private:
  struct Region {
    MemorySpan memory;
    Fid<fid_mr> mr;         // for local use, where the provider asks for it, and for its key
    void* desc = nullptr;
  };
  struct Exposed {
    Fid<fid_mr> mr;
    uint32_t region = 0;
  };

  Status CheckOrder() const;
  void FillTraits();
  bool PostReceive(OpContext* context);
  // Posts bytes and immediate apart, relying on the order that the provider promises. For rxm: when
  // a connection is closed while a write with immediate is half received, rxm (1.17 at least) takes
  // the receiver's missing context for one of its own and crashes. A write without immediate has
  // no such entry, and an immediate without bytes is never half received. So one immediate may also
  // speak for several writes (batches.h).
  bool SplitsImmediate() const { return SplitsImmediates(choice_); }
  // efa-direct on cards that need a receive for every immediate.
  bool PostsReceives() const { return info().mode & FI_RX_CQ_DATA; }
  PostResult WriteSplit(const WriteRequest& request, const Region& region, Status& why);
  bool MessageIsFull() const { return joined_ == joins_ || joined_bytes_ >= kMessageBytes; }
  PostResult PostJoined(Status& why);
  PostResult PostImmediate(Status& why);
  void FailOpen(const Status& why);
  void Complete(Completion completion, void* context);
  bool AppKeys() const { return endpoint_.app_keys(); }
  Result<Fid<fid_mr>> MakeMr(const MemorySpan& memory, uint64_t access, uint64_t key = 0);
  uint64_t NewKey();
  bool ReadQueue();
  bool ReadErrors();
  const fi_info& info() const { return *choice_.info; }
  Status Failed(std::string_view call, long error) const {
    return FabricError(Code::kUnavailable, choice_.name, call, error);
  }

  Endpoint endpoint_;
  const ProviderChoice& choice_ = endpoint_.choice;
  Fid<fid_domain>& domain_ = endpoint_.domain;
  Fid<fid_cq>& cq_ = endpoint_.cq;
  Fid<fid_ep>& ep_ = endpoint_.ep;
  FabricTraits traits_;
  std::vector<Region> regions_;
  std::map<uint64_t, Exposed> exposed_;      // by key, app keys only
  std::vector<OpContext> receives_;          // posted, where immediates need them
  WriteBatches batches_;
  // Writes of the open batch that wait to be posted together.
  static constexpr size_t kMostJoined = 4;
  std::array<iovec, kMostJoined> sources_{};
  std::array<void*, kMostJoined> descs_{};
  std::array<fi_rma_iov, kMostJoined> targets_{};
  size_t joined_ = 0, joined_bytes_ = 0, joins_ = 1;
  fi_rma_iov zero_target_{};  // of the open batch's immediate
  void* zero_source_ = nullptr;
  // Completions that found no room, or have not been read yet; reserved for all that there can be.
  std::vector<Completion> ready_;
  size_t ready_read_ = 0;
  uint64_t next_key_ = 0;
};

Status LibfabricFabric::Open(std::optional<int> cuda_device) {
  if (Status s = CheckOrder(); !s.ok()) return s;
  // Keys start at random, so that a key of an earlier process on the same address fits nothing.
  std::random_device random;
  next_key_ = (uint64_t{random()} << 20) | 256;
  FillTraits();
  if (choice_.hmem && cuda_device) {
    traits_.registers_cuda = true;
    traits_.device_path = DeviceMrPath(*cuda_device);
  }
  // The count of a batch travels in the upper half of the data, where there is one.
  const bool counts = info().domain_attr->cq_data_size >= sizeof(uint64_t);
  if (SplitsImmediate()) batches_.Reserve(traits_.max_in_flight, counts ? kMaxBatch : 1);
  joins_ = std::clamp<size_t>(std::min(info().tx_attr->iov_limit, info().tx_attr->rma_iov_limit), 1,
                              kMostJoined);
  ready_.reserve(traits_.max_in_flight + kReadBatch * kMaxBatch);
  if (!PostsReceives()) return Status::Ok();
  receives_.resize(info().rx_attr->size);
  for (OpContext& context : receives_)
    if (!PostReceive(&context))
      return Error(Code::kUnavailable, "libfabric {}: cannot post {} receives", choice_.name,
                   receives_.size());
  return Status::Ok();
}

// An immediate takes it; no bytes ever come into it.
bool LibfabricFabric::PostReceive(OpContext* context) {
  const ssize_t result = fi_recv(ep_.get(), nullptr, 0, nullptr, FI_ADDR_UNSPEC, context);
  if (result) log::error("{}", Failed("fi_recv", result).message());
  return result == 0;
}

Status LibfabricFabric::CheckOrder() const {
  if (!SplitsImmediate() || (info().tx_attr->msg_order & (FI_ORDER_WAW | FI_ORDER_RMA_WAW)))
    return Status::Ok();
  return Error(Code::kUnsupported, "libfabric {}: no order between writes, which it needs here",
               choice_.name);
}

void LibfabricFabric::FillTraits() {
  traits_.family = choice_.family;
  traits_.provider = choice_.name;
  traits_.fabric = info().fabric_attr->name ? info().fabric_attr->name : "";
  traits_.rails = {choice_.rail};
  traits_.version = LibraryVersion();
  traits_.write_path = "software";
  traits_.renews_keys = AppKeys() && info().domain_attr->mr_key_size > 1;
  traits_.max_write_bytes = info().ep_attr->max_msg_size;
  const auto depth = static_cast<uint32_t>(std::max<size_t>(info().tx_attr->size, 8));
  // Two places per write where it is split; a few stay free for hellos.
  traits_.max_in_flight = (depth - depth / 8) / (SplitsImmediate() ? 2 : 1);
  traits_.max_in_flight_peer = std::min(128u, traits_.max_in_flight / 2);
  if (SplitsImmediate()) traits_.gather_below = kGatherBelow;
  if (!endpoint_.is_efa()) return;  // TCP holds writers back itself
  // SRD reports every write, also those to a dead peer, but only when its retries are over.
  traits_.drain_timeout = std::chrono::seconds(10);
  traits_.hardware_rdma = endpoint_.hardware.writes;
  if (traits_.hardware_rdma) traits_.least_in_flight = Pacer::kFloor;
  traits_.write_path = endpoint_.hardware.writes ? "native" : "emulated";
  if (const auto longest = efa::LongestRma(ep_.get()))
    traits_.max_write_bytes = std::min(traits_.max_write_bytes, *longest);
  traits_.cq_entries = static_cast<uint32_t>(endpoint_.cq_entries);
  // As many arrivals as there are receives, beside completions of our own.
  if (PostsReceives())
    traits_.cq_entries = traits_.max_in_flight + static_cast<uint32_t>(info().rx_attr->size);
}

// The first of a series of 256 (NextKey).
uint64_t LibfabricFabric::NewKey() {
  if (!AppKeys()) return 0;
  const size_t key_bytes = info().domain_attr->mr_key_size;
  const uint64_t key = std::exchange(next_key_, next_key_ + 256);
  return key_bytes < sizeof key ? key & ((uint64_t{1} << (8 * key_bytes)) - 1) : key;
}

Result<Fid<fid_mr>> LibfabricFabric::MakeMr(const MemorySpan& memory, uint64_t access, uint64_t key) {
  if (key == 0) key = NewKey();
  int error = 0;
  Fid<fid_mr> owner;
  if (memory.device == DeviceKind::kCuda) {
    Result<Fid<fid_mr>> device = RegisterDeviceMr(domain_.get(), memory, access, key, choice_.name);
    if (!device) return device;
    owner = *std::move(device);
  } else {
    fid_mr* made = nullptr;
    error = fi_mr_reg(domain_.get(), memory.data, memory.size_bytes, access, 0, key, 0, &made, nullptr);
    if (error) return Failed("fi_mr_reg", error);
    owner.reset(made);
  }
  fid_mr* const mr = owner.get();
  if (info().domain_attr->mr_mode & FI_MR_ENDPOINT) {
    if ((error = fi_mr_bind(mr, &ep_->fid, 0))) return Failed("fi_mr_bind", error);
    if ((error = fi_mr_enable(mr))) return Failed("fi_mr_enable", error);
  }
  return owner;
}

Result<uint32_t> LibfabricFabric::Register(MemorySpan memory) {
  if (memory.device != DeviceKind::kHost && !choice_.hmem)
    return Error(Code::kUnsupported, "provider {} cannot register memory of CUDA device {}", choice_.name,
                 memory.device_index);
  Region region{.memory = memory};
  if (!AppKeys() || (info().domain_attr->mr_mode & FI_MR_LOCAL)) {
    Result<Fid<fid_mr>> mr = MakeMr(memory, FI_WRITE | FI_REMOTE_WRITE);
    if (!mr) return mr.status();
    region.mr = *std::move(mr);
    region.desc = fi_mr_desc(region.mr.get());
  }
  regions_.push_back(std::move(region));
  return static_cast<uint32_t>(regions_.size() - 1);
}

Result<MemoryKey> LibfabricFabric::Expose(uint32_t index) {
  const Region& region = regions_[index];
  MemoryKey key;
  if (info().domain_attr->mr_mode & FI_MR_VIRT_ADDR)
    key.base = reinterpret_cast<uint64_t>(region.memory.data);
  if (!AppKeys()) {
    key.key = fi_mr_key(region.mr.get());
    return key;
  }
  Result<Fid<fid_mr>> mr = MakeMr(region.memory, FI_REMOTE_WRITE);
  if (!mr) return mr.status();
  key.key = fi_mr_key(mr->get());
  exposed_[key.key] = {*std::move(mr), index};
  return key;
}

Result<MemoryKey> LibfabricFabric::Renew(const MemoryKey& key) {
  const auto found = exposed_.find(key.key);
  if (!traits_.renews_keys || found == exposed_.end()) return key;
  const uint32_t region = found->second.region;
  exposed_.erase(found);
  const MemoryKey next = NextKey(key);
  Result<Fid<fid_mr>> mr = MakeMr(regions_[region].memory, FI_REMOTE_WRITE, next.key);
  if (!mr) return mr.status();
  exposed_[next.key] = {*std::move(mr), region};
  return next;
}

void LibfabricFabric::Remove(uint64_t peer) {
  if (WriteBatch* const batch = batches_.open(); batch && batch->peer == peer)
    FailOpen(Error(Code::kUnavailable, "libfabric {}: the peer was removed", choice_.name));
  endpoint_.Remove(peer);
}

PostResult LibfabricFabric::Write(const WriteRequest& request, TimePoint, Status& why) {
  const Region& region = regions_[request.local_region];
  if (SplitsImmediate()) return WriteSplit(request, region, why);
  const ssize_t result =
      fi_writedata(ep_.get(), region.memory.data + request.local_offset, request.bytes, region.desc,
                   request.imm, request.peer, request.remote_address, request.remote_key,
                   request.context);
  if (result == 0) return PostResult::kPosted;
  if (result == -FI_EAGAIN) return PostResult::kAgain;
  why = Failed("fi_writedata", result);
  return PostResult::kFailed;
}

PostResult LibfabricFabric::WriteSplit(const WriteRequest& request, const Region& region,
                                       Status& why) {
  if (!batches_.Takes(request.peer, request.imm)) {
    const PostResult result = PostImmediate(why);
    if (result == PostResult::kAgain) return result;
    if (result == PostResult::kFailed) FailOpen(std::exchange(why, Status()));
  }
  if (MessageIsFull()) {
    const PostResult result = PostJoined(why);
    if (result == PostResult::kAgain) return result;
    if (result == PostResult::kFailed) FailOpen(std::exchange(why, Status()));
  }
  if (!batches_.HasRoom()) return PostResult::kAgain;
  sources_[joined_] = {region.memory.data + request.local_offset, request.bytes};
  descs_[joined_] = region.desc;
  targets_[joined_++] = {request.remote_address, request.bytes, request.remote_key};
  joined_bytes_ += request.bytes;
  batches_.Add(request.peer, request.imm, request.context);
  if (!MessageIsFull()) return PostResult::kPosted;
  // It is in a batch already: what cannot be posted now goes with the next write or Poll.
  if (PostJoined(why) == PostResult::kFailed) FailOpen(std::exchange(why, Status()));
  return PostResult::kPosted;
}

// The writes of the open batch that were not posted yet, as one message: what it costs hardly depends
// on how many places it names.
PostResult LibfabricFabric::PostJoined(Status& why) {
  if (joined_ == 0) return PostResult::kPosted;
  fi_msg_rma message{};
  message.msg_iov = sources_.data();
  message.desc = descs_.data();
  message.iov_count = joined_;
  message.addr = batches_.open()->peer;
  message.rma_iov = targets_.data();
  message.rma_iov_count = joined_;
  const ssize_t result = fi_writemsg(ep_.get(), &message, 0);
  if (result == -FI_EAGAIN) return PostResult::kAgain;
  if (result != 0) {
    why = Failed("fi_writemsg", result);
    return PostResult::kFailed;
  }
  zero_target_ = targets_[joined_ - 1];
  zero_source_ = sources_[joined_ - 1].iov_base;
  joined_ = joined_bytes_ = 0;
  return PostResult::kPosted;
}

// The immediate of the open batch, behind its bytes. To the place of its last write: some providers
// look at place and key of an empty write too.
PostResult LibfabricFabric::PostImmediate(Status& why) {
  WriteBatch* const batch = batches_.open();
  if (!batch) return PostResult::kPosted;
  if (const PostResult result = PostJoined(why); result != PostResult::kPosted) return result;
  const iovec source{zero_source_, 0};
  const fi_rma_iov target{zero_target_.addr, 0, zero_target_.key};
  fi_msg_rma message{};
  message.msg_iov = &source;
  message.iov_count = 1;
  void* desc = nullptr;
  message.desc = &desc;
  message.addr = batch->peer;
  message.rma_iov = &target;
  message.rma_iov_count = 1;
  message.data = batch->data();
  message.context = batch;
  const uint64_t delivered = choice_.delivery_complete ? FI_DELIVERY_COMPLETE : 0;
  const ssize_t result =
      fi_writemsg(ep_.get(), &message, FI_REMOTE_CQ_DATA | FI_COMPLETION | delivered);
  if (result == -FI_EAGAIN) return PostResult::kAgain;
  if (result != 0) {
    why = Failed("fi_writemsg", result);
    return PostResult::kFailed;
  }
  batches_.Close();
  return PostResult::kPosted;
}

void LibfabricFabric::FailOpen(const Status& why) {
  WriteBatch* const batch = batches_.open();
  if (!batch) return;
  batches_.Close();
  joined_ = joined_bytes_ = 0;
  Completion failed;
  failed.kind = Completion::Kind::kFailed;
  failed.peer_lost = true;
  failed.status = why;
  Complete(std::move(failed), batch);
}

// `completion` of what was posted with `context`: one write, or each of a batch.
void LibfabricFabric::Complete(Completion completion, void* context) {
  if (!SplitsImmediate()) {
    completion.context = static_cast<OpContext*>(context);
    ready_.push_back(std::move(completion));
    return;
  }
  WriteBatch* const batch = WriteBatch::Of(context);
  if (completion.kind == Completion::Kind::kDone) endpoint_.NoteConnected(batch->peer);
  for (uint32_t i = 0; i < batch->count; ++i) {
    completion.context = batch->members[i];
    ready_.push_back(completion);
  }
  batches_.Return(batch);
}

void LibfabricFabric::Flush(TimePoint) {
  Status why;
  if (batches_.open() && PostImmediate(why) == PostResult::kFailed) FailOpen(why);
}

size_t LibfabricFabric::Poll(TimePoint now, std::span<Completion> out) {
  Flush(now);
  size_t count = 0;
  while (count < out.size()) {
    if (ready_read_ < ready_.size()) {
      out[count++] = std::move(ready_[ready_read_++]);
      continue;
    }
    ready_.clear();
    ready_read_ = 0;
    if (!ReadQueue()) break;
  }
  return count;
}

// Moves what the queue holds to ready_. False when that is nothing.
bool LibfabricFabric::ReadQueue() {
  fi_cq_data_entry entries[kReadBatch];
  const ssize_t n = fi_cq_read(cq_.get(), entries, kReadBatch);
  if (n == -FI_EAGAIN || n == 0) return false;
  if (n < 0) {
    if (n != -FI_EAVAIL) log::error("{}", Failed("fi_cq_read", n).message());
    return ReadErrors();
  }
  for (ssize_t i = 0; i < n; ++i) {
    const fi_cq_data_entry& entry = entries[i];
    // EFA left FI_RMA out of these flags before 2.4, so only these two are looked at.
    const bool arrival = entry.flags & (FI_REMOTE_WRITE | FI_REMOTE_CQ_DATA);
    if (arrival && entry.op_context && PostsReceives())
      PostReceive(static_cast<OpContext*>(entry.op_context));
    if (!arrival) {
      if (entry.op_context) Complete({}, entry.op_context);
      continue;
    }
    Completion arrived;
    arrived.kind = Completion::Kind::kArrived;
    arrived.imm = static_cast<uint32_t>(entry.data);
    arrived.bytes = entry.len;
    const uint32_t writes = SplitsImmediate() ? WriteBatch::CountOf(entry.data) : 1;
    for (uint32_t w = 0; w < writes; ++w) ready_.push_back(arrived);
  }
  return true;
}

bool LibfabricFabric::ReadErrors() {
  for (bool any = false;; any = true) {
    fi_cq_err_entry error{};
    const ssize_t n = fi_cq_readerr(cq_.get(), &error, 0);
    if (n <= 0) return any;
    // Errors of arrivals and of the provider's own traffic carry no operation of ours.
    if (!error.op_context || (error.flags & FI_REMOTE_WRITE)) {
      log::debug("libfabric {}: error without operation: {}", choice_.name, fi_strerror(error.err));
      continue;
    }
    Completion completion;
    completion.kind = Completion::Kind::kFailed;
    // Every error of a write means that the way to the peer, or its permission, is gone: these
    // providers retry by themselves what can be retried.
    completion.peer_lost = !endpoint_.is_efa() || efa::MeansPeerLost(error.prov_errno);
    completion.status = endpoint_.Describe(error, "write to peer");
    Complete(std::move(completion), error.op_context);
    // A failed write must not wait for the rest of the errors.
    if (ready_.size() + kMaxBatch > ready_.capacity()) return true;
  }
}

bool LibfabricFabric::PrepareSleep() {
  if (batches_.open() || ready_read_ < ready_.size()) return false;
  return endpoint_.TryWait() == 0;
}

// `several`: as one of several rails.
Result<std::unique_ptr<Fabric>> OpenOne(const Options& options, ProviderChoice choice, bool several) {
  if (choice.family == kNativeTcpFamily && (several || options.write_mode == WriteMode::kWrite))
    return Error(Code::kUnsupported,
                 "transfer fabric native cannot take back a peer's permission to write while bytes "
                 "come in: use it with write mode read (or auto) and one rail, or use fabric rxm");
  const bool efa = choice.family == kEfaFamily;
  if (efa && options.cuda_device && !choice.hmem)
    log::warn("libfabric {}: no FI_HMEM: memory of GPUs goes through host memory", choice.name);
  const bool selective = SplitsImmediates(choice) && options.write_mode != WriteMode::kRead;
  const uint64_t bind = selective ? FI_SELECTIVE_COMPLETION : 0;
  const std::string name = choice.rail;
  Result<Endpoint> endpoint = Endpoint::Open(std::move(choice), bind);
  if (!endpoint)
    return efa ? endpoint.status()
               : endpoint.status().Prefixed("listening on " + (several ? name : PickHost(options.host)));
  if (ReadsInstead(options.write_mode, *endpoint)) return OpenReadFabric(*std::move(endpoint));
  auto fabric = std::make_unique<LibfabricFabric>(*std::move(endpoint));
  if (Status s = fabric->Open(options.cuda_device); !s.ok()) return s;
  return std::unique_ptr<Fabric>(std::move(fabric));
}

// Of all cards those that are near the memory to be registered, where that is known.
void KeepNear(const Options& options, std::vector<ProviderChoice>& choices) {
  const Result<Topology> topology = ReadSysfsTopology();
  if (!topology.ok()) return;
  const std::vector<std::string> names = options.cuda_device
                                             ? AffineNics(*topology, cuda::PciIdOf(*options.cuda_device))
                                             : NumaNics(*topology, -1);
  const auto near = [&](const ProviderChoice& choice) {
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return IsNamed(choice, name); });
  };
  if (std::any_of(choices.begin(), choices.end(), near))
    std::erase_if(choices, [&](const ProviderChoice& choice) { return !near(choice); });
}

// Those of `choices` that can be opened; the rest is left out with a warning, the last of them in `why`.
std::vector<std::unique_ptr<Fabric>> OpenRails(const Options& options, std::vector<ProviderChoice> choices, Status& why) {
  std::vector<std::unique_ptr<Fabric>> rails;
  for (ProviderChoice& choice : choices) {
    const std::string name = choice.rail;
    Result<std::unique_ptr<Fabric>> rail = OpenOne(options, std::move(choice), true);
    why = rail.status();
    if (rail.ok() && !rails.empty() && (*rail)->traits().family != rails.front()->traits().family)
      why = Error(Code::kUnsupported, "it is read from and the first rail is written to, or the other way round: "
                  "set --transfer-write-mode");
    if (why.ok()) {
      rails.push_back(*std::move(rail));
      continue;
    }
    log::warn("transfer: left out: rail \"{}\": {}", name, why.message());
  }
  return rails;
}

Result<LibfabricFabrics> Alone(Result<std::unique_ptr<Fabric>> fabric) {
  if (!fabric) return fabric.status();
  LibfabricFabrics opened;
  opened.fabrics.push_back(*std::move(fabric));
  return opened;
}

}  // namespace

Result<LibfabricFabrics> OpenLibfabricFabrics(const Options& options) {
  Result<std::vector<ProviderChoice>> chosen = ChooseProvider(options);
  if (!chosen) return chosen.status();
  const bool automatic = options.rails.empty();
  if (automatic && chosen->front().family != kEfaFamily)
    return Alone(OpenOne(options, std::move(chosen->front()), false));
  Result<std::vector<ProviderChoice>> choices = ChooseRails(options, *std::move(chosen));
  if (!choices) return choices.status();
  if (automatic) KeepNear(options, *choices);
  Status why;
  std::vector<std::unique_ptr<Fabric>> rails = OpenRails(options, *std::move(choices), why);
  if (!rails.empty()) return LibfabricFabrics{.fabrics = std::move(rails), .rails = true};
  // Nobody asked for several: a single one may do what these cannot.
  if (automatic) return Alone(OpenLibfabric(options));
  return why.Prefixed("none of the rails can be used");
}

Result<std::unique_ptr<Fabric>> OpenLibfabric(const Options& options) {
  Result<std::vector<ProviderChoice>> chosen = ChooseProvider(options);
  if (!chosen) return chosen.status();
  return OpenOne(options, std::move(chosen->front()), false);
}

}  // namespace baton::transfer
