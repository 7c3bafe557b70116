#include "transfer/nixl/ucx.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <vector>

namespace baton::transfer::nixl {
namespace {

constexpr std::array<std::string_view, 5> kUnfenced = {"cma", "knem", "xpmem", "cuda_ipc", "rocm_ipc"};
// UCX's names for groups, as far as they hold one of the above.
constexpr std::array<std::string_view, 3> kSharedMemory = {"sm", "shm", "mm"};

bool Covers(std::string_view name, std::string_view transport) {
  if (name.starts_with("\\")) name.remove_prefix(1);  // UCX: exactly this one
  if (name == transport || name == "all") return true;
  if (name == "cuda") return transport == "cuda_ipc";
  if (name == "rocm") return transport == "rocm_ipc";
  if (name == "mm") return transport == "xpmem";
  const bool shared = transport == "cma" || transport == "knem" || transport == "xpmem";
  return shared && std::find(kSharedMemory.begin(), kSharedMemory.end(), name) != kSharedMemory.end();
}

}  // namespace

bool AllowsUnfenced(std::string_view transports) {
  const bool negated = transports.starts_with('^');
  if (negated) transports.remove_prefix(1);
  std::vector<std::string_view> names;
  for (size_t at = 0; at <= transports.size();) {
    const size_t end = std::min(transports.find(',', at), transports.size());
    std::string_view name = transports.substr(at, end - at);
    name = name.substr(0, name.find(':'));  // "rc:aux"
    if (!name.empty()) names.push_back(name);
    at = end + 1;
  }
  return std::any_of(kUnfenced.begin(), kUnfenced.end(), [&](std::string_view transport) {
    const bool named = std::any_of(names.begin(), names.end(),
                                   [&](std::string_view name) { return Covers(name, transport); });
    return named != negated;
  });
}

Status FenceTransports() {
  const char* const set = std::getenv("UCX_TLS");
  if (!set) {
    setenv("UCX_TLS", kFencedTransports, 1);
    return Status::Ok();
  }
  if (!AllowsUnfenced(set)) return Status::Ok();
  return Error(Code::kInvalidArgument,
               "UCX_TLS={} allows ways by which a peer of this host writes into pages that were "
               "taken away from it (cma, knem, xpmem, cuda_ipc): unset UCX_TLS or exclude them, e.g. "
               "UCX_TLS={}", set, kFencedTransports);
}

}  // namespace baton::transfer::nixl
