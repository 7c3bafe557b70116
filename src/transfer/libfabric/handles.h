// Owners of libfabric objects: closed in the reverse order of their making.
#pragma once

#include <memory>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "common/status.h"

namespace baton::transfer {

template <typename Object>
struct FidCloser {
  void operator()(Object* object) const { fi_close(&object->fid); }
};
template <typename Object>
using Fid = std::unique_ptr<Object, FidCloser<Object>>;

struct InfoFreer {
  void operator()(fi_info* info) const { fi_freeinfo(info); }
};
using Info = std::unique_ptr<fi_info, InfoFreer>;

// Any failing fi_* call: provider, call, errno and its text.
inline Status FabricError(Code code, std::string_view provider, std::string_view call, long error) {
  return Error(code, "libfabric {}: {}: {} ({})", provider, call,
               fi_strerror(static_cast<int>(error < 0 ? -error : error)),
               error < 0 ? -error : error);
}

}  // namespace baton::transfer
