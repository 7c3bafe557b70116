// The one logger: to stderr as `[2026-11-22 12:00:00 TP0] text`, which SGLang's users grep
// (specs/sglang-pd-protocol.md section 5). Texts of peers may be logged as they came: controls are
// escaped (printable.h). State changes and errors only; rates are metrics. Thread-safe.
#pragma once

#include <string_view>

#include <spdlog/spdlog.h>

namespace baton::log {

// Sets level ("debug", "info", "warning", "error"; anything else means info) and the text that
// follows the time ("TP0", "router"; empty for none). Call once, before threads start.
void Init(std::string_view level, std::string_view tag);
// The level alone, at any time.
void SetLevel(std::string_view level);

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;

}  // namespace baton::log
