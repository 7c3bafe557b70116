// Which names of a model a request may use.
#pragma once

#include <string_view>

#include "common/json.h"
#include "server/context.h"

namespace baton::server {

// The served name; the model's path, file or folder name, with or without .gguf; and "default",
// which SGLang's clients send when they do not care.
bool ServesModel(const Context& context, std::string_view name);

// OpenAI's body for HTTP 404.
json::object UnknownModel(const Context& context, std::string_view name);

}  // namespace baton::server
