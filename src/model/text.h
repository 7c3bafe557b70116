// How names from untrusted files are shown in messages.
#pragma once

#include <string>
#include <string_view>

namespace baton::model {

// `name` in single quotes, cut after 80 bytes, with bytes outside of printable ASCII as \xNN: the
// result is always valid UTF-8 and one line.
std::string Quote(std::string_view name);

}  // namespace baton::model
