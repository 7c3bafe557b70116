// Does a server say of itself that it is of another role than it was added as? Such a one would take
// requests and fail them all.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace baton::router {

enum class Role : uint8_t { kRegular, kPrefill, kDecode };
std::string_view RoleName(Role role);

// What is wrong and the way out, or "". `mode`: disaggregation_mode of its /server_info; workers that do not
// say it (SGLang before it had the field), or say something new, are taken at the operator's word.
std::string RoleConflict(Role role, std::string_view url, std::string_view mode);

}  // namespace baton::router
