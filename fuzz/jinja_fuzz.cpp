// Chat template text: whatever it is, parsing and rendering a small conversation ends soon, in a
// text or an error.
#include <cstdint>
#include <ctime>
#include <string_view>

#include "tokenizer/chat_template.h"

namespace {

baton::tokenizer::ChatRenderInput Conversation() {
  using baton::json::array;
  using baton::json::object;
  baton::tokenizer::ChatRenderInput input;
  input.messages = array{
      object{{"role", "system"}, {"content", " sys\n"}},
      object{{"role", "user"}, {"content", "h\xC3\xA9llo"}},
      object{
          {"role", "assistant"},
          {"content", nullptr},
          {"tool_calls",
           array{object{{"function", object{{"name", "f"}, {"arguments", object{{"a", 1.5}}}}}}}}}};
  input.tools = array{object{{"name", "f"}, {"parameters", object{{"items", 2}}}}};
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.now = std::tm{.tm_mday = 22, .tm_mon = 10, .tm_year = 126};
  return input;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto conversation = Conversation();
  // Small bounds, so that a loop over everything ends within milliseconds under a sanitizer.
  const baton::tokenizer::RenderBounds bounds{.steps = 200'000, .memory_bytes = 16 << 20,
                                              .output_bytes = 1 << 20};
  const auto parsed = baton::tokenizer::ChatTemplate::Parse(
      std::string_view(reinterpret_cast<const char*>(data), size));
  if (parsed.ok()) {
    const auto text = parsed->Render(conversation, bounds);
    if (text.ok() && text->size() > bounds.output_bytes) __builtin_trap();
  }
  return 0;
}
