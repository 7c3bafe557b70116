// Which Baton this is.
#pragma once

#include <string_view>

namespace baton {

extern const std::string_view kVersion;  // of CMakeLists.txt: "0.1.0"

}  // namespace baton
