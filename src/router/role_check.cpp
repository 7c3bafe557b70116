#include "router/role_check.h"

#include <fmt/format.h>

namespace baton::router {

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kRegular: return "regular";
    case Role::kPrefill: return "prefill";
    case Role::kDecode: return "decode";
  }
  return "";
}

std::string RoleConflict(Role role, std::string_view url, std::string_view mode) {
  const bool known = mode == "null" || mode == "prefill" || mode == "decode";
  const std::string_view right = role == Role::kRegular ? "null" : RoleName(role);
  if (!known || mode == right) return "";
  const std::string what = fmt::format("{} was added as a {} worker, but says that it is a {} server", url, RoleName(role),
                                       mode == "null" ? "monolithic" : mode);
  if (role == Role::kRegular) {
    return fmt::format("{}: restart it without --disaggregation-mode, or add it to a router with --pd-disaggregation", what);
  }
  if (mode == "null") {
    return fmt::format("{}: restart it with --disaggregation-mode {}, or add it to a router without --pd-disaggregation", what, right);
  }
  return fmt::format("{}: add it as {} (--{} URL, worker_type \"{}\"), or restart it with --disaggregation-mode {}", what, mode,
                     mode, mode, right);
}

}  // namespace baton::router
