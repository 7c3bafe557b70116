#include "tokenizer/unicode_additions.h"

#include <algorithm>
#include <iterator>

#include "tokenizer/utf8.h"

namespace baton::tokenizer {
namespace {

struct Addition {
  char32_t first, last, stand_in;
};

constexpr Addition kAdditions[] = {
#include "tokenizer/unicode_additions.inc"
};

constexpr char32_t kMongolianVowelSeparator = 0x180E, kZeroWidthSpace = 0x200B;

}  // namespace

char32_t StandIn(char32_t point) {
  if (point == kMongolianVowelSeparator) return kZeroWidthSpace;
  const auto* range = std::lower_bound(std::begin(kAdditions), std::end(kAdditions), point,
                                       [](const Addition& a, char32_t p) { return a.last < p; });
  if (range == std::end(kAdditions) || point < range->first) return point;
  return range->stand_in;
}

bool ReplaceNewCharacters(std::string_view text, std::string& out) {
  bool replaced = false;
  for (size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0xE0) {  // every addition has 3 or 4 bytes
      ++at;
      continue;
    }
    const size_t start = at;
    const char32_t point = NextCodePoint(text, at);
    const char32_t stand_in = StandIn(point);
    if (stand_in == point) continue;
    if (!replaced) out.assign(text);
    replaced = true;
    std::string bytes;
    AppendUtf8(stand_in, bytes);
    out.replace(start, at - start, bytes);
  }
  return replaced;
}

}  // namespace baton::tokenizer
