// The functions that every template can call: range, dict, namespace, raise_exception,
// strftime_now.
#pragma once

#include <span>

#include "tokenizer/jinja_value.h"

namespace baton::tokenizer::jinja {

std::span<const Function> Globals();

}  // namespace baton::tokenizer::jinja
