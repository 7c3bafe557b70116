// Shapes: OpenAI's chat and completions with stream_options.include_usage, SGLang's /generate
// (specs/sglang-pd-protocol.md sections 2.3 and 2.4).
#include "bench/serving/wire.h"

#include <algorithm>

namespace baton::bench::serving {
namespace {

std::optional<int> CountIn(const json::object& from, std::string_view key) {
  const json::value* v = json::Find(from, key);
  if (v == nullptr || !v->is_number()) return std::nullopt;
  boost::system::error_code ec;
  const int count = v->to_number<int>(ec);
  return ec || count < 0 ? std::nullopt : std::optional(count);
}

const json::object* ObjectIn(const json::object& from, std::string_view key) {
  const json::value* v = json::Find(from, key);
  return v ? v->if_object() : nullptr;
}

std::string_view StringIn(const json::object& from, std::string_view key) {
  const json::value* v = json::Find(from, key);
  return v && v->is_string() ? std::string_view(v->get_string()) : std::string_view();
}

bool HasItems(const json::object& from, std::string_view key) {
  const json::value* v = json::Find(from, key);
  return v && v->is_array() && !v->get_array().empty();
}

void ReadUsage(const json::object& usage, EventFacts* facts) {
  facts->prompt_tokens = CountIn(usage, "prompt_tokens");
  facts->output_tokens = CountIn(usage, "completion_tokens");
  facts->cached_tokens = CountIn(usage, "cached_tokens");
  if (const json::object* details = ObjectIn(usage, "prompt_tokens_details")) {
    if (const auto cached = CountIn(*details, "cached_tokens")) facts->cached_tokens = cached;
  }
}

std::string MessageOf(const json::value& error) {
  if (error.is_string()) return std::string(error.get_string());
  if (!error.is_object()) return json::serialize(error).substr(0, 300);
  const std::string_view message = StringIn(error.get_object(), "message");
  return message.empty() ? json::serialize(error).substr(0, 300)
                         : std::string(message.substr(0, 300));
}

// A conversation for an API that knows only text.
std::string Flatten(const std::vector<Message>& messages) {
  std::string text;
  for (const Message& message : messages) {
    if (!text.empty() && !text.ends_with(' ')) text.push_back(' ');
    text += message.text;
  }
  return text;
}

Status SetPrompt(const BodyOptions& options, const std::vector<Message>& messages,
                 const Encoder& encoder, json::object* body) {
  const bool native = options.api == Api::kGenerate;
  std::string text = Flatten(messages);
  if (!options.send_ids) {
    (*body)[native ? "text" : "prompt"] = text;
    return Status::Ok();
  }
  if (!encoder)
    return Error(Code::kInvalidArgument, "token ids cannot be sent without a tokenizer");
  const auto ids = encoder(text);
  if (!ids.ok()) return ids.status();
  (*body)[native ? "input_ids" : "prompt"] = json::array(ids->begin(), ids->end());
  return Status::Ok();
}

json::array ChatMessages(const std::vector<Message>& messages) {
  json::array out;
  out.reserve(messages.size());
  for (const Message& m : messages) {
    out.push_back(json::object{{"role", m.from_user ? "user" : "assistant"}, {"content", m.text}});
  }
  return out;
}

}  // namespace

Result<Api> ParseApi(std::string_view text) {
  for (const std::string_view name : {"chat", "openai-chat", "sglang-oai-chat", "vllm-chat"}) {
    if (text == name) return Api::kChat;
  }
  for (const std::string_view name : {"completions", "openai", "sglang-oai", "vllm"}) {
    if (text == name) return Api::kCompletions;
  }
  for (const std::string_view name : {"generate", "sglang", "sglang-native"}) {
    if (text == name) return Api::kGenerate;
  }
  return Error(Code::kInvalidArgument,
               "--backend: \"{}\" is not chat (openai-chat, sglang-oai-chat, vllm-chat), "
               "completions (openai, "
               "sglang-oai, vllm) or generate (sglang)",
               text);
}

std::string_view ApiName(Api api) {
  switch (api) {
    case Api::kChat:
      return "chat";
    case Api::kCompletions:
      return "completions";
    case Api::kGenerate:
      return "generate";
  }
  return "?";
}

std::string_view DefaultPath(Api api) {
  switch (api) {
    case Api::kChat:
      return "/v1/chat/completions";
    case Api::kCompletions:
      return "/v1/completions";
    case Api::kGenerate:
      return "/generate";
  }
  return "/";
}

Result<std::string> MakeBody(const BodyOptions& options, const std::vector<Message>& messages,
                             int output_tokens, const Encoder& encoder) {
  json::object body;
  body["stream"] = options.stream;
  if (options.api == Api::kGenerate) {
    json::object sampling{{"max_new_tokens", output_tokens}, {"temperature", options.temperature}};
    if (options.ignore_eos) sampling["ignore_eos"] = true;
    body["sampling_params"] = std::move(sampling);
  } else {
    if (!options.model.empty()) body["model"] = options.model;
    body["max_tokens"] = output_tokens;
    body["temperature"] = options.temperature;
    if (options.ignore_eos) body["ignore_eos"] = true;
    if (options.stream) body["stream_options"] = json::object{{"include_usage", true}};
  }
  if (options.api == Api::kChat) {
    body["messages"] = ChatMessages(messages);
  } else if (Status s = SetPrompt(options, messages, encoder, &body); !s.ok()) {
    return s;
  }
  for (const auto& [key, value] : options.extra) body[key] = value;
  return json::serialize(body);
}

EventReader::EventReader(Api api)
    : api_(api), arena_(new unsigned char[kArenaBytes]), memory_(arena_.get(), kArenaBytes) {}

Result<EventFacts> EventReader::Read(std::string_view payload) {
  // The old event goes before its memory does.
  event_ = nullptr;
  parser_.reset();
  memory_.release();
  parser_.reset(&memory_);
  boost::system::error_code ec;
  parser_.write(payload.data(), payload.size(), ec);
  if (ec) return Error(Code::kDataCorrupt, "not JSON ({}): {:.120}", ec.message(), payload);
  EventFacts facts;
  // Taken over with its storage, not copied.
  std::destroy_at(&event_);
  std::construct_at(&event_, parser_.release());
  if (!event_.is_object())
    return Error(Code::kDataCorrupt, "{} where an object was expected", json::KindName(event_));
  const json::object& event = event_.get_object();
  if (const json::value* error = json::Find(event, "error")) {
    facts.error = MessageOf(*error);
    return facts;
  }
  const Status s = api_ == Api::kGenerate ? ReadNative(event, &facts) : ReadOpenAi(event, &facts);
  if (!s.ok()) return s;
  return facts;
}

Status EventReader::ReadOpenAi(const json::object& event, EventFacts* facts) const {
  if (const json::object* usage = ObjectIn(event, "usage")) ReadUsage(*usage, facts);
  const json::value* choices = json::Find(event, "choices");
  if (choices == nullptr || !choices->is_array()) {
    if (facts->output_tokens) return Status::Ok();
    return Error(Code::kDataCorrupt, "an answer without \"choices\"");
  }
  for (const json::value& item : choices->get_array()) {
    const json::object* choice = item.if_object();
    if (choice == nullptr)
      return Error(Code::kDataCorrupt, "a choice that is {}", json::KindName(item));
    if (!StringIn(*choice, "finish_reason").empty()) facts->finished = true;
    const json::object* delta = ObjectIn(*choice, "delta");
    if (delta == nullptr) delta = ObjectIn(*choice, "message");
    const std::string_view text = delta ? StringIn(*delta, "content") : StringIn(*choice, "text");
    if (!text.empty()) facts->text = text;
    const bool other =
        delta && (!StringIn(*delta, "reasoning_content").empty() ||
                  !StringIn(*delta, "reasoning").empty() || HasItems(*delta, "tool_calls"));
    facts->has_output |= other || !text.empty();
  }
  return Status::Ok();
}

Status EventReader::ReadNative(const json::object& event, EventFacts* facts) const {
  facts->text = StringIn(event, "text");
  facts->text_is_whole = true;
  facts->has_output = !facts->text.empty() || HasItems(event, "output_ids");
  const json::object* meta = ObjectIn(event, "meta_info");
  if (meta == nullptr) return Error(Code::kDataCorrupt, "an answer without \"meta_info\"");
  ReadUsage(*meta, facts);
  facts->finished = json::Find(*meta, "finish_reason") != nullptr;
  return Status::Ok();
}

std::string ErrorText(std::string_view body) {
  const auto parsed = json::Parse(body);
  if (parsed.ok() && parsed->is_object()) {
    const json::object& from = parsed->get_object();
    for (const std::string_view key : {"error", "message", "detail"}) {
      if (const json::value* found = json::Find(from, key)) return MessageOf(*found);
    }
  }
  return std::string(body.substr(0, 300));
}

}  // namespace baton::bench::serving
