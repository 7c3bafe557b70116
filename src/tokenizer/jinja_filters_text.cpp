// Filters on text.
#include <algorithm>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_methods.h"
#include "tokenizer/jinja_ops.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

// Most text filters begin by turning their value into a string; markup stays markup.
struct Soft {
  explicit Soft(const Value& value)
      : text(Str(value)), markup(value.IsString() && value.string().markup) {
    ChargeWork(text.size() * 8);
  }
  std::string text;
  bool markup;
};

using TextFn = std::string (*)(std::string_view);

template <TextFn fn>
Value Convert(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("text filter", args, {});
  const Soft soft(value);
  return Value::MakeString(fn(soft.text), soft.markup);
}

bool IsWordBreak(char32_t c) {
  return IsSpace(c) || c == U'-' || c == U'(' || c == U'{' || c == U'[' || c == U'<';
}

// Jinja's own idea of a title: a capital after white space, dashes and opening brackets.
std::string TitleWords(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    const bool separator = [&] {
      size_t k = i;
      return IsWordBreak(NextCodePoint(text, &k));
    }();
    while (i < text.size()) {
      size_t next = i;
      if (IsWordBreak(NextCodePoint(text, &next)) != separator) break;
      i = next;
    }
    const std::string_view part = text.substr(start, i - start);
    const size_t first = CodePointSize(part, 0);
    out += ToUpper(part.substr(0, first));
    out += ToLower(part.substr(first));
  }
  return out;
}

Value Title(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("title", args, {});
  return Value::MakeString(TitleWords(Soft(value).text));
}

Value Trim(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("trim", args, {"chars"});
  const Soft soft(value);
  const std::string* chars = bound.Has(0) && !bound[0].IsNone() ? &bound.Text(0) : nullptr;
  return Value::MakeString(std::string(StripRight(StripLeft(soft.text, chars), chars)),
                           soft.markup);
}

Value Replace(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("replace", args, {"old", "new", "count"}, 2);
  const int64_t count = bound.OptionalInt(2).value_or(-1);
  return Value::MakeString(ReplaceText(Str(value), Str(bound[0]), Str(bound[1]), count));
}

Value Indent(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("indent", args, {"width", "first", "blank"});
  if (value.IsUndefined()) value.FailUndefined();
  if (!value.IsString()) {
    Throw(ErrorKind::kType, "unsupported operand type(s) for +=: '{}' and 'str'", TypeName(value));
  }
  std::string indent(4, ' ');
  if (bound.Has(0)) {
    if (bound[0].IsString()) {
      indent = bound[0].text();
    } else {
      const int64_t width = std::max<int64_t>(ToIndex(bound[0]), 0);
      CheckStringSize(static_cast<uint64_t>(width));
      indent.assign(static_cast<size_t>(width), ' ');
    }
  }
  const bool first = bound.Bool(1, false), blank = bound.Bool(2, false);
  const std::string text = value.text() + "\n";
  std::string out = first ? indent : "";
  bool at_start = true;
  for (const std::string_view line : SplitLines(text, false)) {
    if (!at_start) out += '\n';
    if (!at_start && (blank || !line.empty())) out += indent;
    at_start = false;
    out += line;
    CheckStringSize(out.size());
    ChargeWork(line.size() + indent.size());
  }
  return Value::MakeString(std::move(out), value.string().markup);
}

Value Truncate(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("truncate", args, {"length", "killwords", "end", "leeway"});
  const int64_t length = bound.Int(0, 255);
  const std::string end = bound.Has(2) ? bound.Text(2) : "...";
  const int64_t leeway = bound.OptionalInt(3).value_or(5);
  const auto end_size = static_cast<int64_t>(CountCodePoints(end));
  if (length < end_size)
    Throw(ErrorKind::kValue, "expected length >= {}, got {}", end_size, length);
  if (leeway < 0) Throw(ErrorKind::kValue, "expected leeway >= 0, got {}", leeway);
  if (Length(value) <= length || Length(value) - length <= leeway) return value;
  if (!value.IsString()) Throw(ErrorKind::kType, "truncate needs a string");
  std::string text = value.text();
  text.resize(OffsetOfIndex(text, static_cast<size_t>(length - end_size)));
  if (!bound.Bool(1, false)) {
    const size_t space = text.rfind(' ');
    if (space != text.npos) text.resize(space);
  }
  return Value::MakeString(text + end, value.string().markup);
}

Value Center(Interpreter& interpreter, const Value& value, const CallArgs& args) {
  const BoundArgs bound("center", args, {"width"});
  const Soft soft(value);
  CallArgs method_args;
  method_args.positional.emplace_back(bound.Int(0, 80));
  return FindStringMethod("center")(interpreter, Value::MakeString(soft.text, soft.markup),
                                    method_args);
}

Value Format(Interpreter&, const Value& value, const CallArgs& args) {
  if (!args.positional.empty() && !args.named.empty()) {
    Throw(ErrorKind::kType, "can't handle positional and keyword arguments at the same time");
  }
  const Soft soft(value);
  if (args.named.empty()) {
    return Value::MakeString(PercentFormat(soft.text, Value::MakeTuple(args.positional)),
                             soft.markup);
  }
  DictBuilder fields;
  for (const auto& [name, field] : args.named) fields.Set(Value::MakeString(name), field);
  return Value::MakeString(PercentFormat(soft.text, fields.Build()), soft.markup);
}

Value WordCount(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("wordcount", args, {});
  const Soft soft(value);
  int64_t words = 0;
  bool inside = false;
  for (size_t i = 0; i < soft.text.size();) {
    const bool word = IsWord(NextCodePoint(soft.text, &i));
    words += word && !inside ? 1 : 0;
    inside = word;
  }
  return Value(words);
}

std::string UrlQuote(std::string_view text, bool query) {
  static constexpr std::string_view kSafe = "_.-~";
  std::string out;
  for (const char c : text) {
    const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (alnum || kSafe.find(c) != kSafe.npos || (c == '/' && !query)) {
      out += c;
    } else if (c == ' ' && query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

Value UrlEncode(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("urlencode", args, {});
  if (value.IsString() || !Iterator::CanIterate(value)) {
    return Value::MakeString(UrlQuote(Soft(value).text, false));
  }
  std::string out;
  const auto add = [&out](const Value& key, const Value& item) {
    if (!out.empty()) out += '&';
    out += UrlQuote(Str(key), true) + "=" + UrlQuote(Str(item), true);
    CheckStringSize(out.size());
  };
  if (value.Is(Kind::kDict)) {
    for (const auto& [key, item] : value.dict().items) add(key, item);
  } else {
    for (const Value& pair : ToVector(value)) {
      const std::vector<Value> parts = ToVector(pair);
      if (parts.size() != 2) Throw(ErrorKind::kValue, "urlencode needs pairs");
      add(parts[0], parts[1]);
    }
  }
  return Value::MakeString(std::move(out));
}

Value XmlAttr(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("xmlattr", args, {"autospace"});
  if (!value.Is(Kind::kDict)) Throw(ErrorKind::kType, "xmlattr needs a mapping");
  std::string out;
  for (const auto& [key, item] : value.dict().items) {
    if (item.IsNone() || item.IsUndefined()) continue;
    if (!key.IsString()) Throw(ErrorKind::kType, "attribute names must be strings");
    if (key.text().find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      Throw(ErrorKind::kValue, "Invalid character in attribute name: {}", Repr(key));
    }
    if (!out.empty()) out += ' ';
    const bool markup = item.IsString() && item.string().markup;
    out += EscapeHtml(key.text()) + "=\"" + (markup ? item.text() : EscapeHtml(Str(item))) + "\"";
    CheckStringSize(out.size());
  }
  if (bound.Bool(0, true) && !out.empty()) out.insert(0, 1, ' ');
  return Value::MakeString(std::move(out));
}

// Drops comments and tags, joins the words, and resolves the entities that `escape` makes.
Value StripTags(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("striptags", args, {});
  std::string text = Soft(value).text;
  const auto drop = [&text](std::string_view open, std::string_view close) {
    std::string kept;
    size_t position = 0;
    while (true) {
      const size_t start = text.find(open, position);
      const size_t end = start == text.npos ? text.npos : text.find(close, start);
      if (end == text.npos) break;
      kept.append(text, position, start - position);
      position = end + close.size();
    }
    text = kept + text.substr(position);
  };
  drop("<!--", "-->");
  drop("<", ">");
  std::string out;
  bool pending_space = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextCodePoint(text, &i);
    if (IsSpace(c)) {
      pending_space = !out.empty();
      continue;
    }
    if (pending_space) out += ' ';
    pending_space = false;
    AppendCodePoint(out, c);
  }
  static constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
      {"&lt;", "<"}, {"&gt;", ">"}, {"&#39;", "'"}, {"&#34;", "\""}, {"&quot;", "\""},
      {"&amp;", "&"}};
  for (const auto& [entity, plain] : kEntities) out = ReplaceText(out, entity, plain, -1);
  return Value::MakeString(std::move(out));
}

// One paragraph for wordwrap: words and the white space between them, as textwrap cuts them.
std::vector<std::u32string> WrapChunks(const std::u32string& line, bool hyphens) {
  std::vector<std::u32string> chunks;
  for (size_t i = 0; i < line.size();) {
    const size_t start = i;
    const bool space = IsSpace(line[i]);
    while (i < line.size() && IsSpace(line[i]) == space) {
      ++i;
      const bool letter_before = i - start >= 3 && IsAlpha(line[i - 2]) && IsWord(line[i - 3]);
      const bool letters_after = i + 1 < line.size() && IsWord(line[i]) && IsAlpha(line[i + 1]);
      if (!space && hyphens && line[i - 1] == U'-' && letter_before && letters_after) break;
    }
    chunks.push_back(line.substr(start, i - start));
  }
  return chunks;
}

std::vector<std::u32string> WrapLine(const std::u32string& line, size_t width, bool break_long,
                                     bool hyphens) {
  std::vector<std::u32string> chunks = WrapChunks(line, hyphens);
  std::reverse(chunks.begin(), chunks.end());
  std::vector<std::u32string> lines;
  while (!chunks.empty()) {
    std::u32string current;
    std::vector<std::u32string> parts;
    if (IsSpace(chunks.back()[0]) && !lines.empty()) chunks.pop_back();
    while (!chunks.empty() && current.size() + chunks.back().size() <= width) {
      current += chunks.back();
      parts.push_back(chunks.back());
      chunks.pop_back();
    }
    if (!chunks.empty() && chunks.back().size() > width) {
      if (break_long) {
        size_t room = width - current.size();
        const size_t hyphen = room > 0 ? chunks.back().rfind(U'-', room - 1) : std::u32string::npos;
        const bool cut = hyphens && hyphen != std::u32string::npos && hyphen > 0 &&
                         chunks.back().find_first_not_of(U'-') < hyphen;
        if (cut) room = hyphen + 1;
        parts.push_back(chunks.back().substr(0, room));
        chunks.back().erase(0, room);
      } else if (parts.empty()) {
        parts.push_back(chunks.back());
        chunks.pop_back();
      }
    }
    if (!parts.empty() && (parts.back().empty() || IsSpace(parts.back()[0]))) parts.pop_back();
    if (parts.empty()) continue;
    current.clear();
    for (const std::u32string& part : parts) current += part;
    lines.push_back(current);
  }
  return lines;
}

Value WordWrap(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("wordwrap", args,
                        {"width", "break_long_words", "wrapstring", "break_on_hyphens"});
  if (!value.IsString()) Throw(ErrorKind::kType, "wordwrap needs a string");
  const int64_t width = bound.Int(0, 79);
  if (width <= 0) Throw(ErrorKind::kValue, "invalid width {} (must be > 0)", width);
  const std::string separator = bound.Has(2) && !bound[2].IsNone() ? bound.Text(2) : "\n";
  ChargeWork(value.text().size() * 32);
  std::string out;
  bool first = true;
  for (const std::string_view line : SplitLines(value.text(), false)) {
    if (!first) out += separator;
    first = false;
    bool first_part = true;
    for (const std::u32string& part : WrapLine(Decode(line), static_cast<size_t>(width),
                                               bound.Bool(1, true), bound.Bool(3, true))) {
      if (!first_part) out += separator;
      first_part = false;
      for (const char32_t c : part) AppendCodePoint(out, c);
      CheckStringSize(out.size());
      ChargeWork(separator.size());
    }
  }
  return Value::MakeString(std::move(out));
}

constexpr Filter kTextFilters[] = {
    {"capitalize", Convert<Capitalize>}, {"center", Center},       {"format", Format},
    {"indent", Indent},                  {"lower", Convert<ToLower>}, {"replace", Replace},
    {"striptags", StripTags},            {"title", Title}, {"trim", Trim},
    {"truncate", Truncate},              {"upper", Convert<ToUpper>}, {"urlencode", UrlEncode},
    {"wordcount", WordCount},            {"wordwrap", WordWrap},   {"xmlattr", XmlAttr}};

}  // namespace

std::span<const Filter> TextFilters() { return kTextFilters; }

}  // namespace baton::tokenizer::jinja
