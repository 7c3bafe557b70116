// The Fabric over libfabric: tcp;ofi_rxm, efa and efa-direct by one code path.
//
// Nothing is assumed of a provider: what it demands (memory registration modes, keys, ordering,
// limits, wait objects) is read back from its fi_info and branched on
// (specs/transfer-engine.md section 4.2). Built against 1.17 to 2.x and checked at run time;
// efa needs 1.18 or later (before that it had no RDMA write).
// The efa and efa-direct branches, and with them the registration of device memory, follow the
// documentation and have never run on EFA hardware.
#pragma once

#include <memory>
#include <vector>

#include "transfer/fabric.h"
#include "transfer/transfer.h"

namespace baton::transfer {

// What one Options opens: a fabric of its own, or rails that are to be joined (each with all its
// objects: libfabric 1.17 crashed when endpoints shared them).
struct LibfabricFabrics {
  std::vector<std::unique_ptr<Fabric>> fabrics;  // at least one
  bool rails = false;
};

// Chooses by options.provider, host and require_rdma, once. Rails: one for each of options.rails that
// can be opened, with none given one for each EFA domain near the memory. kUnsupported names what was
// found instead.
Result<LibfabricFabrics> OpenLibfabricFabrics(const Options& options);
// The same without rails: one endpoint, options.rails or not.
Result<std::unique_ptr<Fabric>> OpenLibfabric(const Options& options);

}  // namespace baton::transfer
