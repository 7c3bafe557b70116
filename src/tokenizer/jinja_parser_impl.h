// The parser's two halves share this class: expressions (jinja_parse_expr.cpp) and statements
// (jinja_parser.cpp). Recursive descent, one token of look-ahead (two for `not in` and `name=`).
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_lexer.h"

namespace baton::tokenizer::jinja {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  Template Run();

 private:
  using EndTags = std::initializer_list<std::string_view>;

  // Tokens.
  const Token& current() const { return tokens_[position_]; }
  const Token& Peek() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  const Token& Next();
  bool AtOperator(std::string_view op) const { return IsOperator(current(), op); }
  bool AtName(std::string_view name) const { return IsName(current(), name); }
  static bool IsOperator(const Token& token, std::string_view op) {
    return token.kind == TokenKind::kOperator && token.text == op;
  }
  static bool IsName(const Token& token, std::string_view name) {
    return token.kind == TokenKind::kName && token.text == name;
  }
  bool SkipOperator(std::string_view op);
  bool SkipName(std::string_view name);
  void ExpectOperator(std::string_view op);
  void ExpectName(std::string_view name);
  std::string ExpectAnyName();
  [[noreturn]] void Fail(std::string message) const;
  [[noreturn]] void Fail(std::string message, int line) const;
  static std::string Describe(const Token& token);

  // Expressions.
  ExprPtr ParseExpression(bool with_condition = true);
  ExprPtr ParseCondition();
  ExprPtr ParseOr();
  ExprPtr ParseAnd();
  ExprPtr ParseNot();
  ExprPtr ParseCompare();
  ExprPtr ParseSum();
  ExprPtr ParseConcat();
  ExprPtr ParseProduct();
  ExprPtr ParsePower();
  ExprPtr ParseUnary(bool with_filter = true);
  ExprPtr ParsePrimary(bool with_namespace = false);
  ExprPtr ParseNameOrConstant(bool with_namespace);
  ExprPtr ParseListLiteral();
  ExprPtr ParseDictLiteral();
  ExprPtr ParsePostfix(ExprPtr node);
  ExprPtr ParseFilterExpression(ExprPtr node);
  ExprPtr ParseSubscript(ExprPtr node);
  ExprPtr ParseSubscribed();
  ExprPtr ParseCall(ExprPtr node);
  ExprPtr ParseFilters(ExprPtr node, bool start_inline = false);
  ExprPtr ParseTest(ExprPtr node);
  CallSpec ParseCallArgs();
  std::string ParseDottedName();

  struct TupleOptions {
    bool simplified = false;            // primaries only (assignment targets)
    bool with_condition = true;
    bool explicit_parentheses = false;  // "()" is a tuple
    bool with_namespace = false;
    std::string_view end_name;          // a name that ends the tuple, e.g. "in"
  };
  ExprPtr ParseTuple(const TupleOptions& options);
  bool AtTupleEnd(std::string_view end_name) const;

  ExprPtr Make(ExprKind kind, int line);
  ExprPtr MakeConst(Value value, int line);
  ExprPtr MakeName(const std::string& name, int line);
  ExprPtr MakeNode(ExprKind kind, int line, ExprPtr a, ExprPtr b = nullptr, ExprPtr c = nullptr);
  void Adopt(Expr& parent, ExprPtr child);
  void AdoptCall(Expr& parent, CallSpec call);
  void CheckDepth(const Expr& expr) const;

  // Statements.
  Block ParseBlock(EndTags end_tags);
  Block ParseBody(EndTags end_tags);
  void ParseStatement(Block& out);
  Stmt ParseSet();
  Stmt ParseFor();
  Stmt ParseIf();
  Stmt ParseMacro();
  Stmt ParseCallBlock();
  Stmt ParseFilterBlock();
  Stmt ParseWith();
  Stmt ParseGeneration();
  Stmt ParseNamedBlock();
  void ParsePrint(Block& out);
  Stmt ParseLoopControl();
  void ParseSignature(Stmt& stmt);
  Block ParseCallableBody(Stmt& stmt, EndTags end_tags);
  ExprPtr ParseTarget(bool with_namespace, std::string_view end_name = {});
  void CheckTarget(const Expr& target, bool with_namespace) const;
  Symbol ParseNameTarget(std::string* name = nullptr);
  Stmt MakeStmt(StmtKind kind) const;

  // What the macro bodies that enclose the parse position read.
  struct CallableUse {
    bool caller = false, kwargs = false, varargs = false;
  };

  std::vector<Token> tokens_;
  size_t position_ = 0;
  int nesting_ = 0;  // of statements and of recursive expression rules
  int loops_ = 0;    // enclosing loops that break and continue can reach
  std::vector<CallableUse> callables_;
  Template template_;
};

// Counts one level of recursion; throws kLimit beyond the bound.
class NestingGuard {
 public:
  NestingGuard(int* nesting, int line);
  ~NestingGuard() { --*nesting_; }
  NestingGuard(const NestingGuard&) = delete;
  NestingGuard& operator=(const NestingGuard&) = delete;

 private:
  int* nesting_;
};

}  // namespace baton::tokenizer::jinja
