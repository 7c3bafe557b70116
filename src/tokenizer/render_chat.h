// From a chat request to what the model reads: the same for `baton render-chat` and for servers.
//
// The request of `baton render-chat` is JSON text:
//   {"messages": [...], "tools": [...], "add_generation_prompt": true, "documents": [...],
//    "chat_template_kwargs": {...}}
// Only `messages` is required.
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

// What the model reads. Content that came as a list of text parts goes to the template as it is when
// the template goes through parts, else as one string, with a space between parts as SGLang has it.
// Errors as of ChatTemplate::Render.
Result<std::string> RenderChat(const ChatTemplate& chat_template, ChatRenderInput input);

// Is this a template itself, not the name of its file?
bool IsTemplateText(std::string_view text);

// "2026-11-22T12:00:00" or "2026-11-22". kInvalidArgument for anything else.
Result<std::tm> ParseRenderTime(std::string_view text);

}  // namespace baton::tokenizer
