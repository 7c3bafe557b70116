#include "transfer/libfabric/efa.h"

#include <rdma/fi_ext.h>

#include "common/log.h"

namespace baton::transfer::efa {
namespace {

#if FI_VERSION_GE(FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION), FI_VERSION(1, 22))
static_assert(kCudaApiPermitted == FI_OPT_CUDA_API_PERMITTED);
static_assert(kSharedMemoryPermitted == FI_OPT_SHARED_MEMORY_PERMITTED);
static_assert(kMaxRmaSize == FI_OPT_MAX_RMA_SIZE);
static_assert(kEmulatedRead == FI_OPT_EFA_EMULATED_READ);
static_assert(kEmulatedWrite == FI_OPT_EFA_EMULATED_WRITE);
#endif
#if FI_VERSION_GE(FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION), FI_VERSION(2, 5))
static_assert(kUseUnsolicitedWriteRecv == FI_OPT_EFA_USE_UNSOLICITED_WRITE_RECV);
#endif
static_assert(kRnrRetry == FI_OPT_EFA_RNR_RETRY);

template <typename Value>
void Set(fid_ep* endpoint, int option, const char* name, Value value) {
  const int error = fi_setopt(&endpoint->fid, FI_OPT_ENDPOINT, option, &value, sizeof value);
  if (error) log::debug("libfabric efa: {} stays as it is: {}", name, fi_strerror(-error));
}

template <typename Value>
std::optional<Value> Get(fid_ep* endpoint, int option) {
  Value value{};
  size_t size = sizeof value;
  if (fi_getopt(&endpoint->fid, FI_OPT_ENDPOINT, option, &value, &size) != 0) return {};
  return value;
}

}  // namespace

void Tune(fid_ep* endpoint, const fi_info& info) {
  // All bytes through the card, also between processes of one host: the way over shared memory is
  // slower, crashed with memory of GPUs, and would hide a card that does not work.
  Set(endpoint, kSharedMemoryPermitted, "shared memory", false);
  // Nor copies by the provider through CUDA; a card that cannot reach the GPU should say so.
  Set(endpoint, kCudaApiPermitted, "use of CUDA", false);
  // Where a write with immediate takes a posted receive, one that comes too early waits on the card;
  // our deadlines bound it.
  Set(endpoint, kRnrRetry, "RNR retry", size_t{7});
  // Where the card needs no receive for the immediate that is the default; where we post receives
  // both sides must not expect otherwise.
  if (info.mode & FI_RX_CQ_DATA)
    Set(endpoint, kUseUnsolicitedWriteRecv, "unsolicited write receive", false);
}

Hardware Ask(fid_ep* endpoint) {
  return {.writes = !Get<bool>(endpoint, kEmulatedWrite).value_or(false),
          .reads = !Get<bool>(endpoint, kEmulatedRead).value_or(false)};
}

std::optional<uint64_t> LongestRma(fid_ep* endpoint) {
  const std::optional<size_t> longest = Get<size_t>(endpoint, kMaxRmaSize);
  if (!longest || *longest == 0) return {};
  return *longest;
}

std::string_view Explain(int prov_errno) {
  switch (prov_errno) {
    case 1: return "the endpoint was closed with this in flight";
    case 4: return "the peer's address is not (or no longer) in our address table";
    case 5: return "our own memory is not registered for this: was it freed?";
    case 7: return "the peer took its memory key back, or the place lies outside of it";
    case 8: return "the peer reset the connection";
    case 9: return "the peer's process has ended, or its endpoint was closed";
    case 10: return "the peer has no receive posted: it is overloaded or stuck";
    case 13: return "the peer stopped answering: its host, or the network between, is down";
    case kUnknownPeer: return "the peer has not inserted our address yet";
    case 15:
      return "the peer never answered: do both hosts' security groups allow all traffic from and to "
             "the group itself (EFA needs that self-reference), and are both in one subnet?";
    case 18:
      return "the peer's EFA has other features: use the same driver, rdma-core and libfabric on "
             "both hosts";
    case 4124: return "the receiver stopped answering after the connection was made";
    case 4126:
      return "the device reaches the receiver, but its process did not complete the handshake: is it "
             "running, and with a libfabric that fits?";
    case 4127: return "the peer aborted the operation";
    default: return {};
  }
}

}  // namespace baton::transfer::efa
