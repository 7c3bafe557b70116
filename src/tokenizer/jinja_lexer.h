// Splits a template into tokens, as Jinja2 3.1 does with trim_blocks and lstrip_blocks on: white
// space control is settled here, comments and raw sections vanish, text becomes kData.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace baton::tokenizer::jinja {

enum class TokenKind : uint8_t {
  kData,           // text between tags
  kVariableBegin, kVariableEnd, kBlockBegin, kBlockEnd,
  kName, kString, kInteger, kFloat,
  kOperator,       // text says which: "+", "==", "(" ...
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;     // of strings: the value, escapes resolved
  int64_t integer = 0;
  double number = 0;
};

// Throws TemplateError kSyntax. The result ends with a kEnd token. `source` must be valid UTF-8.
std::vector<Token> Tokenize(std::string_view source);

}  // namespace baton::tokenizer::jinja
