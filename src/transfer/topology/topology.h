// Which network cards belong to which GPU, and to which CPU memory.
//
// A Topology is a plain value: accelerators and RDMA cards with their place on the PCI tree. It is
// read from sysfs of this machine or from a capture (`lstopo --of xml`) of another one; both give
// the same value, and everything below works on the value alone.
//
// sysfs is the live source because it needs no library, takes any root folder (tests make trees),
// and knows what PCI alone does not tell: port state, verbs names, virtual functions. Captures are
// read by a small reader of ours: Debian's libhwloc reads files with comments only through a plugin
// that brings OpenCL and X along.
//
// GPUs are named by PCI address, never by ordinal: CUDA_VISIBLE_DEVICES renumbers those.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/memory.h"
#include "common/status.h"

namespace baton::transfer {

struct PciAddress {
  uint32_t domain = 0;
  uint8_t bus = 0, device = 0, function = 0;

  // "0000:10:1b.0", "00000000:10:1B.0" (NVML), "10:1b.0"; nullopt for anything else.
  static std::optional<PciAddress> Parse(std::string_view text);
  std::string ToString() const;  // "0000:10:1b.0"
  friend auto operator<=>(const PciAddress&, const PciAddress&) = default;
};

struct PciDevice {
  enum class Kind : uint8_t { kGpu, kNic };

  PciAddress address;
  Kind kind = Kind::kNic;
  uint16_t vendor = 0, device = 0;
  std::string name;             // of a card, for verbs and libfabric: "rdmap79s0"; empty: no driver
  int numa_node = -1;           // -1: not told
  // 10^9 bits/s, 0: not told. Of the ports together (captures do not tell), and of the PCI link.
  double port_gbps = 0, pci_gbps = 0;
  bool up = true;               // false: the card has ports and none of them is active
  std::vector<std::string> bridges;  // "pci0000:44", "0000:44:00.0" ...: host bridge first

  bool is_efa() const { return vendor == 0x1d0f && (device & 0xfff0) == 0xefa0; }
  std::string label() const { return name.empty() ? address.ToString() : name; }
};

// Devices in order of PCI address. Where there is an EFA, other RDMA cards are left out (those of a
// storage network, of the GPUs' switches): one transfer does not mix fabrics. Virtual functions are
// left out where their physical function is here too.
struct Topology {
  std::string source;           // "/sys", a file name
  std::vector<PciDevice> gpus;  // accelerators: NVIDIA, AMD, Intel, Neuron ...
  std::vector<PciDevice> nics;

  // Table for people: who uses what, and what is left over.
  std::string Describe() const;
};

// Reads `root`/sys/bus/pci/devices. What cannot be read is left out; kNotFound when there is no such
// folder (a container without /sys).
Result<Topology> ReadSysfsTopology(const std::string& root = "/");

// Reads hwloc's XML, versions 1 to 3. kDataCorrupt says where it breaks. Safe on hostile text.
Result<Topology> ParseHwlocXml(std::string_view xml, std::string source);
// kNotFound, kInvalidArgument (size), and those above.
Result<Topology> ReadHwlocXml(const std::string& path);

// Who uses which card.
//
// A card goes to the GPUs under its nearest ancestor that has any; several cards there are shared out
// evenly, each to the one GPU that has fewest so far. Where only the NUMA node or the machine is
// common, a card goes only to GPUs that have no nearer one: it is spare otherwise. GPUs that are left
// without share the nearest card that serves fewest. So every GPU has one if any is up.
struct Affinity {
  std::vector<std::vector<uint32_t>> nics_of_gpu;  // indices: [gpu] -> nics, ascending
  std::vector<uint32_t> spare;                     // cards that no GPU uses, but those that are down
};
Affinity Assign(const Topology& topology);

// Names of the cards that serve the GPU with this PCI address. Of a GPU that is not in the topology:
// all that are up.
std::vector<std::string> AffineNics(const Topology& topology, std::string_view gpu);
// Names of the cards of a NUMA node; all that are up when it is -1 or has none.
std::vector<std::string> NumaNics(const Topology& topology, int numa_node);

// NUMA node of the first page, -1 when the kernel does not tell. Touches the page.
int NumaNodeOf(const void* memory);

// Cards to open for a pool: of its GPU (whose PCI address is `gpu`), or of its NUMA node.
std::vector<std::string> AutomaticRails(const Topology& topology, MemorySpan memory,
                                        std::string_view gpu = {});

// True when a card of Amazon's EFA is on the PCI bus, whether or not it can be used.
bool HasEfa(const Topology& topology);

}  // namespace baton::transfer
