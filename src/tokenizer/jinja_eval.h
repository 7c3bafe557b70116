// Runs a parsed template: one Interpreter per render, on one thread.
//
// Scoping is Jinja2's. A scope is a frame of its compiler: the context, the template, each pass of
// a loop, each macro call, with / set / filter / call bodies. `set` writes the innermost scope (an
// `if` has none of its own); reads go outward. Macros keep the scope that they were defined in.
#pragma once

#include <ctime>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_budget.h"
#include "tokenizer/jinja_value.h"

namespace baton::tokenizer::jinja {

struct Scope {
  const Scope* parent = nullptr;
  std::vector<std::pair<Symbol, Value>> variables;
  mutable bool captured = false;  // a macro or loop may look here later: do not reuse

  const Value* Find(Symbol symbol) const;  // here and outward; nullptr: nowhere
  void Set(Symbol symbol, Value value);
};

struct MacroObject {
  const Stmt* stmt;      // kMacro, or kCallBlock for its caller
  const Scope* closure;
  std::string_view name;

  std::optional<Value> Attribute(std::string_view attribute) const;
};

// The `loop` of a for statement. Items come one by one, because a filter may look at what the body
// changed; `last`, `nextitem` and `length` read ahead only as far as they must.
struct LoopObject {
  LoopObject(const Stmt* s, const Scope* sc, int64_t depth, std::function<bool(Value*)> src,
             std::optional<int64_t> length)
      : stmt(s), scope(sc), depth0(depth), source(std::move(src)), known_length(length) {}

  const Stmt* stmt;
  const Scope* scope;  // where the loop stands, for recursion
  int64_t depth0;
  std::function<bool(Value*)> source;
  std::optional<int64_t> known_length;
  std::deque<Value> pending;  // read ahead, not yet given out
  int64_t index0 = -1;
  Value current, previous;
  std::optional<Value> changed;
  bool finished = false;
  Charge charge{sizeof(LoopObject)};

  bool Next(Value* item);
  bool HasNext();
  int64_t Length();
  std::optional<Value> Attribute(std::string_view attribute);
  Value Cycle(const CallArgs& args);
  Value Changed(const CallArgs& args);
};

// Text under construction, charged to the budget.
class Output {
 public:
  Output() = default;
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  void Append(std::string_view text);
  void Append(const Value& value);
  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
  int64_t charged_ = 0;
};

class Interpreter {
 public:
  // `parsed` and `budget` must outlive this object; `budget` must be current.
  Interpreter(const Template& parsed, Budget& budget, std::optional<std::tm> now);

  void SetVariable(const std::string& name, Value value);
  // Throws TemplateError with a line.
  std::string Render();

  Value Call(const Value& callee, const CallArgs& args);
  Value CallMacro(const MacroObject& macro, const CallArgs& args);
  Value CallLoop(const LoopObject& loop, const CallArgs& args);
  NamespaceObject* NewNamespace();
  const std::optional<std::tm>& now() const { return now_; }

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  class DepthGuard;
  class ScopeGuard;

  // Statements.
  Flow RunBlock(const Block& block, Scope& scope, Output& out);
  Flow Run(const Stmt& stmt, Scope& scope, Output& out);
  Flow RunIf(const Stmt& stmt, Scope& scope, Output& out);
  Flow RunFor(const Stmt& stmt, const Value& iterable, const Scope& scope, int64_t depth0,
              Output& out);
  Flow RunSetBlock(const Stmt& stmt, Scope& scope);
  Flow RunWith(const Stmt& stmt, Scope& scope, Output& out);
  Flow RunFilterBlock(const Stmt& stmt, Scope& scope, Output& out);
  void RunCallBlock(const Stmt& stmt, Scope& scope, Output& out);
  void Assign(const Expr& target, Value value, Scope& scope);
  std::shared_ptr<LoopObject> MakeLoop(const Stmt& stmt, const Value& iterable,
                                       const Scope& scope, int64_t depth0);
  MacroObject* NewMacro(const Stmt& stmt, const Scope& scope, std::string_view name);
  void BindParams(const MacroObject& macro, const CallArgs& args, Scope& scope);

  // Expressions.
  Value Eval(const Expr& expr, const Scope& scope);
  Value EvalItems(const Expr& expr, const Scope& scope);
  Value EvalDict(const Expr& expr, const Scope& scope);
  Value EvalSubscript(const Expr& expr, const Scope& scope);
  Value EvalConcat(const Expr& expr, const Scope& scope);
  Value EvalCompare(const Expr& expr, const Scope& scope);
  Value EvalFilter(const Expr& expr, const Scope& scope, const Value* block_value = nullptr);
  Value EvalTest(const Expr& expr, const Scope& scope);
  CallArgs EvalCallArgs(const CallSpec& call, const Scope& scope);

  Scope* NewScope(const Scope* parent, const std::vector<Symbol>& hidden);

  const Template& template_;
  Budget& budget_;
  std::optional<std::tm> now_;
  int depth_ = 0;
  int line_ = 0;
  Symbol loop_symbol_, caller_symbol_, kwargs_symbol_, varargs_symbol_;
  std::deque<NamespaceObject> namespaces_;
  std::deque<MacroObject> macros_;
  std::deque<Scope> scopes_;
  std::vector<Scope*> free_scopes_;
  Scope* context_;
};

}  // namespace baton::tokenizer::jinja
