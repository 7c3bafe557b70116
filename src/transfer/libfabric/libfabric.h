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

// Chooses by options.provider, host and require_rdma. kUnsupported names what was found instead.
Result<std::unique_ptr<Fabric>> OpenLibfabric(const Options& options);
// One for each of options.rails that can be opened (each with all its objects: libfabric 1.17 crashed
// when endpoints shared them); with none given for each EFA domain, and empty for tcp.
Result<std::vector<std::unique_ptr<Fabric>>> OpenLibfabricRails(const Options& options);

}  // namespace baton::transfer
