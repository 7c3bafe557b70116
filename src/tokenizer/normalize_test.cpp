#include "tokenizer/normalize.h"

#include <gtest/gtest.h>

namespace baton::tokenizer {
namespace {

std::string Nfc(std::string_view text) {
  auto out = Normalize(text, NormalForm::kNfc);
  EXPECT_TRUE(out.ok()) << out.status().ToString();
  return *out;
}

// Expectations from Python's unicodedata.normalize.
TEST(Normalize, ComposesAndOrders) {
  EXPECT_EQ(Nfc("e\u0301"), "é");
  EXPECT_EQ(Nfc("a\u0301\u0323"), "\u1EA1\u0301");
  EXPECT_EQ(Nfc("\u212B \u0344 \u0F73"), "\u00C5 \u0308\u0301 \u0F71\u0F72");
  EXPECT_EQ(Nfc("\u1112\u1161\u11AB"), "한");
  EXPECT_EQ(Nfc("가\u11A7\u11A8"), "가\u11A7\u11A8");
  EXPECT_EQ(Nfc("\uFB01"), "\uFB01");
  EXPECT_EQ(*Normalize("ﬁ한é", NormalForm::kNfkd), "fi\u1112\u1161\u11ABe\u0301");
  EXPECT_EQ(*Normalize("ﬁe\u0301", NormalForm::kNfkc), "fié");
  EXPECT_EQ(*Normalize("é", NormalForm::kNfd), "e\u0301");
}

// Expectations from Hugging Face tokenizers 0.23.3: U+07FD (Unicode 11) has no class for it.
TEST(Normalize, MarksNewerThanUnicode9StandStill) {
  EXPECT_EQ(Nfc("a\u07FD\u0301"), "a\u07FD\u0301");
  EXPECT_EQ(Nfc("\U00011935\U00011930"), "\U00011935\U00011930");
  EXPECT_EQ(*Normalize("\U00011938", NormalForm::kNfd), "\U00011938");
}

TEST(Normalize, QuickCheckNeverLies) {
  EXPECT_TRUE(IsSurelyNormal("plain Ü ʯ", NormalForm::kNfc));
  EXPECT_FALSE(IsSurelyNormal("e\u0301", NormalForm::kNfc));
  EXPECT_FALSE(IsSurelyNormal("Ü", NormalForm::kNfd));
  EXPECT_TRUE(IsSurelyNormal("", NormalForm::kNfkd));
}

TEST(Normalize, LongRunOfMarksIsNotQuadratic) {
  std::string text = "a", marks_220, marks_230;
  for (int i = 0; i < 200'000; ++i) {  // minutes, were neighbours exchanged one by one
    text += "\u0300\u0316";
    marks_220 += "\u0316";
    if (i > 0) marks_230 += "\u0300";
  }
  EXPECT_EQ(Nfc(text), "à" + marks_220 + marks_230);
}

}  // namespace
}  // namespace baton::tokenizer
