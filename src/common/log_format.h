// How a log line is made from a message; for what writes lines (log.cpp, log_file.cpp).
#pragma once

#include <memory>
#include <string>

#include <spdlog/formatter.h>

namespace baton::log {

// `prefix` in spdlog's pattern language, a space, the message with its control characters escaped.
std::unique_ptr<spdlog::formatter> MakeFormatter(const std::string& prefix);

}  // namespace baton::log
