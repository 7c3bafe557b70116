#include "tokenizer/regex.h"

#include <gtest/gtest.h>

#include "tokenizer/regex_syntax.h"

namespace baton::tokenizer {
namespace {

std::vector<std::string> Matches(std::string_view pattern, std::string_view text) {
  auto regex = Regex::Compile(pattern);
  EXPECT_TRUE(regex.ok()) << regex.status().ToString();
  RegexMatcher matcher(*regex);
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    auto found = matcher.Find(text, at);
    EXPECT_TRUE(found.ok()) << found.status().ToString();
    if (!found.ok() || !found->has_value()) break;
    out.emplace_back(text.substr((*found)->begin, (*found)->end - (*found)->begin));
    at = std::max(at + 1, (*found)->end);
  }
  return out;
}

using Found = std::vector<std::string>;

TEST(Regex, ReadsWordCharactersAsOnigurumaDoes) {
  EXPECT_EQ(Matches(R"(\w+)", "a\u0301_1² ⅷ೬½ⓐ౹"), (Found{"a\u0301_1²", "ⅷ೬½ⓐ"}));
  EXPECT_EQ(Matches(R"([\w-]+)", "ab-c d"), (Found{"ab-c", "d"}));
  EXPECT_EQ(Matches(R"(\W)", "a,b"), (Found{","}));
  EXPECT_EQ(Matches(R"(\h+)", "xBEEFg"), (Found{"BEEF"}));
  EXPECT_EQ(Matches(R"(n\b)", "n n\u0301"), (Found{"n"}));
  EXPECT_EQ(Matches(R"(\u00e9)", "é"), (Found{"é"}));
}

TEST(Regex, ScriptsAreNotExtendedByPunctuation) {
  EXPECT_EQ(Matches(R"(\p{Han}+)", "漢】字"), (Found{"漢", "字"}));
  EXPECT_EQ(Matches(R"([\p{^Han}]+)", "漢】字"), (Found{"】"}));
}

TEST(Regex, IntersectsClasses) {
  EXPECT_EQ(Matches(R"([\p{L}&&[^\p{Han}]]+)", "ab漢cd"), (Found{"ab", "cd"}));
  EXPECT_EQ(Matches(R"([a-z&&[aeiou]])", "hello"), (Found{"e", "o"}));
}

TEST(Regex, LinesBeginAndEndAtLineBreaks) {
  EXPECT_EQ(Matches("^.", "a\nb"), (Found{"a", "b"}));
}

TEST(Regex, RefusesWhatHasNoEquivalent) {
  for (const char* pattern : {R"([a\W])", "[a[b]]", "(*LIMIT_MATCH=1)a", R"(\Qa\E)", R"(a\Kb)",
                              R"(\C)", "[^a&&[b]]", "[a&&b]", "[abc", "a\\", R"(\u12)"}) {
    const Status status = Regex::Compile(pattern).status();
    EXPECT_EQ(status.code(), Code::kUnsupported) << pattern;
    EXPECT_NE(status.message().find("at offset"), std::string::npos) << pattern;
  }
  const Status status = Regex::Compile("(a").status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("offset 2"), std::string::npos) << status.message();
  EXPECT_EQ(Regex::Compile(std::string(1 << 20, 'a')).status().code(), Code::kUnsupported);
}

TEST(Regex, LiteralsAreLiteral) {
  auto regex = Regex::CompileLiteral("a.(b\\E");
  ASSERT_TRUE(regex.ok());
  RegexMatcher matcher(*regex);
  auto found = matcher.Find("axa.(b\\E", 0);
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ(**found, (Span{2, 8}));
}

TEST(Regex, DeepBacktrackingGetsALargerStack) {
  // Each turn of the group leaves a way back on the stack: far more than the first 32 KiB.
  auto regex = Regex::Compile("(?:(?=x)[a-z])*x");
  ASSERT_TRUE(regex.ok());
  RegexMatcher matcher(*regex);
  const std::string text(500'000, 'x');
  auto found = matcher.Find(text, 0);
  ASSERT_TRUE(found.ok() && found->has_value()) << found.status().ToString();
  EXPECT_EQ(**found, (Span{0, text.size()}));
}

}  // namespace
}  // namespace baton::tokenizer
