#include <fstream>
#include <random>
#include <sstream>

#include <gtest/gtest.h>

#include "common/json.h"
#include "tokenizer/tokenizer.h"

namespace baton::tokenizer {
namespace {

// Tokens 0..255 are single bytes, 256 is a control token "<end>".
class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer() {
    for (int b = 0; b < 256; ++b) bytes_[static_cast<size_t>(b)] = static_cast<char>(b);
  }
  Result<std::vector<int32_t>> Encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string_view TokenBytes(int32_t id) const override {
    if (id == 256) return "<end>";
    return id < 0 || id > 256 ? std::string_view() : std::string_view(&bytes_[static_cast<size_t>(id)], 1);
  }
  bool IsSpecial(int32_t id) const override { return id == 256; }
  int32_t vocab_size() const override { return 257; }
  std::optional<int32_t> bos_id() const override { return std::nullopt; }
  std::optional<int32_t> eos_id() const override { return 256; }
  const std::vector<int32_t>& end_ids() const override { return end_ids_; }
  std::optional<int32_t> FindToken(std::string_view) const override { return std::nullopt; }

 private:
  char bytes_[256];
  std::vector<int32_t> end_ids_{256};
};

std::vector<int32_t> Ids(std::string_view bytes) { return *ByteTokenizer().Encode(bytes, {}); }

std::string Stream(const std::vector<int32_t>& ids, bool skip) {
  const ByteTokenizer tokenizer;
  IncrementalDetokenizer detokenizer(tokenizer, skip);
  std::string out;
  for (const int32_t id : ids) {
    std::string step;
    detokenizer.Push(id, step);
    EXPECT_TRUE(json::IsValidUtf8(step));
    out += step;
  }
  detokenizer.Flush(out);
  return out;
}

TEST(Detokenize, HoldsAnUnfinishedCharacterBack) {
  const ByteTokenizer tokenizer;
  IncrementalDetokenizer detokenizer(tokenizer, false);
  std::string out;
  for (const int32_t id : Ids("\xF0\x9F\x99")) detokenizer.Push(id, out);
  EXPECT_EQ(out, "");
  detokenizer.Push(0x82, out);
  EXPECT_EQ(out, "🙂");
  detokenizer.Push(0xE2, out);
  EXPECT_EQ(out, "🙂");
  detokenizer.Flush(out);
  EXPECT_EQ(out, "🙂\uFFFD");
  detokenizer.Flush(out);
  EXPECT_EQ(out, "🙂\uFFFD") << "a second flush has nothing left";
}

TEST(Detokenize, SpecialTokensPartOrVanish) {
  const std::vector<int32_t> ids = {0xC3, 256, 0xA9, -1, 9999};
  EXPECT_EQ(ByteTokenizer().Decode(ids, true), "é");
  EXPECT_EQ(Stream(ids, true), "é");
  EXPECT_EQ(ByteTokenizer().Decode(ids, false), "\uFFFD<end>\uFFFD");
  EXPECT_EQ(Stream(ids, false), "\uFFFD<end>\uFFFD");
}

TEST(Detokenize, StreamEqualsWholeForRandomBytes) {
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::vector<int32_t> ids;
    for (size_t n = random() % 12; n > 0; --n)
      ids.push_back(static_cast<int32_t>(random() % 3 ? 0x80 + random() % 0x80 : random() % 257));
    const std::string whole = ByteTokenizer().Decode(ids, false);
    ASSERT_TRUE(json::IsValidUtf8(whole));
    ASSERT_EQ(Stream(ids, false), whole);
  }
}

TEST(Detokenize, ReplacesAsPythonDoes) {
  std::ifstream file(BATON_SOURCE_DIR "/tests/golden/tokenizer/cases.json");
  ASSERT_TRUE(file.good());
  std::stringstream text;
  text << file.rdbuf();
  auto golden = json::Parse(text.str());
  ASSERT_TRUE(golden.ok()) << golden.status().ToString();
  const json::array& cases = golden->at("lossy_utf8").as_array();
  ASSERT_GE(cases.size(), 100u);
  for (const json::value& entry : cases) {
    const std::string_view hex(entry.as_array()[0].as_string());
    std::string bytes;
    for (size_t i = 0; i < hex.size(); i += 2)
      bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
    const std::string_view expected(entry.as_array()[1].as_string());
    EXPECT_EQ(ByteTokenizer().Decode(Ids(bytes), false), expected) << hex;
    EXPECT_EQ(Stream(Ids(bytes), false), expected) << hex;
  }
}

}  // namespace
}  // namespace baton::tokenizer
