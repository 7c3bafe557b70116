// Methods of str. Positions are code points; text is UTF-8, so each find or slice converts.
#include <algorithm>
#include <unordered_map>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_methods.h"
#include "tokenizer/jinja_ops.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

Value Like(const Value& self, std::string text) {
  return Value::MakeString(std::move(text), self.string().markup);
}

using TextFn = std::string (*)(std::string_view);

template <TextFn fn>
Value Convert(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("str method", args, {});
  ChargeWork(self.text().size() * 8);
  return Like(self, fn(self.text()));
}

enum class Side { kLeft, kRight, kBoth };

template <Side side>
Value Strip(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("strip", args, {""});
  const std::string* chars = bound.Has(0) && !bound[0].IsNone() ? &bound.Text(0) : nullptr;
  std::string_view text = self.text();
  if (chars) ChargeWork(text.size() * 8 + chars->size());
  if (side != Side::kRight) text = StripLeft(text, chars);
  if (side != Side::kLeft) text = StripRight(text, chars);
  return Like(self, std::string(text));
}

// The byte range of self[start:end] for the methods that take such bounds. nullopt: start is past
// the end, where even the empty string is not found.
struct ByteRange {
  size_t begin, end;
};
std::optional<ByteRange> Bounds(const Value& self, const BoundArgs& bound, size_t first) {
  const StringObject& string = self.string();
  const int64_t size = string.length;
  const auto clamp = [size](std::optional<int64_t> part, int64_t fallback) {
    if (!part) return fallback;
    return *part < 0 ? std::max<int64_t>(*part + size, 0) : *part;
  };
  const int64_t start = clamp(bound.OptionalInt(first), 0);
  const int64_t end = std::min(clamp(bound.OptionalInt(first + 1), size), size);
  if (start > size || start > end) return std::nullopt;
  if (string.ascii()) return ByteRange{static_cast<size_t>(start), static_cast<size_t>(end)};
  ChargeWork(string.text.size());
  return ByteRange{OffsetOfIndex(string.text, static_cast<size_t>(start)),
                   OffsetOfIndex(string.text, static_cast<size_t>(end))};
}

int64_t IndexOfOffset(const Value& self, size_t offset) {
  if (self.string().ascii()) return static_cast<int64_t>(offset);
  return static_cast<int64_t>(CountCodePoints(std::string_view(self.text()).substr(0, offset)));
}

template <bool from_right, bool must_find>
Value Find(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound(must_find ? "index" : "find", args, {"", "", ""}, 1);
  const std::string& needle = bound.Text(0);
  ChargeWork(self.text().size());
  size_t found = std::string::npos;
  if (const auto range = Bounds(self, bound, 1)) {
    const std::string_view part =
        std::string_view(self.text()).substr(range->begin, range->end - range->begin);
    found = from_right ? part.rfind(needle) : part.find(needle);
    if (found != part.npos) return Value(IndexOfOffset(self, range->begin + found));
  }
  if (must_find) Throw(ErrorKind::kValue, "substring not found");
  return Value(int64_t{-1});
}

Value Count(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("count", args, {"", "", ""}, 1);
  const std::string& needle = bound.Text(0);
  ChargeWork(self.text().size());
  const auto range = Bounds(self, bound, 1);
  if (!range) return Value(int64_t{0});
  const std::string_view part =
      std::string_view(self.text()).substr(range->begin, range->end - range->begin);
  if (needle.empty()) return Value(static_cast<int64_t>(CountCodePoints(part)) + 1);
  int64_t count = 0;
  for (size_t at = part.find(needle); at != part.npos; at = part.find(needle, at + needle.size())) {
    ++count;
  }
  return Value(count);
}

template <bool at_end>
Value HasAffix(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound(at_end ? "endswith" : "startswith", args, {"", "", ""}, 1);
  const auto range = Bounds(self, bound, 1);
  const auto matches = [&](const Value& affix) {
    if (!affix.IsString()) {
      Throw(ErrorKind::kType, "{} first arg must be str or a tuple of str, not {}",
            at_end ? "endswith" : "startswith", TypeName(affix));
    }
    if (!range) return false;
    const std::string_view part =
        std::string_view(self.text()).substr(range->begin, range->end - range->begin);
    return at_end ? part.ends_with(affix.text()) : part.starts_with(affix.text());
  };
  if (!bound[0].IsTuple()) return Value(matches(bound[0]));
  const auto& affixes = bound[0].list().items;
  return Value(std::any_of(affixes.begin(), affixes.end(), matches));
}

template <bool at_end>
Value RemoveAffix(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound(at_end ? "removesuffix" : "removeprefix", args, {""}, 1);
  std::string_view text = self.text();
  const std::string& affix = bound.Text(0);
  if (at_end && text.ends_with(affix)) text.remove_suffix(affix.size());
  if (!at_end && text.starts_with(affix)) text.remove_prefix(affix.size());
  return Like(self, std::string(text));
}

Value MakeParts(const Value& self, const std::vector<std::string_view>& parts) {
  CheckListSize(parts.size());
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(Like(self, std::string(part)));
  return Value::MakeList(std::move(items));
}

// Words between runs of white space; after `limit` cuts the rest stays whole.
std::vector<std::string_view> SplitWords(std::string_view text, int64_t limit) {
  std::vector<std::string_view> parts;
  for (text = StripLeft(text); !text.empty(); text = StripLeft(text)) {
    if (limit == 0) {
      parts.push_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      size_t next = end;
      if (IsSpace(NextCodePoint(text, &next))) break;
      end = next;
    }
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end);
    --limit;
  }
  return parts;
}

std::vector<std::string_view> SplitWordsFromRight(std::string_view text, int64_t limit) {
  std::vector<std::string_view> parts;
  for (text = StripRight(text); !text.empty(); text = StripRight(text)) {
    if (limit == 0) {
      parts.push_back(text);
      break;
    }
    size_t start = text.size();
    while (start > 0) {
      size_t previous = start;
      if (IsSpace(PreviousCodePoint(text, &previous))) break;
      start = previous;
    }
    parts.push_back(text.substr(start));
    text = text.substr(0, start);
    --limit;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> SplitAt(std::string_view text, std::string_view separator,
                                      int64_t limit) {
  std::vector<std::string_view> parts;
  for (; limit != 0; --limit) {
    const size_t at = text.find(separator);
    if (at == text.npos) break;
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  parts.push_back(text);
  return parts;
}

std::vector<std::string_view> SplitAtFromRight(std::string_view text, std::string_view separator,
                                               int64_t limit) {
  std::vector<std::string_view> parts;
  for (; limit != 0; --limit) {
    const size_t at = text.rfind(separator);
    if (at == text.npos) break;
    parts.push_back(text.substr(at + separator.size()));
    text = text.substr(0, at);
  }
  parts.push_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

template <bool from_right>
Value Split(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("split", args, {"sep", "maxsplit"});
  const int64_t limit = std::max<int64_t>(bound.Int(1, -1), -1);
  const std::string_view text = self.text();
  ChargeWork(text.size() * 4);
  if (!bound.Has(0) || bound[0].IsNone()) {
    return MakeParts(self, from_right ? SplitWordsFromRight(text, limit) : SplitWords(text, limit));
  }
  const std::string& separator = bound.Text(0);
  if (separator.empty()) Throw(ErrorKind::kValue, "empty separator");
  return MakeParts(self, from_right ? SplitAtFromRight(text, separator, limit)
                                    : SplitAt(text, separator, limit));
}

Value SplitLinesMethod(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("splitlines", args, {"keepends"});
  ChargeWork(self.text().size() * 4);
  return MakeParts(self, SplitLines(self.text(), bound.Bool(0, false)));
}

template <bool from_right>
Value Partition(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("partition", args, {""}, 1);
  const std::string& separator = bound.Text(0);
  if (separator.empty()) Throw(ErrorKind::kValue, "empty separator");
  const std::string& text = self.text();
  ChargeWork(text.size());
  const size_t at = from_right ? text.rfind(separator) : text.find(separator);
  if (at == text.npos) {
    const Value empty = Like(self, "");
    return Value::MakeTuple(from_right ? std::vector<Value>{empty, empty, self}
                                       : std::vector<Value>{self, empty, empty});
  }
  return Value::MakeTuple({Like(self, text.substr(0, at)), Like(self, separator),
                           Like(self, text.substr(at + separator.size()))});
}

Value Replace(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("replace", args, {"", "", ""}, 2);
  return Like(self,
              ReplaceText(self.text(), bound.Text(0), bound.Text(1), bound.Int(2, -1)));
}

Value Join(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("join", args, {""}, 1);
  std::string out;
  Iterator it(bound[0]);
  int64_t index = 0;
  for (Value item; it.Next(&item); ++index) {
    if (!item.IsString()) {
      Throw(ErrorKind::kType, "sequence item {}: expected str instance, {} found", index,
            TypeName(item));
    }
    if (index > 0) out += self.text();
    out += item.text();
    CheckStringSize(out.size());
    ChargeWork(self.text().size() + item.text().size());
  }
  return Like(self, std::move(out));
}

Value Format(Interpreter&, const Value& self, const CallArgs& args) {
  return Like(self, StrFormat(self.text(), args));
}

Value FormatMap(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("format_map", args, {""}, 1);
  if (!bound[0].Is(Kind::kDict)) Throw(ErrorKind::kType, "format_map() takes a mapping");
  CallArgs fields;
  for (const auto& [key, value] : bound[0].dict().items) fields.named.emplace_back(Str(key), value);
  return Like(self, StrFormat(self.text(), fields));
}

// Spaces (or `fill`) to bring `self` to a width; `left` of them in front.
enum class Align { kLeft, kRight, kCenter };

template <Align align>
Value Justify(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("justify", args, {"", ""}, 1);
  std::string fill = " ";
  if (bound.Has(1)) {
    fill = bound.Text(1);
    if (CountCodePoints(fill) != 1) {
      Throw(ErrorKind::kType, "The fill character must be exactly one character long");
    }
  }
  const int64_t width = bound.Int(0, 0);
  const int64_t missing = std::max<int64_t>(width - self.string().length, 0);
  CheckStringSize(self.text().size() + static_cast<uint64_t>(missing) * fill.size());
  // CPython's rounding: the odd space goes left when the width is odd.
  const int64_t left = align == Align::kLeft    ? 0
                       : align == Align::kRight ? missing
                                                : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += self.text();
  for (int64_t i = left; i < missing; ++i) out += fill;
  return Like(self, std::move(out));
}

Value ZeroFill(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("zfill", args, {""}, 1);
  const int64_t missing = std::max<int64_t>(bound.Int(0, 0) - self.string().length, 0);
  CheckStringSize(self.text().size() + static_cast<uint64_t>(missing));
  std::string out = self.text();
  const size_t at = !out.empty() && (out[0] == '+' || out[0] == '-') ? 1 : 0;
  out.insert(at, static_cast<size_t>(missing), '0');
  return Like(self, std::move(out));
}

Value ExpandTabs(Interpreter&, const Value& self, const CallArgs& args) {
  const BoundArgs bound("expandtabs", args, {"tabsize"});
  const int64_t size = bound.Int(0, 8);
  std::string out;
  int64_t column = 0;
  for (const char c : self.text()) {
    if (c == '\t') {
      const int64_t spaces = size > 0 ? size - column % size : 0;
      CheckStringSize(out.size() + static_cast<uint64_t>(spaces));
      out.append(static_cast<size_t>(spaces), ' ');
      column += spaces;
    } else {
      out += c;
      if (c == '\n' || c == '\r') column = 0;
      else if ((c & 0xC0) != 0x80) ++column;
    }
  }
  return Like(self, std::move(out));
}

using ClassFn = bool (*)(char32_t);

// True when the text is not empty and each character is of the class.
template <ClassFn fn, bool empty_value>
Value IsAll(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("str predicate", args, {});
  const std::string& text = self.text();
  ChargeWork(text.size() * 4);
  for (size_t i = 0; i < text.size();) {
    if (!fn(NextCodePoint(text, &i))) return Value(false);
  }
  return Value(!text.empty() || empty_value);
}

bool IsAsciiChar(char32_t c) { return c < 0x80; }

// islower and isupper: some cased character, none of the other case.
template <bool lower>
Value IsCase(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("str predicate", args, {});
  const std::string& text = self.text();
  ChargeWork(text.size() * 4);
  bool found = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextCodePoint(text, &i);
    if (IsTitle(c) || (lower ? IsUpper(c) : IsLower(c))) return Value(false);
    found = found || (lower ? IsLower(c) : IsUpper(c));
  }
  return Value(found);
}

Value IsTitleText(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("istitle", args, {});
  const std::string& text = self.text();
  ChargeWork(text.size() * 4);
  bool previous_cased = false, found = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextCodePoint(text, &i);
    if (IsUpper(c) || IsTitle(c)) {
      if (previous_cased) return Value(false);
      previous_cased = found = true;
    } else if (IsLower(c)) {
      if (!previous_cased) return Value(false);
      previous_cased = found = true;
    } else {
      previous_cased = false;
    }
  }
  return Value(found);
}

Value IsIdentifierText(Interpreter&, const Value& self, const CallArgs& args) {
  BoundArgs("isidentifier", args, {});
  return Value(IsIdentifier(self.text()));
}

Value NotSupported(Interpreter&, const Value&, const CallArgs&) {
  Throw(ErrorKind::kType, "this str method is not supported in chat templates");
}

const std::unordered_map<std::string_view, MethodFn>& StringMethods() {
  static const std::unordered_map<std::string_view, MethodFn> kMethods = {
      {"capitalize", Convert<Capitalize>},
      {"casefold", Convert<CaseFold>},
      {"center", Justify<Align::kCenter>},
      {"count", Count},
      {"encode", NotSupported},
      {"endswith", HasAffix<true>},
      {"expandtabs", ExpandTabs},
      {"find", Find<false, false>},
      {"format", Format},
      {"format_map", FormatMap},
      {"index", Find<false, true>},
      {"isalnum", IsAll<IsAlnum, false>},
      {"isalpha", IsAll<IsAlpha, false>},
      {"isascii", IsAll<IsAsciiChar, true>},
      {"isdecimal", IsAll<IsDecimal, false>},
      {"isdigit", IsAll<IsDigit, false>},
      {"isidentifier", IsIdentifierText},
      {"islower", IsCase<true>},
      {"isnumeric", IsAll<IsNumeric, false>},
      {"isprintable", IsAll<IsPrintable, true>},
      {"isspace", IsAll<IsSpace, false>},
      {"istitle", IsTitleText},
      {"isupper", IsCase<false>},
      {"join", Join},
      {"ljust", Justify<Align::kLeft>},
      {"lower", Convert<ToLower>},
      {"lstrip", Strip<Side::kLeft>},
      {"maketrans", NotSupported},
      {"partition", Partition<false>},
      {"removeprefix", RemoveAffix<false>},
      {"removesuffix", RemoveAffix<true>},
      {"replace", Replace},
      {"rfind", Find<true, false>},
      {"rindex", Find<true, true>},
      {"rjust", Justify<Align::kRight>},
      {"rpartition", Partition<true>},
      {"rsplit", Split<true>},
      {"rstrip", Strip<Side::kRight>},
      {"split", Split<false>},
      {"splitlines", SplitLinesMethod},
      {"startswith", HasAffix<false>},
      {"strip", Strip<Side::kBoth>},
      {"swapcase", Convert<SwapCase>},
      {"title", Convert<ToTitle>},
      {"translate", NotSupported},
      {"upper", Convert<ToUpper>},
      {"zfill", ZeroFill}};
  return kMethods;
}

}  // namespace

MethodFn FindStringMethod(std::string_view name) {
  const auto& methods = StringMethods();
  const auto found = methods.find(name);
  return found == methods.end() ? nullptr : found->second;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&#39;"; break;
      case '"': out += "&#34;"; break;
      default: out += c;
    }
  }
  return out;
}

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t line_end = i;
    const char32_t c = NextCodePoint(text, &i);
    if (!IsLineBreak(c)) continue;
    if (c == U'\r' && i < text.size() && text[i] == '\n') ++i;
    lines.push_back(text.substr(start, (keep_ends ? i : line_end) - start));
    start = i;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::string ReplaceText(std::string_view text, std::string_view old, std::string_view with,
                        int64_t count) {
  ChargeWork(text.size());
  std::string out;
  const auto add_replacement = [&] {
    out += with;
    ChargeWork(with.size());
    CheckStringSize(out.size() + text.size());
    --count;
  };
  size_t position = 0;
  if (old.empty()) {  // between all characters, and at both ends
    while (count != 0) {
      add_replacement();
      if (position >= text.size()) break;
      const size_t size = CodePointSize(text, position);
      out += text.substr(position, size);
      position += size;
    }
  }
  while (count != 0 && !old.empty()) {
    const size_t at = text.find(old, position);
    if (at == text.npos) break;
    out += text.substr(position, at - position);
    add_replacement();
    position = at + old.size();
  }
  out += text.substr(position);
  return out;
}

}  // namespace baton::tokenizer::jinja
