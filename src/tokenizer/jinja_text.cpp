// str(), repr() and json.dumps().
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_ops.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

void AppendStringRepr(std::string& out, const std::string& text) {
  const bool has_single = text.find('\'') != text.npos;
  const char quote = has_single && text.find('"') == text.npos ? '"' : '\'';
  out += quote;
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    const char32_t c = NextCodePoint(text, &i);
    const auto code = static_cast<uint32_t>(c);
    if (c == U'\\' || c == static_cast<char32_t>(quote)) {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == U'\n') {
      out += "\\n";
    } else if (c == U'\r') {
      out += "\\r";
    } else if (c == U'\t') {
      out += "\\t";
    } else if (IsPrintable(c)) {
      out.append(text, start, i - start);
    } else {
      out += code < 0x100     ? fmt::format("\\x{:02x}", code)
             : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                              : fmt::format("\\U{:08x}", code);
    }
  }
  out += quote;
}

void AppendItems(std::string& out, const std::vector<Value>& items) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    AppendRepr(out, items[i]);
    CheckStringSize(out.size());
  }
}

void AppendListRepr(std::string& out, const ListObject& list) {
  ChargeWork(list.items.size() * 32);
  switch (list.kind) {
    case SequenceKind::kList:
      out += '[';
      AppendItems(out, list.items);
      out += ']';
      return;
    case SequenceKind::kTuple:
    case SequenceKind::kGroup:
      out += '(';
      AppendItems(out, list.items);
      out += list.items.size() == 1 ? ",)" : ")";
      return;
    default: break;
  }
  out += list.kind == SequenceKind::kKeys     ? "dict_keys(["
         : list.kind == SequenceKind::kValues ? "dict_values(["
                                              : "dict_items([";
  AppendItems(out, list.items);
  out += "])";
}

void AppendDictRepr(std::string& out, const DictItems& items) {
  ChargeWork(items.size() * 32);
  out += '{';
  bool first = true;
  for (const auto& [key, value] : items) {
    if (!first) out += ", ";
    first = false;
    AppendRepr(out, key);
    out += ": ";
    AppendRepr(out, value);
    CheckStringSize(out.size());
  }
  out += '}';
}

void AppendNamespaceRepr(std::string& out, const NamespaceObject& object) {
  out += "<Namespace {";
  bool first = true;
  for (const auto& [name, value] : object.items) {
    if (!first) out += ", ";
    first = false;
    AppendStringRepr(out, name);
    out += ": ";
    if (value.Is(Kind::kNamespace)) {
      out += "<Namespace {...}>";  // may be this very one
    } else {
      AppendRepr(out, value);
    }
  }
  out += "}>";
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void Write(const Value& value) {
    CheckStringSize(out_.size());
    switch (value.kind()) {
      case Kind::kNone: out_ += "null"; return;
      case Kind::kBool: out_ += value.boolean() ? "true" : "false"; return;
      case Kind::kInt: out_ += std::to_string(value.integer()); return;
      case Kind::kFloat: out_ += Number(value.number()); return;
      case Kind::kString: WriteString(value.text()); return;
      case Kind::kDict: WriteDict(value.dict()); return;
      case Kind::kList:
        if (value.IsPlainSequence()) {
          WriteList(value.list().items);
          return;
        }
        break;
      default: break;
    }
    Throw(ErrorKind::kType, "Object of type {} is not JSON serializable", TypeName(value));
  }

  std::string Take() { return std::move(out_); }

 private:
  static std::string Number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(value);
  }

  void NewLine() {
    if (!style_.indent) return;
    out_ += '\n';
    for (int i = 0; i < level_; ++i) out_ += *style_.indent;
  }

  void WriteList(const std::vector<Value>& items) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    ChargeWork(items.size() * 32);
    out_ += '[';
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      NewLine();
      Write(items[i]);
    }
    --level_;
    NewLine();
    out_ += ']';
  }

  void WriteDict(const DictObject& dict) {
    if (dict.items.empty()) {
      out_ += "{}";
      return;
    }
    ChargeWork(dict.items.size() * 64);
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(),
                       [](const auto* a, const auto* b) { return Less(a->first, b->first); });
    }
    out_ += '{';
    ++level_;
    bool first = true;
    for (const auto* item : items) {
      if (!first) out_ += style_.item_separator;
      first = false;
      NewLine();
      WriteKey(item->first);
      out_ += style_.key_separator;
      Write(item->second);
    }
    --level_;
    NewLine();
    out_ += '}';
  }

  void WriteKey(const Value& key) {
    switch (key.kind()) {
      case Kind::kString: WriteString(key.text()); return;
      case Kind::kNone: WriteString("null"); return;
      case Kind::kBool: WriteString(key.boolean() ? "true" : "false"); return;
      case Kind::kInt: WriteString(std::to_string(key.integer())); return;
      case Kind::kFloat: WriteString(Number(key.number())); return;
      default:
        Throw(ErrorKind::kType, "keys must be str, int, float, bool or None, not {}",
              TypeName(key));
    }
  }

  void WriteString(std::string_view text) {
    ChargeWork(text.size());
    out_ += '"';
    for (size_t i = 0; i < text.size();) {
      const auto byte = static_cast<unsigned char>(text[i]);
      if (byte >= 0x80 && style_.ensure_ascii) {
        WriteEscape(static_cast<uint32_t>(NextCodePoint(text, &i)));
        continue;
      }
      ++i;
      switch (byte) {
        case '"': out_ += "\\\""; break;
        case '\\': out_ += "\\\\"; break;
        case '\n': out_ += "\\n"; break;
        case '\r': out_ += "\\r"; break;
        case '\t': out_ += "\\t"; break;
        case '\f': out_ += "\\f"; break;
        case '\b': out_ += "\\b"; break;
        default:
          if (byte < 0x20) {
            WriteEscape(byte);
          } else {
            out_ += static_cast<char>(byte);
          }
      }
    }
    out_ += '"';
  }

  void WriteEscape(uint32_t code) {
    if (code < 0x10000) {
      out_ += fmt::format("\\u{:04x}", code);
    } else {
      code -= 0x10000;
      out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF));
    }
  }

  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

// The shortest digits that read back as the same float, in Python's layout.
std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c != '.' && c != '-') digits += c;
  }
  std::string out = text[0] == '-' ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (digits.size() > 1) out += "." + digits.substr(1);
    return out + fmt::format("e{}{:02d}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() < whole) digits.append(whole - digits.size(), '0');
  out += digits.substr(0, whole) + ".";
  return out + (digits.size() > whole ? digits.substr(whole) : "0");
}

void AppendRepr(std::string& out, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: out += "Undefined"; return;
    case Kind::kNone: out += "None"; return;
    case Kind::kBool: out += value.boolean() ? "True" : "False"; return;
    case Kind::kInt: out += std::to_string(value.integer()); return;
    case Kind::kFloat: out += FloatRepr(value.number()); return;
    case Kind::kString:
      ChargeWork(value.text().size());
      if (value.string().markup) out += "Markup(";
      AppendStringRepr(out, value.text());
      if (value.string().markup) out += ")";
      return;
    case Kind::kList: AppendListRepr(out, value.list()); return;
    case Kind::kDict: AppendDictRepr(out, value.dict().items); return;
    case Kind::kRange: {
      const RangeObject& range = value.range();
      out += fmt::format("range({}, {}", range.start, range.stop);
      out += range.step == 1 ? ")" : fmt::format(", {})", range.step);
      return;
    }
    case Kind::kGenerator: out += fmt::format("<{} object>", value.generator().type_name); return;
    case Kind::kMethod:
      out += fmt::format("<built-in method {} of {} object>", value.method().name,
                         TypeName(value.method().self));
      return;
    case Kind::kFunction: out += fmt::format("<function {}>", value.function().name); return;
    case Kind::kMacro: out += fmt::format("<Macro '{}'>", value.macro().name); return;
    case Kind::kNamespace: AppendNamespaceRepr(out, value.name_space()); return;
    case Kind::kLoop:
      out += fmt::format("<LoopContext {}/{}>", value.loop().index0 + 1, value.loop().Length());
      return;
  }
}

void AppendStr(std::string& out, const Value& value) {
  if (value.IsString()) {
    out += value.text();
  } else if (!value.IsUndefined()) {
    AppendRepr(out, value);
  }
}

std::string Str(const Value& value) {
  std::string out;
  AppendStr(out, value);
  return out;
}

std::string Repr(const Value& value) {
  std::string out;
  AppendRepr(out, value);
  return out;
}

std::string ToJson(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.Write(value);
  return writer.Take();
}

}  // namespace baton::tokenizer::jinja
