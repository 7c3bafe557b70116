// UTF-8 seen as Python sees text: code points, their classes and their case. Text from JSON is
// valid UTF-8; template sources are checked when parsed, so nothing here validates. An index is in
// code points, an offset in bytes.
//
// Classes come from utf8proc (Unicode 15); full case mappings are Unicode's SpecialCasing.txt.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace baton::tokenizer::jinja {

size_t CountCodePoints(std::string_view text);
// Bytes of the code point that starts at `offset`.
size_t CodePointSize(std::string_view text, size_t offset);
// Byte offset of code point `index` (0 <= index <= count).
size_t OffsetOfIndex(std::string_view text, size_t index);
// Decodes the code point at *offset and moves past it.
char32_t NextCodePoint(std::string_view text, size_t* offset);
// Decodes the code point that ends at *offset and moves before it.
char32_t PreviousCodePoint(std::string_view text, size_t* offset);
void AppendCodePoint(std::string& out, char32_t c);
std::u32string Decode(std::string_view text);

bool IsSpace(char32_t c);      // str.isspace, also what \s and split() mean
bool IsPrintable(char32_t c);  // else repr escapes it
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsNumeric(char32_t c);
bool IsAlnum(char32_t c);
bool IsWord(char32_t c);  // \w
bool IsLower(char32_t c);
bool IsUpper(char32_t c);
bool IsTitle(char32_t c);
bool IsLineBreak(char32_t c);  // where splitlines() cuts
bool IsIdentifier(std::string_view name);

std::string ToLower(std::string_view text);
std::string ToUpper(std::string_view text);
std::string ToTitle(std::string_view text);  // str.title
std::string Capitalize(std::string_view text);
std::string SwapCase(std::string_view text);
std::string CaseFold(std::string_view text);

// `chars` empty optional-like: nullptr strips white space.
std::string_view StripLeft(std::string_view text, const std::string* chars = nullptr);
std::string_view StripRight(std::string_view text, const std::string* chars = nullptr);

}  // namespace baton::tokenizer::jinja
