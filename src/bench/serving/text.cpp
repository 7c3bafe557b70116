#include "bench/serving/text.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "bench/serving/rng.h"
#include "bench/serving/word_list.h"

namespace baton::bench::serving {
namespace {

constexpr size_t kFewestWords = 64;

void AppendWords(const std::vector<std::string_view>& words, uint64_t seed, int64_t count,
                 std::string* out) {
  Rng rng(seed);
  out->reserve(out->size() + static_cast<size_t>(std::max<int64_t>(count, 0)) * 7);
  for (int64_t i = 0; i < count; ++i) {
    if (!out->empty()) out->push_back(' ');
    out->append(words[rng.Below(words.size())]);
  }
}

int64_t CountWords(std::string_view text) {
  int64_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    words += !space && !inside;
    inside = !space;
  }
  return words;
}

}  // namespace

Result<TextMaker> TextMaker::WithEncoder(Encoder encoder) {
  TextMaker maker;
  std::string spaced;
  for (const std::string_view word : kWords) {
    spaced.assign(" ").append(word);
    // Behind a space, and at the beginning of a prompt.
    const auto ids = encoder(spaced), first = encoder(word);
    if (!ids.ok()) return ids.status().Prefixed("tokenizer");
    if (ids->size() == 1 && first.ok() && first->size() == 1) maker.words_.push_back(word);
  }
  if (maker.words_.size() < kFewestWords) {
    return Error(
        Code::kUnsupported,
        "this tokenizer has only {} of {} common English words as one token; run without it",
        maker.words_.size(), std::size(kWords));
  }
  maker.encoder_ = std::move(encoder);
  return maker;
}

TextMaker TextMaker::WithRate(double tokens_per_word) {
  TextMaker maker;
  maker.words_.assign(std::begin(kWords), std::end(kWords));
  maker.tokens_per_word_ = tokens_per_word;
  return maker;
}

void TextMaker::Append(uint64_t seed, int tokens, std::string* out) const {
  AppendWords(words_, seed, std::llround(tokens / tokens_per_word_), out);
}

Result<int> TextMaker::Count(std::string_view text) const {
  if (!encoder_)
    return static_cast<int>(std::llround(static_cast<double>(CountWords(text)) * tokens_per_word_));
  const auto ids = encoder_(text);
  if (!ids.ok()) return ids.status();
  return static_cast<int>(ids->size());
}

std::string CalibrationText(uint64_t seed, int words) {
  std::string text;
  AppendWords({std::begin(kWords), std::end(kWords)}, seed, words, &text);
  return text;
}

}  // namespace baton::bench::serving
