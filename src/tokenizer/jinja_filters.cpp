// Filter lookup, attribute paths, and the filters on single values.
#include "tokenizer/jinja_filters.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_methods.h"
#include "tokenizer/jinja_ops.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

Value Absolute(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("abs", args, {});
  if (value.IsInteger()) return value.integer() < 0 ? Negate(value) : Value(value.integer());
  if (value.IsNumber()) return Value(std::fabs(value.number()));
  if (value.IsUndefined()) value.FailUndefined();
  Throw(ErrorKind::kType, "bad operand type for abs(): '{}'", TypeName(value));
}

Value Attr(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("attr", args, {"name"}, 1);
  if (!bound[0].IsString()) return Value::UndefinedBecause("attribute name must be string");
  if (value.IsUndefined()) value.FailUndefined();
  if (value.Is(Kind::kDict) || value.IsString() || value.Is(Kind::kList)) {
    if (std::optional<Value> method = FindMethod(value, bound.Text(0))) return *std::move(method);
    return Value::UndefinedAttribute(value, bound.Text(0));
  }
  return GetAttribute(value, bound[0]);
}

Value Default(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("default", args, {"default_value", "boolean"});
  const bool use_default = value.IsUndefined() || (bound.Bool(1, false) && !Truthy(value));
  if (!use_default) return value;
  return bound.Has(0) ? bound[0] : Value::MakeString("");
}

std::optional<int64_t> TryInt(const Value& value, int base) {
  if (value.IsString()) return ParseInteger(value.text(), base);
  if (value.IsInteger()) return value.integer();
  if (value.Is(Kind::kFloat) && !std::isnan(value.number())) return TruncateFloat(value.number());
  if (value.IsUndefined()) value.FailUndefined();
  return std::nullopt;
}

Value Int(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("int", args, {"default", "base"});
  const auto base = static_cast<int>(std::clamp<int64_t>(bound.Int(1, 10), -1, 99));
  if (const auto number = TryInt(value, base)) return Value(*number);
  const Value fallback = bound.Has(0) ? bound[0] : Value(int64_t{0});
  if (!value.IsString()) return fallback;
  const auto number = ParseFloat(value.text());  // so that "42.23" becomes 42
  if (!number || !std::isfinite(*number)) return fallback;
  return Value(TruncateFloat(*number));
}

Value Float(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("float", args, {"default"});
  if (value.IsNumber()) return Value(value.number());
  if (value.IsUndefined()) value.FailUndefined();
  if (value.IsString()) {
    if (const auto number = ParseFloat(value.text())) return Value(*number);
  }
  return bound.Has(0) ? bound[0] : Value(0.0);
}

int64_t RoundInteger(int64_t value, int64_t digits) {
  if (digits >= 0) return value;
  if (digits < -18) return 0;
  int64_t scale = 1;
  for (; digits < 0; ++digits) scale *= 10;
  int64_t quotient = value / scale;
  const int64_t rest = std::abs(value % scale);
  const bool up = rest * 2 > scale || (rest * 2 == scale && quotient % 2 != 0);
  if (up) quotient += value < 0 ? -1 : 1;
  int64_t out;
  if (__builtin_mul_overflow(quotient, scale, &out)) {
    Throw(ErrorKind::kOverflow, "the rounded integer does not fit in 64 bits");
  }
  return out;
}

Value Round(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("round", args, {"precision", "method"});
  const std::string method = bound.Has(1) ? Str(bound[1]) : "common";
  if (method != "common" && method != "ceil" && method != "floor") {
    Throw(ErrorKind::kValue, "method must be common, ceil or floor");
  }
  if (value.IsUndefined()) value.FailUndefined();
  if (!value.IsNumber()) {
    Throw(ErrorKind::kType, "type {} doesn't define __round__ method", TypeName(value));
  }
  const int64_t precision = bound.Int(0, 0);
  if (method == "common") {
    if (value.IsInteger()) return Value(RoundInteger(value.integer(), precision));
    return Value(RoundFloat(value.number(), precision));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.number() * scale;
  if (!std::isfinite(scaled)) Throw(ErrorKind::kOverflow, "cannot convert float to integer");
  const double whole = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  return Value((whole + 0.0) / scale);  // Python's ceil is an int: no negative zero
}

Value LengthFilter(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("length", args, {});
  return Value(Length(value));
}

Value String(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("string", args, {});
  return value.IsString() ? value : Value::MakeString(Str(value));
}

Value Safe(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("safe", args, {});
  return Value::MakeString(Str(value), true);
}

Value Escape(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("escape", args, {});
  if (value.IsString() && value.string().markup) return value;
  return Value::MakeString(EscapeHtml(Str(value)), true);
}

Value ForceEscape(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("forceescape", args, {});
  return Value::MakeString(EscapeHtml(Str(value)), true);
}

std::string JsonIndent(const Value& value) {
  if (value.IsString()) return value.text();
  const int64_t spaces = std::max<int64_t>(ToIndex(value), 0);
  CheckStringSize(static_cast<uint64_t>(spaces));
  return std::string(static_cast<size_t>(spaces), ' ');
}

Value ToJsonFilter(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.Bool(0, false);
  style.sort_keys = bound.Bool(3, false);
  if (bound.Has(1) && !bound[1].IsNone()) {
    style.indent = JsonIndent(bound[1]);
    style.item_separator = ",";
  }
  if (bound.Has(2) && !bound[2].IsNone()) {
    const std::vector<Value> separators = ToVector(bound[2]);
    if (separators.size() != 2 || !separators[0].IsString() || !separators[1].IsString()) {
      Throw(ErrorKind::kValue, "separators must be two strings");
    }
    style.item_separator = separators[0].text();
    style.key_separator = separators[1].text();
  }
  return Value::MakeString(ToJson(value, style));
}

Value FileSize(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("filesizeformat", args, {"binary"});
  const bool binary = bound.Bool(0, false);
  const double base = binary ? 1024 : 1000;
  const std::optional<double> number =
      value.IsString() ? ParseFloat(value.text())
                       : value.IsNumber() ? std::optional(value.number()) : std::nullopt;
  if (!number) Throw(ErrorKind::kValue, "could not convert to float: {}", Repr(value));
  if (*number == 1) return Value::MakeString("1 Byte");
  if (*number < base) return Value::MakeString(fmt::format("{} Bytes", TruncateFloat(*number)));
  static constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  size_t i = 0;
  for (; i < kPrefixes.size(); ++i) {
    unit *= base;
    if (*number < unit || i + 1 == kPrefixes.size()) break;
  }
  const char prefix = binary && i == 0 ? 'K' : kPrefixes[i];
  return Value::MakeString(
      fmt::format("{:.1f} {}{}", base * *number / unit, prefix, binary ? "iB" : "B"));
}

constexpr Filter kValueFilters[] = {
    {"abs", Absolute},         {"attr", Attr},      {"count", LengthFilter},
    {"d", Default},            {"default", Default}, {"e", Escape},
    {"escape", Escape},        {"filesizeformat", FileSize},
    {"float", Float},          {"forceescape", ForceEscape},
    {"int", Int},              {"length", LengthFilter},
    {"round", Round},          {"safe", Safe},      {"string", String},
    {"tojson", ToJsonFilter}};

}  // namespace

std::span<const Filter> ValueFilters() { return kValueFilters; }

const Filter* FindFilter(std::string_view name) {
  static const std::unordered_map<std::string_view, const Filter*> kFilters = [] {
    std::unordered_map<std::string_view, const Filter*> filters;
    for (const auto table :
         {ValueFilters(), TextFilters(), SequenceFilters(), SelectionFilters()}) {
      for (const Filter& filter : table) filters.emplace(filter.name, &filter);
    }
    return filters;
  }();
  const auto found = kFilters.find(name);
  return found == kFilters.end() ? nullptr : found->second;
}

AttributeGetter::AttributeGetter(const Value* attribute) {
  if (!attribute || attribute->IsNone()) return;
  if (!attribute->IsString()) {
    parts_.push_back(*attribute);
    return;
  }
  std::string_view rest = attribute->text();
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool index = !part.empty() && std::all_of(part.begin(), part.end(), [](char c) {
      return c >= '0' && c <= '9';
    });
    parts_.push_back(index ? Value(ParseInteger(part, 10).value_or(0))
                           : Value::MakeString(std::string(part)));
    if (dot == rest.npos) return;
    rest.remove_prefix(dot + 1);
  }
}

Value AttributeGetter::Get(const Value& item) const {
  Value value = item;
  for (const Value& part : parts_) {
    value = GetItem(value, part);
    if (value.IsUndefined() && !default_.IsNone()) value = default_;
  }
  return value;
}

}  // namespace baton::tokenizer::jinja
