// The answers of /v1/completions and /v1/chat/completions: whole and chunked.
#pragma once

#include "common/json.h"
#include "server/generation.h"

namespace baton::server {

// "stop", "length", "abort", or null while running.
json::value OpenAiFinishReason(const Sequence& sequence);
// The stop token or string that ended it, or null.
json::value MatchedStop(const Sequence& sequence);

// Usage over `sequences` outputs of `prompts` prompts (each prompt counts once, whatever n is).
json::object Usage(const Context& context, const Generation& generation, int samples_per_prompt, bool timings);

// Logprobs of output ids [from, to) in chat's shape: {"content": [...]}.
json::object ChatLogprobs(const Context& context, const Sequence& sequence, size_t from, size_t to, int top);
// In completions' shape: tokens, token_logprobs, top_logprobs, text_offset. `prompt` puts the
// prompt's in front (echo). `offset` is where the text of `from` begins in the whole output.
json::object CompletionLogprobs(const Context& context, const Sequence& sequence, std::span<const int32_t> prompt,
                                size_t from, size_t to, int top, size_t offset);

}  // namespace baton::server
