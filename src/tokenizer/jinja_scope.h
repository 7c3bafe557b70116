// Name resolution as Jinja2 compiles it. Scopes are looked up while rendering, with one exception
// that only shows before rendering: where a scope (template, loop body, macro ...) assigns a name
// on every path before reading it, that name starts undefined in the scope instead of showing the
// outer variable. Also refuses unknown filters and tests where Jinja2 refuses them at compile time:
// everywhere but under an `if`.
#pragma once

#include "tokenizer/jinja_ast.h"

namespace baton::tokenizer::jinja {

// Fills in every `hidden`. Throws kSyntax.
void AnalyzeScopes(Template* parsed);

}  // namespace baton::tokenizer::jinja
