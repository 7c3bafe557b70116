// Expression evaluation.
#include <algorithm>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_ops.h"

namespace baton::tokenizer::jinja {

Value Interpreter::Eval(const Expr& expr, const Scope& scope) {
  if (expr.kind == ExprKind::kConst) return expr.value;
  if (depth_ >= budget_.limits().eval_depth) {
    Throw(ErrorKind::kLimit, "maximum recursion depth exceeded: calls and expressions are more "
          "than {} levels deep", budget_.limits().eval_depth);
  }
  struct Depth {
    int& depth;
    ~Depth() { --depth; }
  } guard{++depth_};
  budget_.Step();
  const auto item = [&](size_t i) { return Eval(*expr.items[i], scope); };
  switch (expr.kind) {
    case ExprKind::kConst: return expr.value;
    case ExprKind::kName: {
      const Value* found = scope.Find(expr.symbol);
      return found ? *found : Value::UndefinedName(expr.name);
    }
    case ExprKind::kTuple:
    case ExprKind::kList: return EvalItems(expr, scope);
    case ExprKind::kDict: return EvalDict(expr, scope);
    case ExprKind::kAttribute: return GetAttribute(item(0), expr.name_value);
    case ExprKind::kItem: return EvalSubscript(expr, scope);
    case ExprKind::kCall: {
      const Value callee = item(0);
      return Call(callee, EvalCallArgs(expr.call, scope));
    }
    case ExprKind::kFilter: return EvalFilter(expr, scope);
    case ExprKind::kTest: return EvalTest(expr, scope);
    case ExprKind::kNot: return Value(!Truthy(item(0)));
    case ExprKind::kNegative: return Negate(item(0));
    case ExprKind::kPositive: return Positive(item(0));
    case ExprKind::kAnd: {
      Value left = item(0);
      return Truthy(left) ? item(1) : left;
    }
    case ExprKind::kOr: {
      Value left = item(0);
      return Truthy(left) ? left : item(1);
    }
    case ExprKind::kConcat: return EvalConcat(expr, scope);
    case ExprKind::kCompare: return EvalCompare(expr, scope);
    case ExprKind::kCondition:
      if (Truthy(item(1))) return item(0);
      if (expr.items.size() > 2) return item(2);
      return Value::UndefinedBecause(fmt::format(
          "the inline if-expression on line {} evaluated to false and no else section was defined.",
          expr.line));
    case ExprKind::kSlice:
    case ExprKind::kNamespaceRef: Throw(ErrorKind::kType, "not an expression");
    default: {
      const Value left = item(0);
      return Arithmetic(expr.kind, left, item(1));
    }
  }
}

Value Interpreter::EvalItems(const Expr& expr, const Scope& scope) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const ExprPtr& item : expr.items) items.push_back(Eval(*item, scope));
  return Value::MakeList(std::move(items), expr.kind == ExprKind::kTuple ? SequenceKind::kTuple
                                                                         : SequenceKind::kList);
}

Value Interpreter::EvalDict(const Expr& expr, const Scope& scope) {
  DictBuilder dict;
  for (size_t i = 0; i < expr.items.size(); i += 2) {
    Value key = Eval(*expr.items[i], scope);
    dict.Set(std::move(key), Eval(*expr.items[i + 1], scope));
  }
  return dict.Build();
}

Value Interpreter::EvalSubscript(const Expr& expr, const Scope& scope) {
  const Value object = Eval(*expr.items[0], scope);
  const Expr& key = *expr.items[1];
  if (key.kind != ExprKind::kSlice) return GetItem(object, Eval(key, scope));
  const Value start = Eval(*key.items[0], scope);
  const Value stop = Eval(*key.items[1], scope);
  return GetSlice(object, start, stop, Eval(*key.items[2], scope));
}

Value Interpreter::EvalConcat(const Expr& expr, const Scope& scope) {
  std::string text;
  for (const ExprPtr& item : expr.items) {
    AppendStr(text, Eval(*item, scope));
    CheckStringSize(text.size());
  }
  return Value::MakeString(std::move(text));
}

Value Interpreter::EvalCompare(const Expr& expr, const Scope& scope) {
  Value left = Eval(*expr.items[0], scope);
  for (size_t i = 0; i < expr.comparisons.size(); ++i) {
    Value right = Eval(*expr.items[i + 1], scope);
    if (!Compare(expr.comparisons[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

// `block_value`: what the innermost filter of a filter block applies to.
Value Interpreter::EvalFilter(const Expr& expr, const Scope& scope, const Value* block_value) {
  Value value;
  if (expr.items.empty()) {
    value = *block_value;
  } else if (block_value && expr.items[0]->kind == ExprKind::kFilter) {
    value = EvalFilter(*expr.items[0], scope, block_value);
  } else {
    value = Eval(*expr.items[0], scope);
  }
  if (!expr.filter) Throw(ErrorKind::kType, "No filter named '{}'.", expr.name);
  return expr.filter->apply(*this, value, EvalCallArgs(expr.call, scope));
}

Value Interpreter::EvalTest(const Expr& expr, const Scope& scope) {
  const Value value = Eval(*expr.items[0], scope);
  if (!expr.test) Throw(ErrorKind::kType, "No test named '{}'.", expr.name);
  return Value(expr.test->check(*this, value, EvalCallArgs(expr.call, scope)));
}

CallArgs Interpreter::EvalCallArgs(const CallSpec& call, const Scope& scope) {
  CallArgs args;
  args.positional.reserve(call.args.size());
  for (const ExprPtr& arg : call.args) args.positional.push_back(Eval(*arg, scope));
  const auto add_named = [&args](const std::string& name, Value value) {
    const bool repeated = std::any_of(args.named.begin(), args.named.end(),
                                      [&](const auto& item) { return item.first == name; });
    if (repeated) Throw(ErrorKind::kType, "got multiple values for keyword argument '{}'", name);
    args.named.emplace_back(name, std::move(value));
  };
  for (const auto& [name, arg] : call.named) add_named(name, Eval(*arg, scope));
  if (call.star) {
    for (Value& item : ToVector(Eval(*call.star, scope)))
      args.positional.push_back(std::move(item));
  }
  if (call.double_star) {
    const Value mapping = Eval(*call.double_star, scope);
    if (!mapping.Is(Kind::kDict)) Throw(ErrorKind::kType, "argument after ** must be a mapping");
    for (const auto& [name, value] : mapping.dict().items) {
      if (!name.IsString()) Throw(ErrorKind::kType, "keywords must be strings");
      add_named(name.text(), value);
    }
  }
  return args;
}

}  // namespace baton::tokenizer::jinja
