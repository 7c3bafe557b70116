#include "tokenizer/added_tokens.h"

#include <algorithm>

#include <boost/unordered/unordered_flat_map.hpp>
#include <utf8proc.h>

#include "tokenizer/unicode_additions.h"
#include "tokenizer/utf8.h"

namespace baton::tokenizer {
namespace {

bool IsSpace(char32_t point) {  // Unicode's White_Space
  if (point < 0x80) return point == ' ' || (point >= 0x09 && point <= 0x0D);
  if (point == 0x85) return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(point));
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

// Circled and squared Latin letters: Alphabetic, though their category is So.
bool IsEnclosedLetter(char32_t point) {
  return (point >= 0x24B6 && point <= 0x24E9) || (point >= 0x1F130 && point <= 0x1F149) ||
         (point >= 0x1F150 && point <= 0x1F169) || (point >= 0x1F170 && point <= 0x1F189);
}

// \w of UTS 18: Alphabetic, marks, decimal digits, connectors, Join_Control.
bool IsWord(char32_t point) {
  if (point == 0x200C || point == 0x200D || IsEnclosedLetter(point)) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(StandIn(point)))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
  }
}

bool WordBefore(std::string_view text, size_t at) {
  if (at == 0) return false;
  size_t start = PreviousCharacter(text, at);
  return IsWord(NextCodePoint(text, start));
}

bool WordBehind(std::string_view text, size_t at) {
  return at < text.size() && IsWord(NextCodePoint(text, at));
}

size_t SpaceStart(std::string_view text, size_t at, size_t floor) {
  while (at > floor) {
    const size_t start = PreviousCharacter(text, at);
    size_t next = start;
    if (!IsSpace(NextCodePoint(text, next))) break;
    at = start;
  }
  return at;
}

size_t SpaceEnd(std::string_view text, size_t at) {
  while (at < text.size()) {
    size_t next = at;
    if (!IsSpace(NextCodePoint(text, next))) break;
    at = next;
  }
  return at;
}

}  // namespace

struct AddedTokenMatcher::Trie {
  std::vector<AddedToken> tokens;
  std::array<uint32_t, 256> roots{};                     // child of the root by byte; 0: none
  boost::unordered_flat_map<uint64_t, uint32_t> edges;  // node << 8 | byte -> node
  std::vector<int32_t> ends{-1};                         // by node: index in tokens, or -1

  uint32_t Child(uint32_t node, uint8_t byte) const {
    if (node == 0) return roots[byte];
    const auto found = edges.find(uint64_t{node} << 8 | byte);
    return found == edges.end() ? 0 : found->second;
  }

  void Insert(std::string_view content, int32_t index) {
    uint32_t node = 0;
    for (const char c : content) {
      const auto byte = static_cast<uint8_t>(c);
      uint32_t child = Child(node, byte);
      if (child == 0) {
        child = static_cast<uint32_t>(ends.size());
        ends.push_back(-1);
        if (node == 0) {
          roots[byte] = child;
        } else {
          edges.emplace(uint64_t{node} << 8 | byte, child);
        }
      }
      node = child;
    }
    ends[node] = index;
  }

  // The longest token that starts at `at`, or nullptr.
  const AddedToken* Longest(std::string_view text, size_t at) const {
    int32_t best = -1;
    uint32_t node = 0;
    while (at < text.size() && (node = Child(node, static_cast<uint8_t>(text[at++]))) != 0)
      if (ends[node] >= 0) best = ends[node];
    return best < 0 ? nullptr : &tokens[static_cast<size_t>(best)];
  }
};

AddedTokenMatcher::AddedTokenMatcher() = default;
AddedTokenMatcher::AddedTokenMatcher(AddedTokenMatcher&&) noexcept = default;
AddedTokenMatcher& AddedTokenMatcher::operator=(AddedTokenMatcher&&) noexcept = default;
AddedTokenMatcher::~AddedTokenMatcher() = default;

Result<AddedTokenMatcher> AddedTokenMatcher::Make(std::vector<AddedToken> tokens) {
  AddedTokenMatcher matcher;
  if (tokens.empty()) return matcher;
  matcher.trie_ = std::make_unique<Trie>();
  Trie& trie = *matcher.trie_;
  trie.tokens = std::move(tokens);
  for (size_t i = 0; i < trie.tokens.size(); ++i) {
    const AddedToken& token = trie.tokens[i];
    if (token.content.empty() || token.content.size() > kMaxTokenBytes)
      return Error(Code::kDataCorrupt, "added token {} has {} bytes; 1 to {} are possible",
                   token.id, token.content.size(), kMaxTokenBytes);
    trie.Insert(token.content, static_cast<int32_t>(i));
  }
  return matcher;
}

void AddedTokenMatcher::Split(std::string_view text, bool match_special,
                              std::vector<TextSegment>& out) const {
  size_t done = 0;
  for (size_t at = 0; trie_ && at < text.size();) {
    if (trie_->roots[static_cast<uint8_t>(text[at])] == 0) {
      ++at;
      continue;
    }
    const AddedToken* token = trie_->Longest(text, at);
    if (!token) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->content.size();
    at = end;  // a token that is not taken still uses up its text
    if (token->special && !match_special) continue;
    if (token->single_word && (WordBefore(text, begin) || WordBehind(text, end))) continue;
    // A token that starts with white space may begin inside of what its neighbour's rstrip took: it
    // counts all the same, and what is behind it (not behind the neighbour) is the rest.
    if (token->lstrip && begin > done) begin = SpaceStart(text, begin, done);
    if (token->rstrip) end = SpaceEnd(text, end);
    if (done < begin) out.push_back({{done, begin}, -1});
    out.push_back({{begin, end}, token->id});
    done = end;
  }
  if (done < text.size()) out.push_back({{done, text.size()}, -1});
}

}  // namespace baton::tokenizer
