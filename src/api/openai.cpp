// OpenAI's /v1/completions and /v1/chat/completions requests.
#include <algorithm>

#include "api/generate.h"
#include "api/request_parts.h"

namespace baton::api {
namespace {

std::optional<RequestError> CheckIsObject(const json::value& body) {
  if (body.is_object()) return std::nullopt;
  return MakeError("", Error(Code::kInvalidArgument, "the request body must be a JSON object, found {}",
                             json::KindName(body)));
}

void ReadShared(FieldReader& reader, const SamplingParams& defaults, OpenAiRequest& out) {
  out.sampling = defaults;
  ReadCommonSampling(reader, out.sampling);
  reader.String("model", out.model);
  reader.Integer("n", out.sampling.n, 1, kMaxSamples);
  reader.Integer("min_tokens", out.sampling.min_new_tokens, 0);
  reader.Bool("stream", out.stream);
  reader.Bool("return_timings", out.return_timings);
  out.rid = NewRequestId();
  reader.String("rid", out.rid);
  if (const json::value* v = reader.Take("stream_options")) {
    if (!v->is_object()) return reader.Wrong("stream_options", "an object", *v);
    FieldReader options(v->get_object());
    options.Bool("include_usage", out.include_usage);
    options.Bool("continuous_usage_stats", out.continuous_usage);
    if (!options.status().ok()) reader.Fail(options.status(), "stream_options");
    if (!out.stream) {
      reader.Fail(Error(Code::kInvalidArgument, "stream_options is only allowed when stream is true"),
                  "stream_options");
    }
  }
  RefuseUnsupported(reader);
}

void ReadResumeOf(FieldReader& reader, size_t choices, OpenAiRequest& out) {
  ReadResume(reader, choices, out.stream, out.resume);
  if (out.resume && !out.resume->id.empty()) out.rid = out.resume->id;
}

void ReadResponseFormat(FieldReader& reader) {
  const json::value* v = reader.Take("response_format");
  if (!v) return;
  if (!v->is_object()) return reader.Wrong("response_format", "an object", *v);
  const json::value* type = json::Find(v->get_object(), "type");
  if (!type || !type->is_string() || type->get_string() != "text") {
    reader.Fail(Error(Code::kInvalidArgument,
        "response_format: only {{\"type\": \"text\"}} is supported by this server"), "response_format");
  }
}

// prompt: a string, an array of strings, an array of ids, or an array of arrays of ids.
void ReadPrompts(FieldReader& reader, std::vector<Prompt>& out) {
  const json::value* v = reader.Take("prompt");
  if (!v) {
    if (!reader.status().ok()) return;
    return reader.Fail(Error(Code::kInvalidArgument, "prompt is required"), "prompt");
  }
  if (v->is_string()) {
    out.push_back({std::string(v->get_string()), {}});
    return;
  }
  if (!v->is_array()) return reader.Wrong("prompt", "a string, an array of strings or token ids", *v);
  const json::array& list = v->get_array();
  if (list.empty()) return reader.Fail(Error(Code::kInvalidArgument, "prompt is an empty array"), "prompt");
  if (list.size() > kMaxBatch && !list[0].is_number()) {
    return reader.Fail(Error(Code::kInvalidArgument, "prompt holds {} prompts; at most {} are allowed",
                             list.size(), kMaxBatch), "prompt");
  }
  if (list[0].is_number()) {
    auto ids = AsTokenIds(*v, "prompt");
    if (!ids.ok()) return reader.Fail(ids.status(), "prompt");
    out.push_back({std::nullopt, std::move(*ids)});
    return;
  }
  for (const json::value& element : list) {
    if (element.is_string()) {
      out.push_back({std::string(element.get_string()), {}});
    } else {
      auto ids = AsTokenIds(element, fmt::format("prompt[{}]", out.size()));
      if (!ids.ok()) return reader.Fail(ids.status(), "prompt");
      out.push_back({std::nullopt, std::move(*ids)});
    }
  }
}

// Content may be a list of text parts (what the template makes of it is not decided here); others are refused.
void CheckParts(FieldReader& reader, const json::value* content, const std::string& where) {
  if (!content || !content->is_array()) return;
  for (const json::value& part : content->get_array()) {
    const json::value* type = part.is_object() ? json::Find(part.get_object(), "type") : nullptr;
    const json::value* body = part.is_object() ? json::Find(part.get_object(), "text") : nullptr;
    if (!type || !type->is_string() || type->get_string() != "text" || !body || !body->is_string()) {
      return reader.Fail(Error(Code::kInvalidArgument,
          "{}.content: only parts {{\"type\": \"text\", \"text\": ...}} are supported, found {}", where,
          json::serialize(part).substr(0, 100)), "messages");
    }
  }
}

void ReadMessages(FieldReader& reader, json::value& out) {
  const json::value* v = reader.Take("messages");
  if (!v) {
    if (!reader.status().ok()) return;
    return reader.Fail(Error(Code::kInvalidArgument, "messages is required"), "messages");
  }
  if (!v->is_array()) return reader.Wrong("messages", "an array of message objects", *v);
  if (v->get_array().empty()) {
    return reader.Fail(Error(Code::kInvalidArgument, "messages is empty: give at least one message"),
                       "messages");
  }
  out = *v;
  size_t index = 0;
  for (const json::value& message : out.get_array()) {
    const std::string where = fmt::format("messages[{}]", index++);
    if (!message.is_object()) return reader.Wrong(where, "an object", message);
    const json::value* role = json::Find(message.get_object(), "role");
    if (!role || !role->is_string()) {
      return reader.Fail(Error(Code::kInvalidArgument, "{}.role must be a string", where), "messages");
    }
    const json::value* content = json::Find(message.get_object(), "content");
    if (content && !content->is_string() && !content->is_array()) {
      return reader.Wrong(where + ".content", "a string or an array of parts", *content);
    }
    const bool may_lack_content = role->get_string() == "assistant" || role->get_string() == "tool";
    if (!content && !may_lack_content) {
      return reader.Fail(Error(Code::kInvalidArgument, "{}.content is required for role {}", where,
                               std::string_view(role->get_string())), "messages");
    }
    CheckParts(reader, content, where);
  }
}

void ReadTools(FieldReader& reader, ChatRequest& out) {
  const json::value* tools = reader.Take("tools");
  if (!tools) return;
  if (!tools->is_array()) return reader.Wrong("tools", "an array of tools", *tools);
  const json::value* choice = reader.Take("tool_choice");
  const bool none = choice && choice->is_string() && choice->get_string() == "none";
  if (!none && !tools->get_array().empty()) out.tools = *tools;
}

}  // namespace

std::optional<RequestError> ParseCompletion(const json::value& body, const SamplingParams& defaults,
                                            CompletionRequest& out) {
  if (auto error = CheckIsObject(body)) return error;
  FieldReader reader(body.get_object());
  ReadShared(reader, defaults, out);
  out.sampling.max_new_tokens = 16;
  reader.Integer("max_tokens", out.sampling.max_new_tokens, 0);
  reader.Bool("echo", out.echo);
  reader.String("suffix", out.suffix);
  if (!out.suffix.empty()) {
    reader.Fail(Error(Code::kInvalidArgument, "suffix is not supported by this server; leave it out"), "suffix");
  }
  if (reader.Take("best_of")) {
    int best_of = 1;
    reader.Integer("best_of", best_of, 1, kMaxSamples);
    if (best_of > out.sampling.n) {
      reader.Fail(Error(Code::kInvalidArgument, "best_of above n is not supported by this server"), "best_of");
    }
  }
  if (const json::value* v = reader.Take("logprobs")) {
    out.logprobs.enabled = !(v->is_bool() && !v->get_bool());
    if (!v->is_bool()) reader.Integer("logprobs", out.logprobs.top, 0, kMaxTopLogprobs);
    if (out.logprobs.enabled && out.echo) out.logprobs.prompt_start = 0;
  }
  ReadResponseFormat(reader);
  ReadPrompts(reader, out.prompts);
  ReadBootstraps(reader, out.prompts.size() * out.sampling.n, out.bootstraps);
  ReadResumeOf(reader, out.prompts.size() * out.sampling.n, out);
  return ErrorOf(reader);
}

std::optional<RequestError> ParseChat(const json::value& body, const SamplingParams& defaults,
                                      ChatRequest& out) {
  if (auto error = CheckIsObject(body)) return error;
  FieldReader reader(body.get_object());
  ReadShared(reader, defaults, out);
  out.sampling.max_new_tokens = -1;
  reader.Integer("max_tokens", out.sampling.max_new_tokens, 0);
  reader.Integer("max_completion_tokens", out.sampling.max_new_tokens, 0);
  reader.Bool("logprobs", out.logprobs.enabled);
  reader.Integer("top_logprobs", out.logprobs.top, 0, kMaxTopLogprobs);
  if (out.logprobs.top > 0 && !out.logprobs.enabled) {
    reader.Fail(Error(Code::kInvalidArgument, "top_logprobs needs logprobs: true"), "top_logprobs");
  }
  reader.Bool("add_generation_prompt", out.add_generation_prompt);
  reader.Bool("continue_final_message", out.continue_final_message);
  if (const json::value* v = reader.Take("chat_template_kwargs")) {
    if (!v->is_object()) reader.Wrong("chat_template_kwargs", "an object", *v);
    else out.template_kwargs = v->get_object();
  }
  ReadResponseFormat(reader);
  ReadMessages(reader, out.messages);
  ReadTools(reader, out);
  ReadBootstraps(reader, static_cast<size_t>(out.sampling.n), out.bootstraps);
  ReadResumeOf(reader, static_cast<size_t>(out.sampling.n), out);
  return ErrorOf(reader);
}

}  // namespace baton::api
