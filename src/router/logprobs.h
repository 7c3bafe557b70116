// Puts the prompt's logprobs, which only prefill knows, into decode's answer to /generate.
//
// For every sample: meta_info.input_token_logprobs = prefill's list, then decode's (empty on
// decode), and the same for input_top_logprobs and input_token_ids_logprobs. Shapes: one object, a
// list of objects, a stream of events (specs/sglang-pd-protocol.md 3.2.10, issue row 25: the real
// router merges only the first of these). Bytes are spliced, so that no number changes its digits.
// Pure; not thread-safe per object.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "common/status.h"

namespace baton::router {

class InputLogprobs {
 public:
  // Reads prefill's whole answer: a JSON object, a JSON list, or an event stream. kDataCorrupt.
  static Result<InputLogprobs> Read(std::string_view prefill_body, bool event_stream);

  // Decode's whole answer (object or list), merged. kDataCorrupt when it is neither.
  Result<std::string> MergeBody(std::string_view decode_body) const;
  // One event payload of decode's stream. A list that decode's event lacks is added to the first
  // event of its sample only. Payloads that are not answers ("[DONE]", errors) stay as they are.
  std::string MergeEvent(std::string_view payload);

 private:
  static constexpr size_t kLists = 3;
  struct Sample {
    std::array<std::string, kLists> items;  // the inside of each list; "" when absent or empty
    bool merged = false;                    // an event of this sample has had it
  };

  void Take(std::string_view answer, int64_t index);
  // nullopt-like: returns false when `answer` is no answer object.
  bool Merge(std::string_view answer, const Sample& sample, bool add_missing, std::string* out) const;

  std::map<int64_t, Sample> samples_;
};

}  // namespace baton::router
