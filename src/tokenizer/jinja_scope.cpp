#include "tokenizer/jinja_scope.h"

#include <map>
#include <set>

#include "tokenizer/jinja_error.h"

namespace baton::tokenizer::jinja {
namespace {

enum class Load : uint8_t { kVisible, kHidden };

// What one scope knows of names, in the order in which Jinja2's compiler meets them.
class Names {
 public:
  explicit Names(const Names* parent) : parent_(parent) {}

  bool Knows(Symbol name) const {
    return loads_.contains(name) || (parent_ && parent_->Knows(name));
  }
  void Declare(Symbol name) {
    stores_.insert(name);
    loads_[name] = Load::kVisible;
  }
  void Read(Symbol name) {
    if (!Knows(name)) loads_[name] = Load::kVisible;
  }
  void Store(Symbol name) {
    stores_.insert(name);
    if (loads_.contains(name)) return;
    loads_[name] = parent_ && parent_->Knows(name) ? Load::kVisible : Load::kHidden;
  }
  // Joins the branches of an `if`: a name stays hidden only when each branch assigns it.
  void Join(const std::vector<Names>& branches) {
    std::map<Symbol, size_t> counts;
    for (const Names& branch : branches) {
      for (const Symbol name : branch.stores_) {
        if (!stores_.contains(name)) ++counts[name];
      }
    }
    for (const Names& branch : branches) {
      for (const auto& [name, load] : branch.loads_) loads_[name] = load;
      stores_.insert(branch.stores_.begin(), branch.stores_.end());
    }
    for (const auto& [name, count] : counts) {
      if (count < branches.size()) loads_[name] = Load::kVisible;
    }
  }
  std::vector<Symbol> Hidden() const {
    std::vector<Symbol> hidden;
    for (const auto& [name, load] : loads_) {
      if (load == Load::kHidden) hidden.push_back(name);
    }
    return hidden;
  }

 private:
  const Names* parent_;
  std::map<Symbol, Load> loads_;
  std::set<Symbol> stores_;
};

class Analyzer {
 public:
  explicit Analyzer(Template* parsed) : template_(parsed) {}

  void Run() {
    Names root(nullptr);
    VisitBlock(template_->body, root);
    template_->hidden = root.Hidden();
    DescendBlock(template_->body, root, false);
  }

 private:
  // First pass over a scope: the names that are its own.
  void VisitExpr(const ExprPtr& expr, Names& names) {
    if (!expr) return;
    if (expr->kind == ExprKind::kName || expr->kind == ExprKind::kNamespaceRef) {
      names.Read(expr->symbol);
    }
    for (const ExprPtr& item : expr->items) VisitExpr(item, names);
    VisitCall(expr->call, names);
  }
  void VisitCall(const CallSpec& call, Names& names) {
    for (const ExprPtr& arg : call.args) VisitExpr(arg, names);
    for (const auto& [name, arg] : call.named) VisitExpr(arg, names);
    VisitExpr(call.star, names);
    VisitExpr(call.double_star, names);
  }
  void VisitTarget(const Expr& target, Names& names, bool declare) {
    if (target.kind == ExprKind::kNamespaceRef) {
      names.Read(target.symbol);
    } else if (target.kind == ExprKind::kName) {
      declare ? names.Declare(target.symbol) : names.Store(target.symbol);
    }
    for (const ExprPtr& item : target.items) VisitTarget(*item, names, declare);
  }
  void VisitBlock(const Block& block, Names& names) {
    for (const Stmt& stmt : block) VisitStmt(stmt, names);
  }
  void VisitStmt(const Stmt& stmt, Names& names) {
    switch (stmt.kind) {
      case StmtKind::kPrint:
      case StmtKind::kFor:
      case StmtKind::kCallBlock:
      case StmtKind::kFilterBlock: VisitExpr(stmt.expr, names); break;
      case StmtKind::kSet:
        VisitExpr(stmt.expr, names);
        VisitTarget(*stmt.target, names, false);
        break;
      case StmtKind::kSetBlock: VisitTarget(*stmt.target, names, false); break;
      case StmtKind::kMacro: names.Store(stmt.symbol); break;
      case StmtKind::kWith:
        for (const auto& [target, value] : stmt.bindings) VisitExpr(value, names);
        break;
      case StmtKind::kIf: VisitIf(stmt, names); break;
      default: break;
    }
  }
  // Jinja2 joins three branches: the first body, all the `elif`s together, and `else`.
  void VisitIf(const Stmt& stmt, Names& names) {
    VisitExpr(stmt.branches[0].condition, names);
    std::vector<Names> branches(3, names);
    VisitBlock(stmt.branches[0].body, branches[0]);
    for (size_t i = 1; i < stmt.branches.size(); ++i) VisitElif(stmt.branches[i], branches[1]);
    VisitBlock(stmt.else_body, branches[2]);
    names.Join(branches);
  }
  // An `elif` counts as an `if` of its own without `elif` and `else`.
  void VisitElif(const Branch& elif, Names& names) {
    VisitExpr(elif.condition, names);
    std::vector<Names> branches(3, names);
    VisitBlock(elif.body, branches[0]);
    names.Join(branches);
  }

  // Second pass: the scopes inside, each analysed with the finished names of its parent. `soft`:
  // directly under an `if`, where unknown filters are only an error when they are reached.
  void DescendBlock(Block& block, const Names& names, bool soft) {
    for (Stmt& stmt : block) Descend(stmt, names, soft);
  }
  void Descend(Stmt& stmt, const Names& names, bool soft) {
    switch (stmt.kind) {
      case StmtKind::kIf:
        for (Branch& branch : stmt.branches) {
          CheckExpr(branch.condition, true);
          DescendBlock(branch.body, names, true);
        }
        DescendBlock(stmt.else_body, names, true);
        break;
      case StmtKind::kFor: DescendFor(stmt, names, soft); break;
      case StmtKind::kMacro: DescendCallable(stmt, names); break;
      case StmtKind::kCallBlock:
        CheckExpr(stmt.expr, soft);
        DescendCallable(stmt, names);
        break;
      case StmtKind::kWith: {
        Names inner(&names);
        for (const auto& [target, value] : stmt.bindings) {
          CheckExpr(value, soft);
          VisitTarget(*target, inner, true);
        }
        FinishScope(stmt, inner);
        break;
      }
      case StmtKind::kSetBlock:
      case StmtKind::kFilterBlock:
      case StmtKind::kScope: {
        Names inner(&names);
        CheckExpr(stmt.expr, false);
        FinishScope(stmt, inner);
        break;
      }
      default: CheckExpr(stmt.expr, soft); break;
    }
  }
  void FinishScope(Stmt& stmt, Names& inner) {
    VisitBlock(stmt.body, inner);
    stmt.hidden = inner.Hidden();
    DescendBlock(stmt.body, inner, false);
  }
  void DescendFor(Stmt& stmt, const Names& names, bool soft) {
    CheckExpr(stmt.expr, soft);
    CheckExpr(stmt.filter, false);
    Names inner(&names);
    inner.Declare(template_->Intern("loop"));
    VisitTarget(*stmt.target, inner, true);
    FinishScope(stmt, inner);
    Names otherwise(&names);
    VisitBlock(stmt.else_body, otherwise);
    stmt.else_hidden = otherwise.Hidden();
    DescendBlock(stmt.else_body, otherwise, false);
  }
  void DescendCallable(Stmt& stmt, const Names& names) {
    Names inner(&names);
    if (stmt.uses_caller) inner.Declare(template_->Intern("caller"));
    if (stmt.uses_kwargs) inner.Declare(template_->Intern("kwargs"));
    if (stmt.uses_varargs) inner.Declare(template_->Intern("varargs"));
    for (const Param& param : stmt.params) inner.Declare(param.symbol);
    for (const Param& param : stmt.params) {
      VisitExpr(param.fallback, inner);
      CheckExpr(param.fallback, false);
    }
    FinishScope(stmt, inner);
  }

  void CheckExpr(const ExprPtr& expr, bool soft) {
    if (!expr) return;
    if (!soft && expr->kind == ExprKind::kFilter && !expr->filter) {
      throw TemplateError{ErrorKind::kSyntax, fmt::format("No filter named '{}'.", expr->name),
                          expr->line};
    }
    if (!soft && expr->kind == ExprKind::kTest && !expr->test) {
      throw TemplateError{ErrorKind::kSyntax, fmt::format("No test named '{}'.", expr->name),
                          expr->line};
    }
    soft = soft || expr->kind == ExprKind::kCondition;
    for (const ExprPtr& item : expr->items) CheckExpr(item, soft);
    for (const ExprPtr& arg : expr->call.args) CheckExpr(arg, soft);
    for (const auto& [name, arg] : expr->call.named) CheckExpr(arg, soft);
    CheckExpr(expr->call.star, soft);
    CheckExpr(expr->call.double_star, soft);
  }

  Template* template_;
};

}  // namespace

void AnalyzeScopes(Template* parsed) { Analyzer(parsed).Run(); }

}  // namespace baton::tokenizer::jinja
