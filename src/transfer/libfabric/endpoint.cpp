#include "transfer/libfabric/endpoint.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <vector>

#include "common/log.h"
#include "transfer/libfabric/calls.h"
#include "transfer/libfabric/sockets.h"

namespace baton::transfer {
namespace {

constexpr size_t kMinCqEntries = 8192;

size_t OpenFiles() {
  std::error_code error;
  const std::filesystem::directory_iterator files("/proc/self/fd", error);
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

}  // namespace

Result<Endpoint> Endpoint::Open(ProviderChoice choice, uint64_t bind) {
  Endpoint endpoint;
  endpoint.choice = std::move(choice);
  if (Status s = endpoint.OpenObjects(bind); !s.ok()) return s;
  if (Status s = endpoint.ReadAddress(); !s.ok()) return s;
  if (endpoint.is_efa())
    endpoint.hardware = efa::Ask(endpoint.ep.get());
  else
    UnpaceLocalSockets(endpoint.address, {});  // what it accepts inherits from what it listens on
  return endpoint;
}

Status Endpoint::OpenObjects(uint64_t bind) {
  fid_fabric* new_fabric = nullptr;
  if (const int e = Calls().fabric(info().fabric_attr, &new_fabric, nullptr))
    return Failed("fi_fabric", e);
  fabric.reset(new_fabric);
  fid_domain* new_domain = nullptr;
  if (const int e = fi_domain(new_fabric, choice.info.get(), &new_domain, nullptr))
    return Failed("fi_domain", e);
  domain.reset(new_domain);
  fi_av_attr av_attr{};
  av_attr.type = FI_AV_TABLE;
  fid_av* new_av = nullptr;
  if (const int e = fi_av_open(new_domain, &av_attr, &new_av, nullptr))
    return Failed("fi_av_open", e);
  av.reset(new_av);
  // Room for every completion of ours plus arrivals; a full queue makes providers drop or stall.
  cq_entries = std::max(info().tx_attr->size + info().rx_attr->size, kMinCqEntries);
  if (Status s = OpenCq(); !s.ok()) return s;
  fid_ep* new_ep = nullptr;
  if (const int e = fi_endpoint(new_domain, choice.info.get(), &new_ep, nullptr))
    return Failed("fi_endpoint", e);
  ep.reset(new_ep);
  if (is_efa()) efa::Tune(new_ep, info());
  if (const int e = fi_ep_bind(new_ep, &cq->fid, FI_TRANSMIT | FI_RECV | bind))
    return Failed("fi_ep_bind", e);
  if (const int e = fi_ep_bind(new_ep, &av->fid, 0)) return Failed("fi_ep_bind", e);
  if (const int e = fi_enable(new_ep)) return Failed("fi_enable", e);
  return Status::Ok();
}

Status Endpoint::OpenCq() {
  fi_cq_attr attr{};
  attr.size = cq_entries;
  attr.format = FI_CQ_FORMAT_DATA;
  // A descriptor to sleep on, where there is one (tcp); shm and efa are polled.
  fid_cq* new_cq = nullptr;
  attr.wait_obj = FI_WAIT_FD;
  if (fi_cq_open(domain.get(), &attr, &new_cq, nullptr) == 0) {
    cq.reset(new_cq);
    if (fi_control(&new_cq->fid, FI_GETWAIT, &wait_fd) != 0) wait_fd = -1;
    return Status::Ok();
  }
  attr.wait_obj = FI_WAIT_NONE;
  if (const int e = fi_cq_open(domain.get(), &attr, &new_cq, nullptr))
    return Failed("fi_cq_open", e);
  cq.reset(new_cq);
  return Status::Ok();
}

Status Endpoint::ReadAddress() {
  // Sizes differ (16 bytes of sockaddr, 32 of efa, a string for shm): ask.
  std::vector<char> bytes(64);
  size_t size = bytes.size();
  int error = fi_getname(&ep->fid, bytes.data(), &size);
  if (error == -FI_ETOOSMALL) {
    bytes.resize(size);
    error = fi_getname(&ep->fid, bytes.data(), &size);
  }
  if (error) return Failed("fi_getname", error);
  address.assign(bytes.data(), size);
  return Status::Ok();
}

// "fi_sockaddr_in://10.0.0.7:41234" without what kind of address it is.
std::string Endpoint::NameOf(std::string_view peer) const {
  if (peer.size() != address.size()) return {};
  char text[256] = "";
  size_t size = sizeof text;
  fi_av_straddr(av.get(), peer.data(), text, &size);
  const std::string_view name(text);
  const size_t scheme = name.find("://");
  return std::string(scheme == name.npos ? name : name.substr(scheme + 3));
}

Result<uint64_t> Endpoint::Insert(std::string_view peer) {
  // Addresses of one provider have one size; shm's are strings that end in a zero byte.
  const bool text = info().addr_format == FI_ADDR_STR;
  if (text ? peer.empty() || peer.back() != '\0' : peer.size() != address.size())
    return Error(Code::kDataCorrupt, "an address of {} bytes is none of provider {}", peer.size(),
                 choice.name);
  const std::string name(peer);
  KnownAddress& known = addresses_[name];
  // A process that restarted on its old address shares the entry of the one before.
  if (known.handle == FI_ADDR_UNSPEC) {
    const int inserted = fi_av_insert(av.get(), name.data(), 1, &known.handle, 0, nullptr);
    if (inserted != 1) {
      addresses_.erase(name);
      return Error(Code::kDataCorrupt, "libfabric {}: fi_av_insert took {} of 1 address",
                   choice.name, inserted);
    }
    names_[known.handle] = name;
  }
  // Each time: whoever restarted on an address is connected anew.
  std::erase(fresh_, known.handle);
  if (!is_efa() && OnOneMachine(address, peer)) fresh_.push_back(known.handle);
  ++known.users;
  return uint64_t{known.handle};
}

void Endpoint::Remove(uint64_t peer) {
  const auto name = names_.find(peer);
  if (name == names_.end()) return;
  const auto known = addresses_.find(name->second);
  if (--known->second.users == 0) Erase(known);
}

void Endpoint::Cut(const std::string& peer) {
  if (const auto known = addresses_.find(peer); known != addresses_.end()) Erase(known);
}

void Endpoint::Erase(std::unordered_map<std::string, KnownAddress>::iterator known) {
  fi_addr_t handle = known->second.handle;
  if (choice.name.find("ofi_rxm") != std::string::npos && !HasConnection(handle)) {
    known->second.users = 0;  // stays for the next Insert
    return;
  }
  if (const int error = fi_av_remove(av.get(), &handle, 1, 0))
    log::warn("{}", Failed("fi_av_remove", error).message());
  std::erase(fresh_, handle);
  names_.erase(handle);
  addresses_.erase(known);
}

void Endpoint::TuneConnection(uint64_t peer) {
  if (std::erase(fresh_, peer)) UnpaceLocalSockets(address, names_[peer]);
}

// rxm (1.17 at least) crashes in fi_av_remove when it keeps the record of a connection that is not
// there: one that broke, or could not even begin. An empty write to nowhere makes it begin one anew,
// or tells that it cannot: then nothing is connected. Such a write may also take up the news that the
// connection has ended, and says the same as before; but then a socket is closed by it, so it is asked again.
bool Endpoint::HasConnection(fi_addr_t handle) {
  constexpr int kTries = 8;
  const iovec source{address.data(), 0};
  const fi_rma_iov target{};
  void* desc = nullptr;
  fi_msg_rma message{};
  message.msg_iov = &source;
  message.desc = &desc;
  message.iov_count = 1;
  message.addr = handle;
  message.rma_iov = &target;
  message.rma_iov_count = 1;
  ssize_t result = -FI_EAGAIN;
  for (int i = 0; i < kTries; ++i) {
    const size_t before = OpenFiles();
    result = fi_writemsg(ep.get(), &message, 0);
    if (result != -FI_EAGAIN || OpenFiles() >= before) break;
  }
  return result == 0 || result == -FI_EAGAIN;
}

int Endpoint::TryWait() {
  if (wait_fd < 0) return 0;
  fid* fids[] = {&cq->fid};
  return fi_trywait(fabric.get(), fids, 1);
}

Status Endpoint::Describe(const fi_cq_err_entry& error, std::string_view operation) const {
  char text[128] = "";
  const char* detail =
      fi_cq_strerror(cq.get(), error.prov_errno, error.err_data, text, sizeof text);
  const std::string_view hint = is_efa() ? efa::Explain(error.prov_errno) : std::string_view();
  return Error(Code::kUnavailable, "libfabric {}: {}: {} ({}), provider says {} ({}){}{}",
               choice.name, operation, fi_strerror(error.err), error.err,
               detail ? detail : "nothing", error.prov_errno, hint.empty() ? "" : ": ", hint);
}

}  // namespace baton::transfer
