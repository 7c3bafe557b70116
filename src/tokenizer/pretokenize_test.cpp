#include "tokenizer/pretokenize.h"

#include <gtest/gtest.h>

#include "tokenizer/byte_alphabet.h"

namespace baton::tokenizer {
namespace {

using Pieces = std::vector<std::string>;

Pieces Split(const Pretokenizer& splitter, std::string_view text) {
  PieceBuffer buffer;
  const Status status = splitter.Split(text, buffer);
  EXPECT_TRUE(status.ok()) << status.ToString();
  Pieces out;
  for (const Span s : buffer.pieces) out.emplace_back(buffer.text.substr(s.begin, s.end - s.begin));
  return out;
}

Pieces SplitNamed(std::string_view pre, std::string_view text) {
  auto named = FindPretokenizer(pre);
  EXPECT_TRUE(named.ok()) << named.status().ToString();
  return Split(named->splitter, text);
}

Pieces SplitBy(std::string_view pattern, SplitBehavior behavior, bool invert,
               std::string_view text) {
  auto regex = Regex::Compile(pattern);
  EXPECT_TRUE(regex.ok()) << regex.status().ToString();
  PretokenizeStep step;
  step.regex = std::move(*regex);
  step.behavior = behavior;
  step.invert = invert;
  return Split(Pretokenizer({step}), text);
}

TEST(Pretokenize, NamedPatternsDifferWhereFamiliesDo) {
  EXPECT_EQ(SplitNamed("gpt-2", "I'm 1234  x"), (Pieces{"I", "'m", " 1234", " ", " x"}));
  EXPECT_EQ(SplitNamed("smollm", "I'm 1234"), (Pieces{"I", "'m", " ", "1", "2", "3", "4"}));
  EXPECT_EQ(SplitNamed("llama-bpe", "I'M 1234"), (Pieces{"I", "'M", " ", "123", "4"}));
  EXPECT_EQ(SplitNamed("qwen2", "a.b 12\n\n x"), (Pieces{"a", ".b", " ", "1", "2", "\n\n", " x"}));
  EXPECT_EQ(SplitNamed("gpt-4o", "parseHTTPServer"), (Pieces{"parse", "HTTPServer"}));
  EXPECT_EQ(SplitNamed("deepseek-v3", "x=日本1234"), (Pieces{"x", "=", "日本", "123", "4"}));
  EXPECT_EQ(SplitNamed("kimi-k2", "ab漢字cd"), (Pieces{"ab", "漢字", "cd"}));
}

TEST(Pretokenize, UnknownNameSaysWhichAreKnown) {
  const Status status = FindPretokenizer("nobody").status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_NE(status.message().find("\"nobody\""), std::string::npos);
  EXPECT_NE(status.message().find("llama-bpe"), std::string::npos);
  EXPECT_TRUE(FindPretokenizer("").ok()) << "a file that names none gets ggml's default";
}

TEST(Pretokenize, BosByDefaultIsLlama3s) {
  EXPECT_TRUE(FindPretokenizer("llama-bpe")->ignore_merges);
  EXPECT_FALSE(FindPretokenizer("smollm")->ignore_merges);
  EXPECT_TRUE(FindPretokenizer("qwen2")->nfc);
}

TEST(Pretokenize, BehaviorsDecideWhereAMatchGoes) {
  const auto split = [](SplitBehavior behavior, bool invert) {
    return SplitBy("-", behavior, invert, "a--b-");
  };
  EXPECT_EQ(split(SplitBehavior::kIsolated, false), (Pieces{"a", "-", "-", "b", "-"}));
  EXPECT_EQ(split(SplitBehavior::kRemoved, false), (Pieces{"a", "b"}));
  EXPECT_EQ(split(SplitBehavior::kRemoved, true), (Pieces{"-", "-", "-"}));
  EXPECT_EQ(split(SplitBehavior::kMergedWithPrevious, false), (Pieces{"a-", "-", "b-"}));
  EXPECT_EQ(split(SplitBehavior::kMergedWithNext, false), (Pieces{"a", "-", "-b", "-"}));
  EXPECT_EQ(split(SplitBehavior::kContiguous, false), (Pieces{"a", "--", "b", "-"}));
}

TEST(Pretokenize, EmptyMatchesOnlyCut) {
  EXPECT_EQ(SplitBy("(?=x)", SplitBehavior::kIsolated, false, "axxb"), (Pieces{"a", "x", "xb"}));
  EXPECT_EQ(SplitBy("q*", SplitBehavior::kIsolated, false, "é"), (Pieces{"é"}));
}

TEST(Pretokenize, PrefixSpaceGoesBeforeTextThatHasNone) {
  PretokenizeStep prefix;
  prefix.kind = PretokenizeStep::Kind::kPrefixSpace;
  EXPECT_EQ(Split(Pretokenizer({prefix}), "ab"), (Pieces{" ab"}));
  EXPECT_EQ(Split(Pretokenizer({prefix}), " ab"), (Pieces{" ab"}));
  EXPECT_EQ(Split(Pretokenizer({prefix}), ""), (Pieces{}));
}

TEST(Pretokenize, StepsBehindByteLevelSeeTheAlphabet) {
  PretokenizeStep map;
  map.kind = PretokenizeStep::Kind::kToAlphabet;
  PretokenizeStep digits;
  digits.regex = std::move(*Regex::Compile(std::string(kNumberPattern)));
  // The byte 0xB3 reads "³" in the alphabet, which is numeric: "ó" (C3 B3) falls apart.
  EXPECT_EQ(Split(Pretokenizer({map, digits}), "ó1"), (Pieces{"\xC3", "\xB3", "1"}));
  EXPECT_EQ(Split(Pretokenizer({digits, map}), "ó1"), (Pieces{"ó", "1"}));
}

TEST(Pretokenize, CharactersNewerThanPcreKeepTheirCategory) {
  // U+31350 (Unicode 15) is a letter, U+1FAE8 (15) a symbol, U+10D40 (16) a digit.
  EXPECT_EQ(SplitNamed("gpt-2", "a\U00031350\U0001FAE8\U00010D40"),
            (Pieces{"a\U00031350", "\U0001FAE8", "\U00010D40"}));
  // U+180E left White_Space in Unicode 6.3; PCRE2 alone still has it in \s.
  EXPECT_EQ(SplitNamed("gpt-2", "!\u180E!"), (Pieces{"!\u180E!"}));
}

TEST(Pretokenize, HostilePatternEndsWithAnError) {
  auto regex = Regex::Compile("(?:a|aa|aaa)+$(?<!a)");
  ASSERT_TRUE(regex.ok());
  PretokenizeStep step;
  step.regex = std::move(*regex);
  PieceBuffer buffer;
  const Status status = Pretokenizer({step}).Split(std::string(5000, 'a') + "b", buffer);
  EXPECT_TRUE(status.code() == Code::kResourceExhausted || status.code() == Code::kDeadlineExceeded)
      << status.ToString();
}

TEST(Pretokenize, LongRunsOfOneClassAreFine) {
  for (const char* pre : {"gpt-2", "llama-bpe", "qwen2", "gpt-4o", "kimi-k2", "deepseek-v3"}) {
    EXPECT_EQ(SplitNamed(pre, std::string(1 << 20, 'x')).size(), 1u) << pre;
    EXPECT_EQ(SplitNamed(pre, std::string(1 << 20, ' ')).size(), 1u) << pre;
    EXPECT_EQ(SplitNamed(pre, std::string(1 << 20, ' ') + "x").size(), 2u) << pre;
  }
}

TEST(ByteAlphabet, IsABijection) {
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  EXPECT_EQ(FromAlphabet(ToAlphabet(all)), all);
  EXPECT_EQ(ToAlphabet(" \n"), "ĠĊ");
  EXPECT_EQ(FromAlphabet(" "), std::nullopt);
  EXPECT_EQ(FromAlphabet("\u0144"), std::nullopt);
  EXPECT_EQ(FromAlphabet("\xC4"), std::nullopt);
  EXPECT_EQ(FromAlphabet("日"), std::nullopt);
}

}  // namespace
}  // namespace baton::tokenizer
