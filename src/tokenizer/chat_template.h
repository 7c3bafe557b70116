// Chat templates: the Jinja that models ship, rendered as Jinja2 3.1 renders it in the environment
// that Hugging Face transformers sets up (trim_blocks, lstrip_blocks, loop controls, the
// `generation` tag, tojson without HTML escaping, raise_exception, strftime_now).
//
// A ChatTemplate is immutable and safe to use from any thread. Rendering is bounded: steps, output
// bytes and recursion have limits, so a hostile template ends with an error, never a hang.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/json.h"
#include "common/status.h"

namespace baton::tokenizer {

struct ChatRenderInput {
  json::value messages;                     // array of message objects, passed through untouched
  json::value tools;                        // array, or null
  bool add_generation_prompt = true;
  json::object extra;                       // chat_template_kwargs: become template variables
  std::string bos_token, eos_token;
  std::optional<std::tm> now;               // for strftime_now; wall clock when absent
};

// What one render may use before it ends with an error.
struct RenderBounds {
  int64_t steps = 50'000'000;                // evaluated nodes, and one per 32 bytes of text made
  int64_t memory_bytes = int64_t{256} << 20; // of values and output alive at once
  size_t output_bytes = size_t{64} << 20;    // of the text, and of any one string
};

class ChatTemplate {
 public:
  // kInvalidArgument with line number for a syntax error.
  static Result<ChatTemplate> Parse(std::string_view source);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // Goes through a message's content part by part, where that is a list. Others take a string.
  bool reads_parts() const;

  // kInvalidArgument: the template raised (its own message is kept word for word), used an
  // undefined value wrongly, or hit a limit.
  Result<std::string> Render(const ChatRenderInput& input, const RenderBounds& bounds = {}) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::tokenizer
