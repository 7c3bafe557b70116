#include "tokenizer/jinja_lexer.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

bool IsAsciiDigit(char c) { return c >= '0' && c <= '9'; }

// All line ends become \n, and one at the very end is dropped.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(NormalizeNewlines(source)), text_(source_) {}

  std::vector<Token> Run() {
    while (position_ < text_.size()) LexRoot();
    Add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void Fail(std::string message) {
    throw TemplateError{ErrorKind::kSyntax, std::move(message), line_};
  }

  bool At(std::string_view what, size_t offset) const {
    return offset <= text_.size() && text_.substr(offset).starts_with(what);
  }
  bool At(std::string_view what) const { return At(what, position_); }

  // Consumes up to `end`, counting lines.
  void AdvanceTo(size_t end) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(position_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
    if (end > position_) line_starting_ = text_[end - 1] == '\n';
    position_ = end;
  }

  size_t SkipSpace(size_t offset) const {
    if (offset >= text_.size()) return text_.size();
    return text_.size() - StripLeft(text_.substr(offset)).size();
  }

  void Add(TokenKind kind, std::string_view text) {
    Token token;
    token.kind = kind;
    token.line = line_;
    token.text = text;
    tokens_.push_back(std::move(token));
  }

  void AddData(std::string_view text) {
    if (!text.empty()) Add(TokenKind::kData, text);
  }

  // What is left of the text before a tag, by the tag's sign and lstrip_blocks.
  std::string_view TrimBefore(std::string_view data, char sign, bool is_variable) const {
    if (sign == '-') return StripRight(data);
    if (sign == '+' || is_variable) return data;
    const size_t newline = data.rfind('\n');
    const size_t line_start = newline == data.npos ? 0 : newline + 1;
    if (line_start == 0 && !line_starting_) return data;
    const std::string_view last_line = data.substr(line_start);
    return StripLeft(last_line).empty() ? data.substr(0, line_start) : data;
  }

  static char SignOf(std::string_view text, size_t offset) {
    return offset < text.size() && (text[offset] == '-' || text[offset] == '+') ? text[offset]
                                                                               : '\0';
  }

  void LexRoot() {
    size_t tag = position_;
    do {
      tag = text_.find('{', tag);
      if (tag == text_.npos) {
        AddData(text_.substr(position_));
        AdvanceTo(text_.size());
        return;
      }
      if (At("{{", tag) || At("{%", tag) || At("{#", tag)) break;
      ++tag;
    } while (true);

    const bool is_variable = text_[tag + 1] == '{';
    const char sign = SignOf(text_, tag + 2);
    AddData(TrimBefore(text_.substr(position_, tag - position_), sign, is_variable));
    const size_t inside = tag + 2 + (sign ? 1 : 0);
    if (text_[tag + 1] == '#') {
      LexComment(inside);
    } else if (const size_t raw = is_variable ? 0 : RawBeginEnd(inside)) {
      AdvanceTo(raw);
      LexRaw();
    } else {
      AdvanceTo(inside);
      Add(is_variable ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, "");
      LexTag(is_variable);
    }
  }

  // Comments end at the first "#}", whatever is in them.
  void LexComment(size_t body) {
    const size_t end = text_.find("#}", body);
    if (end == text_.npos) Fail("Missing end of comment tag");
    size_t after = end + 2;
    const char before = end > body ? text_[end - 1] : '\0';
    if (before == '-') {
      after = SkipSpace(after);
    } else if (before != '+' && At("\n", after)) {
      ++after;
    }
    AdvanceTo(after);
  }

  // If a raw tag starts at `offset` (after "{%" and its sign), the offset after the tag, else 0.
  size_t RawBeginEnd(size_t offset) const {
    offset = SkipSpace(offset);
    if (!At("raw", offset)) return 0;
    offset = SkipSpace(offset + 3);
    if (At("-%}", offset)) return SkipSpace(offset + 3);
    return At("%}", offset) ? offset + 2 : 0;
  }

  void LexRaw() {
    for (size_t tag = text_.find("{%", position_); tag != text_.npos;
         tag = text_.find("{%", tag + 1)) {
      const char sign = SignOf(text_, tag + 2);
      size_t offset = SkipSpace(tag + 2 + (sign ? 1 : 0));
      if (!At("endraw", offset)) continue;
      offset = SkipSpace(offset + 6);
      size_t end = 0;
      if (At("+%}", offset)) {
        end = offset + 3;
      } else if (At("-%}", offset)) {
        end = SkipSpace(offset + 3);
      } else if (At("%}", offset)) {
        end = offset + 2 + (At("\n", offset + 2) ? 1 : 0);
      } else {
        continue;
      }
      AddData(TrimBefore(text_.substr(position_, tag - position_), sign, false));
      AdvanceTo(end);
      return;
    }
    Fail("Missing end of raw directive");
  }

  // If the tag ends here, consumes the end and what it trims.
  bool TryEnd(bool is_variable) {
    size_t end = 0;
    if (is_variable) {
      if (At("-}}")) {
        end = SkipSpace(position_ + 3);
      } else if (At("}}")) {
        end = position_ + 2;
      }
    } else if (At("+%}")) {
      end = position_ + 3;
    } else if (At("-%}")) {
      end = SkipSpace(position_ + 3);
    } else if (At("%}")) {
      end = position_ + 2 + (At("\n", position_ + 2) ? 1 : 0);
    }
    if (end == 0) return false;
    Add(is_variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, "");
    AdvanceTo(end);
    return true;
  }

  void LexTag(bool is_variable) {
    std::string open;  // brackets: inside of one, "}}" closes dicts
    while (position_ < text_.size()) {
      if (open.empty() && TryEnd(is_variable)) return;
      const char c = text_[position_];
      const size_t after_space = SkipSpace(position_);
      if (after_space > position_) {
        AdvanceTo(after_space);
      } else if (IsAsciiDigit(c)) {
        LexNumber();
      } else if (c == '\'' || c == '"') {
        LexString(c);
      } else if (!LexName() && !LexOperator(open)) {
        const size_t size = CodePointSize(text_, position_);
        Fail(fmt::format("unexpected char '{}' at {}", text_.substr(position_, size), position_));
      }
    }
    if (!open.empty()) Fail(fmt::format("unexpected end of template, expected '{}'", open.back()));
    // The parser reports the tag that has no end, by name.
  }

  bool LexName() {
    size_t end = position_;
    while (end < text_.size()) {
      size_t next = end;
      if (!IsWord(NextCodePoint(text_, &next))) break;
      end = next;
    }
    if (end == position_) return false;
    const std::string_view name = text_.substr(position_, end - position_);
    if (!IsIdentifier(name)) Fail("Invalid character in identifier");
    Add(TokenKind::kName, name);
    AdvanceTo(end);
    return true;
  }

  bool LexOperator(std::string& open) {
    static constexpr std::string_view kOperators[] = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]",
        "(",  ")",  "{",  "}",  ">",  "<",  "=", ".", ":", "|", ",", ";"};
    for (const std::string_view op : kOperators) {
      if (!At(op)) continue;
      if (op == "(") open += ')';
      if (op == "[") open += ']';
      if (op == "{") open += '}';
      if (op == ")" || op == "]" || op == "}") {
        if (open.empty()) Fail(fmt::format("unexpected '{}'", op));
        if (open.back() != op[0]) {
          Fail(fmt::format("unexpected '{}', expected '{}'", op, open.back()));
        }
        open.pop_back();
      }
      Add(TokenKind::kOperator, op);
      AdvanceTo(position_ + op.size());
      return true;
    }
    return false;
  }

  // The end of \d+(_\d+)* from `offset`, or `offset` itself.
  size_t DigitsEnd(size_t offset) const {
    if (offset >= text_.size() || !IsAsciiDigit(text_[offset])) return offset;
    while (offset < text_.size() &&
           (IsAsciiDigit(text_[offset]) || (text_[offset] == '_' && offset + 1 < text_.size() &&
                                            IsAsciiDigit(text_[offset + 1])))) {
      ++offset;
    }
    return offset;
  }

  // The end of a float at the current position, or 0. "x.0.1" is two subscripts, not a float.
  size_t FloatEnd() const {
    if (position_ > 0 && text_[position_ - 1] == '.') return 0;
    size_t end = DigitsEnd(position_);
    bool is_float = false;
    if (At(".", end) && DigitsEnd(end + 1) > end + 1) {
      end = DigitsEnd(end + 1);
      is_float = true;
    }
    if (At("e", end) || At("E", end)) {
      const size_t sign = end + 1 + (At("+", end + 1) || At("-", end + 1) ? 1 : 0);
      if (DigitsEnd(sign) > sign) {
        end = DigitsEnd(sign);
        is_float = true;
      }
    }
    return is_float ? end : 0;
  }

  void LexNumber() {
    if (const size_t end = FloatEnd()) {
      std::string digits(text_.substr(position_, end - position_));
      std::erase(digits, '_');
      Add(TokenKind::kFloat, digits);
      tokens_.back().number = std::strtod(digits.c_str(), nullptr);
      AdvanceTo(end);
      return;
    }
    int base = 10;
    size_t end = position_;
    if (text_[position_] == '0' && position_ + 1 < text_.size()) {
      const char kind = static_cast<char>(text_[position_ + 1] | 0x20);
      base = kind == 'b' ? 2 : kind == 'o' ? 8 : kind == 'x' ? 16 : 10;
    }
    const auto is_digit = [base](char c) {
      const int value = IsAsciiDigit(c)          ? c - '0'
                        : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                                 : 99;
      return value < base;
    };
    size_t start = position_;
    if (base != 10) {
      const size_t digits = position_ + 2;
      const size_t first = digits + (At("_", digits) ? 1 : 0);
      if (first < text_.size() && is_digit(text_[first])) {
        start = end = digits;
      } else {
        base = 10;  // "0x" alone: the number 0, then a name
      }
    }
    // A decimal that starts with 0 is only zeros: "012" is 0 followed by 12.
    const bool zeros = base == 10 && text_[start] == '0';
    const auto accepts = [&](char c) { return zeros ? c == '0' : is_digit(c); };
    while (end < text_.size() &&
           (accepts(text_[end]) ||
            (text_[end] == '_' && end + 1 < text_.size() && accepts(text_[end + 1])))) {
      ++end;
    }
    std::string digits(text_.substr(start, end - start));
    std::erase(digits, '_');
    int64_t value = 0;
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (parsed.ec != std::errc()) Fail(fmt::format("integer {} does not fit in 64 bits", digits));
    Add(TokenKind::kInteger, digits);
    tokens_.back().integer = value;
    AdvanceTo(end);
  }

  void LexString(char quote) {
    size_t end = position_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) {
      Fail(fmt::format("unexpected char '{}' at {}: the string has no end", quote, position_));
    }
    const std::string value = Unescape(text_.substr(position_ + 1, end - position_ - 1));
    Add(TokenKind::kString, value);
    AdvanceTo(end + 1);
  }

  // Python's escapes. Jinja decodes them after writing every non-ASCII character as an escape of
  // its own, so a backslash before such a character leaves that escape in the text.
  std::string Unescape(std::string_view body) {
    std::string out;
    for (size_t i = 0; i < body.size();) {
      if (body[i] != '\\') {
        out += body[i++];
        continue;
      }
      ++i;
      if (i >= body.size()) Fail("the string ends with a backslash");
      if (body[i] & 0x80) {
        const char32_t c = NextCodePoint(body, &i);
        out += c < 0x100     ? fmt::format("\\x{:02x}", static_cast<uint32_t>(c))
               : c < 0x10000 ? fmt::format("\\u{:04x}", static_cast<uint32_t>(c))
                             : fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
        continue;
      }
      i = AppendEscape(body, i, out);
    }
    return out;
  }

  // `i` is at the character after the backslash; returns the offset after the escape.
  size_t AppendEscape(std::string_view body, size_t i, std::string& out) {
    static constexpr std::string_view kNames = "abfnrtv\\'\"";
    static constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
    const char c = body[i];
    if (c == '\n') return i + 1;
    if (const size_t simple = kNames.find(c); simple != kNames.npos) {
      out += kValues[simple];
      return i + 1;
    }
    if (c >= '0' && c <= '7') {
      uint32_t value = 0;
      size_t digits = 0;
      while (digits < 3 && i < body.size() && body[i] >= '0' && body[i] <= '7') {
        value = value * 8 + static_cast<uint32_t>(body[i++] - '0');
        ++digits;
      }
      AppendCodePoint(out, value);
      return i;
    }
    const size_t width = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (c == 'N') Fail("\\N{...} escapes are not supported");
    if (width == 0) {
      out += '\\';
      out += c;
      return i + 1;
    }
    uint32_t value = 0;
    const char* first = body.data() + i + 1;
    if (i + 1 + width > body.size() ||
        std::from_chars(first, first + width, value, 16).ptr != first + width) {
      Fail(fmt::format("truncated \\{} escape in a string", c));
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) {
      Fail(fmt::format("\\{} escape of a code point that is not a character", c));
    }
    AppendCodePoint(out, value);
    return i + 1 + width;
  }

  const std::string source_;
  const std::string_view text_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // what came before is nothing or a line end
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source) { return Lexer(source).Run(); }

}  // namespace baton::tokenizer::jinja
