#include <algorithm>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_filters.h"
#include "tokenizer/jinja_parser_impl.h"

namespace baton::tokenizer::jinja {
namespace {

constexpr int kMaxExprDepth = 300;  // of a tree: long sums and filter chains count too
constexpr int kMaxNesting = 100;    // of brackets and statements; each level is ~15 C++ frames

bool IsConstantName(const std::string& name) {
  return name == "true" || name == "false" || name == "True" || name == "False" ||
         name == "none" || name == "None";
}

}  // namespace

NestingGuard::NestingGuard(int* nesting, int line) : nesting_(nesting) {
  if (*nesting_ >= kMaxNesting) {
    throw TemplateError{ErrorKind::kLimit,
                        fmt::format("the template nests more than {} levels deep", kMaxNesting),
                        line};
  }
  ++*nesting_;
}

ExprPtr Parser::Make(ExprKind kind, int line) {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = line;
  return expr;
}

ExprPtr Parser::MakeConst(Value value, int line) {
  ExprPtr expr = Make(ExprKind::kConst, line);
  expr->value = std::move(value);
  return expr;
}

ExprPtr Parser::MakeName(const std::string& name, int line) {
  ExprPtr expr = Make(ExprKind::kName, line);
  expr->symbol = template_.Intern(name);
  expr->name = name;
  for (CallableUse& use : callables_) {
    if (name == "caller") use.caller = true;
    if (name == "kwargs") use.kwargs = true;
    if (name == "varargs") use.varargs = true;
  }
  return expr;
}

void Parser::CheckDepth(const Expr& expr) const {
  if (expr.depth > kMaxExprDepth) {
    throw TemplateError{
        ErrorKind::kLimit,
        fmt::format("an expression is more than {} operations deep", kMaxExprDepth), expr.line};
  }
}

void Parser::Adopt(Expr& parent, ExprPtr child) {
  parent.depth = std::max(parent.depth, child->depth + 1);
  parent.items.push_back(std::move(child));
  CheckDepth(parent);
}

ExprPtr Parser::MakeNode(ExprKind kind, int line, ExprPtr a, ExprPtr b, ExprPtr c) {
  ExprPtr expr = Make(kind, line);
  Adopt(*expr, std::move(a));
  if (b) Adopt(*expr, std::move(b));
  if (c) Adopt(*expr, std::move(c));
  return expr;
}

void Parser::AdoptCall(Expr& parent, CallSpec call) {
  const auto deepen = [&parent](const ExprPtr& child) {
    if (child) parent.depth = std::max(parent.depth, child->depth + 1);
  };
  std::for_each(call.args.begin(), call.args.end(), deepen);
  for (const auto& [name, value] : call.named) deepen(value);
  deepen(call.star);
  deepen(call.double_star);
  parent.call = std::move(call);
  CheckDepth(parent);
}

ExprPtr Parser::ParseExpression(bool with_condition) {
  const NestingGuard guard(&nesting_, current().line);
  return with_condition ? ParseCondition() : ParseOr();
}

ExprPtr Parser::ParseCondition() {
  const int line = current().line;
  ExprPtr value = ParseOr();
  while (SkipName("if")) {
    ExprPtr condition = ParseOr();
    ExprPtr otherwise;
    if (SkipName("else")) {
      const NestingGuard guard(&nesting_, line);
      otherwise = ParseCondition();
    }
    value = MakeNode(ExprKind::kCondition, line, std::move(value), std::move(condition),
                     std::move(otherwise));
  }
  return value;
}

ExprPtr Parser::ParseOr() {
  const int line = current().line;
  ExprPtr left = ParseAnd();
  while (SkipName("or")) left = MakeNode(ExprKind::kOr, line, std::move(left), ParseAnd());
  return left;
}

ExprPtr Parser::ParseAnd() {
  const int line = current().line;
  ExprPtr left = ParseNot();
  while (SkipName("and")) left = MakeNode(ExprKind::kAnd, line, std::move(left), ParseNot());
  return left;
}

ExprPtr Parser::ParseNot() {
  const int line = current().line;
  if (!SkipName("not")) return ParseCompare();
  const NestingGuard guard(&nesting_, line);
  return MakeNode(ExprKind::kNot, line, ParseNot());
}

ExprPtr Parser::ParseCompare() {
  static constexpr std::pair<std::string_view, Comparison> kOperators[] = {
      {"==", Comparison::kEq}, {"!=", Comparison::kNe}, {"<", Comparison::kLt},
      {"<=", Comparison::kLe}, {">", Comparison::kGt},  {">=", Comparison::kGe}};
  const int line = current().line;
  ExprPtr left = ParseSum();
  ExprPtr compare;
  const auto add = [&](Comparison comparison) {
    if (!compare) compare = MakeNode(ExprKind::kCompare, line, std::move(left));
    compare->comparisons.push_back(comparison);
    Adopt(*compare, ParseSum());
  };
  while (true) {
    const auto* op = std::find_if(std::begin(kOperators), std::end(kOperators),
                                  [&](const auto& o) { return AtOperator(o.first); });
    if (op != std::end(kOperators)) {
      Next();
      add(op->second);
    } else if (SkipName("in")) {
      add(Comparison::kIn);
    } else if (AtName("not") && IsName(Peek(), "in")) {
      Next();
      Next();
      add(Comparison::kNotIn);
    } else {
      return compare ? std::move(compare) : std::move(left);
    }
  }
}

ExprPtr Parser::ParseSum() {
  const int line = current().line;
  ExprPtr left = ParseConcat();
  while (AtOperator("+") || AtOperator("-")) {
    const ExprKind kind = Next().text == "+" ? ExprKind::kAdd : ExprKind::kSubtract;
    left = MakeNode(kind, line, std::move(left), ParseConcat());
  }
  return left;
}

ExprPtr Parser::ParseConcat() {
  const int line = current().line;
  ExprPtr first = ParseProduct();
  if (!AtOperator("~")) return first;
  ExprPtr concat = MakeNode(ExprKind::kConcat, line, std::move(first));
  while (SkipOperator("~")) Adopt(*concat, ParseProduct());
  return concat;
}

ExprPtr Parser::ParseProduct() {
  static constexpr std::pair<std::string_view, ExprKind> kOperators[] = {
      {"*", ExprKind::kMultiply},
      {"/", ExprKind::kDivide},
      {"//", ExprKind::kFloorDivide},
      {"%", ExprKind::kModulo}};
  const int line = current().line;
  ExprPtr left = ParsePower();
  while (true) {
    const auto* op = std::find_if(std::begin(kOperators), std::end(kOperators),
                                  [&](const auto& o) { return AtOperator(o.first); });
    if (op == std::end(kOperators)) return left;
    Next();
    left = MakeNode(op->second, line, std::move(left), ParsePower());
  }
}

ExprPtr Parser::ParsePower() {
  const int line = current().line;
  ExprPtr left = ParseUnary();
  while (SkipOperator("**")) {
    left = MakeNode(ExprKind::kPower, line, std::move(left), ParseUnary());
  }
  return left;
}

ExprPtr Parser::ParseUnary(bool with_filter) {
  const int line = current().line;
  ExprPtr node;
  if (AtOperator("-") || AtOperator("+")) {
    const ExprKind kind = Next().text == "-" ? ExprKind::kNegative : ExprKind::kPositive;
    const NestingGuard guard(&nesting_, line);
    node = MakeNode(kind, line, ParseUnary(false));
  } else {
    node = ParsePrimary();
  }
  node = ParsePostfix(std::move(node));
  return with_filter ? ParseFilterExpression(std::move(node)) : std::move(node);
}

ExprPtr Parser::ParseNameOrConstant(bool with_namespace) {
  const Token& token = Next();
  const int line = token.line;
  const std::string name = token.text;
  if (IsConstantName(name)) {
    if (name == "none" || name == "None") return MakeConst(Value::MakeNone(), line);
    return MakeConst(Value(name == "true" || name == "True"), line);
  }
  if (with_namespace && SkipOperator(".")) {
    ExprPtr ref = MakeName(name, line);
    ref->kind = ExprKind::kNamespaceRef;
    ref->name = ExpectAnyName();
    return ref;
  }
  return MakeName(name, line);
}

ExprPtr Parser::ParsePrimary(bool with_namespace) {
  const Token& token = current();
  const int line = token.line;
  switch (token.kind) {
    case TokenKind::kName: return ParseNameOrConstant(with_namespace);
    case TokenKind::kString: {
      std::string text;
      while (current().kind == TokenKind::kString) text += Next().text;
      return MakeConst(Value::MakeString(std::move(text)), line);
    }
    case TokenKind::kInteger: return MakeConst(Value(Next().integer), line);
    case TokenKind::kFloat: return MakeConst(Value(Next().number), line);
    default: break;
  }
  if (SkipOperator("(")) {
    ExprPtr node = ParseTuple({.explicit_parentheses = true});
    ExpectOperator(")");
    return node;
  }
  if (AtOperator("[")) return ParseListLiteral();
  if (AtOperator("{")) return ParseDictLiteral();
  Fail(fmt::format("unexpected '{}'", Describe(token)));
}

ExprPtr Parser::ParseListLiteral() {
  ExprPtr list = Make(ExprKind::kList, Next().line);
  while (!AtOperator("]")) {
    if (!list->items.empty()) ExpectOperator(",");
    if (AtOperator("]")) break;
    Adopt(*list, ParseExpression());
  }
  ExpectOperator("]");
  return list;
}

ExprPtr Parser::ParseDictLiteral() {
  ExprPtr dict = Make(ExprKind::kDict, Next().line);
  while (!AtOperator("}")) {
    if (!dict->items.empty()) ExpectOperator(",");
    if (AtOperator("}")) break;
    Adopt(*dict, ParseExpression());
    ExpectOperator(":");
    Adopt(*dict, ParseExpression());
  }
  ExpectOperator("}");
  return dict;
}

bool Parser::AtTupleEnd(std::string_view end_name) const {
  const TokenKind kind = current().kind;
  return kind == TokenKind::kVariableEnd || kind == TokenKind::kBlockEnd || AtOperator(")") ||
         (!end_name.empty() && AtName(end_name));
}

ExprPtr Parser::ParseTuple(const TupleOptions& options) {
  const int line = current().line;
  ExprPtr tuple = Make(ExprKind::kTuple, line);
  bool is_tuple = false;
  while (true) {
    if (!tuple->items.empty()) ExpectOperator(",");
    if (AtTupleEnd(options.end_name)) break;
    if (options.simplified) {
      const NestingGuard guard(&nesting_, line);
      Adopt(*tuple, ParsePrimary(options.with_namespace));
    } else {
      Adopt(*tuple, ParseExpression(options.with_condition));
    }
    if (!AtOperator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return tuple;
  if (!tuple->items.empty()) return std::move(tuple->items[0]);
  if (!options.explicit_parentheses) {
    Fail(fmt::format("Expected an expression, got '{}'", Describe(current())));
  }
  return tuple;
}

ExprPtr Parser::ParsePostfix(ExprPtr node) {
  while (true) {
    if (AtOperator(".") || AtOperator("[")) {
      node = ParseSubscript(std::move(node));
    } else if (AtOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr Parser::ParseFilterExpression(ExprPtr node) {
  while (true) {
    if (AtOperator("|")) {
      node = ParseFilters(std::move(node));
    } else if (AtName("is")) {
      node = ParseTest(std::move(node));
    } else if (AtOperator("(")) {
      node = ParseCall(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr Parser::ParseSubscript(ExprPtr node) {
  const int line = current().line;
  if (SkipOperator(".")) {
    const Token& token = Next();
    if (token.kind == TokenKind::kName) {
      ExprPtr attribute = MakeNode(ExprKind::kAttribute, line, std::move(node));
      attribute->name = token.text;
      attribute->name_value = Value::MakeString(token.text);
      return attribute;
    }
    if (token.kind != TokenKind::kInteger) Fail("expected name or number", token.line);
    return MakeNode(ExprKind::kItem, line, std::move(node), MakeConst(Value(token.integer), line));
  }
  ExpectOperator("[");
  ExprPtr arguments = Make(ExprKind::kTuple, line);
  while (!AtOperator("]")) {
    if (!arguments->items.empty()) ExpectOperator(",");
    Adopt(*arguments, ParseSubscribed());
  }
  ExpectOperator("]");
  ExprPtr argument =
      arguments->items.size() == 1 ? std::move(arguments->items[0]) : std::move(arguments);
  return MakeNode(ExprKind::kItem, line, std::move(node), std::move(argument));
}

ExprPtr Parser::ParseSubscribed() {
  const int line = current().line;
  ExprPtr start = MakeConst(Value::MakeNone(), line), stop = MakeConst(Value::MakeNone(), line),
          step = MakeConst(Value::MakeNone(), line);
  if (!AtOperator(":")) {
    start = ParseExpression();
    if (!AtOperator(":")) return start;
  }
  ExpectOperator(":");
  const auto at_end = [this] { return AtOperator("]") || AtOperator(","); };
  if (!AtOperator(":") && !at_end()) stop = ParseExpression();
  if (SkipOperator(":") && !at_end()) step = ParseExpression();
  return MakeNode(ExprKind::kSlice, line, std::move(start), std::move(stop), std::move(step));
}

CallSpec Parser::ParseCallArgs() {
  const int line = current().line;
  CallSpec call;
  const auto ensure = [&](bool ok) {
    if (!ok) Fail("invalid syntax for function call expression", line);
  };
  ExpectOperator("(");
  bool first = true;
  while (!AtOperator(")")) {
    if (!first) {
      ExpectOperator(",");
      if (AtOperator(")")) break;
    }
    first = false;
    if (SkipOperator("*")) {
      ensure(!call.star && !call.double_star);
      call.star = ParseExpression();
    } else if (SkipOperator("**")) {
      ensure(!call.double_star);
      call.double_star = ParseExpression();
    } else if (current().kind == TokenKind::kName && IsOperator(Peek(), "=")) {
      ensure(!call.double_star);
      std::string name = Next().text;
      Next();
      call.named.emplace_back(std::move(name), ParseExpression());
    } else {
      ensure(!call.star && !call.double_star && call.named.empty());
      call.args.push_back(ParseExpression());
    }
  }
  ExpectOperator(")");
  return call;
}

ExprPtr Parser::ParseCall(ExprPtr node) {
  ExprPtr call = MakeNode(ExprKind::kCall, current().line, std::move(node));
  AdoptCall(*call, ParseCallArgs());
  return call;
}

std::string Parser::ParseDottedName() {
  std::string name = ExpectAnyName();
  while (SkipOperator(".")) name += "." + ExpectAnyName();
  return name;
}

ExprPtr Parser::ParseFilters(ExprPtr node, bool start_inline) {
  while (start_inline || SkipOperator("|")) {
    start_inline = false;
    ExprPtr filter = Make(ExprKind::kFilter, current().line);
    if (node) Adopt(*filter, std::move(node));
    filter->name = ParseDottedName();
    filter->filter = FindFilter(filter->name);
    if (AtOperator("(")) AdoptCall(*filter, ParseCallArgs());
    node = std::move(filter);
  }
  return node;
}

ExprPtr Parser::ParseTest(ExprPtr node) {
  const int line = Next().line;
  const bool negated = SkipName("not");
  ExprPtr test = MakeNode(ExprKind::kTest, line, std::move(node));
  test->name = ParseDottedName();
  test->test = FindTest(test->name);
  const TokenKind kind = current().kind;
  const bool takes_argument =
      kind == TokenKind::kString || kind == TokenKind::kInteger || kind == TokenKind::kFloat ||
      AtOperator("[") || AtOperator("{") ||
      (kind == TokenKind::kName && !AtName("else") && !AtName("or") && !AtName("and"));
  if (AtOperator("(")) {
    AdoptCall(*test, ParseCallArgs());
  } else if (takes_argument) {
    if (AtName("is")) Fail("You cannot chain multiple tests with is");
    const NestingGuard guard(&nesting_, line);
    CallSpec call;
    call.args.push_back(ParsePostfix(ParsePrimary()));
    AdoptCall(*test, std::move(call));
  }
  return negated ? MakeNode(ExprKind::kNot, line, std::move(test)) : std::move(test);
}

}  // namespace baton::tokenizer::jinja
