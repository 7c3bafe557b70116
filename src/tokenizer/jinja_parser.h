// Template text to syntax tree: Jinja2's grammar with the loop controls extension and the
// `generation` tag of transformers. `extends`, `include`, `import` and `autoescape` are refused:
// a chat template is one file and writes plain text.
#pragma once

#include <string_view>

#include "tokenizer/jinja_ast.h"

namespace baton::tokenizer::jinja {

// Throws TemplateError (kSyntax with a line, or kLimit for nesting that is too deep).
Template ParseTemplate(std::string_view source);

}  // namespace baton::tokenizer::jinja
