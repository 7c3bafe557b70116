#include "tokenizer/jinja_parser.h"

#include <algorithm>

#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_parser_impl.h"
#include "tokenizer/jinja_scope.h"

namespace baton::tokenizer::jinja {

const Token& Parser::Next() {
  const Token& token = tokens_[position_];
  if (position_ + 1 < tokens_.size()) ++position_;
  return token;
}

void Parser::Fail(std::string message) const { Fail(std::move(message), current().line); }

void Parser::Fail(std::string message, int line) const {
  throw TemplateError{ErrorKind::kSyntax, std::move(message), line};
}

std::string Parser::Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData: return "template text";
    case TokenKind::kVariableBegin: return "{{";
    case TokenKind::kVariableEnd: return "end of print statement";
    case TokenKind::kBlockBegin: return "{%";
    case TokenKind::kBlockEnd: return "end of statement block";
    case TokenKind::kEnd: return "end of template";
    default: return token.text;
  }
}

bool Parser::SkipOperator(std::string_view op) {
  if (!AtOperator(op)) return false;
  Next();
  return true;
}

bool Parser::SkipName(std::string_view name) {
  if (!AtName(name)) return false;
  Next();
  return true;
}

void Parser::ExpectOperator(std::string_view op) {
  if (!SkipOperator(op)) {
    Fail(fmt::format("expected token '{}', got '{}'", op, Describe(current())));
  }
}

void Parser::ExpectName(std::string_view name) {
  if (!SkipName(name)) {
    Fail(fmt::format("expected token '{}', got '{}'", name, Describe(current())));
  }
}

std::string Parser::ExpectAnyName() {
  if (current().kind != TokenKind::kName) {
    Fail(fmt::format("expected a name, got '{}'", Describe(current())));
  }
  return Next().text;
}

Stmt Parser::MakeStmt(StmtKind kind) const {
  Stmt stmt{kind};
  stmt.line = current().line;
  return stmt;
}

// Statements up to one of `end_tags`; stops at that tag's name, its "{%" consumed. With no end
// tags, up to the end of the template.
Block Parser::ParseBlock(EndTags end_tags) {
  Block block;
  while (current().kind != TokenKind::kEnd) {
    const Token& token = current();
    if (token.kind == TokenKind::kData) {
      Stmt data = MakeStmt(StmtKind::kData);
      data.text = Next().text;
      block.push_back(std::move(data));
    } else if (token.kind == TokenKind::kVariableBegin) {
      Next();
      Stmt print = MakeStmt(StmtKind::kPrint);
      print.expr = ParseTuple({});
      if (current().kind != TokenKind::kVariableEnd) {
        Fail(fmt::format("expected token 'end of print statement', got '{}'",
                         Describe(current())));
      }
      Next();
      block.push_back(std::move(print));
    } else {
      Next();
      if (std::any_of(end_tags.begin(), end_tags.end(),
                      [this](std::string_view tag) { return AtName(tag); })) {
        return block;
      }
      ParseStatement(block);
      if (current().kind != TokenKind::kBlockEnd) {
        Fail(fmt::format("expected token 'end of statement block', got '{}'",
                         Describe(current())));
      }
      Next();
    }
  }
  if (end_tags.size() > 0) {
    Fail(fmt::format("Unexpected end of template. Jinja was looking for the tag '{}'.",
                     fmt::join(end_tags, "' or '")));
  }
  return block;
}

// The rest of an opening tag, then its body up to (not including) an end tag's name.
Block Parser::ParseBody(EndTags end_tags) {
  SkipOperator(":");
  if (current().kind != TokenKind::kBlockEnd) {
    Fail(fmt::format("expected token 'end of statement block', got '{}'", Describe(current())));
  }
  Next();
  const NestingGuard guard(&nesting_, current().line);
  return ParseBlock(end_tags);
}

void Parser::ParseStatement(Block& out) {
  if (current().kind != TokenKind::kName) Fail("tag name expected");
  const std::string tag = current().text;
  if (tag == "set") {
    out.push_back(ParseSet());
  } else if (tag == "for") {
    out.push_back(ParseFor());
  } else if (tag == "if") {
    out.push_back(ParseIf());
  } else if (tag == "macro") {
    out.push_back(ParseMacro());
  } else if (tag == "call") {
    out.push_back(ParseCallBlock());
  } else if (tag == "filter") {
    out.push_back(ParseFilterBlock());
  } else if (tag == "with") {
    out.push_back(ParseWith());
  } else if (tag == "generation") {
    out.push_back(ParseGeneration());
  } else if (tag == "block") {
    out.push_back(ParseNamedBlock());
  } else if (tag == "print") {
    ParsePrint(out);
  } else if (tag == "break" || tag == "continue") {
    out.push_back(ParseLoopControl());
  } else if (tag == "extends" || tag == "include" || tag == "import" || tag == "from" ||
             tag == "autoescape") {
    Fail(fmt::format("the tag '{}' is not supported in chat templates", tag));
  } else {
    Fail(fmt::format("Encountered unknown tag '{}'.", tag));
  }
}

void Parser::CheckTarget(const Expr& target, bool with_namespace) const {
  switch (target.kind) {
    case ExprKind::kName: return;
    case ExprKind::kNamespaceRef:
      if (with_namespace) return;
      break;
    case ExprKind::kTuple:
      for (const ExprPtr& item : target.items) CheckTarget(*item, with_namespace);
      return;
    default: break;
  }
  Fail("can't assign to this expression", target.line);
}

ExprPtr Parser::ParseTarget(bool with_namespace, std::string_view end_name) {
  ExprPtr target = ParseTuple(
      {.simplified = true, .with_namespace = with_namespace, .end_name = end_name});
  CheckTarget(*target, with_namespace);
  return target;
}

Symbol Parser::ParseNameTarget(std::string* name) {
  const int line = current().line;
  const std::string text = ExpectAnyName();
  for (const char* reserved : {"true", "false", "none", "True", "False", "None"}) {
    if (text == reserved) Fail(fmt::format("can't assign to '{}'", text), line);
  }
  if (name) *name = text;
  return template_.Intern(text);
}

Stmt Parser::ParseSet() {
  Stmt stmt = MakeStmt(StmtKind::kSet);
  Next();
  stmt.target = ParseTarget(true);
  if (SkipOperator("=")) {
    stmt.expr = ParseTuple({});
    return stmt;
  }
  stmt.kind = StmtKind::kSetBlock;
  stmt.expr = ParseFilters(nullptr);
  stmt.body = ParseBody({"endset"});
  Next();
  return stmt;
}

Stmt Parser::ParseFor() {
  Stmt stmt = MakeStmt(StmtKind::kFor);
  Next();
  stmt.target = ParseTarget(false, "in");
  ExpectName("in");
  stmt.expr = ParseTuple({.with_condition = false, .end_name = "recursive"});
  if (SkipName("if")) stmt.filter = ParseExpression();
  stmt.recursive = SkipName("recursive");
  ++loops_;
  stmt.body = ParseBody({"endfor", "else"});
  --loops_;
  if (Next().text == "else") {
    stmt.else_body = ParseBody({"endfor"});
    Next();
  }
  return stmt;
}

Stmt Parser::ParseIf() {
  Stmt stmt = MakeStmt(StmtKind::kIf);
  Next();
  while (true) {
    Branch branch;
    branch.condition = ParseTuple({.with_condition = false});
    branch.body = ParseBody({"elif", "else", "endif"});
    stmt.branches.push_back(std::move(branch));
    const std::string tag = Next().text;
    if (tag == "elif") continue;
    if (tag == "else") {
      stmt.else_body = ParseBody({"endif"});
      Next();
    }
    return stmt;
  }
}

void Parser::ParseSignature(Stmt& stmt) {
  ExpectOperator("(");
  bool has_fallback = false;
  while (!AtOperator(")")) {
    if (!stmt.params.empty()) ExpectOperator(",");
    Param param;
    param.symbol = ParseNameTarget(&param.name);
    if (SkipOperator("=")) {
      param.fallback = ParseExpression();
      has_fallback = true;
    } else if (has_fallback) {
      Fail("non-default argument follows default argument");
    }
    stmt.params.push_back(std::move(param));
  }
  ExpectOperator(")");
}

Block Parser::ParseCallableBody(Stmt& stmt, EndTags end_tags) {
  callables_.emplace_back();
  const int outer_loops = std::exchange(loops_, 0);
  Block body = ParseBody(end_tags);
  loops_ = outer_loops;
  Next();
  stmt.uses_caller = callables_.back().caller;
  stmt.uses_kwargs = callables_.back().kwargs;
  stmt.uses_varargs = callables_.back().varargs;
  callables_.pop_back();
  return body;
}

Stmt Parser::ParseMacro() {
  Stmt stmt = MakeStmt(StmtKind::kMacro);
  Next();
  stmt.symbol = ParseNameTarget(&stmt.text);
  ParseSignature(stmt);
  stmt.body = ParseCallableBody(stmt, {"endmacro"});
  return stmt;
}

Stmt Parser::ParseCallBlock() {
  Stmt stmt = MakeStmt(StmtKind::kCallBlock);
  const int line = Next().line;
  if (AtOperator("(")) ParseSignature(stmt);
  stmt.expr = ParseExpression();
  if (stmt.expr->kind != ExprKind::kCall) Fail("expected call", line);
  stmt.body = ParseCallableBody(stmt, {"endcall"});
  return stmt;
}

Stmt Parser::ParseFilterBlock() {
  Stmt stmt = MakeStmt(StmtKind::kFilterBlock);
  Next();
  stmt.expr = ParseFilters(nullptr, true);
  stmt.body = ParseBody({"endfilter"});
  Next();
  return stmt;
}

Stmt Parser::ParseWith() {
  Stmt stmt = MakeStmt(StmtKind::kWith);
  Next();
  while (current().kind != TokenKind::kBlockEnd) {
    if (!stmt.bindings.empty()) ExpectOperator(",");
    ExprPtr target = ParseTarget(false);
    ExpectOperator("=");
    stmt.bindings.emplace_back(std::move(target), ParseExpression());
  }
  stmt.body = ParseBody({"endwith"});
  Next();
  return stmt;
}

// transformers marks assistant text with this tag for training; the text itself renders as is, in
// a scope of its own (there it is a call block).
Stmt Parser::ParseGeneration() {
  Stmt stmt = MakeStmt(StmtKind::kScope);
  Next();
  stmt.body = ParseCallableBody(stmt, {"endgeneration"});
  return stmt;
}

Stmt Parser::ParseNamedBlock() {
  Stmt stmt = MakeStmt(StmtKind::kScope);
  Next();
  const std::string name = ExpectAnyName();
  SkipName("scoped");
  SkipName("required");
  stmt.body = ParseCallableBody(stmt, {"endblock"});
  SkipName(name);
  return stmt;
}

void Parser::ParsePrint(Block& out) {
  Next();
  bool first = true;
  while (current().kind != TokenKind::kBlockEnd) {
    if (!first) ExpectOperator(",");
    first = false;
    Stmt print = MakeStmt(StmtKind::kPrint);
    print.expr = ParseExpression();
    out.push_back(std::move(print));
  }
}

Stmt Parser::ParseLoopControl() {
  Stmt stmt = MakeStmt(AtName("break") ? StmtKind::kBreak : StmtKind::kContinue);
  if (loops_ == 0) Fail(fmt::format("'{}' outside loop", current().text));
  Next();
  return stmt;
}

Template Parser::Run() {
  template_.body = ParseBlock({});
  AnalyzeScopes(&template_);
  return std::move(template_);
}

Template ParseTemplate(std::string_view source) { return Parser(Tokenize(source)).Run(); }

}  // namespace baton::tokenizer::jinja
