// Tokens that are found in the raw text before any splitting: control tokens such as <|im_end|> and
// user-defined ones. The leftmost, and of those the longest, wins; semantics (lstrip, rstrip,
// single_word, specials that stay text) follow Hugging Face tokenizers' AddedVocabulary.
//
// Matching walks a byte trie from each position whose first byte can start a token, so its cost
// does not grow with the number of tokens. Immutable after Make; any thread may call Split.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "tokenizer/regex.h"

namespace baton::tokenizer {

struct AddedToken {
  std::string content;       // UTF-8, as written in the text
  int32_t id = -1;
  bool special = false;      // control: skipped by skip_special_tokens, text unless parse_special
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and behind it
  bool single_word = false;  // only between non-word characters
  bool normalized = false;   // matched in the normalized text, not in the raw one
};

// A stretch of text: one added token, or (id < 0) what still has to be split and merged.
struct TextSegment {
  Span span;
  int32_t id = -1;
};

class AddedTokenMatcher {
 public:
  static constexpr size_t kMaxTokenBytes = 1024;

  AddedTokenMatcher();  // of no tokens
  // kDataCorrupt: empty content or longer than kMaxTokenBytes. Of equal contents the last counts.
  static Result<AddedTokenMatcher> Make(std::vector<AddedToken> tokens);

  AddedTokenMatcher(AddedTokenMatcher&&) noexcept;
  AddedTokenMatcher& operator=(AddedTokenMatcher&&) noexcept;
  ~AddedTokenMatcher();

  // Appends segments that cover `text` (well-formed UTF-8) from left to right, none of them empty;
  // the spans of two tokens may share white space when the first one has rstrip. Without
  // `match_special`, control tokens stay text.
  void Split(std::string_view text, bool match_special, std::vector<TextSegment>& out) const;

 private:
  struct Trie;
  std::unique_ptr<Trie> trie_;
};

}  // namespace baton::tokenizer
