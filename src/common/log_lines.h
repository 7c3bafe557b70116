// Texts of several lines in the log, where a message is one line.
#pragma once

#include <string_view>

namespace baton::log {

// Each line of `text` as a warning of its own.
void WarnLines(std::string_view text);

}  // namespace baton::log
