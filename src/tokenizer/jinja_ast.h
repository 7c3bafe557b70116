// A parsed template. Immutable after Parse(); shared by all renders, on any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace baton::tokenizer::jinja {

using Symbol = int;  // index of a name in Template::names

enum class ExprKind : uint8_t {
  kConst,      // value
  kName,       // symbol
  kTuple, kList,
  kDict,       // items: key, value, key, value ...
  kAttribute,  // items[0].name
  kItem,       // items[0][items[1]]
  kSlice,      // only as items[1] of kItem: start, stop, step; None where left out
  kCall,       // items[0](call)
  kFilter,     // items[0] | name(call); items is empty in a filter block
  kTest,       // items[0] is name(call)
  kNot, kNegative, kPositive,
  kAnd, kOr,
  kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower,
  kConcat,     // items joined as text (~)
  kCompare,    // items[0] comparisons[0] items[1] comparisons[1] items[2] ...
  kCondition,  // items[0] if items[1] else items[2] (which may be missing)
  kNamespaceRef,  // only as a target: symbol.name
};

enum class Comparison : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct CallSpec {
  std::vector<ExprPtr> args;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, double_star;  // *args, **kwargs
};

struct Filter;  // jinja_filters.h
struct Test;

struct Expr {
  ExprKind kind;
  int line = 0;
  int depth = 1;  // of the tree below; bounds recursion
  Symbol symbol = -1;
  Value value;
  std::string name;
  Value name_value;  // `name` as a string value, for subscripts
  std::vector<ExprPtr> items;
  std::vector<Comparison> comparisons;
  CallSpec call;
  const Filter* filter = nullptr;  // nullptr: no such filter; an error when it is reached
  const Test* test = nullptr;
};

enum class StmtKind : uint8_t {
  kData,         // text
  kPrint,        // expr
  kIf,           // branches; else_body
  kFor,          // target in expr, if filter: body; else_body
  kSet,          // target = expr
  kSetBlock,     // target = body through filters (expr, may be null)
  kMacro,        // symbol, params, body
  kCallBlock,    // expr is the call; params and body are the caller
  kFilterBlock,  // expr: the filters; body
  kWith,         // bindings; body
  kScope,        // body in a scope of its own: {% generation %}, {% block %}
  kBreak, kContinue,
};

struct Stmt;
using Block = std::vector<Stmt>;

struct Param {
  Symbol symbol;
  std::string name;
  ExprPtr fallback;  // null: required, else undefined
};

struct Branch;

struct Stmt {
  StmtKind kind;
  int line = 0;
  std::string text;
  ExprPtr expr, target, filter;
  Symbol symbol = -1;
  std::vector<Branch> branches;
  std::vector<Param> params;
  std::vector<std::pair<ExprPtr, ExprPtr>> bindings;
  Block body, else_body;
  bool recursive = false;
  // Macros and callers: which of the special names the body reads.
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
  // Names that the body assigns before anything could have read them: they start undefined and do
  // not show the outer variable of that name (see jinja_scope.h).
  std::vector<Symbol> hidden, else_hidden;
};

struct Branch {
  ExprPtr condition;
  Block body;
};

struct Template {
  std::vector<std::string> names;
  std::unordered_map<std::string, Symbol> symbols;
  Block body;
  std::vector<Symbol> hidden;

  Symbol Intern(const std::string& name) {
    const auto [it, inserted] = symbols.emplace(name, static_cast<Symbol>(names.size()));
    if (inserted) names.push_back(name);
    return it->second;
  }
};

}  // namespace baton::tokenizer::jinja
