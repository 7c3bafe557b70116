// Brings text to the Unicode version of the pattern library.
//
// PCRE2 10.42 knows Unicode 14; the tokenizers that models were trained with classify by newer
// tables. A character that is newer than PCRE2's is replaced, for matching only, by an old one of
// the same general category and the same UTF-8 length, so that offsets stay true. U+180E, which
// PCRE2 alone takes for white space, is replaced by a plain format character.
#pragma once

#include <string>
#include <string_view>

namespace baton::tokenizer {

// The old character that stands for `point`, or `point` itself.
char32_t StandIn(char32_t point);

// When `text` (well formed) holds such characters: writes its stand-in to `out` and returns true.
bool ReplaceNewCharacters(std::string_view text, std::string& out);

}  // namespace baton::tokenizer
