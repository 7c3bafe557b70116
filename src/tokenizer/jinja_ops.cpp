#include "tokenizer/jinja_ops.h"

#include <algorithm>
#include <cmath>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_methods.h"
#include "tokenizer/jinja_unicode.h"

namespace baton::tokenizer::jinja {
namespace {

std::string_view OperatorSymbol(ExprKind op) {
  switch (op) {
    case ExprKind::kAdd: return "+";
    case ExprKind::kSubtract: return "-";
    case ExprKind::kMultiply: return "*";
    case ExprKind::kDivide: return "/";
    case ExprKind::kFloorDivide: return "//";
    case ExprKind::kModulo: return "%";
    default: return "** or pow()";
  }
}

[[noreturn]] void BadOperands(std::string_view symbol, const Value& a, const Value& b) {
  Throw(ErrorKind::kType, "unsupported operand type(s) for {}: '{}' and '{}'", symbol, TypeName(a),
        TypeName(b));
}

[[noreturn]] void Overflow(std::string_view symbol) {
  Throw(ErrorKind::kOverflow, "the result of {} does not fit in a 64-bit integer", symbol);
}

int64_t CheckedAdd(int64_t a, int64_t b) {
  int64_t out;
  if (__builtin_add_overflow(a, b, &out)) Overflow("+");
  return out;
}

int64_t CheckedMultiply(int64_t a, int64_t b, std::string_view symbol = "*") {
  int64_t out;
  if (__builtin_mul_overflow(a, b, &out)) Overflow(symbol);
  return out;
}

int64_t FloorDivide(int64_t a, int64_t b) {
  if (b == 0) Throw(ErrorKind::kValue, "integer division or modulo by zero");
  if (a == INT64_MIN && b == -1) Overflow("//");
  const int64_t quotient = a / b;
  return a % b != 0 && ((a < 0) != (b < 0)) ? quotient - 1 : quotient;
}

int64_t FloorModulo(int64_t a, int64_t b) {
  if (b == 0) Throw(ErrorKind::kValue, "integer modulo by zero");
  if (b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && ((rest < 0) != (b < 0)) ? rest + b : rest;
}

double FloatModulo(double a, double b) {
  if (b == 0) Throw(ErrorKind::kValue, "float modulo");
  double rest = std::fmod(a, b);
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) rest += b;
  } else {
    rest = std::copysign(0.0, b);
  }
  return rest;
}

double FloatFloorDivide(double a, double b) {
  if (b == 0) Throw(ErrorKind::kValue, "float divmod()");
  const double rest = FloatModulo(a, b);
  const double quotient = (a - rest) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floored = std::floor(quotient);
  return quotient - floored > 0.5 ? floored + 1.0 : floored;
}

Value Power(const Value& a, const Value& b) {
  if (a.IsInteger() && b.IsInteger() && b.integer() >= 0) {
    int64_t base = a.integer(), exponent = b.integer(), result = 1;
    if (base == 0 || base == 1) return Value(exponent == 0 ? int64_t{1} : base);
    if (base == -1) return Value(exponent % 2 == 0 ? int64_t{1} : int64_t{-1});
    for (; exponent > 0; --exponent) result = CheckedMultiply(result, base, "**");
    return Value(result);
  }
  const double x = a.number(), y = b.number();
  if (x == 0 && y < 0) {
    Throw(ErrorKind::kValue, "0.0 cannot be raised to a negative power");
  }
  if (x < 0 && std::floor(y) != y && std::isfinite(y)) {
    Throw(ErrorKind::kType, "complex results of ** are not supported");
  }
  const double result = std::pow(x, y);
  if (std::isinf(result) && std::isfinite(x) && std::isfinite(y)) {
    Throw(ErrorKind::kOverflow, "Numerical result out of range");
  }
  return Value(result);
}

Value NumberArithmetic(ExprKind op, const Value& a, const Value& b) {
  if (op == ExprKind::kPower) return Power(a, b);
  if (op == ExprKind::kDivide) {
    if (b.number() == 0) Throw(ErrorKind::kValue, "division by zero");
    return Value(a.number() / b.number());
  }
  if (a.IsInteger() && b.IsInteger()) {
    const int64_t x = a.integer(), y = b.integer();
    switch (op) {
      case ExprKind::kAdd: return Value(CheckedAdd(x, y));
      case ExprKind::kSubtract: {
        int64_t out;
        if (__builtin_sub_overflow(x, y, &out)) Overflow("-");
        return Value(out);
      }
      case ExprKind::kMultiply: return Value(CheckedMultiply(x, y));
      case ExprKind::kFloorDivide: return Value(FloorDivide(x, y));
      default: return Value(FloorModulo(x, y));
    }
  }
  const double x = a.number(), y = b.number();
  switch (op) {
    case ExprKind::kAdd: return Value(x + y);
    case ExprKind::kSubtract: return Value(x - y);
    case ExprKind::kMultiply: return Value(x * y);
    case ExprKind::kFloorDivide: return Value(FloatFloorDivide(x, y));
    default: return Value(FloatModulo(x, y));
  }
}

std::string EscapeIfPlain(const Value& value) {
  return value.string().markup ? value.text() : EscapeHtml(value.text());
}

Value AddSequences(const Value& a, const Value& b) {
  if (a.IsString() && b.IsString()) {
    const bool markup = a.string().markup || b.string().markup;
    if (markup) return Value::MakeString(EscapeIfPlain(a) + EscapeIfPlain(b), true);
    CheckStringSize(a.text().size() + b.text().size());
    return Value::MakeString(a.text() + b.text());
  }
  if (a.IsString()) {
    Throw(ErrorKind::kType, "can only concatenate str (not \"{}\") to str", TypeName(b));
  }
  const bool lists = a.IsSequence(SequenceKind::kList) && b.IsSequence(SequenceKind::kList);
  if (!lists && !(a.IsTuple() && b.IsTuple())) {
    if (a.IsPlainSequence()) {
      Throw(ErrorKind::kType, "can only concatenate {} (not \"{}\") to {}", TypeName(a),
            TypeName(b), TypeName(a));
    }
    BadOperands("+", a, b);
  }
  CheckListSize(a.list().items.size() + b.list().items.size());
  std::vector<Value> items = a.list().items;
  items.insert(items.end(), b.list().items.begin(), b.list().items.end());
  return Value::MakeList(std::move(items), lists ? SequenceKind::kList : SequenceKind::kTuple);
}

Value Repeat(const Value& sequence, int64_t count) {
  const auto times = static_cast<uint64_t>(std::max<int64_t>(count, 0));
  if (sequence.IsString()) {
    const std::string& text = sequence.text();
    uint64_t size;
    if (__builtin_mul_overflow(static_cast<uint64_t>(text.size()), times, &size)) size = UINT64_MAX;
    CheckStringSize(size);
    std::string out;
    out.reserve(size);
    if (!text.empty()) {
      for (uint64_t i = 0; i < times; ++i) out += text;
    }
    return Value::MakeString(std::move(out), sequence.string().markup);
  }
  const auto& items = sequence.list().items;
  uint64_t size;
  if (__builtin_mul_overflow(static_cast<uint64_t>(items.size()), times, &size)) size = UINT64_MAX;
  CheckListSize(size);
  std::vector<Value> out;
  out.reserve(size);
  for (uint64_t i = 0; size > 0 && i < times; ++i)
    out.insert(out.end(), items.begin(), items.end());
  return Value::MakeList(std::move(out),
                         sequence.IsTuple() ? SequenceKind::kTuple : SequenceKind::kList);
}

bool EqualItems(const std::vector<Value>& a, const std::vector<Value>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), Equal);
}

bool EqualDicts(const DictObject& a, const DictObject& b) {
  if (a.items.size() != b.items.size()) return false;
  return std::all_of(a.items.begin(), a.items.end(), [&b](const auto& item) {
    const Value* other = b.Find(item.first);
    return other && Equal(item.second, *other);
  });
}

bool LessItems(const std::vector<Value>& a, const std::vector<Value>& b, std::string_view symbol) {
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    if (!Equal(a[i], b[i])) return Less(a[i], b[i], symbol);
  }
  return a.size() < b.size();
}

}  // namespace

bool Truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool: return value.boolean();
    case Kind::kInt: return value.integer() != 0;
    case Kind::kFloat: return value.number() != 0;
    case Kind::kString: return !value.text().empty();
    case Kind::kList: return !value.list().items.empty();
    case Kind::kDict: return !value.dict().items.empty();
    case Kind::kRange: return value.range().size > 0;
    case Kind::kLoop: return Length(value) > 0;
    default: return true;
  }
}

bool Equal(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsInteger() && b.IsInteger()) return a.integer() == b.integer();
    if (a.IsInteger() || b.IsInteger()) {  // exact: long double holds every int64
      const auto wide = [](const Value& v) {
        return v.IsInteger() ? static_cast<long double>(v.integer())
                             : static_cast<long double>(v.number());
      };
      return wide(a) == wide(b);
    }
    return a.number() == b.number();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return true;
    case Kind::kString:
      if (a.text().size() != b.text().size()) return false;
      ChargeWork(a.text().size());
      return a.text() == b.text();
    case Kind::kList: {
      const SequenceKind kind_a = a.list().kind, kind_b = b.list().kind;
      const bool comparable = (a.IsTuple() && b.IsTuple()) || kind_a == kind_b;
      if (!comparable || kind_a == SequenceKind::kValues) return a.IsSame(b);
      ChargeWork(a.list().items.size() * 32);
      if (kind_a == SequenceKind::kKeys || kind_a == SequenceKind::kItems) {  // sets
        return a.list().items.size() == b.list().items.size() &&
               std::all_of(a.list().items.begin(), a.list().items.end(),
                           [&b](const Value& item) { return Contains(b, item); });
      }
      return EqualItems(a.list().items, b.list().items);
    }
    case Kind::kDict:
      ChargeWork(a.dict().items.size() * 32);
      return EqualDicts(a.dict(), b.dict());
    case Kind::kRange: {
      const RangeObject &x = a.range(), &y = b.range();
      return x.size == y.size && (x.size == 0 || (x.start == y.start &&
                                                  (x.size == 1 || x.step == y.step)));
    }
    default: return a.IsSame(b);
  }
}

bool Less(const Value& a, const Value& b, std::string_view symbol) {
  if (a.IsNumber() && b.IsNumber()) {
    if (a.IsInteger() && b.IsInteger()) return a.integer() < b.integer();
    const auto wide = [](const Value& v) {
      return v.IsInteger() ? static_cast<long double>(v.integer())
                           : static_cast<long double>(v.number());
    };
    return wide(a) < wide(b);
  }
  if (a.IsUndefined()) a.FailUndefined();
  if (b.IsUndefined()) b.FailUndefined();
  if (a.IsString() && b.IsString()) {
    ChargeWork(std::min(a.text().size(), b.text().size()));
    return a.text() < b.text();  // the order of UTF-8 bytes is that of code points
  }
  const bool lists = a.IsSequence(SequenceKind::kList) && b.IsSequence(SequenceKind::kList);
  if (lists || (a.IsTuple() && b.IsTuple())) {
    return LessItems(a.list().items, b.list().items, symbol);
  }
  Throw(ErrorKind::kType, "'{}' not supported between instances of '{}' and '{}'", symbol,
        TypeName(a), TypeName(b));
}

bool Compare(Comparison comparison, const Value& a, const Value& b) {
  const auto is_nan = [](const Value& v) { return v.Is(Kind::kFloat) && std::isnan(v.number()); };
  switch (comparison) {
    case Comparison::kEq: return Equal(a, b);
    case Comparison::kNe: return !Equal(a, b);
    case Comparison::kLt: return Less(a, b, "<");
    case Comparison::kGt: return Less(b, a, ">");
    case Comparison::kLe: return !Less(b, a, "<=") && !is_nan(a) && !is_nan(b);
    case Comparison::kGe: return !Less(a, b, ">=") && !is_nan(a) && !is_nan(b);
    case Comparison::kIn: return Contains(b, a);
    case Comparison::kNotIn: return !Contains(b, a);
  }
  return false;
}

bool Contains(const Value& container, const Value& item) {
  if (container.IsString()) {
    if (!item.IsString()) {
      Throw(ErrorKind::kType, "'in <string>' requires string as left operand, not {}",
            TypeName(item));
    }
    ChargeWork(container.text().size());
    return container.text().find(item.text()) != std::string::npos;
  }
  if (container.Is(Kind::kDict)) return container.dict().Find(item) != nullptr;
  if (container.Is(Kind::kList)) {
    const auto& items = container.list().items;
    if (container.IsSequence(SequenceKind::kKeys)) CheckHashable(item);
    ChargeWork(items.size() * 8);
    return std::any_of(items.begin(), items.end(),
                       [&item](const Value& v) { return Equal(v, item); });
  }
  if (!Iterator::CanIterate(container)) {
    Throw(ErrorKind::kType, "argument of type '{}' is not iterable", TypeName(container));
  }
  Iterator it(container);
  for (Value v; it.Next(&v);) {
    if (Equal(v, item)) return true;
  }
  return false;
}

int64_t Length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return 0;
    case Kind::kString: return value.string().length;
    case Kind::kList: return static_cast<int64_t>(value.list().items.size());
    case Kind::kDict: return static_cast<int64_t>(value.dict().items.size());
    case Kind::kRange: return value.range().size;
    case Kind::kLoop: return value.loop().Length();
    default: Throw(ErrorKind::kType, "object of type '{}' has no len()", TypeName(value));
  }
}

Value Arithmetic(ExprKind op, const Value& a, const Value& b) {
  if (op == ExprKind::kModulo && a.IsString()) {
    return Value::MakeString(PercentFormat(a.text(), b), a.string().markup);
  }
  if (a.IsNumber() && b.IsNumber()) return NumberArithmetic(op, a, b);
  if (a.IsUndefined()) a.FailUndefined();
  if (b.IsUndefined()) b.FailUndefined();
  if (op == ExprKind::kAdd) return AddSequences(a, b);
  if (op == ExprKind::kMultiply) {
    const auto repeatable = [](const Value& v) { return v.IsString() || v.IsPlainSequence(); };
    if (repeatable(a) && b.IsInteger()) return Repeat(a, b.integer());
    if (repeatable(b) && a.IsInteger()) return Repeat(b, a.integer());
    if (repeatable(a) || repeatable(b)) {
      Throw(ErrorKind::kType, "can't multiply sequence by non-int of type '{}'",
            TypeName(repeatable(a) ? b : a));
    }
  }
  BadOperands(OperatorSymbol(op), a, b);
}

Value Negate(const Value& value) {
  if (value.IsInteger()) {
    if (value.integer() == INT64_MIN) Overflow("-");
    return Value(-value.integer());
  }
  if (value.IsNumber()) return Value(-value.number());
  if (value.IsUndefined()) value.FailUndefined();
  Throw(ErrorKind::kType, "bad operand type for unary -: '{}'", TypeName(value));
}

Value Positive(const Value& value) {
  if (value.IsInteger()) return Value(value.integer());
  if (value.IsNumber()) return value;
  if (value.IsUndefined()) value.FailUndefined();
  Throw(ErrorKind::kType, "bad operand type for unary +: '{}'", TypeName(value));
}

}  // namespace baton::tokenizer::jinja
