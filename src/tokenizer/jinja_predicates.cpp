// The tests of Jinja2 (`x is NAME`).
#include <unordered_map>

#include "tokenizer/jinja_args.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_methods.h"
#include "tokenizer/jinja_ops.h"

namespace baton::tokenizer::jinja {
namespace {

using Predicate = bool (*)(const Value&);

template <Predicate predicate>
bool Unary(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("test", args, {});
  return predicate(value);
}

template <Comparison comparison>
bool Binary(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("test", args, {""}, 1);
  return Compare(comparison, value, bound[0]);
}

bool In(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("in", args, {"seq"}, 1);
  return Contains(bound[0], value);
}

bool SameAs(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("sameas", args, {"other"}, 1);
  return value.IsSame(bound[0]);
}

bool DivisibleBy(Interpreter&, const Value& value, const CallArgs& args) {
  const BoundArgs bound("divisibleby", args, {"num"}, 1);
  return Equal(Arithmetic(ExprKind::kModulo, value, bound[0]), Value(int64_t{0}));
}

template <int64_t rest>
bool Parity(Interpreter&, const Value& value, const CallArgs& args) {
  BoundArgs("test", args, {});
  return Equal(Arithmetic(ExprKind::kModulo, value, Value(int64_t{2})), Value(rest));
}

// islower() and isupper() of the value's text.
bool HasCase(const Value& value, std::string_view method, Interpreter& interpreter) {
  const MethodFn fn = FindStringMethod(method);
  return fn(interpreter, Value::MakeString(Str(value)), {}).boolean();
}

bool Lower(Interpreter& interpreter, const Value& value, const CallArgs& args) {
  BoundArgs("lower", args, {});
  return HasCase(value, "islower", interpreter);
}

bool Upper(Interpreter& interpreter, const Value& value, const CallArgs& args) {
  BoundArgs("upper", args, {});
  return HasCase(value, "isupper", interpreter);
}

bool IsCallable(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:  // has __call__, which fails
    case Kind::kMethod:
    case Kind::kFunction:
    case Kind::kMacro:
    case Kind::kLoop: return true;
    default: return false;
  }
}

bool IsSequence(const Value& v) {
  return v.IsUndefined() || v.IsString() || v.IsPlainSequence() || v.Is(Kind::kDict) ||
         v.Is(Kind::kRange);
}

bool IsDefined(const Value& v) { return !v.IsUndefined(); }
bool IsUndefined(const Value& v) { return v.IsUndefined(); }
bool IsNone(const Value& v) { return v.IsNone(); }
bool IsBoolean(const Value& v) { return v.Is(Kind::kBool); }
bool IsTrue(const Value& v) { return v.Is(Kind::kBool) && v.boolean(); }
bool IsFalse(const Value& v) { return v.Is(Kind::kBool) && !v.boolean(); }
bool IsInteger(const Value& v) { return v.Is(Kind::kInt); }
bool IsFloat(const Value& v) { return v.Is(Kind::kFloat); }
bool IsNumber(const Value& v) { return v.IsNumber(); }
bool IsString(const Value& v) { return v.IsString(); }
bool IsMapping(const Value& v) { return v.Is(Kind::kDict); }
bool IsIterable(const Value& v) { return Iterator::CanIterate(v) || v.Is(Kind::kLoop); }
bool IsEscaped(const Value& v) { return v.IsString() && v.string().markup; }
bool IsFilter(const Value& v) {
  CheckHashable(v);
  return v.IsString() && FindFilter(v.text());
}
bool IsTest(const Value& v) {
  CheckHashable(v);
  return v.IsString() && FindTest(v.text());
}

constexpr Test kTests[] = {
    {"!=", Binary<Comparison::kNe>},      {"<", Binary<Comparison::kLt>},
    {"<=", Binary<Comparison::kLe>},      {"==", Binary<Comparison::kEq>},
    {">", Binary<Comparison::kGt>},       {">=", Binary<Comparison::kGe>},
    {"boolean", Unary<IsBoolean>},        {"callable", Unary<IsCallable>},
    {"defined", Unary<IsDefined>},        {"divisibleby", DivisibleBy},
    {"eq", Binary<Comparison::kEq>},      {"equalto", Binary<Comparison::kEq>},
    {"escaped", Unary<IsEscaped>},        {"even", Parity<0>},
    {"false", Unary<IsFalse>},            {"filter", Unary<IsFilter>},
    {"float", Unary<IsFloat>},            {"ge", Binary<Comparison::kGe>},
    {"greaterthan", Binary<Comparison::kGt>}, {"gt", Binary<Comparison::kGt>},
    {"in", In},                           {"integer", Unary<IsInteger>},
    {"iterable", Unary<IsIterable>},      {"le", Binary<Comparison::kLe>},
    {"lessthan", Binary<Comparison::kLt>}, {"lower", Lower},
    {"lt", Binary<Comparison::kLt>},      {"mapping", Unary<IsMapping>},
    {"ne", Binary<Comparison::kNe>},      {"none", Unary<IsNone>},
    {"number", Unary<IsNumber>},          {"odd", Parity<1>},
    {"sameas", SameAs},                   {"sequence", Unary<IsSequence>},
    {"string", Unary<IsString>},          {"test", Unary<IsTest>},
    {"true", Unary<IsTrue>},              {"undefined", Unary<IsUndefined>},
    {"upper", Upper}};

}  // namespace

const Test* FindTest(std::string_view name) {
  static const std::unordered_map<std::string_view, const Test*> kByName = [] {
    std::unordered_map<std::string_view, const Test*> tests;
    for (const Test& test : kTests) tests.emplace(test.name, &test);
    return tests;
  }();
  const auto found = kByName.find(name);
  return found == kByName.end() ? nullptr : found->second;
}

}  // namespace baton::tokenizer::jinja
