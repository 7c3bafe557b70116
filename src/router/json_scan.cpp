#include "router/json_scan.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <charconv>
#include <cstring>

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "common/json.h"

namespace baton::router {
namespace {

#ifdef __SSE2__
// Skips plain text from `at` on, 64 bytes at a time; the rest is the caller's. A long prompt is one
// string, so this is most of a scan.
__attribute__((target("avx2"))) size_t SkipPlainAvx2(std::string_view text, size_t at) {
  const __m256i quote = _mm256_set1_epi8('"'), slash = _mm256_set1_epi8('\\'), space = _mm256_set1_epi8(0x20);
  const auto stops = [&](size_t from) __attribute__((target("avx2"), always_inline)) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(text.data() + from));
    // Signed, so that bytes from 0x80 on are below a space as well.
    return _mm256_or_si256(_mm256_cmpgt_epi8(space, v),
                           _mm256_or_si256(_mm256_cmpeq_epi8(v, quote), _mm256_cmpeq_epi8(v, slash)));
  };
  while (at + 64 <= text.size()) {
    const __m256i any = _mm256_or_si256(stops(at), stops(at + 32));
    if (!_mm256_testz_si256(any, any)) break;
    at += 64;
  }
  return at;
}

const bool kHasAvx2 = __builtin_cpu_supports("avx2");
#endif

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  Status Object(const std::function<void(const JsonMember&)>& on_member) {
    Space();
    if (Peek() != '{') return Fail("an object is wanted");
    size_t separator = ++at_;
    Space();
    if (Peek() == '}') return End();
    while (true) {
      JsonMember member;
      member.separator = separator;
      if (!Key(&member.raw_key) || !Value(1, &member.kind, &member.begin)) return Fail();
      member.end = at_;
      on_member(member);
      Space();
      if (Peek() == '}') return End();
      if (Peek() != ',') return Fail("',' or '}' is wanted");
      separator = at_++;
      Space();
    }
  }

  Status Array(const std::function<void(const JsonElement&)>& on_element) {
    Space();
    if (Peek() != '[') return Fail("an array is wanted");
    ++at_;
    Space();
    if (Peek() == ']') return End();
    while (true) {
      JsonElement element;
      if (!Value(1, &element.kind, &element.begin)) return Fail();
      element.end = at_;
      on_element(element);
      Space();
      if (Peek() == ']') return End();
      if (Peek() != ',') return Fail("',' or ']' is wanted");
      ++at_;
    }
  }

 private:
  // The byte at hand, or 0 at the end (which no token starts with).
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void Space() { at_ = SkipJsonSpace(text_, at_); }

  Status Fail(const char* reason = nullptr) {
    if (reason) reason_ = reason;
    if (at_ >= text_.size()) return Error(Code::kInvalidArgument, "invalid JSON: ends at byte {}", at_);
    return Error(Code::kInvalidArgument, "invalid JSON at byte {}: {}", at_, reason_);
  }
  bool Bad(const char* reason) {
    reason_ = reason;
    return false;
  }

  // After the closing bracket of the whole text.
  Status End() {
    ++at_;
    Space();
    if (at_ != text_.size()) return Fail("text after the value");
    if (high_bytes_ && !json::IsValidUtf8(text_)) {
      return Error(Code::kInvalidArgument, "invalid JSON: the text is not valid UTF-8");
    }
    return Status::Ok();
  }

  bool Key(std::string_view* raw) {
    if (Peek() != '"') return Bad("a member name is wanted");
    const size_t begin = at_ + 1;
    if (!String()) return false;
    *raw = text_.substr(begin, at_ - 1 - begin);
    Space();
    if (Peek() != ':') return Bad("':' is wanted");
    ++at_;
    return true;
  }

  bool Value(int depth, JsonKind* kind, size_t* begin) {
    Space();
    *begin = at_;
    switch (Peek()) {
      case '"': *kind = JsonKind::kString; return String();
      case '{': *kind = JsonKind::kObject; return Nested(depth, '}');
      case '[': *kind = JsonKind::kArray; return Nested(depth, ']');
      case 't': *kind = JsonKind::kTrue; return Word("true");
      case 'f': *kind = JsonKind::kFalse; return Word("false");
      case 'n': *kind = JsonKind::kNull; return Word("null");
      default: *kind = JsonKind::kNumber; return Number();
    }
  }

  bool Nested(int depth, char close) {
    if (depth >= kMaxJsonDepth) return Bad("nested too deep");
    ++at_;
    Space();
    if (Peek() == close) return ++at_, true;
    while (true) {
      std::string_view key;
      JsonKind kind;
      size_t begin;
      if (close == '}' && !Key(&key)) return false;
      if (!Value(depth + 1, &kind, &begin)) return false;
      Space();
      const char next = Peek();
      if (next != close && next != ',') return Bad("',' or a closing bracket is wanted");
      ++at_;
      if (next == close) return true;
      Space();
    }
  }

  bool Word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return Bad("a value is wanted");
    at_ += word.size();
    return true;
  }

  bool Digits() {
    const size_t begin = at_;
    while (Peek() >= '0' && Peek() <= '9') ++at_;
    return at_ > begin || Bad("a digit is wanted");
  }

  bool Number() {
    if (Peek() == '-') ++at_;
    else if (Peek() < '0' || Peek() > '9') return Bad("a value is wanted");
    if (Peek() == '0') ++at_;
    else if (!Digits()) return false;
    if (Peek() == '.') {
      ++at_;
      if (!Digits()) return false;
    }
    if (Peek() == 'e' || Peek() == 'E') {
      ++at_;
      if (Peek() == '+' || Peek() == '-') ++at_;
      if (!Digits()) return false;
    }
    return true;
  }

  // Skips while nothing is '"', '\\', a control character or beyond ASCII.
#ifdef __SSE2__
  void SkipPlain() {
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(0x20);
    const size_t begin = at_;
    while (at_ + 16 <= text_.size()) {
      const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text_.data() + at_));
      // Signed, so that bytes from 0x80 on are below a space as well.
      const __m128i stop = _mm_or_si128(_mm_cmplt_epi8(v, space),
                                        _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)));
      const int mask = _mm_movemask_epi8(stop);
      if (mask != 0) {
        at_ += static_cast<size_t>(std::countr_zero(static_cast<unsigned>(mask)));
        return;
      }
      at_ += 16;
      if (at_ - begin == 64 && kHasAvx2) at_ = SkipPlainAvx2(text_, at_);
    }
  }
#else
  // Eight bytes at a time; the tests are exact up to borrows between bytes, which only stop the skip
  // early.
  void SkipPlain() {
    constexpr uint64_t kOnes = 0x0101010101010101ull;
    constexpr uint64_t kHighs = 0x8080808080808080ull;
    while (at_ + 8 <= text_.size()) {
      uint64_t word;
      std::memcpy(&word, text_.data() + at_, 8);
      const auto zero_byte = [](uint64_t v) { return (v - kOnes) & ~v & kHighs; };
      const uint64_t stop = zero_byte(word ^ (kOnes * '"')) | zero_byte(word ^ (kOnes * '\\')) |
                            ((word - kOnes * 0x20) & ~word & kHighs) | (word & kHighs);
      if (stop) return;
      at_ += 8;
    }
  }
#endif

  bool String() {
    ++at_;
    while (true) {
      SkipPlain();
      // Up to the next stop; a byte at a time through what made SkipPlain end.
      const size_t until = std::min(at_ + 8, text_.size());
      if (at_ == until) return Bad("the string does not end");
      while (at_ < until) {
        const auto c = static_cast<unsigned char>(text_[at_]);
        if (c == '"') return ++at_, true;
        if (c < 0x20) return Bad("a control character in a string");
        if (c == '\\') {
          if (!Escape()) return false;
          break;
        }
        high_bytes_ |= c >= 0x80;
        ++at_;
      }
    }
  }

  bool Escape() {
    ++at_;
    const char c = Peek();
    if (c == 'u') {
      for (int i = 0; i < 4; ++i) {
        ++at_;
        if (!std::isxdigit(static_cast<unsigned char>(Peek()))) return Bad("a hex digit is wanted");
      }
    } else if (c == '\0' || !std::strchr("\"\\/bfnrt", c)) {
      return Bad("an unknown escape");
    }
    ++at_;
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  bool high_bytes_ = false;
  const char* reason_ = "";
};

}  // namespace

size_t SkipJsonSpace(std::string_view text, size_t at) {
  while (at < text.size() &&
         (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r')) {
    ++at;
  }
  return at;
}

Status ScanObject(std::string_view text, const std::function<void(const JsonMember&)>& on_member) {
  return Scanner(text).Object(on_member);
}

Status ScanArray(std::string_view text, const std::function<void(const JsonElement&)>& on_element) {
  return Scanner(text).Array(on_element);
}

std::optional<int64_t> JsonInteger(std::string_view literal) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(literal.data(), literal.data() + literal.size(), value);
  if (error != std::errc() || end != literal.data() + literal.size()) return std::nullopt;
  return value;
}

std::string JsonString(std::string_view literal) {
  const auto parsed = json::Parse(literal);
  if (!parsed.ok() || !parsed->is_string()) return {};
  return std::string(parsed->get_string());
}

bool JsonMember::KeyIs(std::string_view key) const {
  if (raw_key == key) return true;
  if (raw_key.find('\\') == std::string_view::npos) return false;
  return JsonString(fmt::format("\"{}\"", raw_key)) == key;
}

}  // namespace baton::router
