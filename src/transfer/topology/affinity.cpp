// Sharing out cards among GPUs, and the questions that are answered by it.
#include <algorithm>
#include <map>
#include <set>

#include "transfer/topology/topology.h"

namespace baton::transfer {
namespace {

// The machine, its NUMA nodes, and what hangs below them on PCI.
class Tree {
 public:
  struct Node {
    int parent = -1;
    int depth = 0;
    bool on_pci = false;
    std::vector<uint32_t> gpus, nics;  // anywhere below
  };

  explicit Tree(const Topology& topology) {
    nodes_.emplace_back();
    LearnNuma(topology.gpus);
    LearnNuma(topology.nics);
    for (const PciDevice& gpu : topology.gpus) gpu_leaf_.push_back(LeafOf(gpu));
    for (const PciDevice& nic : topology.nics) nic_leaf_.push_back(LeafOf(nic));
    for (uint32_t i = 0; i < gpu_leaf_.size(); ++i)
      for (int n = gpu_leaf_[i]; n >= 0; n = nodes_[n].parent) nodes_[n].gpus.push_back(i);
    for (uint32_t i = 0; i < nic_leaf_.size(); ++i)
      for (int n = nic_leaf_[i]; topology.nics[i].up && n >= 0; n = nodes_[n].parent)
        nodes_[n].nics.push_back(i);
  }

  // Nearest node around the card with GPUs below; the machine when there are none at all.
  const Node& HomeOfNic(uint32_t nic) const {
    int n = nic_leaf_[nic];
    while (nodes_[n].parent >= 0 && nodes_[n].gpus.empty()) n = nodes_[n].parent;
    return nodes_[n];
  }
  const Node& HomeOfGpu(uint32_t gpu) const {
    int n = gpu_leaf_[gpu];
    while (nodes_[n].parent >= 0 && nodes_[n].nics.empty()) n = nodes_[n].parent;
    return nodes_[n];
  }

 private:
  static std::string RootBridge(const PciDevice& d) { return d.bridges.empty() ? "" : d.bridges[0]; }

  // Of devices below one host bridge some may not tell their NUMA node.
  void LearnNuma(const std::vector<PciDevice>& devices) {
    for (const PciDevice& d : devices) {
      if (d.bridges.empty()) continue;
      auto [it, is_new] = numa_.try_emplace(RootBridge(d), d.numa_node);
      if (!is_new) it->second = std::max(it->second, d.numa_node);
    }
  }

  int LeafOf(const PciDevice& d) {
    const auto known = numa_.find(RootBridge(d));
    const int numa = known == numa_.end() ? d.numa_node : known->second;
    int n = 0;
    if (numa >= 0) n = ChildOf(n, fmt::format("numa{}", numa), false);
    for (const std::string& bridge : d.bridges) n = ChildOf(n, bridge, true);
    return n;
  }

  int ChildOf(int parent, const std::string& name, bool on_pci) {
    const auto [it, is_new] = children_.try_emplace({parent, name}, static_cast<int>(nodes_.size()));
    if (is_new) nodes_.push_back({parent, nodes_[parent].depth + 1, on_pci, {}, {}});
    return it->second;
  }

  std::vector<Node> nodes_;
  std::map<std::pair<int, std::string>, int> children_;
  std::map<std::string, int> numa_;  // by host bridge
  std::vector<int> gpu_leaf_, nic_leaf_;
};

std::vector<std::string> NamesOf(const Topology& topology, const std::vector<uint32_t>& nics) {
  std::vector<std::string> out;
  for (const uint32_t i : nics)
    if (!topology.nics[i].name.empty()) out.push_back(topology.nics[i].name);
  return out;
}

std::vector<std::string> AllNics(const Topology& topology) {
  std::vector<uint32_t> all;
  for (uint32_t i = 0; i < topology.nics.size(); ++i)
    if (topology.nics[i].up) all.push_back(i);
  return NamesOf(topology, all);
}

std::string Labels(const Topology& topology, const std::vector<uint32_t>& nics) {
  std::string out;
  for (const uint32_t i : nics) out += (out.empty() ? "" : " ") + topology.nics[i].label();
  return out.empty() ? "none" : out;
}

}  // namespace

Affinity Assign(const Topology& topology) {
  const Tree tree(topology);
  const auto gpus = static_cast<uint32_t>(topology.gpus.size());
  Affinity out;
  out.nics_of_gpu.resize(gpus);

  // Nearest homes first, so that whoever has a card of its own does not take the common ones too.
  std::vector<uint32_t> order;
  for (uint32_t i = 0; i < topology.nics.size(); ++i)
    if (topology.nics[i].up) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return tree.HomeOfNic(a).depth > tree.HomeOfNic(b).depth;
  });
  std::vector<uint32_t> users(topology.nics.size());
  for (const uint32_t nic : order) {
    const Tree::Node& home = tree.HomeOfNic(nic);
    int chosen = -1;
    for (const uint32_t gpu : home.gpus) {
      if (!home.on_pci && tree.HomeOfGpu(gpu).depth > home.depth) continue;  // it has a nearer one
      if (chosen < 0 || out.nics_of_gpu[gpu].size() < out.nics_of_gpu[chosen].size())
        chosen = static_cast<int>(gpu);
    }
    if (chosen < 0) {
      out.spare.push_back(nic);
      continue;
    }
    out.nics_of_gpu[chosen].push_back(nic);
    ++users[nic];
  }
  for (uint32_t gpu = 0; gpu < gpus; ++gpu) {
    const std::vector<uint32_t>& near = tree.HomeOfGpu(gpu).nics;
    if (!out.nics_of_gpu[gpu].empty() || near.empty()) continue;
    const uint32_t nic = *std::min_element(
        near.begin(), near.end(), [&](uint32_t a, uint32_t b) { return users[a] < users[b]; });
    out.nics_of_gpu[gpu].push_back(nic);
    ++users[nic];
  }
  for (auto& nics : out.nics_of_gpu) std::sort(nics.begin(), nics.end());
  std::erase_if(out.spare, [&](uint32_t nic) { return users[nic] > 0; });
  std::sort(out.spare.begin(), out.spare.end());
  return out;
}

std::vector<std::string> AffineNics(const Topology& topology, std::string_view gpu) {
  const std::optional<PciAddress> address = PciAddress::Parse(gpu);
  for (size_t i = 0; address && i < topology.gpus.size(); ++i)
    if (topology.gpus[i].address == *address)
      return NamesOf(topology, Assign(topology).nics_of_gpu[i]);
  return AllNics(topology);
}

std::vector<std::string> NumaNics(const Topology& topology, int numa_node) {
  std::vector<uint32_t> local;
  for (uint32_t i = 0; i < topology.nics.size(); ++i)
    if (topology.nics[i].up && numa_node >= 0 && topology.nics[i].numa_node == numa_node)
      local.push_back(i);
  std::vector<std::string> names = NamesOf(topology, local);
  return names.empty() ? AllNics(topology) : names;
}

std::vector<std::string> AutomaticRails(const Topology& topology, MemorySpan memory,
                                        std::string_view gpu) {
  if (memory.device == DeviceKind::kCuda) return AffineNics(topology, gpu);
  return NumaNics(topology, NumaNodeOf(memory.data));
}

namespace {

std::string OrUnknown(double gbps) { return gbps > 0 ? fmt::format("{:.0f}", gbps) : "unknown"; }

}  // namespace

std::string Topology::Describe() const {
  const Affinity affinity = Assign(*this);
  std::string out = fmt::format("topology of {}: {} GPUs, {} network cards\n", source, gpus.size(), nics.size());
  for (size_t i = 0; i < gpus.size(); ++i)
    out += fmt::format("gpu {} numa={} nics=[{}]\n", gpus[i].address.ToString(), gpus[i].numa_node,
                       Labels(*this, affinity.nics_of_gpu[i]));
  for (const PciDevice& nic : nics)
    out += fmt::format("nic {} pci={} id={:04x}:{:04x} numa={} port_gbps={} pci_gbps={} {}\n", nic.label(),
                       nic.address.ToString(), nic.vendor, nic.device, nic.numa_node,
                       OrUnknown(nic.port_gbps), OrUnknown(nic.pci_gbps),
                       nic.name.empty() ? "no-driver" : nic.up ? "up" : "down");
  if (!affinity.spare.empty()) out += fmt::format("spare nics=[{}]\n", Labels(*this, affinity.spare));
  std::set<int> nodes;
  for (const PciDevice& nic : nics) nodes.insert(nic.numa_node);
  for (const int node : nodes) {
    std::vector<uint32_t> local;
    for (uint32_t i = 0; i < nics.size(); ++i)
      if (nics[i].numa_node == node) local.push_back(i);
    out += fmt::format("memory numa={} nics=[{}]\n", node, Labels(*this, local));
  }
  return out;
}

}  // namespace baton::transfer
