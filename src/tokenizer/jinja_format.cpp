// str.format with its field specifications, and the % operator on strings.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_ops.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

constexpr int64_t kMaxPrecision = 1000;

struct Spec {
  std::string fill = " ";
  char align = '\0';  // < > ^ =
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  int64_t width = 0;
  char grouping = '\0';
  std::optional<int64_t> precision;
  char type = '\0';
};

bool IsAlign(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

// Digits at *i as a number; nullopt when there are none.
std::optional<int64_t> TakeNumber(std::string_view text, size_t* i) {
  int64_t value = 0;
  const auto parsed = std::from_chars(text.data() + *i, text.data() + text.size(), value);
  if (parsed.ptr == text.data() + *i || text[*i] == '-') return std::nullopt;
  if (parsed.ec != std::errc()) {
    Throw(ErrorKind::kValue, "Too many decimal digits in format string");
  }
  *i = static_cast<size_t>(parsed.ptr - text.data());
  return value;
}

Spec ParseSpec(std::string_view text) {
  Spec spec;
  size_t i = 0;
  const auto at = [&](size_t k) { return k < text.size() ? text[k] : '\0'; };
  if (!text.empty()) {
    const size_t size = CodePointSize(text, 0);
    if (IsAlign(at(size))) {
      spec.fill = text.substr(0, size);
      spec.align = at(size);
      i = size + 1;
    } else if (IsAlign(at(0))) {
      spec.align = at(0);
      i = 1;
    }
  }
  if (at(i) == '+' || at(i) == '-' || at(i) == ' ') spec.sign = text[i++];
  if (at(i) == '#') spec.alternate = ++i > 0;
  if (at(i) == '0') spec.zero = ++i > 0;
  spec.width = TakeNumber(text, &i).value_or(0);
  if (at(i) == ',' || at(i) == '_') spec.grouping = text[i++];
  if (at(i) == '.') {
    ++i;
    spec.precision = TakeNumber(text, &i);
    if (!spec.precision) Throw(ErrorKind::kValue, "Format specifier missing precision");
  }
  if (i < text.size()) spec.type = text[i++];
  if (i < text.size()) Throw(ErrorKind::kValue, "Invalid format specifier '{}'", text);
  if (spec.zero && spec.align == '\0') {
    spec.fill = "0";
    spec.align = '=';
  }
  return spec;
}

// `sign_size` bytes at the front stay in front of the padding for '='.
std::string Pad(std::string body, const Spec& spec, char default_align, size_t sign_size) {
  const auto size = static_cast<int64_t>(CountCodePoints(body));
  const int64_t missing = spec.width - size;
  if (missing <= 0) return body;
  CheckStringSize(body.size() + static_cast<uint64_t>(missing) * spec.fill.size());
  const auto fill = [&](int64_t count) {
    std::string out;
    for (int64_t i = 0; i < count; ++i) out += spec.fill;
    return out;
  };
  switch (spec.align ? spec.align : default_align) {
    case '<': return body + fill(missing);
    case '^': return fill(missing / 2) + body + fill(missing - missing / 2);
    case '=': return body.substr(0, sign_size) + fill(missing) + body.substr(sign_size);
    default: return fill(missing) + body;
  }
}

std::string Group(std::string digits, char separator, size_t every) {
  for (size_t i = digits.size(); i > every; i -= every) digits.insert(i - every, 1, separator);
  return digits;
}

std::string SignOf(bool negative, char sign) {
  return negative ? "-" : sign == '-' ? "" : std::string(1, sign);
}

std::string IntegerDigits(uint64_t magnitude, int base, bool upper) {
  char buffer[66];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, magnitude, base);
  std::string digits(buffer, end.ptr);
  return upper ? ToUpper(digits) : digits;
}

uint64_t Magnitude(int64_t value) {
  return value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
}

std::string FormatInteger(int64_t value, const Spec& spec) {
  if (spec.precision) {
    Throw(ErrorKind::kValue, "Precision not allowed in integer format specifier");
  }
  if (spec.type == 'c') {
    if (value < 0 || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) {
      Throw(ErrorKind::kOverflow, "%c arg not in range(0x110000)");
    }
    std::string out;
    AppendCodePoint(out, static_cast<char32_t>(value));
    return Pad(std::move(out), spec, '<', 0);
  }
  const char kind = static_cast<char>(spec.type | 0x20);
  const int base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
  std::string digits = IntegerDigits(Magnitude(value), base, spec.type == 'X');
  std::string prefix = SignOf(value < 0, spec.sign);
  if (spec.alternate && base != 10) prefix += std::string("0") + spec.type;
  if (spec.grouping) {
    if (spec.grouping == ',' && base != 10) {
      Throw(ErrorKind::kValue, "Cannot specify ',' with '{}'.", spec.type);
    }
    const size_t every = base == 10 ? 3 : 4;
    // Zero padding is grouped too.
    if (spec.fill == "0" && spec.align == '=') {
      CheckStringSize(static_cast<uint64_t>(spec.width));
      while (static_cast<int64_t>(prefix.size() + digits.size() + (digits.size() - 1) / every) <
             spec.width) {
        digits.insert(0, 1, '0');
      }
    }
    digits = Group(std::move(digits), spec.grouping, every);
  }
  const size_t sign_size = prefix.size();
  return Pad(prefix + digits, spec, '>', sign_size);
}

std::string PrintFloat(double value, char type, int64_t precision, bool alternate) {
  if (precision > kMaxPrecision) Throw(ErrorKind::kValue, "precision too big");
  const char format[] = {'%', alternate ? '#' : '-', '.', '*', type, '\0'};
  const int digits = static_cast<int>(precision);
  const int size = std::snprintf(nullptr, 0, format, digits, value);
  std::string out(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(out.data(), out.size(), format, digits, value);
  out.pop_back();
  return out;
}

std::string FormatFloat(double value, const Spec& spec) {
  const bool negative = std::signbit(value) && !std::isnan(value);
  const double magnitude = std::fabs(value);
  const char kind = static_cast<char>(spec.type | 0x20);
  std::string body;
  if (!std::isfinite(value)) {
    body = std::isnan(value) ? "nan" : "inf";
    if (spec.type == 'E' || spec.type == 'F' || spec.type == 'G') body = ToUpper(body);
    if (spec.type == '%') body += '%';
  } else if (spec.type == '\0' && !spec.precision) {
    body = FloatRepr(magnitude);
  } else if (spec.type == '\0' || kind == 'n') {
    const int64_t precision = std::max<int64_t>(spec.precision.value_or(6), 1);
    body = PrintFloat(magnitude, 'g', precision, spec.alternate);
    if (spec.type == '\0' && body.find_first_of(".e") == body.npos) body += ".0";
  } else if (spec.type == '%') {
    body = PrintFloat(magnitude * 100, 'f', spec.precision.value_or(6), spec.alternate) + "%";
  } else if (kind == 'e' || kind == 'f' || kind == 'g') {
    const int64_t precision = spec.precision.value_or(6);
    body = PrintFloat(magnitude, spec.type, kind == 'g' && precision == 0 ? 1 : precision,
                      spec.alternate);
  } else {
    Throw(ErrorKind::kValue, "Unknown format code '{}' for object of type 'float'", spec.type);
  }
  if (spec.grouping) {
    const size_t whole = std::min(body.find_first_not_of("0123456789"), body.size());
    body = Group(body.substr(0, whole), spec.grouping, 3) + body.substr(whole);
  }
  const std::string sign = SignOf(negative, spec.sign);
  return Pad(sign + body, spec, '>', sign.size());
}

std::string FormatText(const std::string& text, const Spec& spec) {
  if (spec.type != '\0' && spec.type != 's') {
    Throw(ErrorKind::kValue, "Unknown format code '{}' for object of type 'str'", spec.type);
  }
  if (spec.align == '=' && !spec.zero) {
    Throw(ErrorKind::kValue, "'=' alignment not allowed in string format specifier");
  }
  Spec text_spec = spec;
  if (spec.align == '=') text_spec.align = '<';
  std::string body = text;
  if (spec.precision && *spec.precision < static_cast<int64_t>(body.size())) {
    body.resize(OffsetOfIndex(body, static_cast<size_t>(*spec.precision)));
  }
  return Pad(std::move(body), text_spec, '<', 0);
}

// Walks "{name.attribute[key]!conversion:spec}" fields.
class FieldFormatter {
 public:
  explicit FieldFormatter(const CallArgs& args) : args_(args) {}

  std::string Run(std::string_view format, int depth) {
    if (depth > 1) Throw(ErrorKind::kValue, "Max string recursion exceeded");
    std::string out;
    for (size_t i = 0; i < format.size();) {
      const char c = format[i++];
      const bool doubled = i < format.size() && format[i] == c;
      if (c != '{' && c != '}') {
        out += c;
      } else if (doubled) {
        out += c;
        ++i;
      } else if (c == '}') {
        Throw(ErrorKind::kValue, "Single '}}' encountered in format string");
      } else {
        const size_t end = FieldEnd(format, i);
        out += Field(format.substr(i, end - i), depth);
        CheckStringSize(out.size());
        i = end + 1;
      }
    }
    return out;
  }

 private:
  static size_t FieldEnd(std::string_view format, size_t start) {
    int open = 1;
    for (size_t i = start; i < format.size(); ++i) {
      if (format[i] == '{') ++open;
      if (format[i] == '}' && --open == 0) return i;
    }
    Throw(ErrorKind::kValue, "expected '}}' before end of string");
  }

  std::string Field(std::string_view field, int depth) {
    size_t name_end = 0;
    bool bracket = false;
    for (; name_end < field.size(); ++name_end) {
      const char c = field[name_end];
      if (c == '[') bracket = true;
      if (c == ']') bracket = false;
      if (!bracket && (c == '!' || c == ':')) break;
    }
    Value value = Lookup(field.substr(0, name_end));
    std::string_view rest = field.substr(name_end);
    if (rest.starts_with('!')) {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':')) {
        Throw(ErrorKind::kValue, "expected ':' after conversion specifier");
      }
      const char conversion = rest[1];
      if (conversion == 'r' || conversion == 'a') {
        value = Value::MakeString(Repr(value));
      } else if (conversion == 's') {
        value = Value::MakeString(Str(value));
      } else {
        Throw(ErrorKind::kValue, "Unknown conversion specifier {}", conversion);
      }
      rest.remove_prefix(2);
    }
    const std::string spec = rest.empty() ? "" : Run(rest.substr(1), depth + 1);
    return FormatField(value, spec);
  }

  Value Lookup(std::string_view path) {
    const size_t first_end = std::min(path.find_first_of(".["), path.size());
    Value value = Argument(path.substr(0, first_end));
    path.remove_prefix(first_end);
    while (!path.empty()) {
      if (path[0] == '.') {
        const size_t end = std::min(path.find_first_of(".[", 1), path.size());
        value = GetAttribute(value, Value::MakeString(std::string(path.substr(1, end - 1))));
        path.remove_prefix(end);
        continue;
      }
      const size_t end = path.find(']');
      if (path[0] != '[' || end == path.npos)
        Throw(ErrorKind::kValue, "Missing ']' in format string");
      const std::string_view key = path.substr(1, end - 1);
      const bool index = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
        return c >= '0' && c <= '9';
      });
      value = GetItem(value, index ? Value(ParseInteger(key, 10).value_or(0))
                                   : Value::MakeString(std::string(key)));
      path.remove_prefix(end + 1);
    }
    return value;
  }

  Value Argument(std::string_view name) {
    size_t position = next_;
    if (name.empty()) {
      if (next_ == kManual) {
        Throw(ErrorKind::kValue,
              "cannot switch from manual field specification to automatic field numbering");
      }
      ++next_;
    } else if (name[0] >= '0' && name[0] <= '9') {
      if (next_ != 0 && next_ != kManual) {
        Throw(ErrorKind::kValue,
              "cannot switch from automatic field numbering to manual field specification");
      }
      next_ = kManual;
      position = static_cast<size_t>(ParseInteger(name, 10).value_or(INT64_MAX));
    } else {
      for (const auto& [key, value] : args_.named) {
        if (key == name) return value;
      }
      Throw(ErrorKind::kValue, "KeyError: '{}'", name);
    }
    if (position >= args_.positional.size()) {
      Throw(ErrorKind::kValue, "Replacement index {} out of range for positional args tuple",
            position);
    }
    return args_.positional[position];
  }

  static constexpr size_t kManual = SIZE_MAX;
  const CallArgs& args_;
  size_t next_ = 0;
};

// One render of "%..." conversions.
class PercentFormatter {
 public:
  PercentFormatter(const std::string& format, const Value& arguments)
      : format_(format), arguments_(arguments) {}

  std::string Run() {
    std::string out;
    while (position_ < format_.size()) {
      const char c = format_[position_++];
      if (c != '%') {
        out += c;
      } else {
        out += Conversion();
        CheckStringSize(out.size());
      }
    }
    // Whatever can be subscripted counts as a mapping, which need not be used up.
    const bool mapping = arguments_.Is(Kind::kDict) || arguments_.Is(Kind::kRange) ||
                         arguments_.IsUndefined() || arguments_.IsSequence(SequenceKind::kList);
    if (next_ < Given() && !mapping)
      Throw(ErrorKind::kType, "not all arguments converted during string formatting");
    return out;
  }

 private:
  size_t Given() const { return arguments_.IsTuple() ? arguments_.list().items.size() : 1; }

  Value NextArgument() {
    if (next_ >= Given()) Throw(ErrorKind::kType, "not enough arguments for format string");
    ++next_;
    return arguments_.IsTuple() ? arguments_.list().items[next_ - 1] : arguments_;
  }

  char Peek() const { return position_ < format_.size() ? format_[position_] : '\0'; }

  std::string MappingKey() {
    int open = 1;
    const size_t start = ++position_;
    for (; position_ < format_.size(); ++position_) {
      if (format_[position_] == '(') ++open;
      if (format_[position_] == ')' && --open == 0) {
        return format_.substr(start, position_++ - start);
      }
    }
    Throw(ErrorKind::kValue, "incomplete format key");
  }

  int64_t NumberOrStar() {
    if (Peek() == '*') {
      ++position_;
      const Value value = NextArgument();
      if (!value.IsInteger()) Throw(ErrorKind::kType, "* wants int");
      return value.integer();
    }
    return TakeNumber(format_, &position_).value_or(0);
  }

  std::string Conversion() {
    std::optional<Value> value;
    if (Peek() == '(') {
      if (!arguments_.Is(Kind::kDict)) Throw(ErrorKind::kType, "format requires a mapping");
      const std::string key = MappingKey();
      const Value* found = arguments_.dict().Find(key);
      if (!found) Throw(ErrorKind::kValue, "KeyError: '{}'", key);
      value = *found;
    }
    Spec spec;
    bool left = false;
    for (; Peek() != '\0' && std::string_view("#0- +").find(Peek()) != std::string_view::npos;
         ++position_) {
      spec.alternate |= Peek() == '#';
      spec.zero |= Peek() == '0';
      left |= Peek() == '-';
      if (Peek() == '+' || (Peek() == ' ' && spec.sign != '+')) spec.sign = Peek();
    }
    spec.width = NumberOrStar();
    if (spec.width < 0) {
      left = true;
      spec.width = spec.width == INT64_MIN ? INT64_MAX : -spec.width;
    }
    if (Peek() == '.') {
      ++position_;
      spec.precision = std::max<int64_t>(NumberOrStar(), 0);
    }
    while (Peek() == 'l' || Peek() == 'h' || Peek() == 'L') ++position_;
    if (position_ >= format_.size()) Throw(ErrorKind::kValue, "incomplete format");
    spec.type = format_[position_++];
    if (spec.type == '%') return "%";
    spec.align = left ? '<' : '>';
    return Convert(value ? *value : NextArgument(), spec);
  }

  std::string Convert(const Value& value, Spec spec) {
    switch (spec.type) {
      case 's': return Text(Str(value), spec);
      case 'r':
      case 'a': return Text(Repr(value), spec);
      case 'c': return Character(value, spec);
      case 'd':
      case 'i':
      case 'u':
      case 'o':
      case 'x':
      case 'X': return Integer(value, spec);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        if (value.IsUndefined()) value.FailUndefined();
        if (!value.IsNumber()) {
          Throw(ErrorKind::kType, "must be real number, not {}", TypeName(value));
        }
        UseZeroPadding(spec, std::isfinite(value.number()));
        return FormatFloat(value.number(), spec);
      }
      default:
        Throw(ErrorKind::kValue, "unsupported format character '{}'", spec.type);
    }
  }

  static void UseZeroPadding(Spec& spec, bool allowed) {
    if (spec.zero && spec.align == '>' && allowed) {
      spec.fill = "0";
      spec.align = '=';
    }
  }

  static std::string Text(std::string text, Spec spec) {
    spec.type = 's';
    spec.zero = false;
    return FormatText(text, spec);
  }

  static std::string Character(const Value& value, Spec spec) {
    if (value.IsString() && value.string().length == 1) return Text(value.text(), spec);
    if (!value.IsInteger()) Throw(ErrorKind::kType, "%c requires int or char");
    spec.precision.reset();
    return FormatInteger(value.integer(), spec);
  }

  static std::string Integer(const Value& value, Spec spec) {
    if (value.IsUndefined()) value.FailUndefined();
    const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
    if (!value.IsInteger() && !(decimal && value.IsNumber())) {
      Throw(ErrorKind::kType, "%{} format: a {} is required, not {}", spec.type,
            decimal ? "real number" : "integer", TypeName(value));
    }
    const int64_t number = value.IsInteger() ? value.integer() : TruncateFloat(value.number());
    const int base = decimal ? 10 : spec.type == 'o' ? 8 : 16;
    std::string digits = IntegerDigits(Magnitude(number), base, spec.type == 'X');
    if (spec.precision && *spec.precision > static_cast<int64_t>(digits.size())) {
      CheckStringSize(static_cast<uint64_t>(*spec.precision));
      digits.insert(0, static_cast<size_t>(*spec.precision) - digits.size(), '0');
    }
    std::string prefix = SignOf(number < 0, spec.sign);
    if (spec.alternate && base != 10) prefix += std::string("0") + spec.type;
    UseZeroPadding(spec, true);
    const size_t sign_size = prefix.size();
    return Pad(prefix + digits, spec, '>', sign_size);
  }

  const std::string& format_;
  const Value& arguments_;
  size_t position_ = 0;
  size_t next_ = 0;
};

}  // namespace

std::string FormatField(const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return Str(value);
  if (value.IsString()) return FormatText(value.text(), ParseSpec(spec_text));
  if (!value.IsNumber()) {
    Throw(ErrorKind::kType, "unsupported format string passed to {}.__format__", TypeName(value));
  }
  const Spec spec = ParseSpec(spec_text);
  const bool as_integer = value.IsInteger() && std::string_view("\0bcdoxXn", 8).find(spec.type) !=
                                                   std::string_view::npos;
  if (as_integer) return FormatInteger(value.integer(), spec);
  if (value.IsInteger() && std::string_view("eEfFgG%").find(spec.type) == std::string_view::npos) {
    Throw(ErrorKind::kValue, "Unknown format code '{}' for object of type 'int'", spec.type);
  }
  return FormatFloat(value.number(), spec);
}

std::string StrFormat(const std::string& format, const CallArgs& args) {
  return FieldFormatter(args).Run(format, 0);
}

std::string PercentFormat(const std::string& format, const Value& arguments) {
  return PercentFormatter(format, arguments).Run();
}

}  // namespace baton::tokenizer::jinja
