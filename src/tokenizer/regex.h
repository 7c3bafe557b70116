// A compiled pattern (PCRE2, UTF and Unicode properties, JIT where the platform has it).
//
// Regex is immutable and shared by threads; a RegexMatcher is the scratch of one call. Matching is
// bounded: steps, heap and JIT stack have limits, so a hostile pattern or text ends with an error.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace baton::tokenizer {

struct Span {
  size_t begin = 0, end = 0;
  bool operator==(const Span&) const = default;
};

class Regex {
 public:
  // `pattern` in Oniguruma's syntax (see regex_syntax.h). kInvalidArgument: does not compile;
  // kUnsupported: no equivalent here.
  static Result<Regex> Compile(std::string_view pattern);
  // Matches exactly the bytes of `text`.
  static Result<Regex> CompileLiteral(std::string_view text);

  struct Code;  // PCRE2's code object

 private:
  friend class RegexMatcher;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;  // shared: a Regex is copied into tables of steps
};

class RegexMatcher {
 public:
  explicit RegexMatcher(const Regex& regex);
  ~RegexMatcher();
  RegexMatcher(const RegexMatcher&) = delete;
  RegexMatcher& operator=(const RegexMatcher&) = delete;

  // The leftmost match that starts at or after `from`. `subject` is well-formed UTF-8 and `from` a
  // character boundary. Nothing outside of `subject` is seen by look-arounds.
  // kResourceExhausted: a limit was hit.
  Result<std::optional<Span>> Find(std::string_view subject, size_t from);

 private:
  struct Scratch;
  std::shared_ptr<const Regex::Code> code_;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace baton::tokenizer
