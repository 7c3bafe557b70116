#include "tokenizer/added_tokens.h"

#include <gtest/gtest.h>

namespace baton::tokenizer {
namespace {

AddedToken Token(std::string content, int32_t id, bool special = true) {
  AddedToken token;
  token.content = std::move(content);
  token.id = id;
  token.special = special;
  return token;
}

// "text|<id>|text": what Split makes of `text`.
std::string Cut(const AddedTokenMatcher& matcher, std::string_view text, bool specials = true) {
  std::vector<TextSegment> segments;
  matcher.Split(text, specials, segments);
  std::string out;
  for (const TextSegment& s : segments) {
    if (!out.empty()) out += '|';
    out += s.id >= 0 ? fmt::format("<{}>", s.id)
                     : std::string(text.substr(s.span.begin, s.span.end - s.span.begin));
  }
  return out;
}

AddedTokenMatcher Make(std::vector<AddedToken> tokens) {
  auto made = AddedTokenMatcher::Make(std::move(tokens));
  EXPECT_TRUE(made.ok()) << made.status().ToString();
  return std::move(*made);
}

TEST(AddedTokens, TakesTheLongestAtTheLeftmostPlace) {
  const auto matcher = Make({Token("<a>", 1), Token("<a>b", 2), Token("b<", 3)});
  EXPECT_EQ(Cut(matcher, "x<a>bc<a>"), "x|<2>|c|<1>");
  EXPECT_EQ(Cut(matcher, "b<a>"), "<3>|a>");
  EXPECT_EQ(Cut(matcher, "<a<"), "<a<");
  EXPECT_EQ(Cut(matcher, ""), "");
}

TEST(AddedTokens, SpecialsStayTextOnRequestAndUserDefinedDoNot) {
  const auto matcher = Make({Token("<s>", 1), Token("<tool>", 2, false)});
  EXPECT_EQ(Cut(matcher, "<s><tool>", false), "<s>|<2>");
  EXPECT_EQ(Cut(matcher, "<s><tool>", true), "<1>|<2>");
}

TEST(AddedTokens, StripsAndSingleWords) {
  AddedToken left = Token("<l>", 1), right = Token("<r>", 2), word = Token("word", 3, false);
  left.lstrip = right.rstrip = word.single_word = true;
  const auto matcher = Make({left, right, word, Token("  ", 4, false)});
  EXPECT_EQ(Cut(matcher, "a \n<l> b"), "a|<1>| b");
  EXPECT_EQ(Cut(matcher, "a <r>\u3000b"), "a |<2>|b");
  EXPECT_EQ(Cut(matcher, "<r> <l>"), "<2>|<1>");
  EXPECT_EQ(Cut(matcher, "word, wordy sword 語word ☃word"), "<3>|, wordy sword 語word ☃|<3>");
  EXPECT_EQ(Cut(matcher, "<r>   x"), "<2>|<4>| x") << "as Hugging Face: both take the white space";
}

TEST(AddedTokens, RefusesEmptyAndHugeContents) {
  EXPECT_EQ(AddedTokenMatcher::Make({Token("", 7)}).status().message(),
            "added token 7 has 0 bytes; 1 to 1024 are possible");
  EXPECT_EQ(AddedTokenMatcher::Make({Token(std::string(1025, 'x'), 7)}).status().code(),
            Code::kDataCorrupt);
}

TEST(AddedTokens, ManyTokensCostNoMorePerByte) {
  std::vector<AddedToken> tokens;
  for (int i = 0; i < 50'000; ++i) tokens.push_back(Token(fmt::format("<|reserved_{}|>", i), i));
  const auto matcher = Make(std::move(tokens));
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += "<|x";
  EXPECT_EQ(Cut(matcher, text + "<|reserved_49999|>"), text + "|<49999>");
}

}  // namespace
}  // namespace baton::tokenizer
