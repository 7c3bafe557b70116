// The request of `baton render-chat`, and of anything else that renders a chat from JSON text:
//   {"messages": [...], "tools": [...], "add_generation_prompt": true, "documents": [...],
//    "chat_template_kwargs": {...}}
// Only `messages` is required. Reads and checks; rendering is ChatTemplate's.
#pragma once

#include <ctime>
#include <string_view>

#include "common/status.h"
#include "tokenizer/chat_template.h"

namespace baton::tokenizer {

// What the request does not say: it comes from the model or from flags.
struct RenderSettings {
  std::string_view bos_token, eos_token;
  std::optional<std::tm> now;  // for strftime_now; wall clock when absent
};

// kInvalidArgument names the member that is wrong. Thread-safe.
Result<ChatRenderInput> ParseRenderRequest(std::string_view request_json,
                                           const RenderSettings& settings);

// "2026-11-22T12:00:00" or "2026-11-22". kInvalidArgument for anything else.
Result<std::tm> ParseRenderTime(std::string_view text);

}  // namespace baton::tokenizer
