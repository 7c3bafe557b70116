// Methods of Python's types, as far as Jinja's sandbox lets templates call them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tokenizer/jinja_value.h"

namespace baton::tokenizer::jinja {

// `object.name` where the type has such a method: the bound method, or an unsafe undefined for
// those that the sandbox hides (list.append and other mutators). nullopt: no such method.
std::optional<Value> FindMethod(const Value& object, std::string_view name);

// The tables behind FindMethod, one per type; nullptr: not there.
MethodFn FindStringMethod(std::string_view name);
MethodFn FindContainerMethod(const Value& object, std::string_view name);

std::string EscapeHtml(std::string_view text);
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);
std::string ReplaceText(std::string_view text, std::string_view old, std::string_view with,
                        int64_t count);

}  // namespace baton::tokenizer::jinja
