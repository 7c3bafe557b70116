#include "transfer/libfabric/choice.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "common/log.h"
#include "transfer/libfabric/calls.h"

namespace baton::transfer {
namespace {

// Defaults of libfabric that do not suit us; whoever set a variable keeps it. They are read once,
// when the library initialises, so this comes before the first fi_* call.
void TuneEnvironment() {
  static std::once_flag once;
  std::call_once(once, [] {
    // rxm keeps the connection of a removed address open unless told otherwise: then a peer that we
    // dropped could still write (1.17).
    setenv("FI_AV_REMOVE_CLEANUP", "1", 0);
    // rxm takes one completion per progress call by default.
    setenv("FI_OFI_RXM_COMP_PER_PROGRESS", "64", 0);
    // Microseconds between looks at new connections.
    setenv("FI_OFI_RXM_CM_PROGRESS_INTERVAL", "1000", 0);
  });
}

// An IPv4 or IPv6 address as text, or nothing.
std::string AddressText(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address->sa_family == AF_INET)
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text, sizeof text);
  return text;
}

// The kernel's choice of source for a far destination; no packet is sent.
std::string RoutedAddress() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return {};
  sockaddr_in far{};
  far.sin_family = AF_INET;
  far.sin_port = htons(9);
  far.sin_addr.s_addr = htonl(0xC6336401);  // 198.51.100.1, reserved for documentation
  std::string result;
  sockaddr_in own{};
  socklen_t length = sizeof own;
  if (connect(fd, reinterpret_cast<sockaddr*>(&far), sizeof far) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0)
    result = AddressText(reinterpret_cast<sockaddr*>(&own));
  close(fd);
  return result;
}

std::string FirstInterfaceAddress() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  std::string result;
  for (const ifaddrs* i = list; i && result.empty(); i = i->ifa_next) {
    const bool usable = i->ifa_addr && (i->ifa_flags & IFF_UP) && !(i->ifa_flags & IFF_LOOPBACK);
    if (usable) result = AddressText(i->ifa_addr);
  }
  freeifaddrs(list);
  return result;
}

// What one query asks for. `fabric`: name that the result must have; empty: any. `hmem`: memory of
// GPUs too, if that is offered.
struct Wanted {
  const char* provider = nullptr;
  const char* family = nullptr;
  const char* node = nullptr;
  std::string_view fabric = {};
  uint64_t mode = FI_CONTEXT | FI_CONTEXT2;  // every operation embeds an OpContext
  bool hmem = false;
};

Info MakeHints(const Wanted& wanted, bool delivery_complete, bool hmem) {
  Info hints(fi_allocinfo());
  if (!hints) return hints;
  hints->caps = FI_MSG | FI_RMA;
  hints->mode = wanted.mode;
  hints->ep_attr->type = FI_EP_RDM;
  hints->domain_attr->mr_mode =
      FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT;
  hints->domain_attr->cq_data_size = sizeof(uint32_t);
  hints->domain_attr->threading = FI_THREAD_DOMAIN;
  hints->domain_attr->av_type = FI_AV_TABLE;
  if (hmem) {
    hints->caps |= FI_HMEM;
    hints->domain_attr->mr_mode |= FI_MR_HMEM;
  }
  // tcp disappears when FI_RMA_EVENT is asked, and so does efa.
  if (delivery_complete) hints->tx_attr->op_flags = FI_DELIVERY_COMPLETE;
  hints->fabric_attr->prov_name = strdup(wanted.provider);
  return hints;
}

// Every provider that could carry RMA, for error messages.
std::string FoundProviders() {
  Info hints(fi_allocinfo());
  if (!hints) return "nothing";
  hints->caps = FI_RMA;
  hints->mode = ~0ull;
  hints->ep_attr->type = FI_EP_RDM;
  hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_RAW | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED |
                                FI_MR_PROV_KEY | FI_MR_MMU_NOTIFY | FI_MR_RMA_EVENT |
                                FI_MR_ENDPOINT | FI_MR_HMEM;
  fi_info* found = nullptr;
  if (Calls().getinfo(ApiVersion(), nullptr, nullptr, 0, hints.get(), &found) != 0) return "nothing";
  const Info list(found);
  std::string names;
  for (const fi_info* i = list.get(); i; i = i->next) {
    const std::string name = i->fabric_attr->prov_name;
    if ((", " + names + ", ").find(", " + name + ", ") == std::string::npos)
      names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

// By names, not by order: a query for tcp also returns what is layered over it, and efa-direct lists
// itself before efa.
const fi_info* PickInfo(const fi_info* list, const Wanted& wanted) {
  for (const fi_info* i = list; i; i = i->next) {
    const std::string_view fabric = i->fabric_attr->name ? i->fabric_attr->name : "";
    if (std::string_view(i->fabric_attr->prov_name) == wanted.provider &&
        (wanted.fabric.empty() || fabric == wanted.fabric))
      return i;
  }
  return nullptr;
}

std::string DomainOf(const fi_info& info) { return info.domain_attr->name ? info.domain_attr->name : ""; }

// Every domain of the fabric that PickInfo prefers, that first.
Result<std::vector<ProviderChoice>> QueryAll(const Wanted& wanted) {
  long error = -FI_ENODATA;
  struct Wish {
    bool delivery_complete, hmem;
  };
  for (const Wish wish : {Wish{true, true}, Wish{false, true}, Wish{true, false}, Wish{false, false}}) {
    if (wish.hmem && !wanted.hmem) continue;
    const Info hints = MakeHints(wanted, wish.delivery_complete, wish.hmem);
    if (!hints) return FabricError(Code::kInternal, wanted.provider, "fi_allocinfo", FI_ENOMEM);
    fi_info* found = nullptr;
    error = Calls().getinfo(ApiVersion(), wanted.node, nullptr, wanted.node ? FI_SOURCE : 0,
                            hints.get(), &found);
    if (error != 0) continue;
    const Info list(found);
    const fi_info* const picked = PickInfo(list.get(), wanted);
    error = -FI_ENODATA;
    if (!picked) continue;
    std::vector<ProviderChoice> choices;
    const auto text = [](const char* name) { return std::string_view(name ? name : ""); };
    for (const fi_info* i = picked; i; i = i->next) {
      const bool same = text(i->fabric_attr->name) == text(picked->fabric_attr->name) &&
                        text(i->fabric_attr->prov_name) == text(picked->fabric_attr->prov_name);
      const bool known = std::any_of(choices.begin(), choices.end(),
                                     [&](const ProviderChoice& c) { return c.rail == DomainOf(*i); });
      if (!same || known) continue;
      ProviderChoice& choice = choices.emplace_back();
      choice.info.reset(fi_dupinfo(i));
      if (!choice.info) return FabricError(Code::kInternal, wanted.provider, "fi_dupinfo", FI_ENOMEM);
      choice.name = choice.info->fabric_attr->prov_name;
      choice.family = wanted.family;
      choice.rail = DomainOf(*i);
      choice.delivery_complete = wish.delivery_complete;
      choice.hmem = wish.hmem && (choice.info->caps & FI_HMEM);
    }
    return choices;
  }
  return FabricError(Code::kUnsupported, wanted.provider, "fi_getinfo", error);
}

// `efa` unless asked for: it also covers peers and hardware that can only emulate writes. For
// efa-direct the immediate of a write needs either a card that delivers it without a receive
// (unsolicited write receive) or, second, receives that we post. Every domain.
Result<std::vector<ProviderChoice>> QueryEfa(std::string_view fabric, bool hmem) {
  if (FI_VERSION_LT(Calls().version(), FI_VERSION(1, 18)))
    return Error(Code::kUnsupported,
                 "libfabric {} has no RDMA write for efa: 1.18 or later is needed (AWS installs it "
                 "in /opt/amazon/efa)",
                 LibraryVersion());
  Wanted wanted{.provider = "efa", .family = kEfaFamily, .fabric = "efa", .hmem = hmem};
  if (fabric != "efa-direct") return QueryAll(wanted);
  wanted.fabric = "efa-direct";
  Result<std::vector<ProviderChoice>> direct = QueryAll(wanted);
  if (direct.ok()) return direct;
  wanted.mode |= FI_RX_CQ_DATA;
  direct = QueryAll(wanted);
  if (direct.ok()) return direct;
  return direct.status().Prefixed("fabric efa-direct (libfabric 2.1 or later has it)");
}

// Which of the two ways over tcp: FABRIC "rxm" or "native", or the one that measured better. Device
// memory over tcp is staged by us (staged/staged_fabric.h): rxm would copy it synchronously.
Result<std::vector<ProviderChoice>> QueryTcp(std::string_view fabric, const char* host) {
  const bool old = FI_VERSION_LT(Calls().version(), FI_VERSION(1, 18));
  const Wanted rxm{.provider = "tcp;ofi_rxm", .family = kTcpFamily, .node = host};
  // What is tcp's own since 1.18 was a provider of its own, net, before.
  const Wanted native{.provider = old ? "net" : "tcp", .family = kNativeTcpFamily, .node = host};
  return QueryAll(fabric == "native" ? native : rxm);
}

// The IPv4 address that a rail of tcp is named by: itself, or the first one of an interface.
std::string RailAddress(const std::string& name) {
  in_addr address;
  if (inet_pton(AF_INET, name.c_str(), &address) == 1) return name;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  std::string result;
  for (const ifaddrs* i = list; i && result.empty(); i = i->ifa_next)
    if (i->ifa_addr && name == i->ifa_name) result = AddressText(i->ifa_addr);
  freeifaddrs(list);
  return result;
}

Result<ProviderChoice> ChooseTcpRail(const std::string& name, std::string_view fabric) {
  const std::string address = RailAddress(name);
  if (address.empty())
    return Error(Code::kInvalidArgument, "it is neither an IPv4 address nor an interface that has one");
  Result<std::vector<ProviderChoice>> found = QueryTcp(fabric, address.c_str());
  if (!found) return found.status();
  return std::move(found->front());
}

Result<ProviderChoice> ChooseEfaRail(const std::string& name, std::vector<ProviderChoice>& domains) {
  std::string known;
  for (ProviderChoice& domain : domains) {
    if (domain.info && IsNamed(domain, name)) return std::move(domain);
    known += (known.empty() ? "" : ", ") + domain.rail;
  }
  return Error(Code::kInvalidArgument, "there is no such EFA domain or device, or it is named twice; there are {}", known);
}

// The provider that the name of a fabric implies. Names of another one's are refused, not ignored.
Result<ProviderKind> KindOf(ProviderKind kind, std::string_view fabric) {
  if (fabric == "auto") return kind;
  const bool efa = fabric == "efa" || fabric == "efa-direct";
  const bool tcp = fabric == "rxm" || fabric == "native";
  const ProviderKind implied = efa ? ProviderKind::kEfa : ProviderKind::kTcp;
  if ((efa || tcp) && (kind == ProviderKind::kAuto || kind == implied)) return implied;
  return Error(Code::kInvalidArgument,
               "transfer fabric \"{}\": use auto, for provider efa also efa or efa-direct, for "
               "provider tcp also rxm or native",
               fabric);
}

}  // namespace

uint32_t ApiVersion() {
  TuneEnvironment();
  return std::min<uint32_t>(Calls().version(), FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION));
}

std::string LibraryVersion() {
  const uint32_t api = Calls().version();
  return fmt::format("{}.{} (built with {}.{})", FI_MAJOR(api), FI_MINOR(api), FI_MAJOR_VERSION,
                     FI_MINOR_VERSION);
}

bool IsNamed(const ProviderChoice& domain, const std::string& name) {
  const fid_nic* const nic = domain.info->nic;
  const char* const device = nic && nic->device_attr ? nic->device_attr->name : nullptr;
  return name == domain.rail || name + "-rdm" == domain.rail || (device && name == device);
}

std::string PickHost(const std::string& host) {
  if (host != "0.0.0.0") return host;
  std::string picked = RoutedAddress();
  if (picked.empty()) picked = FirstInterfaceAddress();
  return picked.empty() ? "127.0.0.1" : picked;
}

Result<std::vector<ProviderChoice>> ChooseProvider(const Options& options) {
  TuneEnvironment();
  const Result<ProviderKind> wanted = KindOf(options.provider, options.fabric);
  if (!wanted) return wanted.status();
  const ProviderKind kind = *wanted;
  Status no_efa;
  if (kind == ProviderKind::kAuto || kind == ProviderKind::kEfa || options.require_rdma) {
    Result<std::vector<ProviderChoice>> efa = QueryEfa(options.fabric, options.cuda_device.has_value());
    if (efa.ok() && (kind == ProviderKind::kAuto || kind == ProviderKind::kEfa)) return efa;
    no_efa = efa.status();
  }
  if (options.require_rdma)
    return Error(Code::kUnsupported,
                 "RDMA is required and not there: found {} ({}). Install the EFA driver and its "
                 "libfabric, give the container its EFA devices, or go without: --no-require-rdma, or "
                 "--transfer-provider tcp",
                 FoundProviders(), no_efa.ok() ? "another provider was asked for" : no_efa.message());
  if (kind == ProviderKind::kEfa)
    return Error(Code::kUnsupported, "provider efa is not usable: {}; found {}", no_efa.message(),
                 FoundProviders());
  const std::string host = PickHost(options.host);
  Result<std::vector<ProviderChoice>> tcp = QueryTcp(options.fabric, host.c_str());
  if (tcp.ok()) return tcp;
  return Error(Code::kUnsupported, "no tcp provider can listen on {}: {}; found {}", host,
               tcp.status().message(), FoundProviders());
}

Result<std::vector<ProviderChoice>> ChooseRails(const Options& options, std::vector<ProviderChoice> chosen) {
  for (size_t i = 0; i < options.rails.size(); ++i)
    if (std::find(options.rails.begin(), options.rails.begin() + i, options.rails[i]) !=
        options.rails.begin() + i)
      return Error(Code::kInvalidArgument, "rail \"{}\" is named twice", options.rails[i]);
  const bool efa = chosen.front().family == kEfaFamily;
  if (efa && options.rails.empty()) return chosen;
  std::vector<ProviderChoice> rails;
  Status last;
  for (const std::string& name : options.rails) {
    Result<ProviderChoice> rail = efa ? ChooseEfaRail(name, chosen) : ChooseTcpRail(name, options.fabric);
    if (!rail) {
      last = rail.status().Prefixed("rail \"" + name + "\"");
      log::warn("transfer: left out: {}", last.message());
      continue;
    }
    rail->rail = name;
    rails.push_back(*std::move(rail));
  }
  if (rails.empty()) return last;
  return rails;
}

}  // namespace baton::transfer
