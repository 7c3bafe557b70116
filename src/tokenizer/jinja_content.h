// What a template takes a message's content for: one string, or a list of parts to go through.
#pragma once

#include "tokenizer/jinja_ast.h"

namespace baton::tokenizer::jinja {

// True when it loops over a message's content, selects from it, or looks into one of its parts; also
// by way of variables and of macros that are called with the content.
bool ReadsContentParts(const Template& parsed);

}  // namespace baton::tokenizer::jinja
