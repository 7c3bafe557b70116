#include "server/model_name.h"

#include <filesystem>

namespace baton::server {

bool ServesModel(const Context& context, std::string_view name) {
  if (name == context.model_name || name == "default" || name == context.options.model_path) return true;
  std::filesystem::path path(context.options.model_path);
  if (!path.has_filename()) path = path.parent_path();  // "folder/"
  return name == path.filename().string() || (path.extension() == ".gguf" && name == path.stem().string());
}

json::object UnknownModel(const Context& context, std::string_view name) {
  json::object error{{"message", fmt::format("The model '{}' does not exist; this server serves '{}'", name,
                                             context.model_name)},
                     {"type", "invalid_request_error"}, {"param", "model"}, {"code", "model_not_found"}};
  json::object body = error;  // SGLang's flat shape, with OpenAI's nesting beside it
  body["object"] = "error";
  body["error"] = std::move(error);
  return body;
}

}  // namespace baton::server
