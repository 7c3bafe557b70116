// Request bodies of /generate, /v1/completions and /v1/chat/completions, as any client may send them.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "api/generate.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto body = baton::json::Parse({reinterpret_cast<const char*>(data), size});
  if (!body.ok()) return 0;
  const baton::api::SamplingParams defaults;
  baton::api::GenerateRequest generate;
  if (!baton::api::ParseGenerate(*body, defaults, generate) && generate.items.empty()) __builtin_trap();
  baton::api::CompletionRequest completion;
  if (!baton::api::ParseCompletion(*body, defaults, completion) && completion.prompts.empty()) __builtin_trap();
  baton::api::ChatRequest chat;
  if (!baton::api::ParseChat(*body, defaults, chat) && !chat.messages.is_array()) __builtin_trap();
  return 0;
}
