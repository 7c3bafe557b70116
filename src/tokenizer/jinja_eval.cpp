#include "tokenizer/jinja_eval.h"

#include <algorithm>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_globals.h"
#include "tokenizer/jinja_ops.h"

namespace baton::tokenizer::jinja {
namespace {

void MarkCaptured(const Scope* scope) {
  for (; scope && !scope->captured; scope = scope->parent) scope->captured = true;
}

Symbol FindSymbol(const Template& parsed, const std::string& name) {
  const auto found = parsed.symbols.find(name);
  return found == parsed.symbols.end() ? -1 : found->second;
}

// What a loop with a filter hands on: its targets, so that "k, v" items arrive as tuples.
Value Reassemble(const Expr& target, const Scope& scope) {
  if (target.kind == ExprKind::kName) return *scope.Find(target.symbol);
  std::vector<Value> items;
  for (const ExprPtr& item : target.items) items.push_back(Reassemble(*item, scope));
  return Value::MakeTuple(std::move(items));
}

}  // namespace

const Value* Scope::Find(Symbol symbol) const {
  for (const Scope* scope = this; scope; scope = scope->parent) {
    for (const auto& [name, value] : scope->variables) {
      if (name == symbol) return &value;
    }
  }
  return nullptr;
}

void Scope::Set(Symbol symbol, Value value) {
  for (auto& [name, old] : variables) {
    if (name == symbol) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(symbol, std::move(value));
}

Output::~Output() {
  if (Budget* budget = Budget::Current()) budget->Release(charged_);
}

void Output::Append(std::string_view text) {
  CheckStringSize(text_.size() + text.size());
  if (Budget* budget = Budget::Current()) {
    budget->Allocate(static_cast<int64_t>(text.size()));
    charged_ += static_cast<int64_t>(text.size());
  }
  text_ += text;
}

void Output::Append(const Value& value) {
  if (value.IsString()) {
    Append(value.text());
  } else {
    Append(Str(value));
  }
}

// Bounds recursion over statements, expressions and calls together.
class Interpreter::DepthGuard {
 public:
  explicit DepthGuard(Interpreter* interpreter) : interpreter_(interpreter) {
    if (interpreter->depth_ >= interpreter->budget_.limits().eval_depth) {
      Throw(ErrorKind::kLimit, "maximum recursion depth exceeded: calls and expressions are more "
            "than {} levels deep", interpreter->budget_.limits().eval_depth);
    }
    ++interpreter->depth_;
    interpreter->budget_.Step();
  }
  ~DepthGuard() { --interpreter_->depth_; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  Interpreter* interpreter_;
};

// A scope for the length of a block; returned for reuse unless something captured it.
class Interpreter::ScopeGuard {
 public:
  ScopeGuard(Interpreter* interpreter, const Scope* parent, const std::vector<Symbol>& hidden)
      : interpreter_(interpreter), scope_(interpreter->NewScope(parent, hidden)) {}
  ~ScopeGuard() {
    if (scope_->captured) return;
    scope_->variables.clear();
    interpreter_->free_scopes_.push_back(scope_);
  }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;
  Scope& operator*() { return *scope_; }
  Scope* operator->() { return scope_; }

 private:
  Interpreter* interpreter_;
  Scope* scope_;
};

Interpreter::Interpreter(const Template& parsed, Budget& budget, std::optional<std::tm> now)
    : template_(parsed),
      budget_(budget),
      now_(now),
      loop_symbol_(FindSymbol(parsed, "loop")),
      caller_symbol_(FindSymbol(parsed, "caller")),
      kwargs_symbol_(FindSymbol(parsed, "kwargs")),
      varargs_symbol_(FindSymbol(parsed, "varargs")),
      context_(NewScope(nullptr, {})) {
  for (const Function& function : Globals()) {
    SetVariable(std::string(function.name), Value(&function));
  }
}

void Interpreter::SetVariable(const std::string& name, Value value) {
  const Symbol symbol = FindSymbol(template_, name);
  if (symbol >= 0) context_->Set(symbol, std::move(value));
}

std::string Interpreter::Render() {
  try {
    Output out;
    Scope* root = NewScope(context_, template_.hidden);
    RunBlock(template_.body, *root, out);
    return out.Take();
  } catch (TemplateError& e) {
    if (e.line == 0) e.line = line_;
    throw;
  }
}

Scope* Interpreter::NewScope(const Scope* parent, const std::vector<Symbol>& hidden) {
  Scope* scope;
  if (free_scopes_.empty()) {
    budget_.Allocate(sizeof(Scope));  // never released: bounds the arena
    scope = &scopes_.emplace_back();
    free_scopes_.reserve(scopes_.size());
  } else {
    scope = free_scopes_.back();
    free_scopes_.pop_back();
  }
  scope->parent = parent;
  for (const Symbol symbol : hidden) {
    scope->variables.emplace_back(
        symbol, Value::UndefinedName(template_.names[static_cast<size_t>(symbol)]));
  }
  return scope;
}

NamespaceObject* Interpreter::NewNamespace() {
  budget_.Allocate(sizeof(NamespaceObject) + 64);
  return &namespaces_.emplace_back();
}

MacroObject* Interpreter::NewMacro(const Stmt& stmt, const Scope& scope, std::string_view name) {
  MarkCaptured(&scope);
  budget_.Allocate(sizeof(MacroObject));
  return &macros_.emplace_back(MacroObject{&stmt, &scope, name});
}

Interpreter::Flow Interpreter::RunBlock(const Block& block, Scope& scope, Output& out) {
  for (const Stmt& stmt : block) {
    const Flow flow = Run(stmt, scope, out);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::Run(const Stmt& stmt, Scope& scope, Output& out) {
  const DepthGuard guard(this);
  line_ = stmt.line;
  switch (stmt.kind) {
    case StmtKind::kData: out.Append(std::string_view(stmt.text)); break;
    case StmtKind::kPrint: out.Append(Eval(*stmt.expr, scope)); break;
    case StmtKind::kIf: return RunIf(stmt, scope, out);
    case StmtKind::kFor: return RunFor(stmt, Eval(*stmt.expr, scope), scope, 0, out);
    case StmtKind::kSet: Assign(*stmt.target, Eval(*stmt.expr, scope), scope); break;
    case StmtKind::kSetBlock: return RunSetBlock(stmt, scope);
    case StmtKind::kMacro:
      scope.Set(stmt.symbol, Value(NewMacro(stmt, scope, stmt.text)));
      break;
    case StmtKind::kCallBlock: RunCallBlock(stmt, scope, out); break;
    case StmtKind::kFilterBlock: return RunFilterBlock(stmt, scope, out);
    case StmtKind::kWith: return RunWith(stmt, scope, out);
    case StmtKind::kScope: {
      ScopeGuard inner(this, &scope, stmt.hidden);
      return RunBlock(stmt.body, *inner, out);
    }
    case StmtKind::kBreak: return Flow::kBreak;
    case StmtKind::kContinue: return Flow::kContinue;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::RunIf(const Stmt& stmt, Scope& scope, Output& out) {
  for (const Branch& branch : stmt.branches) {
    if (Truthy(Eval(*branch.condition, scope))) return RunBlock(branch.body, scope, out);
  }
  return RunBlock(stmt.else_body, scope, out);
}

std::shared_ptr<LoopObject> Interpreter::MakeLoop(const Stmt& stmt, const Value& iterable,
                                                  const Scope& scope, int64_t depth0) {
  auto items = std::make_shared<Iterator>(iterable);
  std::function<bool(Value*)> source;
  std::optional<int64_t> length;
  if (!stmt.filter) {
    source = [items](Value* item) { return items->Next(item); };
    if (!iterable.Is(Kind::kGenerator)) length = jinja::Length(iterable);
  } else {
    source = [this, items, &stmt, &scope](Value* item) {
      while (items->Next(item)) {
        ScopeGuard inner(this, &scope, {});
        Assign(*stmt.target, *item, *inner);
        if (!Truthy(Eval(*stmt.filter, *inner))) continue;
        *item = Reassemble(*stmt.target, *inner);
        return true;
      }
      return false;
    };
  }
  if (stmt.recursive) MarkCaptured(&scope);
  return std::make_shared<LoopObject>(&stmt, &scope, depth0, std::move(source), length);
}

Interpreter::Flow Interpreter::RunFor(const Stmt& stmt, const Value& iterable, const Scope& scope,
                                      int64_t depth0, Output& out) {
  const std::shared_ptr<LoopObject> loop = MakeLoop(stmt, iterable, scope, depth0);
  // The items may refer to scopes that end with this statement, so a loop that a template kept
  // somewhere must not read on.
  struct Finish {
    LoopObject& loop;
    ~Finish() {
      loop.finished = true;
      loop.changed.reset();
      loop.source = [](Value*) { return false; };
    }
  } finish{*loop};
  bool completed = false;  // as Jinja2 has it: `else` runs when no pass reached its end
  for (Value item; loop->Next(&item);) {
    budget_.Step();
    ScopeGuard pass(this, &scope, stmt.hidden);
    if (loop_symbol_ >= 0) pass->Set(loop_symbol_, Value(loop));
    Assign(*stmt.target, std::move(item), *pass);
    const Flow flow = RunBlock(stmt.body, *pass, out);
    if (flow == Flow::kBreak) break;
    completed = completed || flow == Flow::kNormal;
  }
  if (completed || stmt.else_body.empty()) return Flow::kNormal;
  ScopeGuard otherwise(this, &scope, stmt.else_hidden);
  return RunBlock(stmt.else_body, *otherwise, out);
}

Interpreter::Flow Interpreter::RunSetBlock(const Stmt& stmt, Scope& scope) {
  ScopeGuard inner(this, &scope, stmt.hidden);
  Output body;
  const Flow flow = RunBlock(stmt.body, *inner, body);
  if (flow != Flow::kNormal) return flow;
  Value value = Value::MakeString(body.Take());
  if (stmt.expr) value = EvalFilter(*stmt.expr, *inner, &value);
  Assign(*stmt.target, std::move(value), scope);
  return flow;
}

Interpreter::Flow Interpreter::RunFilterBlock(const Stmt& stmt, Scope& scope, Output& out) {
  ScopeGuard inner(this, &scope, stmt.hidden);
  Output body;
  const Flow flow = RunBlock(stmt.body, *inner, body);
  if (flow != Flow::kNormal) return flow;
  const Value value = Value::MakeString(body.Take());
  out.Append(EvalFilter(*stmt.expr, *inner, &value));
  return flow;
}

Interpreter::Flow Interpreter::RunWith(const Stmt& stmt, Scope& scope, Output& out) {
  ScopeGuard inner(this, &scope, stmt.hidden);
  for (const auto& [target, value] : stmt.bindings) Assign(*target, Eval(*value, scope), *inner);
  return RunBlock(stmt.body, *inner, out);
}

void Interpreter::RunCallBlock(const Stmt& stmt, Scope& scope, Output& out) {
  const Value callee = Eval(*stmt.expr->items[0], scope);
  CallArgs args = EvalCallArgs(stmt.expr->call, scope);
  args.named.emplace_back("caller", Value(NewMacro(stmt, scope, "caller")));
  out.Append(Call(callee, args));
}

void Interpreter::Assign(const Expr& target, Value value, Scope& scope) {
  switch (target.kind) {
    case ExprKind::kName: scope.Set(target.symbol, std::move(value)); return;
    case ExprKind::kNamespaceRef: {
      const Value* found = scope.Find(target.symbol);
      if (!found || !found->Is(Kind::kNamespace)) {
        Throw(ErrorKind::kType, "cannot assign attribute on non-namespace object");
      }
      found->name_space().Set(target.name, std::move(value));
      return;
    }
    default: break;
  }
  if (!Iterator::CanIterate(value)) {
    Throw(ErrorKind::kType, "cannot unpack non-iterable {} object", TypeName(value));
  }
  std::vector<Value> items;
  Iterator it(value);
  const size_t wanted = target.items.size();
  for (Value item; items.size() <= wanted && it.Next(&item);) items.push_back(std::move(item));
  if (items.size() > wanted) {
    Throw(ErrorKind::kValue, "too many values to unpack (expected {})", wanted);
  }
  if (items.size() < wanted) {
    Throw(ErrorKind::kValue, "not enough values to unpack (expected {}, got {})", wanted,
          items.size());
  }
  for (size_t i = 0; i < wanted; ++i) Assign(*target.items[i], std::move(items[i]), scope);
}

Value Interpreter::Call(const Value& callee, const CallArgs& args) {
  const DepthGuard guard(this);
  switch (callee.kind()) {
    case Kind::kMethod: return callee.method().call(*this, callee.method().self, args);
    case Kind::kFunction: return callee.function().call(*this, args);
    case Kind::kMacro: return CallMacro(callee.macro(), args);
    case Kind::kLoop: return CallLoop(callee.loop(), args);
    case Kind::kUndefined: callee.FailUndefined();
    default: Throw(ErrorKind::kType, "'{}' object is not callable", TypeName(callee));
  }
}

// Jinja2's calling convention: positional, then keywords, then defaults; what is left over goes to
// `varargs` and `kwargs` when the body reads them.
void Interpreter::BindParams(const MacroObject& macro, const CallArgs& args, Scope& scope) {
  const Stmt& stmt = *macro.stmt;
  const size_t given = std::min(args.positional.size(), stmt.params.size());
  std::vector<std::pair<std::string, Value>> rest = args.named;
  const auto take = [&rest](std::string_view name) -> std::optional<Value> {
    const auto found = std::find_if(rest.begin(), rest.end(),
                                    [&](const auto& item) { return item.first == name; });
    if (found == rest.end()) return std::nullopt;
    Value value = std::move(found->second);
    rest.erase(found);
    return value;
  };
  bool has_caller_param = false;
  std::vector<std::optional<Value>> values;
  for (size_t i = 0; i < stmt.params.size(); ++i) {
    const Param& param = stmt.params[i];
    has_caller_param = has_caller_param || param.name == "caller";
    values.push_back(i < given ? std::optional<Value>(args.positional[i]) : take(param.name));
  }
  if (stmt.uses_caller && !has_caller_param) {
    std::optional<Value> caller = take("caller");
    scope.Set(caller_symbol_,
              caller ? *std::move(caller) : Value::UndefinedBecause("No caller defined"));
  }
  if (stmt.uses_kwargs) {
    DictBuilder kwargs;
    for (auto& [name, value] : rest) kwargs.Set(Value::MakeString(name), std::move(value));
    scope.Set(kwargs_symbol_, kwargs.Build());
  } else if (!rest.empty()) {
    Throw(ErrorKind::kType, "macro '{}' takes no keyword argument '{}'", macro.name,
          rest[0].first);
  }
  if (stmt.uses_varargs) {
    scope.Set(varargs_symbol_,
              Value::MakeTuple({args.positional.begin() + static_cast<std::ptrdiff_t>(given),
                                args.positional.end()}));
  } else if (args.positional.size() > given) {
    Throw(ErrorKind::kType, "macro '{}' takes not more than {} argument(s)", macro.name,
          stmt.params.size());
  }
  for (size_t i = 0; i < stmt.params.size(); ++i) {
    if (values[i]) scope.Set(stmt.params[i].symbol, *std::move(values[i]));
  }
  for (size_t i = 0; i < stmt.params.size(); ++i) {
    const Param& param = stmt.params[i];
    if (values[i]) continue;
    scope.Set(param.symbol, param.fallback ? Eval(*param.fallback, scope)
                                           : Value::UndefinedBecause(fmt::format(
                                                 "parameter '{}' was not provided", param.name)));
  }
}

Value Interpreter::CallMacro(const MacroObject& macro, const CallArgs& args) {
  ScopeGuard scope(this, macro.closure, macro.stmt->hidden);
  const int line = line_;
  BindParams(macro, args, *scope);
  Output out;
  RunBlock(macro.stmt->body, *scope, out);
  line_ = line;
  return Value::MakeString(out.Take());
}

Value Interpreter::CallLoop(const LoopObject& loop, const CallArgs& args) {
  if (!loop.stmt->recursive) {
    Throw(ErrorKind::kType,
          "The loop must have the 'recursive' marker to be called recursively.");
  }
  if (args.positional.size() != 1 || !args.named.empty()) {
    Throw(ErrorKind::kType, "loop() takes exactly one argument");
  }
  Output out;
  RunFor(*loop.stmt, args.positional[0], *loop.scope, loop.depth0 + 1, out);
  return Value::MakeString(out.Take());
}

}  // namespace baton::tokenizer::jinja
