// Patterns of tokenizer.json are written for Oniguruma; we match with PCRE2. This translates the
// places where the two read the same characters differently, and refuses what has no equivalent.
#pragma once

#include <string>
#include <string_view>

#include "common/status.h"

namespace baton::tokenizer {

// Translated: \w \W \b \B (Unicode word characters as Oniguruma counts them), \h \H (hex digits),
// \uHHHH, \p{Script}, and class intersection [A&&[B]]. kUnsupported, with the offset: \W inside a class, nested classes,
// verbs "(*...)", \Q \E \C \K.
Result<std::string> TranslatePattern(std::string_view oniguruma);

}  // namespace baton::tokenizer
