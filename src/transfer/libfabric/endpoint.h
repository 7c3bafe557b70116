// One opened libfabric endpoint and what belongs to it, with the table of its peers' addresses.
// Used by the two fabrics that put it to work: libfabric.cpp (writes) and read_fabric.cpp (reads).
//
// Thread: the owner of the Fabric.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "transfer/libfabric/choice.h"
#include "transfer/libfabric/efa.h"
#include "transfer/libfabric/handles.h"

namespace baton::transfer {

struct Endpoint {
  // `bind`: flags beside FI_TRANSMIT | FI_RECV for the completion queue.
  static Result<Endpoint> Open(ProviderChoice choice, uint64_t bind);

  std::string NameOf(std::string_view address) const;
  Result<uint64_t> Insert(std::string_view address);
  void Remove(uint64_t peer);
  // Removes an address whoever uses it; their handles are void from here on.
  void Cut(const std::string& address);
  // An operation to the peer has completed, so it is connected. Cheap after the first one.
  void NoteConnected(uint64_t peer) {
    if (!fresh_.empty()) TuneConnection(peer);
  }
  // 0 or -FI_EAGAIN: what fi_trywait says of the queue; 0 where there is nothing to wait on.
  int TryWait();

  const fi_info& info() const { return *choice.info; }
  bool is_efa() const { return choice.family == kEfaFamily; }
  // Keys are ours to choose, so each peer can have its own.
  bool app_keys() const { return !(info().domain_attr->mr_mode & FI_MR_PROV_KEY); }
  Status Failed(std::string_view call, long error) const {
    return FabricError(Code::kUnavailable, choice.name, call, error);
  }
  // The error entry of a failed operation in words.
  Status Describe(const fi_cq_err_entry& error, std::string_view operation) const;

  ProviderChoice choice;
  std::string address;
  efa::Hardware hardware;  // efa only
  size_t cq_entries = 0;
  int wait_fd = -1;
  Fid<fid_fabric> fabric;
  Fid<fid_domain> domain;
  Fid<fid_av> av;
  Fid<fid_cq> cq;
  Fid<fid_ep> ep;  // last: closed before what is bound to it

 private:
  struct KnownAddress {
    fi_addr_t handle = FI_ADDR_UNSPEC;
    uint32_t users = 0;
  };

  Status OpenObjects(uint64_t bind);
  Status OpenCq();
  Status ReadAddress();
  bool HasConnection(fi_addr_t handle);
  void TuneConnection(uint64_t peer);
  void Erase(std::unordered_map<std::string, KnownAddress>::iterator known);

  std::unordered_map<std::string, KnownAddress> addresses_;
  std::unordered_map<uint64_t, std::string> names_;  // handle -> key of addresses_
  std::vector<uint64_t> fresh_;  // handles of peers of this machine that are not known to be connected
};

}  // namespace baton::transfer
