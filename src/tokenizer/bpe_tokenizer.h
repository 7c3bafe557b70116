// Assembles the parts into a Tokenizer: added tokens, normal form, splitting, merging, and the
// tables of ids. Both sources of tokenizers (GGUF metadata, tokenizer.json) fill BpeParts.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/normalize.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/tokenizer.h"

namespace baton::tokenizer {

struct BpeParts {
  // Every token by id; an id that nobody names keeps empty bytes.
  struct Token {
    std::string bytes;  // what it decodes to
    bool special = false;
  };
  std::vector<Token> tokens;
  std::vector<BpeWord> words;
  std::vector<BpeMerge> merges;
  BpeOptions options;
  std::vector<AddedToken> added;
  std::vector<NormalForm> normal_forms;
  Pretokenizer pretokenizer;
  std::vector<int32_t> prefix_ids, suffix_ids;  // what add_special_tokens puts around a text
  std::optional<int32_t> bos_id, eos_id;
  std::vector<int32_t> more_end_ids;  // besides eos and the names that AppendEndIds knows
};

// kDataCorrupt: ids out of range, and what BpeModel and AddedTokenMatcher refuse.
Result<std::unique_ptr<Tokenizer>> MakeTokenizer(BpeParts parts);

}  // namespace baton::tokenizer
