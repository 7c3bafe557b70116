#include "transfer/libfabric/libfabric.h"

#include <rdma/fi_ext.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/log.h"
#include "transfer/libfabric/batches.h"
#include "transfer/libfabric/choice.h"
#include "transfer/libfabric/handles.h"

namespace baton::transfer {
namespace {

constexpr size_t kReadBatch = 64;
constexpr size_t kMinCqEntries = 8192;
constexpr int kEfaUnknownPeer = 14;

class LibfabricFabric final : public Fabric {
 public:
  explicit LibfabricFabric(ProviderChoice choice) : choice_(std::move(choice)) {}

  Status Open();

  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return address_; }
  Result<uint32_t> Register(MemorySpan memory) override;
  void Unregister(uint32_t region) override { regions_[region] = {}; }
  Result<MemoryKey> Expose(uint32_t region) override;
  void Revoke(const MemoryKey& key) override { exposed_.erase(key.key); }
  Result<MemoryKey> Renew(const MemoryKey& key) override;
  Result<uint64_t> Insert(std::string_view address) override;
  void Remove(uint64_t peer) override;
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  int wait_fd() const override { return wait_fd_; }
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
  struct KnownAddress {
    fi_addr_t handle = FI_ADDR_UNSPEC;
    uint32_t users = 0;
  };

  Status OpenObjects();
  Status OpenCq(size_t entries);
  Status ReadAddress();
  void FillTraits();
  // Posts bytes and immediate apart, relying on the order that the provider promises. For rxm: when
  // a connection is closed while a write with immediate is half received, rxm (1.17 at least) takes
  // the receiver's missing context for one of its own and crashes. A write without immediate has
  // no such entry, and an immediate without bytes is never half received. So one immediate may also
  // speak for several writes (batches.h).
  bool SplitsImmediate() const { return choice_.name.find("ofi_rxm") != std::string::npos; }
  PostResult WriteSplit(const WriteRequest& request, const Region& region, Status& why);
  PostResult PostImmediate(Status& why);
  void FailOpen(const Status& why);
  void NotePost(uint64_t peer, ssize_t result);
  void Complete(Completion completion, void* context);
  bool AppKeys() const { return !(info().domain_attr->mr_mode & FI_MR_PROV_KEY); }
  Result<Fid<fid_mr>> MakeMr(const MemorySpan& memory, uint64_t access, uint64_t key = 0);
  uint64_t NewKey();
  bool ReadQueue();
  bool ReadErrors();
  const fi_info& info() const { return *choice_.info; }
  Status Failed(std::string_view call, long error) const {
    return FabricError(Code::kUnavailable, choice_.name, call, error);
  }

  ProviderChoice choice_;
  FabricTraits traits_;
  std::string address_;
  Fid<fid_fabric> fabric_;
  Fid<fid_domain> domain_;
  Fid<fid_av> av_;
  Fid<fid_cq> cq_;
  std::vector<Region> regions_;
  std::map<uint64_t, Exposed> exposed_;      // by key, app keys only
  Fid<fid_ep> ep_;                           // last: closed before what is bound to it
  int wait_fd_ = -1;
  WriteBatches batches_;
  fi_rma_iov zero_target_{};  // of the open batch's immediate
  void* zero_source_ = nullptr;
  // Completions that found no room, or have not been read yet; reserved for all that there can be.
  std::vector<Completion> ready_;
  size_t ready_read_ = 0;
  uint64_t next_key_ = 0;
  std::unordered_map<std::string, KnownAddress> addresses_;
  std::unordered_map<uint64_t, std::string> names_;  // handle -> key of addresses_
  std::unordered_set<uint64_t> unopened_;            // handles to which no connection could be made
};

Status LibfabricFabric::Open() {
  if (Status s = OpenObjects(); !s.ok()) return s;
  if (Status s = ReadAddress(); !s.ok()) return s;
  // Keys start at random, so that a key of an earlier process on the same address fits nothing.
  std::random_device random;
  next_key_ = (uint64_t{random()} << 20) | 256;
  FillTraits();
  // The count of a batch travels in the upper half of the data, where there is one.
  const bool counts = info().domain_attr->cq_data_size >= sizeof(uint64_t);
  if (SplitsImmediate()) batches_.Reserve(traits_.max_in_flight, counts ? kMaxBatch : 1);
  ready_.reserve(traits_.max_in_flight + kReadBatch * kMaxBatch);
  return Status::Ok();
}

Status LibfabricFabric::OpenObjects() {
  fid_fabric* fabric = nullptr;
  if (const int e = fi_fabric(info().fabric_attr, &fabric, nullptr)) return Failed("fi_fabric", e);
  fabric_.reset(fabric);
  fid_domain* domain = nullptr;
  if (const int e = fi_domain(fabric, choice_.info.get(), &domain, nullptr))
    return Failed("fi_domain", e);
  domain_.reset(domain);
  fi_av_attr av_attr{};
  av_attr.type = FI_AV_TABLE;
  fid_av* av = nullptr;
  if (const int e = fi_av_open(domain, &av_attr, &av, nullptr)) return Failed("fi_av_open", e);
  av_.reset(av);
  // Room for every completion of ours plus arrivals; a full queue makes providers drop or stall.
  const size_t depth = info().tx_attr->size + info().rx_attr->size;
  traits_.cq_entries = static_cast<uint32_t>(std::max(depth, kMinCqEntries));
  if (Status s = OpenCq(traits_.cq_entries); !s.ok()) return s;
  fid_ep* ep = nullptr;
  if (const int e = fi_endpoint(domain, choice_.info.get(), &ep, nullptr))
    return Failed("fi_endpoint", e);
  ep_.reset(ep);
  if (SplitsImmediate() && !(info().tx_attr->msg_order & (FI_ORDER_WAW | FI_ORDER_RMA_WAW)))
    return Error(Code::kUnsupported, "libfabric {}: no order between writes, which it needs here",
                 choice_.name);
  const uint64_t selective = SplitsImmediate() ? FI_SELECTIVE_COMPLETION : 0;
  if (const int e = fi_ep_bind(ep, &cq_->fid, FI_TRANSMIT | FI_RECV | selective))
    return Failed("fi_ep_bind", e);
  if (const int e = fi_ep_bind(ep, &av_->fid, 0)) return Failed("fi_ep_bind", e);
  if (const int e = fi_enable(ep)) return Failed("fi_enable", e);
  return Status::Ok();
}

Status LibfabricFabric::OpenCq(size_t entries) {
  fi_cq_attr attr{};
  attr.size = entries;
  attr.format = FI_CQ_FORMAT_DATA;
  // A descriptor to sleep on, where there is one (tcp); shm and efa are polled.
  fid_cq* cq = nullptr;
  attr.wait_obj = FI_WAIT_FD;
  int error = fi_cq_open(domain_.get(), &attr, &cq, nullptr);
  if (error == 0) {
    cq_.reset(cq);
    if (fi_control(&cq->fid, FI_GETWAIT, &wait_fd_) != 0) wait_fd_ = -1;
    return Status::Ok();
  }
  attr.wait_obj = FI_WAIT_NONE;
  error = fi_cq_open(domain_.get(), &attr, &cq, nullptr);
  if (error) return Failed("fi_cq_open", error);
  cq_.reset(cq);
  return Status::Ok();
}

Status LibfabricFabric::ReadAddress() {
  // Sizes differ (16 bytes of sockaddr, 32 of efa, a string for shm): ask.
  std::vector<char> bytes(64);
  size_t size = bytes.size();
  int error = fi_getname(&ep_->fid, bytes.data(), &size);
  if (error == -FI_ETOOSMALL) {
    bytes.resize(size);
    error = fi_getname(&ep_->fid, bytes.data(), &size);
  }
  if (error) return Failed("fi_getname", error);
  address_.assign(bytes.data(), size);
  return Status::Ok();
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
  if (choice_.family != "efa") {
    traits_.cq_entries = 0;  // TCP holds writers back itself
    return;
  }
  // SRD reports every write, also those to a dead peer, but only when its retries are over.
  traits_.drain_timeout = std::chrono::seconds(10);
  traits_.hardware_rdma = true;
  traits_.write_path = "native";
#if FI_VERSION_GE(FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION), FI_VERSION(1, 18))
  bool emulated = false;
  size_t size = sizeof emulated;
  if (fi_getopt(&ep_->fid, FI_OPT_ENDPOINT, FI_OPT_EFA_EMULATED_WRITE, &emulated, &size) == 0 &&
      emulated) {
    traits_.hardware_rdma = false;
    traits_.write_path = "emulated";
  }
#endif
#if FI_VERSION_GE(FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION), FI_VERSION(2, 0))
  size_t longest = 0;
  size_t longest_size = sizeof longest;
  if (fi_getopt(&ep_->fid, FI_OPT_ENDPOINT, FI_OPT_MAX_RMA_SIZE, &longest, &longest_size) == 0 &&
      longest)
    traits_.max_write_bytes = std::min<uint64_t>(traits_.max_write_bytes, longest);
#endif
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
  fid_mr* mr = nullptr;
  int error = fi_mr_reg(domain_.get(), memory.data, memory.size_bytes, access, 0, key, 0, &mr,
                        nullptr);
  if (error) return Failed("fi_mr_reg", error);
  Fid<fid_mr> owner(mr);
  if (info().domain_attr->mr_mode & FI_MR_ENDPOINT) {
    if ((error = fi_mr_bind(mr, &ep_->fid, 0))) return Failed("fi_mr_bind", error);
    if ((error = fi_mr_enable(mr))) return Failed("fi_mr_enable", error);
  }
  return owner;
}

Result<uint32_t> LibfabricFabric::Register(MemorySpan memory) {
  if (memory.device != DeviceKind::kHost)
    return Error(Code::kUnsupported,
                 "provider {} cannot register memory of CUDA device {} in this build: register "
                 "host memory and stage through it",
                 choice_.name, memory.device_index);
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

Result<uint64_t> LibfabricFabric::Insert(std::string_view address) {
  // Addresses of one provider have one size; shm's are strings that end in a zero byte.
  const bool text = info().addr_format == FI_ADDR_STR;
  if (text ? address.empty() || address.back() != '\0' : address.size() != address_.size())
    return Error(Code::kDataCorrupt, "an address of {} bytes is none of provider {}",
                 address.size(), choice_.name);
  const std::string name(address);
  KnownAddress& known = addresses_[name];
  // A process that restarted on its old address shares the entry of the one before.
  if (known.handle == FI_ADDR_UNSPEC) {
    const int inserted = fi_av_insert(av_.get(), name.data(), 1, &known.handle, 0, nullptr);
    if (inserted != 1) {
      addresses_.erase(name);
      return Error(Code::kDataCorrupt, "libfabric {}: fi_av_insert took {} of 1 address",
                   choice_.name, inserted);
    }
    names_[known.handle] = name;
  }
  ++known.users;
  return uint64_t{known.handle};
}

void LibfabricFabric::Remove(uint64_t peer) {
  if (WriteBatch* const batch = batches_.open(); batch && batch->peer == peer)
    FailOpen(Error(Code::kUnavailable, "libfabric {}: the peer was removed", choice_.name));
  const auto name = names_.find(peer);
  if (name == names_.end()) return;
  KnownAddress& known = addresses_[name->second];
  if (--known.users > 0) return;
  if (SplitsImmediate()) {
    // rxm (1.17 at least) crashes in fi_av_remove when it keeps the record of a connection that is
    // not there: one that broke, or could not even begin. An empty write makes it begin one anew, or
    // tells that it cannot: then nothing is connected, and the address stays for the next Insert.
    const iovec source{address_.data(), 0};
    const fi_rma_iov target{};
    void* desc = nullptr;
    fi_msg_rma message{};
    message.msg_iov = &source;
    message.desc = &desc;
    message.iov_count = 1;
    message.addr = peer;
    message.rma_iov = &target;
    message.rma_iov_count = 1;
    NotePost(peer, fi_writemsg(ep_.get(), &message, 0));
    if (unopened_.erase(peer)) return;
  }
  fi_addr_t handle = known.handle;
  if (const int error = fi_av_remove(av_.get(), &handle, 1, 0))
    log::warn("{}", Failed("fi_av_remove", error).message());
  addresses_.erase(name->second);
  names_.erase(name);
}

void LibfabricFabric::NotePost(uint64_t peer, ssize_t result) {
  if (result != 0 && result != -FI_EAGAIN)
    unopened_.insert(peer);
  else if (!unopened_.empty())
    unopened_.erase(peer);
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
  if (!batches_.HasRoom()) return PostResult::kAgain;
  void* desc = region.desc;
  const iovec source{region.memory.data + request.local_offset, request.bytes};
  const fi_rma_iov target{request.remote_address, request.bytes, request.remote_key};
  fi_msg_rma message{};
  message.msg_iov = &source;
  message.desc = &desc;
  message.iov_count = 1;
  message.addr = request.peer;
  message.rma_iov = &target;
  message.rma_iov_count = 1;
  const ssize_t result = fi_writemsg(ep_.get(), &message, 0);
  NotePost(request.peer, result);
  if (result == -FI_EAGAIN) return PostResult::kAgain;
  if (result != 0) {
    why = Failed("fi_writemsg", result);
    return PostResult::kFailed;
  }
  batches_.Add(request.peer, request.imm, request.context);
  zero_target_ = target;
  zero_source_ = source.iov_base;
  return PostResult::kPosted;
}

// The immediate of the open batch, behind its bytes. To the place of its last write: some providers
// look at place and key of an empty write too.
PostResult LibfabricFabric::PostImmediate(Status& why) {
  WriteBatch* const batch = batches_.open();
  if (!batch) return PostResult::kPosted;
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
  NotePost(batch->peer, result);
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
  for (uint32_t i = 0; i < batch->count; ++i) {
    completion.context = batch->members[i];
    ready_.push_back(completion);
  }
  batches_.Return(batch);
}

size_t LibfabricFabric::Poll(TimePoint, std::span<Completion> out) {
  Status why;
  if (batches_.open() && PostImmediate(why) == PostResult::kFailed) FailOpen(why);
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
    if (!(entry.flags & (FI_REMOTE_WRITE | FI_REMOTE_CQ_DATA))) {
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
    char text[128] = "";
    const char* detail = fi_cq_strerror(cq_.get(), error.prov_errno, error.err_data, text, sizeof text);
    Completion completion;
    completion.kind = Completion::Kind::kFailed;
    // Every error of a write means that the way to the peer, or its permission, is gone: these
    // providers retry by themselves what can be retried. Only a peer that has not inserted our
    // address yet (efa's error 14) may be tried again.
    completion.peer_lost = !(choice_.family == "efa" && error.prov_errno == kEfaUnknownPeer);
    completion.status =
        Error(Code::kUnavailable, "libfabric {}: write to peer: {} ({}), provider says {} ({})",
              choice_.name, fi_strerror(error.err), error.err, detail ? detail : "nothing",
              error.prov_errno);
    Complete(std::move(completion), error.op_context);
    // A failed write must not wait for the rest of the errors.
    if (ready_.size() + kMaxBatch > ready_.capacity()) return true;
  }
}

bool LibfabricFabric::PrepareSleep() {
  if (batches_.open() || ready_read_ < ready_.size()) return false;
  if (wait_fd_ < 0) return true;
  fid* fids[] = {&cq_->fid};
  return fi_trywait(fabric_.get(), fids, 1) == FI_SUCCESS;
}

}  // namespace

Result<std::vector<std::unique_ptr<Fabric>>> OpenLibfabricRails(const Options& options) {
  Result<ProviderChoice> provider = ChooseProvider(options);
  if (!provider) return provider.status();
  std::vector<std::unique_ptr<Fabric>> rails;
  if (options.rails.empty() && provider->family != "efa") return rails;
  Result<std::vector<ProviderChoice>> choices = ChooseRails(options, *provider);
  if (!choices) return choices.status();
  Status last;
  for (ProviderChoice& choice : *choices) {
    const std::string name = choice.rail;
    auto rail = std::make_unique<LibfabricFabric>(std::move(choice));
    last = rail->Open();
    if (last.ok())
      rails.push_back(std::move(rail));
    else
      log::warn("transfer: left out: rail \"{}\": {}", name, last.message());
  }
  if (rails.empty()) return last;
  return rails;
}

Result<std::unique_ptr<Fabric>> OpenLibfabric(const Options& options) {
  Result<ProviderChoice> choice = ChooseProvider(options);
  if (!choice) return choice.status();
  const bool tcp = choice->family == "tcp";
  auto fabric = std::make_unique<LibfabricFabric>(*std::move(choice));
  if (Status s = fabric->Open(); !s.ok())
    return tcp ? s.Prefixed("listening on " + PickHost(options.host)) : s;
  return std::unique_ptr<Fabric>(std::move(fabric));
}

}  // namespace baton::transfer
