// The functions that every template can call: range, dict, namespace, raise_exception,
// strftime_now.
#pragma once

#include <span>

#include "tokenizer/jinja_value.h"

namespace baton::tokenizer::jinja {

std::span<const Function> Globals();

// dict.fromkeys(keys, value=None)
const Function& DictFromKeys();

}  // namespace baton::tokenizer::jinja
