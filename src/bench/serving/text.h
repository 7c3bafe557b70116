// Prompt text of a wanted length in tokens, from a seed: common words in random order.
//
// With a tokenizer the words are those that are one token behind a space, so lengths are exact but
// for what the server's template adds. Without one a measured rate of tokens per word is used.
// Immutable; any thread. Equal seeds and lengths give equal text, which is how prefixes are shared.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace baton::bench::serving {

// Text to token ids without special tokens. Empty function: no tokenizer.
using Encoder = std::function<Result<std::vector<int32_t>>(std::string_view)>;

class TextMaker {
 public:
  // kUnsupported when hardly any word of the list is one token for this tokenizer.
  static Result<TextMaker> WithEncoder(Encoder encoder);
  // tokens_per_word > 0: 1 when nothing is known, else from CalibrationText's counts.
  static TextMaker WithRate(double tokens_per_word);

  // Appends text of `tokens` tokens; behind other text it begins with a space.
  void Append(uint64_t seed, int tokens, std::string* out) const;
  // Tokens of a text: by the tokenizer, else words times the rate.
  Result<int> Count(std::string_view text) const;
  bool exact() const { return static_cast<bool>(encoder_); }
  double tokens_per_word() const { return tokens_per_word_; }
  const Encoder& encoder() const { return encoder_; }

 private:
  std::vector<std::string_view> words_;
  double tokens_per_word_ = 1;
  Encoder encoder_;
};

// `words` words of the list, for measuring a server's tokens per word.
std::string CalibrationText(uint64_t seed, int words);

}  // namespace baton::bench::serving
