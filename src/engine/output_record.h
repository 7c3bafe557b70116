// An owned copy of an Output, for code that must keep it past the callback.
#pragma once

#include <optional>
#include <vector>

#include "engine/request.h"

namespace baton::engine {

struct OutputRecord {
  Output output;  // its views are empty; the owned copies below replace them
  std::optional<TokenLogprob> logprob;
  std::vector<TokenLogprob> prompt_logprobs;

  explicit OutputRecord(const Output& from)
      : output(from), prompt_logprobs(from.prompt_logprobs.begin(), from.prompt_logprobs.end()) {
    if (from.logprob) logprob = *from.logprob;
    output.logprob = nullptr;
    output.prompt_logprobs = {};
  }
  // A view of this record, valid as long as it lives.
  Output View() const {
    Output view = output;
    view.logprob = logprob ? &*logprob : nullptr;
    view.prompt_logprobs = prompt_logprobs;
    return view;
  }
};

}  // namespace baton::engine
