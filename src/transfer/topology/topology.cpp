#include "transfer/topology/topology.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "transfer/topology/pci_function.h"

namespace baton::transfer {
namespace {

constexpr uint16_t kAmazon = 0x1d0f, kNvidia = 0x10de, kAmd = 0x1002, kIntel = 0x8086,
                   kMellanox = 0x15b3;

template <typename T>
bool ParseHex(std::string_view text, T& out, uint32_t max) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size() || value > max) return false;
  out = static_cast<T>(value);
  return true;
}

// Display adapters of servers' management chips are of class 03 too, hence the vendors.
bool IsGpu(const PciFunction& f) {
  const uint16_t base = f.class_code >> 8;
  if (f.class_code == 0x1200) return true;  // "processing accelerator"
  if (f.vendor == kAmazon) return (f.device & 0xf0ff) == 0x7064;  // Inferentia, Trainium
  if (f.vendor == kNvidia || f.vendor == kAmd) return base == 0x03;
  return f.vendor == kIntel && (f.class_code == 0x0302 || f.class_code == 0x0380);
}

bool IsEfa(const PciFunction& f) { return f.vendor == kAmazon && (f.device & 0xfff0) == 0xefa0; }

// Captures do not link virtual functions to physical ones, but ConnectX has device ids for them.
bool IsMellanoxVirtual(const PciFunction& f) {
  return f.vendor == kMellanox && f.device >= 0x1014 && f.device <= 0x101e && f.device % 2 == 0;
}

bool HasPhysicalBeside(const PciFunction& f, const std::vector<PciFunction>& all) {
  return std::any_of(all.begin(), all.end(), [&](const PciFunction& other) {
    return other.vendor == f.vendor && !IsMellanoxVirtual(other) &&
           other.address.domain == f.address.domain && other.address.bus == f.address.bus;
  });
}

}  // namespace

std::optional<PciAddress> PciAddress::Parse(std::string_view text) {
  PciAddress out;
  const size_t dot = text.rfind('.');
  if (dot == std::string_view::npos || !ParseHex(text.substr(dot + 1), out.function, 7)) return {};
  text = text.substr(0, dot);
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || !ParseHex(text.substr(colon + 1), out.device, 31)) return {};
  text = text.substr(0, colon);
  const size_t domain = text.rfind(':');
  if (domain != std::string_view::npos) {
    if (!ParseHex(text.substr(0, domain), out.domain, ~0u)) return {};
    text = text.substr(domain + 1);
  }
  if (!ParseHex(text, out.bus, 255)) return {};
  return out;
}

std::string PciAddress::ToString() const {
  return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", domain, bus, device, function);
}

Topology Select(std::vector<PciFunction> functions, std::string source) {
  std::sort(functions.begin(), functions.end(),
            [](const PciFunction& a, const PciFunction& b) { return a.address < b.address; });
  const bool has_efa = std::any_of(functions.begin(), functions.end(), IsEfa);
  Topology out;
  out.source = std::move(source);
  for (const PciFunction& f : functions) {
    const bool gpu = IsGpu(f);
    const bool nic = !gpu && (IsEfa(f) || (!has_efa && !f.verbs_name.empty()));
    if ((!gpu && !nic) || f.is_virtual || (IsMellanoxVirtual(f) && HasPhysicalBeside(f, functions)))
      continue;
    (gpu ? out.gpus : out.nics)
        .push_back({.address = f.address,
                    .kind = gpu ? PciDevice::Kind::kGpu : PciDevice::Kind::kNic,
                    .vendor = f.vendor,
                    .device = f.device,
                    .name = nic ? f.verbs_name : "",
                    .numa_node = f.numa_node,
                    .port_gbps = f.port_gbps,
                    .pci_gbps = f.pci_gbps,
                    .up = f.up,
                    .bridges = f.bridges});
  }
  return out;
}

int NumaNodeOf(const void* memory) {
#ifdef SYS_get_mempolicy
  constexpr unsigned long kNodeOfAddress = 1 | 2;  // MPOL_F_NODE | MPOL_F_ADDR
  int node = -1;
  if (memory && syscall(SYS_get_mempolicy, &node, nullptr, 0ul, memory, kNodeOfAddress) == 0) return node;
#endif
  return -1;
}

bool HasEfa(const Topology& topology) {
  return std::any_of(topology.nics.begin(), topology.nics.end(),
                     [](const PciDevice& nic) { return nic.is_efa(); });
}

}  // namespace baton::transfer
