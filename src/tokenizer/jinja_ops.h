// Python's operators and conversions on values. All throw TemplateError as Python raises.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_value.h"

namespace baton::tokenizer::jinja {

bool Truthy(const Value& value);
bool Equal(const Value& a, const Value& b);
// a < b and so on; `symbol` is for the message of a kType error.
bool Less(const Value& a, const Value& b, std::string_view symbol = "<");
bool Compare(Comparison comparison, const Value& a, const Value& b);
bool Contains(const Value& container, const Value& item);
// len(); throws kType where Python does.
int64_t Length(const Value& value);

Value Arithmetic(ExprKind op, const Value& a, const Value& b);  // kAdd ... kPower
Value Negate(const Value& value);
Value Positive(const Value& value);

// Environment.getitem and .getattr of Jinja2's sandbox: a missing key or attribute is undefined.
Value GetItem(const Value& object, const Value& key);
Value GetAttribute(const Value& object, const Value& name);
// object[start:stop:step]; undefined stands for a part left out.
Value GetSlice(const Value& object, const Value& start, const Value& stop, const Value& step);
// Python's index: an int or bool, else kType.
int64_t ToIndex(const Value& value);
// Python's slice.indices for a sequence of `size`, and the number of items.
struct SliceRange {
  int64_t start, stop, step, count;
};
SliceRange ResolveSlice(int64_t size, std::optional<int64_t> start, std::optional<int64_t> stop,
                        std::optional<int64_t> step);

// str() and repr().
void AppendStr(std::string& out, const Value& value);
void AppendRepr(std::string& out, const Value& value);
std::string Str(const Value& value);
std::string Repr(const Value& value);
std::string FloatRepr(double value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level
  std::string item_separator = ", ", key_separator = ": ";
};
// json.dumps
std::string ToJson(const Value& value, const JsonStyle& style);

// str % arguments
std::string PercentFormat(const std::string& format, const Value& arguments);
// format(value, spec) for one field of str.format
std::string FormatField(const Value& value, std::string_view spec);
// str.format(*args, **kwargs)
std::string StrFormat(const std::string& format, const CallArgs& args);

// int() and float() of a string; nullopt: ValueError.
std::optional<int64_t> ParseInteger(std::string_view text, int base);
std::optional<double> ParseFloat(std::string_view text);
// round(x, digits) of a float
double RoundFloat(double value, int64_t digits);
// int(x) of a float; throws kOverflow, kValue.
int64_t TruncateFloat(double value);

}  // namespace baton::tokenizer::jinja
