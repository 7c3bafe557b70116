// From request prompts to token ids: tokenizing, chat templates, length checks.
#pragma once

#include <string>
#include <vector>

#include "server/context.h"

namespace baton::server {

// Ids of a prompt; text is tokenized with the model's special tokens, ids are taken as they are.
// kInvalidArgument: empty, too long (names both numbers), ids outside of the vocabulary, text
// without a tokenizer.
Result<std::vector<int32_t>> TokenizePrompt(const Context& context, const api::Prompt& prompt,
                                            const api::SamplingParams& sampling);

// What the model reads for a chat, as text and as ids.
struct RenderedChat {
  std::string text;
  std::vector<int32_t> ids;
};
Result<RenderedChat> RenderChat(const Context& context, const api::ChatRequest& chat);

Status CheckPromptLength(const Context& context, size_t tokens, const api::SamplingParams& sampling);

}  // namespace baton::server
