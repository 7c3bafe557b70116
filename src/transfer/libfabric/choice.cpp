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

Info MakeHints(const char* provider, bool delivery_complete) {
  Info hints(fi_allocinfo());
  if (!hints) return hints;
  hints->caps = FI_MSG | FI_RMA;
  hints->mode = FI_CONTEXT | FI_CONTEXT2;  // every operation embeds an OpContext
  hints->ep_attr->type = FI_EP_RDM;
  hints->domain_attr->mr_mode =
      FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT;
  hints->domain_attr->cq_data_size = sizeof(uint32_t);
  hints->domain_attr->threading = FI_THREAD_DOMAIN;
  hints->domain_attr->av_type = FI_AV_TABLE;
  // tcp disappears when FI_RMA_EVENT is asked, and so does efa.
  if (delivery_complete) hints->tx_attr->op_flags = FI_DELIVERY_COMPLETE;
  hints->fabric_attr->prov_name = strdup(provider);
  return hints;
}

// Every provider that could carry RMA, for error messages.
std::string FoundProviders() {
  Info hints(fi_allocinfo());
  if (!hints) return "nothing";
  hints->caps = FI_RMA;
  hints->mode = ~0ull;
  hints->ep_attr->type = FI_EP_RDM;
  hints->domain_attr->mr_mode = static_cast<int>(~FI_MR_BASIC & ~FI_MR_SCALABLE);
  fi_info* found = nullptr;
  if (fi_getinfo(ApiVersion(), nullptr, nullptr, 0, hints.get(), &found) != 0) return "nothing";
  const Info list(found);
  std::string names;
  for (const fi_info* i = list.get(); i; i = i->next) {
    const std::string name = i->fabric_attr->prov_name;
    if ((", " + names + ", ").find(", " + name + ", ") == std::string::npos)
      names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

// By fabric name, not by order: efa-direct lists itself before efa, which also covers peers that
// can only emulate writes.
const fi_info* PickInfo(const fi_info* list) {
  for (const fi_info* i = list; i; i = i->next)
    if (std::strcmp(i->fabric_attr->name ? i->fabric_attr->name : "", "efa") == 0) return i;
  return list;
}

std::string DomainOf(const fi_info& info) { return info.domain_attr->name ? info.domain_attr->name : ""; }

// Every domain of the fabric that PickInfo prefers, that first.
Result<std::vector<ProviderChoice>> QueryAll(const char* provider, const char* family, const char* node) {
  long error = -FI_ENODATA;
  for (const bool delivery_complete : {true, false}) {
    const Info hints = MakeHints(provider, delivery_complete);
    if (!hints) return FabricError(Code::kInternal, provider, "fi_allocinfo", FI_ENOMEM);
    fi_info* found = nullptr;
    error = fi_getinfo(ApiVersion(), node, nullptr, node ? FI_SOURCE : 0, hints.get(), &found);
    if (error != 0) continue;
    const Info list(found);
    const fi_info* const picked = PickInfo(list.get());
    std::vector<ProviderChoice> choices;
    for (const fi_info* i = picked; i; i = i->next) {
      const auto text = [](const char* name) { return std::string_view(name ? name : ""); };
      if (text(i->fabric_attr->name) != text(picked->fabric_attr->name)) continue;
      const bool known = std::any_of(choices.begin(), choices.end(),
                                     [&](const ProviderChoice& c) { return c.rail == DomainOf(*i); });
      if (known) continue;
      ProviderChoice& choice = choices.emplace_back();
      choice.info.reset(fi_dupinfo(i));
      if (!choice.info) return FabricError(Code::kInternal, provider, "fi_dupinfo", FI_ENOMEM);
      choice.name = choice.info->fabric_attr->prov_name;
      choice.family = family;
      choice.rail = DomainOf(*i);
      choice.delivery_complete = delivery_complete;
    }
    return choices;
  }
  return FabricError(Code::kUnsupported, provider, "fi_getinfo", error);
}

Result<ProviderChoice> Query(const char* provider, const char* family, const char* node) {
  Result<std::vector<ProviderChoice>> all = QueryAll(provider, family, node);
  if (!all) return all.status();
  return std::move(all->front());
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

Result<ProviderChoice> ChooseTcpRail(const std::string& name) {
  const std::string address = RailAddress(name);
  if (address.empty())
    return Error(Code::kInvalidArgument, "it is neither an IPv4 address nor an interface that has one");
  return Query("tcp;ofi_rxm", "tcp", address.c_str());
}

Result<ProviderChoice> ChooseEfaRail(const std::string& name, const std::vector<ProviderChoice>& domains) {
  std::string known;
  for (const ProviderChoice& domain : domains) {
    const fid_nic* const nic = domain.info->nic;
    const char* const device = nic && nic->device_attr ? nic->device_attr->name : nullptr;
    if (name == domain.rail || name + "-rdm" == domain.rail || (device && name == device)) {
      ProviderChoice choice;
      choice.info.reset(fi_dupinfo(domain.info.get()));
      if (!choice.info) return FabricError(Code::kInternal, "efa", "fi_dupinfo", FI_ENOMEM);
      choice.name = domain.name;
      choice.family = domain.family;
      choice.delivery_complete = domain.delivery_complete;
      return choice;
    }
    known += (known.empty() ? "" : ", ") + domain.rail;
  }
  return Error(Code::kInvalidArgument, "there is no such EFA domain or device, but {}", known);
}

Result<ProviderChoice> QueryEfa() {
  if (FI_VERSION_LT(fi_version(), FI_VERSION(1, 18)))
    return Error(Code::kUnsupported,
                 "libfabric {} has no RDMA write for efa: 1.18 or later is needed (AWS installs it "
                 "in /opt/amazon/efa)",
                 LibraryVersion());
  return Query("efa", "efa", nullptr);
}

}  // namespace

uint32_t ApiVersion() {
  TuneEnvironment();
  return std::min<uint32_t>(fi_version(), FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION));
}

std::string LibraryVersion() {
  const uint32_t api = fi_version();
  return fmt::format("{}.{} (built with {}.{})", FI_MAJOR(api), FI_MINOR(api), FI_MAJOR_VERSION,
                     FI_MINOR_VERSION);
}

std::string PickHost(const std::string& host) {
  if (host != "0.0.0.0") return host;
  std::string picked = RoutedAddress();
  if (picked.empty()) picked = FirstInterfaceAddress();
  return picked.empty() ? "127.0.0.1" : picked;
}

Result<ProviderChoice> ChooseProvider(const Options& options) {
  TuneEnvironment();
  const ProviderKind kind = options.provider;
  Status no_efa;
  if (kind == ProviderKind::kAuto || kind == ProviderKind::kEfa || options.require_rdma) {
    Result<ProviderChoice> efa = QueryEfa();
    if (efa.ok()) {
      if (kind == ProviderKind::kAuto || kind == ProviderKind::kEfa) return efa;
    }
    no_efa = efa.status();
  }
  if (options.require_rdma)
    return Error(Code::kUnsupported,
                 "RDMA is required and not there: found {} ({}). Install the EFA driver and its "
                 "libfabric, give the container its EFA devices, or drop --require-rdma",
                 FoundProviders(), no_efa.ok() ? "another provider was asked for" : no_efa.message());
  if (kind == ProviderKind::kEfa)
    return Error(Code::kUnsupported, "provider efa is not usable: {}; found {}", no_efa.message(),
                 FoundProviders());
  const std::string host = PickHost(options.host);
  Result<ProviderChoice> tcp = Query("tcp;ofi_rxm", "tcp", host.c_str());
  if (tcp.ok()) return tcp;
  return Error(Code::kUnsupported, "no tcp provider can listen on {}: {}; found {}", host,
               tcp.status().message(), FoundProviders());
}

Result<std::vector<ProviderChoice>> ChooseRails(const Options& options, const ProviderChoice& provider) {
  for (size_t i = 0; i < options.rails.size(); ++i)
    if (std::find(options.rails.begin(), options.rails.begin() + i, options.rails[i]) !=
        options.rails.begin() + i)
      return Error(Code::kInvalidArgument, "rail \"{}\" is named twice", options.rails[i]);
  std::vector<ProviderChoice> domains;
  if (provider.family == "efa") {
    Result<std::vector<ProviderChoice>> all = QueryAll("efa", "efa", nullptr);
    if (!all) return all.status();
    domains = *std::move(all);
    if (options.rails.empty()) return domains;
  }
  std::vector<ProviderChoice> rails;
  Status last;
  for (const std::string& name : options.rails) {
    Result<ProviderChoice> rail =
        provider.family == "efa" ? ChooseEfaRail(name, domains) : ChooseTcpRail(name);
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
