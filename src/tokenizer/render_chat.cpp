#include "tokenizer/render_chat.h"

#include <optional>
#include <string>

namespace baton::tokenizer {
namespace {

Status WrongType(std::string_view member, std::string_view wanted, const json::value& found) {
  return Error(Code::kInvalidArgument, "{} must be {}, not {}", member, wanted,
               json::KindName(found));
}

Status ReadMessages(const json::object& request, ChatRenderInput& input) {
  const json::value* messages = json::Find(request, "messages");
  if (!messages) {
    return Error(Code::kInvalidArgument, "messages is missing: give an array of message objects");
  }
  if (!messages->is_array()) return WrongType("messages", "an array", *messages);
  for (size_t i = 0; i < messages->get_array().size(); ++i) {
    const json::value& message = messages->get_array()[i];
    if (!message.is_object()) {
      return WrongType(fmt::format("messages[{}]", i), "an object", message);
    }
  }
  input.messages = *messages;
  return Status::Ok();
}

Status ReadTemplateArguments(const json::value& arguments, ChatRenderInput& input) {
  if (!arguments.is_object()) return WrongType("chat_template_kwargs", "an object", arguments);
  for (const auto& [name, value] : arguments.get_object()) {
    if (name == "messages" || name == "tools") {
      return Error(Code::kInvalidArgument,
                   "chat_template_kwargs must not hold {}: give it as a member of the request",
                   std::string_view(name));
    }
    input.extra[name] = value;
  }
  return Status::Ok();
}

// The text of a list of text parts; nothing when it holds anything else.
std::optional<std::string> JoinedText(const json::array& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    const json::object* part = parts[i].if_object();
    const json::value* type = part ? json::Find(*part, "type") : nullptr;
    const json::value* words = part ? json::Find(*part, "text") : nullptr;
    if (!type || !type->is_string() || type->get_string() != "text" || !words || !words->is_string()) return std::nullopt;
    if (i > 0) text += ' ';
    text += std::string_view(words->get_string());
  }
  return text;
}

}  // namespace

Result<std::string> RenderChat(const ChatTemplate& chat_template, ChatRenderInput input) {
  if (!chat_template.reads_parts() && input.messages.is_array()) {
    for (json::value& message : input.messages.get_array()) {
      json::value* content = message.is_object() ? message.get_object().if_contains("content") : nullptr;
      if (!content || !content->is_array()) continue;
      if (auto text = JoinedText(content->get_array())) *content = *text;
    }
  }
  return chat_template.Render(input);
}

Result<ChatRenderInput> ParseRenderRequest(std::string_view request_json,
                                           const RenderSettings& settings) {
  Result<json::value> parsed = json::Parse(request_json);
  if (!parsed.ok()) return parsed.status();
  if (!parsed->is_object()) return WrongType("the request", "an object", *parsed);
  const json::object& request = parsed->get_object();
  ChatRenderInput input;
  input.bos_token = settings.bos_token;
  input.eos_token = settings.eos_token;
  input.now = settings.now;
  if (Status status = ReadMessages(request, input); !status.ok()) return status;
  if (const json::value* tools = json::Find(request, "tools")) {
    if (!tools->is_array()) return WrongType("tools", "an array", *tools);
    input.tools = *tools;
  }
  if (const json::value* flag = json::Find(request, "add_generation_prompt")) {
    if (!flag->is_bool()) return WrongType("add_generation_prompt", "a boolean", *flag);
    input.add_generation_prompt = flag->get_bool();
  }
  if (const json::value* documents = json::Find(request, "documents")) {
    if (!documents->is_array()) return WrongType("documents", "an array", *documents);
    input.extra["documents"] = *documents;
  }
  if (const json::value* arguments = json::Find(request, "chat_template_kwargs")) {
    if (Status status = ReadTemplateArguments(*arguments, input); !status.ok()) return status;
  }
  return input;
}

bool IsTemplateText(std::string_view text) {
  return text.find("{%") != std::string_view::npos || text.find("{{") != std::string_view::npos;
}

Result<std::tm> ParseRenderTime(std::string_view text) {
  const std::string copy(text);
  for (const char* format : {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"}) {
    std::tm time{};
    const char* end = strptime(copy.c_str(), format, &time);
    if (!end || *end != '\0') continue;
    std::tm normal = time;
    timegm(&normal);
    if (normal.tm_mday == time.tm_mday && normal.tm_sec == time.tm_sec) return normal;
  }
  return Error(Code::kInvalidArgument, "\"{}\" is not a time: write it as 2026-11-22T12:00:00",
               text);
}

}  // namespace baton::tokenizer
