#include "tokenizer/regex_syntax.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace baton::tokenizer {
namespace {

// Alphabetic, marks, decimal digits and connectors. The ranges are the circled and squared letters,
// which are Alphabetic without being letters; of other numbers (\p{No}) only Latin-1's are in.
constexpr std::string_view kWordMembers =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169})"
    R"(\x{1F170}-\x{1F189}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
constexpr std::string_view kHexMembers = "0-9A-Fa-f";

bool IsHex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// Whether `name` is a script (Han, Hiragana ...), not a general category or another property.
bool IsScript(std::string_view name) {
  constexpr size_t kLongestName = 40;
  if (name.size() < 3 || name.size() > kLongestName) return false;
  const std::string pattern = fmt::format("\\p{{sc:{}}}", name);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF, &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  Result<std::string> Run() {
    while (at_ < in_.size() && error_.ok()) {
      if (in_[at_] == '\\') {
        Escape(false, out_);
      } else if (in_[at_] == '[') {
        Class();
      } else if (in_.substr(at_, 2) == "(*") {
        Refuse("a verb \"(*\"");
      } else {
        out_ += in_[at_++];
      }
    }
    if (!error_.ok()) return error_;
    return std::move(out_);
  }

 private:
  void Refuse(std::string_view what) {
    error_ = Error(Code::kUnsupported, "{} at offset {} of the pattern {}", what, at_, in_);
    at_ = in_.size();
  }

  // The escape at at_, inside of a class or not.
  void Escape(bool in_class, std::string& out) {
    if (at_ + 1 == in_.size()) return Refuse("a backslash that escapes nothing");
    const char c = in_[at_ + 1];
    const auto put = [&](std::string_view members, bool negated) {
      if (in_class) {
        out += members;
      } else {
        out.append(negated ? "[^" : "[").append(members).append("]");
      }
      at_ += 2;
    };
    if ((c == 'W' || c == 'H') && in_class) return Refuse("\\W or \\H inside a class");
    if (c == 'w' || c == 'W') return put(kWordMembers, c == 'W');
    if ((c == 'b' || c == 'B') && !in_class) return Boundary(c == 'B', out);
    if (c == 'h' || c == 'H') return put(kHexMembers, c == 'H');
    if (c == 'Q' || c == 'E' || c == 'C' || c == 'K') return Refuse("\\Q, \\E, \\C or \\K");
    if ((c == 'p' || c == 'P') && Script(c == 'P', out)) return;
    if (c == 'u') {
      const std::string_view digits = in_.substr(at_ + 2, 4);
      if (digits.size() < 4) return Refuse("\\u without four hex digits");
      for (const char d : digits)
        if (!IsHex(d)) return Refuse("\\u without four hex digits");
      out.append("\\x{").append(digits).append("}");
      at_ += 6;
      return;
    }
    out.append(in_, at_, 2);
    at_ += 2;
  }

  // \p{Han} at at_: for Oniguruma the Script property, for PCRE2 (unless told so) the wider
  // Script_Extensions, which has CJK punctuation too. False when it is no script.
  bool Script(bool negated, std::string& out) {
    const size_t end = in_.find('}', at_);
    if (in_.substr(at_ + 2, 1) != "{" || end == std::string_view::npos) return false;
    std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    if (name.starts_with('^')) {
      name.remove_prefix(1);
      negated = !negated;
    }
    if (!IsScript(name)) return false;
    out += fmt::format("\\{}{{sc:{}}}", negated ? 'P' : 'p', name);
    at_ = end + 1;
    return true;
  }

  // PCRE2's own \b does not count marks as parts of a word.
  void Boundary(bool negated, std::string& out) {
    const std::string word = fmt::format("[{}]", kWordMembers);
    out += negated ? fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word)
                   : fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word);
    at_ += 2;
  }

  // The class at at_: copied, with its intersections as look-aheads in front.
  void Class() {
    std::string head = "[", members, conditions;
    ++at_;
    const bool negated = at_ < in_.size() && in_[at_] == '^';
    if (negated) {
      head += '^';
      ++at_;
    }
    if (at_ < in_.size() && in_[at_] == ']') members += in_[at_++];  // first: a literal
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '\\') {
        Escape(true, members);
      } else if (in_.substr(at_, 2) == "&&") {
        if (negated) return Refuse("an intersection in a negated class");
        Intersection(conditions);
      } else if (in_[at_] == '[') {
        const size_t end = in_.find(":]", at_);
        if (in_.substr(at_, 2) != "[:" || end == std::string_view::npos)
          return Refuse("a nested class (escape the bracket if it is meant literally)");
        members.append(in_, at_, end + 2 - at_);
        at_ = end + 2;
      } else {
        members += in_[at_++];
      }
    }
    if (!error_.ok()) return;
    if (at_ == in_.size()) return Refuse("a class without its closing bracket");
    ++at_;
    if (conditions.empty()) {
      out_.append(head).append(members).append("]");
    } else {
      out_.append("(?:").append(conditions).append(head).append(members).append("])");
    }
  }

  // "&&[B]" at at_: adds the look-ahead (?=[B]).
  void Intersection(std::string& conditions) {
    at_ += 2;
    if (at_ >= in_.size() || in_[at_] != '[') return Refuse("\"&&\" without a class behind it");
    if (depth_ > 0) return Refuse("an intersection inside an intersection");
    ++depth_;
    std::string outer;
    outer.swap(out_);
    Class();
    outer.swap(out_);
    --depth_;
    conditions.append("(?=").append(outer).append(")");
  }

  std::string_view in_;
  size_t at_ = 0;
  int depth_ = 0;
  std::string out_;
  Status error_;
};

}  // namespace

Result<std::string> TranslatePattern(std::string_view oniguruma) {
  return Translator(oniguruma).Run();
}

}  // namespace baton::tokenizer
