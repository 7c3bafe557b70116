// hwloc XML from a file: any text gives a topology or an error, and a topology can be shared out.
#include "transfer/topology/topology.h"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const baton::Result<baton::transfer::Topology> read =
      baton::transfer::ParseHwlocXml({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!read.ok()) return 0;
  const baton::transfer::Affinity affinity = baton::transfer::Assign(*read);
  if (affinity.nics_of_gpu.size() != read->gpus.size()) std::abort();
  bool any_up = false;
  for (const baton::transfer::PciDevice& nic : read->nics) any_up |= nic.up;
  for (const auto& nics : affinity.nics_of_gpu)
    if (nics.empty() == any_up) std::abort();
  if (read->Describe().empty()) std::abort();
  return 0;
}
