#include "tokenizer/jinja_content.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace baton::tokenizer::jinja {
namespace {

// Calls on every expression and statement below, whether or not it would run.
template <typename OnExpr, typename OnStmt>
struct Walk {
  OnExpr on_expr;
  OnStmt on_stmt;

  void Expression(const ExprPtr& expr) {
    if (!expr) return;
    on_expr(*expr);
    for (const ExprPtr& item : expr->items) Expression(item);
    for (const ExprPtr& argument : expr->call.args) Expression(argument);
    for (const auto& [name, argument] : expr->call.named) Expression(argument);
    Expression(expr->call.star);
    Expression(expr->call.double_star);
  }
  void Statements(const Block& block) {
    for (const Stmt& stmt : block) {
      on_stmt(stmt);
      for (const ExprPtr* expr : {&stmt.expr, &stmt.target, &stmt.filter}) Expression(*expr);
      for (const Param& param : stmt.params) Expression(param.fallback);
      for (const auto& [target, value] : stmt.bindings) Expression(value);
      for (const Branch& branch : stmt.branches) {
        Expression(branch.condition);
        Statements(branch.body);
      }
      Statements(stmt.body);
      Statements(stmt.else_body);
    }
  }
};
template <typename OnExpr, typename OnStmt>
Walk(OnExpr, OnStmt) -> Walk<OnExpr, OnStmt>;

bool IsText(const Expr& expr, std::string_view text) {
  return expr.kind == ExprKind::kConst && expr.value.IsString() && expr.value.text() == text;
}

// Names are not told apart by scope: a template that calls two things "content" means the same by it.
class ContentFinder {
 public:
  explicit ContentFinder(const Template& parsed) : template_(parsed) {
    CollectMacros();
    // Until no name is new. Real templates need two rounds; a hostile one shall not make it a thousand.
    size_t before = SIZE_MAX;
    for (int round = 0; round < 8 && before != names_.size(); ++round) {
      before = names_.size();
      CollectNames();
    }
  }

  bool PartsAreRead() const {
    bool found = false;
    Walk walk{[&](const Expr& expr) { found = found || ReadsPart(expr); },
              [&](const Stmt& stmt) { found = found || (stmt.kind == StmtKind::kFor && IsContent(*stmt.expr)); }};
    walk.Statements(template_.body);
    return found;
  }

 private:
  void CollectMacros() {
    Walk walk{[](const Expr&) {}, [&](const Stmt& stmt) {
                if (stmt.kind == StmtKind::kMacro) macros_[stmt.symbol] = &stmt;
              }};
    walk.Statements(template_.body);
  }

  void CollectNames() {
    const auto bind = [&](const ExprPtr& target, const ExprPtr& value) {
      if (target && value && target->kind == ExprKind::kName && IsContent(*value)) names_.insert(target->symbol);
    };
    Walk walk{[&](const Expr& expr) {
                if (expr.kind == ExprKind::kCall && expr.items[0]->kind == ExprKind::kName) BindParams(expr);
              },
              [&](const Stmt& stmt) {
                if (stmt.kind == StmtKind::kSet) bind(stmt.target, stmt.expr);
                for (const auto& [target, value] : stmt.bindings) bind(target, value);
              }};
    walk.Statements(template_.body);
  }

  void BindParams(const Expr& call) {
    const auto macro = macros_.find(call.items[0]->symbol);
    if (macro == macros_.end()) return;
    const std::vector<Param>& params = macro->second->params;
    for (size_t i = 0; i < std::min(params.size(), call.call.args.size()); ++i) {
      if (IsContent(*call.call.args[i])) names_.insert(params[i].symbol);
    }
    for (const auto& [name, value] : call.call.named) {
      for (const Param& param : params) {
        if (param.name == name && IsContent(*value)) names_.insert(param.symbol);
      }
    }
  }

  // The content of a message, or a selection of its parts.
  bool IsContent(const Expr& expr) const {
    switch (expr.kind) {
      case ExprKind::kName: return names_.contains(expr.symbol);
      case ExprKind::kAttribute: return expr.name == "content";
      case ExprKind::kItem:
        return IsText(*expr.items[1], "content") ||
               (expr.items[1]->kind == ExprKind::kSlice && IsContent(*expr.items[0]));
      case ExprKind::kFilter: return !expr.items.empty() && IsContent(*expr.items[0]);
      case ExprKind::kCondition: return IsContent(*expr.items[0]) || (expr.items.size() > 2 && IsContent(*expr.items[2]));
      case ExprKind::kOr:
        return std::any_of(expr.items.begin(), expr.items.end(), [&](const ExprPtr& item) { return IsContent(*item); });
      case ExprKind::kCall: {  // message.get('content')
        const Expr& callee = *expr.items[0];
        return callee.kind == ExprKind::kAttribute && callee.name == "get" && !expr.call.args.empty() &&
               IsText(*expr.call.args[0], "content");
      }
      default: return false;
    }
  }

  // content[0].text, content | selectattr(...)
  bool ReadsPart(const Expr& expr) const {
    if (expr.kind == ExprKind::kFilter) {
      const bool of_parts = expr.name == "selectattr" || expr.name == "rejectattr" || expr.name == "map";
      return of_parts && !expr.items.empty() && IsContent(*expr.items[0]);
    }
    const bool member = expr.kind == ExprKind::kAttribute ||
                        (expr.kind == ExprKind::kItem && (IsText(*expr.items[1], "text") || IsText(*expr.items[1], "type")));
    if (!member || expr.items[0]->kind != ExprKind::kItem) return false;
    const Expr& part = *expr.items[0];
    const bool at_place = part.items[1]->kind == ExprKind::kConst && part.items[1]->value.IsInteger();
    return at_place && IsContent(*part.items[0]);
  }

  const Template& template_;
  std::unordered_map<Symbol, const Stmt*> macros_;
  std::unordered_set<Symbol> names_;
};

}  // namespace

bool ReadsContentParts(const Template& parsed) { return ContentFinder(parsed).PartsAreRead(); }

}  // namespace baton::tokenizer::jinja
