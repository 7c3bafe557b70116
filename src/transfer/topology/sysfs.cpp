// The PCI tree of this machine, from /sys.
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "transfer/topology/pci_function.h"
#include "transfer/topology/sysfs_files.h"

namespace baton::transfer {
namespace {

namespace fs = std::filesystem;

// "0x1d0f"; 0 for anything else.
uint32_t ReadHex(const fs::path& path) {
  return static_cast<uint32_t>(std::strtoul(ReadLine(path).c_str(), nullptr, 16));
}

// "pci0000:44", "0000:44:00.0" ... of ../../../devices/pci0000:44/0000:44:00.0/0000:45:00.0, less the
// device itself. What is before the host bridge (platform devices) tells nothing.
std::vector<std::string> BridgesOf(const fs::path& link) {
  std::vector<std::string> out;
  for (const fs::path& part : link.parent_path()) {
    const std::string name = part.string();
    const bool host = name.starts_with("pci") && name.find(':') != std::string::npos;
    if (host) out.clear();
    if (host || (!out.empty() && PciAddress::Parse(name))) out.push_back(name);
  }
  return out;
}

// Port state and rate ("4: ACTIVE", "100 Gb/sec (4X EDR)"): a card with several ports has the sum.
void ReadPorts(const fs::path& verbs, PciFunction& f) {
  const std::vector<fs::path> ports = ChildrenOf(verbs / "ports");
  bool active = ports.empty();
  for (const fs::path& port : ports) {
    const std::string state = ReadLine(port / "state");
    if (!state.empty() && !state.starts_with("4:")) continue;
    active = true;
    f.port_gbps += std::strtod(ReadLine(port / "rate").c_str(), nullptr);
  }
  f.up = active;
}

// "16.0 GT/s PCIe" times the width, less the line code.
double PciGbps(const fs::path& device) {
  const double speed = std::strtod(ReadLine(device / "current_link_speed").c_str(), nullptr);
  const double width = std::strtod(ReadLine(device / "current_link_width").c_str(), nullptr);
  return speed * width * (speed >= 8 ? 128.0 / 130 : 0.8);
}

PciFunction ReadFunction(const fs::path& device, const PciAddress& address) {
  PciFunction f;
  f.address = address;
  f.class_code = static_cast<uint16_t>(ReadHex(device / "class") >> 8);
  f.vendor = static_cast<uint16_t>(ReadHex(device / "vendor"));
  f.device = static_cast<uint16_t>(ReadHex(device / "device"));
  const std::string numa = ReadLine(device / "numa_node");
  if (!numa.empty()) f.numa_node = std::max(-1, std::atoi(numa.c_str()));
  f.pci_gbps = PciGbps(device);
  std::error_code ignored;
  f.is_virtual = fs::exists(device / "physfn", ignored);
  for (const fs::path& verbs : ChildrenOf(device / "infiniband")) {
    if (!f.verbs_name.empty()) break;
    f.verbs_name = verbs.filename().string();
    ReadPorts(verbs, f);
  }
  f.bridges = BridgesOf(fs::read_symlink(device, ignored));
  return f;
}

}  // namespace

Result<Topology> ReadSysfsTopology(const std::string& root) {
  const fs::path folder = fs::path(root) / "sys/bus/pci/devices";
  std::error_code error;
  if (!fs::is_directory(folder, error))
    return Error(Code::kNotFound, "there is no folder {}: PCI devices cannot be told", folder.string());
  std::vector<PciFunction> functions;
  for (const fs::path& device : ChildrenOf(folder))
    if (const auto address = PciAddress::Parse(device.filename().string()))
      functions.push_back(ReadFunction(device, *address));
  return Select(std::move(functions), (fs::path(root) / "sys").string());
}

}  // namespace baton::transfer
