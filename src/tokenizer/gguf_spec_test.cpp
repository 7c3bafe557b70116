#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include <gtest/gtest.h>

#include "common/json.h"
#include "common/mapped_file.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

namespace baton::tokenizer {
namespace {

// All bytes, "ab", " ab"; then <s> </s> <|eot_id|> (control), <tool> (user-defined), a gap.
BpeSpec SmallSpec() {
  BpeSpec spec;
  spec.pre = "llama-bpe";
  for (int b = 0; b < 256; ++b) spec.tokens.push_back(ToAlphabet(std::string(1, static_cast<char>(b))));
  spec.tokens.insert(spec.tokens.end(),
                     {"ab", "Ġab", "<s>", "</s>", "<|eot_id|>", "<tool>", "", "<|end_x|>"});
  spec.kinds.assign(256 + 2, TokenKind::kNormal);
  spec.kinds.insert(spec.kinds.end(),
                    {TokenKind::kControl, TokenKind::kControl, TokenKind::kControl,
                     TokenKind::kUserDefined, TokenKind::kUnused, TokenKind::kControl});
  spec.merges = {"a b", "Ġ ab"};
  spec.bos_id = 258;
  spec.eos_id = 259;
  spec.eom_id = 263;
  return spec;
}

using Ids = std::vector<int32_t>;

TEST(BpeSpec, EncodesWithSpecialsAsAsked) {
  BpeSpec spec = SmallSpec();
  spec.add_bos = true;
  spec.add_eos = true;
  auto made = MakeBpeTokenizer(spec);
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  const Tokenizer& t = **made;
  EXPECT_EQ(*t.Encode("ab ab", {}), (Ids{258, 256, 257, 259}));
  EXPECT_EQ(*t.Encode("", {}), (Ids{258, 259}));
  EXPECT_EQ(*t.Encode("ab<|eot_id|><tool>", {false, true}), (Ids{256, 260, 261}));
  EXPECT_EQ(*t.Encode("<s><tool>", {false, false}), (Ids{'<', 's', '>', 261}));
  EXPECT_EQ(t.Decode(Ids{258, 256, 261, 259}, true), "ab<tool>");
  EXPECT_EQ(t.Decode(Ids{258, 256, 261, 259}, false), "<s>ab<tool></s>");
  EXPECT_EQ(t.vocab_size(), 264);
  EXPECT_EQ(t.TokenBytes(262), "");
  EXPECT_EQ(t.end_ids(), (Ids{259, 263, 260})) << "eos, the file's eom, then known names";
}

TEST(BpeSpec, NamesBosDefault) {
  EXPECT_TRUE(AddsBosByDefault("llama-bpe"));
  EXPECT_FALSE(AddsBosByDefault("smollm"));
  EXPECT_FALSE(AddsBosByDefault("nobody"));
}

TEST(BpeSpec, SaysWhatIsWrong) {
  const auto message = [](auto edit) {
    BpeSpec spec = SmallSpec();
    edit(spec);
    return MakeBpeTokenizer(std::move(spec)).status().message();
  };
  EXPECT_EQ(message([](BpeSpec& s) { s.tokens.clear(); }), "the vocabulary has no tokens");
  EXPECT_EQ(message([](BpeSpec& s) { s.kinds.pop_back(); }), "263 token types for 264 tokens");
  EXPECT_EQ(message([](BpeSpec& s) { s.merges[1] = "ab"; }), "merge 1: \"ab\" is not two tokens");
  EXPECT_EQ(message([](BpeSpec& s) { s.merges[1] = "ab "; }), "merge 1: \"ab \" is not two tokens");
  EXPECT_EQ(message([](BpeSpec& s) { s.merges[1] = "ab \x80"; }),
            "merge 1: \"ab \x80\" is not in the byte alphabet");
  EXPECT_EQ(message([](BpeSpec& s) { s.merges[1] = "ab c"; }),
            "merge 1: its result is not in the vocabulary");
  EXPECT_EQ(message([](BpeSpec& s) { s.tokens[257] = "a"; }),
            "tokens 97 and 257 stand for the same bytes");
  EXPECT_EQ(message([](BpeSpec& s) { s.eos_id = 264; }),
            "eos token 264 is outside of the vocabulary of 264");
  EXPECT_EQ(message([](BpeSpec& s) { s.eot_id = -5; }),
            "end token -5 is outside of the vocabulary of 264");
  EXPECT_EQ(message([](BpeSpec& s) { s.bos_id.reset(); s.add_bos = true; }),
            "add_bos_token is set, but there is no bos_token_id");
  EXPECT_NE(message([](BpeSpec& s) { s.pre = "x"; }).find("unknown pre-tokenizer \"x\""),
            std::string::npos);
}

TEST(BpeSpec, QwenTextIsComposedFirst) {
  BpeSpec spec = SmallSpec();
  spec.pre = "qwen2";
  auto made = MakeBpeTokenizer(spec);
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(*(*made)->Encode("e\u0301", {}), *(*made)->Encode("é", {}));
}

// --- The real SmolLM2 file, when it is here ---

// The least of a GGUF reader: string and integer arrays of the tokenizer.
class GgufStrings {
 public:
  explicit GgufStrings(std::string_view bytes) : in_(bytes) {
    at_ = 16;
    const auto count = Take<uint64_t>();
    for (uint64_t i = 0; i < count; ++i) {
      const std::string key(TakeString());
      TakeValue(Take<uint32_t>(), key);
    }
  }
  BpeSpec spec;

 private:
  template <typename T>
  T Take() {
    T value;
    std::memcpy(&value, in_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string_view TakeString() {
    const auto size = Take<uint64_t>();
    at_ += size;
    return in_.substr(at_ - size, size);
  }
  void TakeValue(uint32_t type, const std::string& key) {
    constexpr uint32_t kU32 = 4, kI32 = 5, kString = 8, kArray = 9;
    constexpr size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == kArray) {
      const auto element = Take<uint32_t>();
      const auto count = Take<uint64_t>();
      for (uint64_t i = 0; i < count; ++i) TakeValue(element, key);
    } else if (type == kString) {
      const std::string value(TakeString());
      if (key == "tokenizer.ggml.pre") spec.pre = value;
      if (key == "tokenizer.ggml.tokens") spec.tokens.push_back(value);
      if (key == "tokenizer.ggml.merges") spec.merges.push_back(value);
    } else if (type == kU32 || type == kI32) {
      const auto value = Take<int32_t>();
      if (key == "tokenizer.ggml.token_type") spec.kinds.push_back(static_cast<TokenKind>(value));
      if (key == "tokenizer.ggml.bos_token_id") spec.bos_id = value;
      if (key == "tokenizer.ggml.eos_token_id") spec.eos_id = value;
    } else {
      at_ += kSizes[type];
    }
  }
  std::string_view in_;
  size_t at_ = 0;
};

std::string FindSmolLm2() {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(BATON_SOURCE_DIR "/models", none)) {
    std::string name = entry.path().filename().string();
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (name.starts_with("smollm2") && name.ends_with(".gguf")) return entry.path().string();
  }
  return "";
}

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    const std::string path = FindSmolLm2();
    if (path.empty()) GTEST_SKIP() << "no SmolLM2 GGUF under models/ (make models)";
    auto file = MappedFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    const auto bytes = file->bytes();
    auto made = MakeBpeTokenizer(
        GgufStrings({reinterpret_cast<const char*>(bytes.data()), bytes.size()}).spec);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    tokenizer_ = std::move(*made);
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(SmolLm2, GivesTheIdsOfLlamaServer) {
  std::ifstream file(BATON_SOURCE_DIR "/../shared/fixtures/smollm2-public.json");
  if (!file.good()) GTEST_SKIP() << "no ../shared/fixtures beside this checkout";
  std::stringstream text;
  text << file.rdbuf();
  auto golden = json::Parse(text.str());
  ASSERT_TRUE(golden.ok()) << golden.status().ToString();
  int checked = 0;
  for (const char* list : {"texts", "chats"}) {
    for (const json::value& entry : golden->at(list).as_array()) {
      const json::object& o = entry.as_object();
      const json::value* source = o.if_contains("text") ? o.if_contains("text")
                                                        : o.if_contains("rendered");
      ASSERT_TRUE(source);
      auto ids = tokenizer_->Encode(std::string_view(source->as_string()), {});
      ASSERT_TRUE(ids.ok()) << ids.status().ToString();
      EXPECT_EQ(json::array(ids->begin(), ids->end()), o.at("ids").as_array()) << *source;
      ++checked;
    }
  }
  EXPECT_EQ(checked, 30);
}

TEST_F(SmolLm2, KnowsItsEnds) {
  EXPECT_EQ(tokenizer_->eos_id(), 2);
  EXPECT_EQ(tokenizer_->end_ids(), (Ids{2, 0})) << "<|im_end|> and <|endoftext|>";
  EXPECT_EQ(tokenizer_->FindToken("<|im_start|>"), 1);
}

TEST_F(SmolLm2, RandomTextComesBack) {
  std::mt19937 random(9);
  const auto point = [&]() -> char32_t {
    switch (random() % 5) {
      case 0: return 0x20 + random() % 0x5F;
      case 1: return 0xA0 + random() % 0x700;
      case 2: return 0x800 + random() % 0xC000;
      case 3: return 0x1F300 + random() % 0x700;
      default: return U" \n\t'.1aZ"[random() % 8];
    }
  };
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (size_t n = random() % 60; n > 0; --n) AppendUtf8(point(), text);
    auto ids = tokenizer_->Encode(text, {});
    ASSERT_TRUE(ids.ok());
    ASSERT_EQ(tokenizer_->Decode(*ids, false), text);
    IncrementalDetokenizer stream(*tokenizer_, false);
    std::string streamed;
    for (const int32_t id : *ids) stream.Push(id, streamed);
    stream.Flush(streamed);
    ASSERT_EQ(streamed, text);
  }
}

}  // namespace
}  // namespace baton::tokenizer
