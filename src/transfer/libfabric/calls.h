// The functions of libfabric that are not reached through one of its objects. Tests put a provider of
// their own in their place (efa_for_tests.h), so that code for hardware runs without it.
#pragma once

#include <rdma/fabric.h>

namespace baton::transfer {

struct FabricCalls {
  uint32_t (*version)() = &fi_version;
  int (*getinfo)(uint32_t version, const char* node, const char* service, uint64_t flags,
                 const fi_info* hints, fi_info** info) = &fi_getinfo;
  int (*fabric)(fi_fabric_attr* attr, fid_fabric** fabric, void* context) = &fi_fabric;
};

// Process-wide. Change it only while no fabric is open and no other thread opens one.
inline FabricCalls& Calls() {
  static FabricCalls calls;
  return calls;
}

}  // namespace baton::transfer
