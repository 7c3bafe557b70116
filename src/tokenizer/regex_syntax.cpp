#include "tokenizer/regex_syntax.h"

namespace baton::tokenizer {
namespace {

// Alphabetic, marks, decimal digits and connectors; the ranges are the circled and squared letters,
// which are Alphabetic without being letters. Other numbers (\p{No}) are not word characters.
constexpr std::string_view kWordMembers =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}"
    "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}";
constexpr std::string_view kHexMembers = "0-9A-Fa-f";

bool IsHex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
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
    if (c == 'h' || c == 'H') return put(kHexMembers, c == 'H');
    if (c == 'Q' || c == 'E' || c == 'C' || c == 'K') return Refuse("\\Q, \\E, \\C or \\K");
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
