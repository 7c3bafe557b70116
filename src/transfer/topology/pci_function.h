// What both readers find about a PCI function, before it is known whether it matters.
#pragma once

#include <string>
#include <vector>

#include "transfer/topology/topology.h"

namespace baton::transfer {

struct PciFunction {
  PciAddress address;
  uint16_t class_code = 0;   // base class and subclass: 0x0302
  uint16_t vendor = 0, device = 0;
  std::string verbs_name;
  int numa_node = -1;
  double port_gbps = 0, pci_gbps = 0;
  bool up = true;
  bool is_virtual = false;   // its physical function is visible too
  std::vector<std::string> bridges;
};

// Keeps accelerators and RDMA cards, as Topology says.
Topology Select(std::vector<PciFunction> functions, std::string source);

}  // namespace baton::transfer
