// Hostile tokenizer.json: the input up to its first 0xFF byte is the file, the rest is text. A file
// that parses must encode any valid text within bounds, give ids of its vocabulary only, and stream
// exactly what it decodes. Patterns are left to their own limits, so inputs that only spend time in
// the pattern library end with an error, not with a hang.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "common/json.h"
#include "tokenizer/tokenizer.h"

namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

void EncodeAndDecode(const baton::tokenizer::Tokenizer& tokenizer, std::string_view text,
                     bool specials) {
  const auto ids = tokenizer.Encode(text, {specials, specials});
  if (!ids.ok()) return;
  for (const int32_t id : *ids) Require(id >= 0 && id < tokenizer.vocab_size());
  const std::string whole = tokenizer.Decode(*ids, false);
  Require(baton::json::IsValidUtf8(whole));
  baton::tokenizer::IncrementalDetokenizer detokenizer(tokenizer, false);
  std::string streamed;
  for (const int32_t id : *ids) detokenizer.Push(id, streamed);
  detokenizer.Flush(streamed);
  Require(streamed == whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t border = input.find('\xFF');  // in no UTF-8, so in no JSON
  const std::string_view file = input.substr(0, border);
  std::string_view text = border == input.npos ? input : input.substr(border + 1);
  if (text.size() > 256) text = text.substr(0, 256);

  const auto tokenizer = baton::tokenizer::ParseTokenizerJson(file, "");
  if (!tokenizer.ok()) return 0;
  for (const int32_t id : (*tokenizer)->end_ids()) Require(id >= 0 && id < (*tokenizer)->vocab_size());
  EncodeAndDecode(**tokenizer, text, true);
  EncodeAndDecode(**tokenizer, text, false);
  EncodeAndDecode(**tokenizer, "a 1é\u0301 <|end|>", true);
  return 0;
}
