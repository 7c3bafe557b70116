// Goes on with a broken /generate stream at workers that know nothing of continuations (SGLang):
// the outputs so far become part of the prompt, and what the next worker says is put behind what
// the client has.
//
// Only for requests where that is the same thing: one prompt given as ids, n = 1, no penalties, no
// min_new_tokens, no stop strings, no seed unless greedy, no logprobs; and only for cumulative
// streams with output_ids (SGLang's default). Keeps one event, the last. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/json.h"

namespace baton::router {

class GenerateResume {
 public:
  // `body` is the client's. nullopt: such a request cannot go on this way.
  static std::optional<GenerateResume> For(std::string_view body);

  // An event payload as the client got it.
  void Note(std::string_view payload);
  // Something is there to go on from.
  bool resumable() const;
  // The next worker's request (bootstrap fields are not touched). Later payloads must go through
  // Rewrite from then on.
  std::string NextBody();
  bool resumed() const { return !base_.ids.empty(); }
  // A payload of a resumed attempt, as part of the whole; "" when it is no event of the kind.
  std::string Rewrite(std::string_view payload, int migrations) const;

 private:
  struct Progress {
    std::string text, id;
    std::vector<int64_t> ids;
  };
  static std::optional<Progress> Read(std::string_view payload);

  json::object request_;
  size_t prompt_tokens_ = 0;
  int64_t max_new_tokens_ = 128;  // SGLang's default
  std::string last_;              // payload
  Progress base_;                 // what the client had at the last NextBody
};

}  // namespace baton::router
