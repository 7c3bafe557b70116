// The one exception of the Jinja interpreter. It stays inside `tokenizer`: chat_template.cpp turns
// it into a Status. The kinds are those Python exceptions that Jinja2 itself tells apart (the `int`
// filter swallows type and value errors, nothing else).
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace baton::tokenizer::jinja {

enum class ErrorKind {
  kSyntax,     // the template does not parse
  kType,       // TypeError: wrong kind of operand or argument
  kValue,      // ValueError, KeyError, ZeroDivisionError: right kind, impossible value
  kOverflow,   // an integer beyond 64 bits, a float out of range
  kUndefined,  // an undefined value was used for more than printing or testing
  kSecurity,   // Jinja's sandbox forbids it
  kRaised,     // raise_exception(): the message is the template's own
  kLimit,      // steps, memory, depth or output
};

struct TemplateError {
  ErrorKind kind;
  std::string message;
  int line = 0;  // 0: not known yet; the interpreter fills in the statement's line
};

template <typename... Args>
[[noreturn]] void Throw(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError{kind, fmt::format(format, std::forward<Args>(args)...)};
}

}  // namespace baton::tokenizer::jinja
