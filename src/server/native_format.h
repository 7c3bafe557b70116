// The answers of /generate, in SGLang's shapes (specs/sglang-pd-protocol.md section 2.3).
#pragma once

#include "common/json.h"
#include "server/generation.h"

namespace baton::server {

struct NativeFormat {
  const Context& context;
  bool text_in_logprobs = false;
  bool logprobs = false;
  bool prompt_logprobs = false;   // prompt_start was given
  int top_logprobs = 0;
  bool token_ids_logprob = false;

  // {"text", "output_ids", "meta_info"} of a sequence, from output id `from` on (0: all so far).
  json::object Format(const Sequence& sequence, size_t from) const;
};

// SGLang's {"type": ...}, or null while running.
json::value NativeFinishReason(const Sequence& sequence);

}  // namespace baton::server
