#include "tokenizer/chat_template.h"

#include <utility>

#include "tokenizer/jinja_budget.h"
#include "tokenizer/jinja_content.h"
#include "tokenizer/jinja_error.h"
#include "tokenizer/jinja_eval.h"
#include "tokenizer/jinja_parser.h"

namespace baton::tokenizer {
namespace {

jinja::Value ToValue(const json::value& v) {
  using jinja::Value;
  switch (v.kind()) {
    case boost::json::kind::null: return Value::MakeNone();
    case boost::json::kind::bool_: return Value(v.get_bool());
    case boost::json::kind::int64: return Value(v.get_int64());
    case boost::json::kind::uint64:
      if (v.get_uint64() > static_cast<uint64_t>(INT64_MAX)) {
        jinja::Throw(jinja::ErrorKind::kOverflow,
                     "the integer {} in the request does not fit in 64 bits", v.get_uint64());
      }
      return Value(static_cast<int64_t>(v.get_uint64()));
    case boost::json::kind::double_: return Value(v.get_double());
    case boost::json::kind::string: return Value::MakeString(std::string(v.get_string()));
    case boost::json::kind::array: {
      std::vector<Value> items;
      items.reserve(v.get_array().size());
      for (const json::value& item : v.get_array()) items.push_back(ToValue(item));
      return Value::MakeList(std::move(items));
    }
    case boost::json::kind::object: {
      jinja::DictItems items;
      items.reserve(v.get_object().size());
      for (const auto& [key, item] : v.get_object()) {
        items.emplace_back(Value::MakeString(std::string(key)), ToValue(item));
      }
      return Value::MakeDict(std::move(items));
    }
  }
  return Value::MakeNone();
}

// The template's own words stay as they are; everything else says what and where it is.
Status ToStatus(const jinja::TemplateError& error) {
  if (error.kind == jinja::ErrorKind::kRaised) return Status(Code::kInvalidArgument, error.message);
  return Error(Code::kInvalidArgument, "chat template, line {}: {}", error.line, error.message);
}

// Variables that transformers passes to every template come first, so that
// chat_template_kwargs can replace them.
void SetVariables(const ChatRenderInput& input, jinja::Interpreter& interpreter) {
  using jinja::Value;
  interpreter.SetVariable("messages", ToValue(input.messages));
  interpreter.SetVariable("tools", ToValue(input.tools));
  interpreter.SetVariable("documents", Value::MakeNone());
  interpreter.SetVariable("add_generation_prompt", Value(input.add_generation_prompt));
  interpreter.SetVariable("bos_token", Value::MakeString(input.bos_token));
  interpreter.SetVariable("eos_token", Value::MakeString(input.eos_token));
  for (const auto& [name, value] : input.extra) {
    interpreter.SetVariable(std::string(name), ToValue(value));
  }
}

}  // namespace

struct ChatTemplate::Impl {
  jinja::Template parsed;
  bool reads_parts = false;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::Parse(std::string_view source) {
  constexpr size_t kMaxSource = size_t{4} << 20;
  if (source.size() > kMaxSource) {
    return Error(Code::kInvalidArgument, "the chat template has {} bytes; at most {} are read",
                 source.size(), kMaxSource);
  }
  if (!json::IsValidUtf8(source)) {
    return Error(Code::kInvalidArgument, "the chat template is not valid UTF-8");
  }
  try {
    auto impl = std::make_unique<Impl>();
    impl->parsed = jinja::ParseTemplate(source);
    impl->reads_parts = jinja::ReadsContentParts(impl->parsed);
    return ChatTemplate(std::move(impl));
  } catch (const jinja::TemplateError& error) {
    return ToStatus(error);
  } catch (const std::exception& error) {
    return Error(Code::kInternal, "parsing the chat template: {}", error.what());
  }
}

bool ChatTemplate::reads_parts() const { return impl_->reads_parts; }

Result<std::string> ChatTemplate::Render(const ChatRenderInput& input,
                                         const RenderBounds& bounds) const {
  try {
    jinja::Budget budget({.steps = bounds.steps,
                          .live_bytes = bounds.memory_bytes,
                          .output_bytes = bounds.output_bytes});
    const jinja::BudgetScope scope(&budget);
    jinja::Interpreter interpreter(impl_->parsed, budget, input.now);
    SetVariables(input, interpreter);
    return interpreter.Render();
  } catch (const jinja::TemplateError& error) {
    return ToStatus(error);
  } catch (const std::exception& error) {
    return Error(Code::kInternal, "rendering the chat template: {}", error.what());
  }
}

}  // namespace baton::tokenizer
