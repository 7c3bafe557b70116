#include "server/prompts.h"

#include "tokenizer/render_chat.h"

namespace baton::server {
namespace {

// Everything after the final message's own text is cut, so that the model goes on with it.
Status CutAfterFinalMessage(const api::ChatRequest& chat, std::string& text) {
  const json::object& last = chat.messages.get_array().back().get_object();
  const json::value* content = json::Find(last, "content");
  if (content && content->is_array() && !content->get_array().empty()) {
    content = json::Find(content->get_array().back().get_object(), "text");
  }
  if (!content || !content->is_string() || last.at("role") != "assistant") {
    return Error(Code::kInvalidArgument, "continue_final_message needs an assistant message with text at the end");
  }
  std::string_view wanted = content->get_string();
  while (!wanted.empty() && (wanted.back() == ' ' || wanted.back() == '\n')) wanted.remove_suffix(1);
  const size_t at = text.rfind(wanted);
  if (at == std::string::npos) {
    return Error(Code::kInvalidArgument, "continue_final_message: the chat template changes the final message");
  }
  text.resize(at + wanted.size());
  return Status::Ok();
}

}  // namespace

Status CheckPromptLength(const Context& context, size_t tokens, const api::SamplingParams& sampling) {
  if (tokens == 0) return Error(Code::kInvalidArgument, "the prompt is empty: it must hold at least one token");
  const auto limit = static_cast<size_t>(context.engine->max_prompt_tokens());
  if (tokens > limit) {
    return Error(Code::kInvalidArgument, "the prompt has {} tokens but this server takes at most {} (context length "
                 "{}): shorten it", tokens, limit, context.engine->options().context_length);
  }
  const auto context_length = static_cast<size_t>(context.engine->options().context_length);
  if (sampling.max_new_tokens > 0 && tokens + sampling.max_new_tokens > context_length) {
    return Error(Code::kInvalidArgument, "{} prompt tokens and {} output tokens exceed the context length of {}: lower "
                 "max_tokens or shorten the prompt", tokens, sampling.max_new_tokens, context_length);
  }
  return Status::Ok();
}

Result<std::vector<int32_t>> TokenizePrompt(const Context& context, const api::Prompt& prompt,
                                            const api::SamplingParams& sampling) {
  std::vector<int32_t> ids;
  if (prompt.text) {
    if (!context.text.tokenizer) {
      return Error(Code::kInvalidArgument, "this server runs with --skip-tokenizer-init: send token ids, not text");
    }
    // A token is at least a byte short of 1/64 of text in any real vocabulary: refuse absurd sizes
    // before tokenizing them.
    const size_t limit = size_t{64} * context.engine->options().context_length + 1024;
    if (prompt.text->size() > limit) {
      return Error(Code::kInvalidArgument, "the prompt has {} bytes, far beyond the context length of {} tokens: "
                   "shorten it", prompt.text->size(), context.engine->options().context_length);
    }
    auto encoded = context.text.tokenizer->Encode(*prompt.text, {true, true});
    if (!encoded.ok()) return encoded.status();
    ids = std::move(*encoded);
  } else {
    ids = prompt.ids;
    const int vocab = context.engine->model_config().vocab;
    for (const int32_t id : ids) {
      if (id >= vocab) {
        return Error(Code::kInvalidArgument, "token id {} is outside of the vocabulary of {}", id, vocab);
      }
    }
  }
  if (Status s = CheckPromptLength(context, ids.size(), sampling); !s.ok()) return s;
  return ids;
}

Result<RenderedChat> RenderChat(const Context& context, const api::ChatRequest& chat) {
  if (!context.text.tokenizer) {
    return Error(Code::kInvalidArgument, "this server runs with --skip-tokenizer-init: chat needs a tokenizer; use /generate "
                 "with input_ids");
  }
  if (!context.text.chat_template) {
    return Error(Code::kInvalidArgument, "this model has no chat template: start the server with --chat-template, or use "
                 "/v1/completions");
  }
  tokenizer::ChatRenderInput input;
  input.messages = chat.messages;
  input.tools = chat.tools;
  input.add_generation_prompt = chat.add_generation_prompt && !chat.continue_final_message;
  input.extra = chat.template_kwargs;
  input.bos_token = context.text.bos_token;
  input.eos_token = context.text.eos_token;
  auto text = tokenizer::RenderChat(*context.text.chat_template, std::move(input));
  if (!text.ok()) return text.status();
  RenderedChat out{std::move(*text), {}};
  if (chat.continue_final_message) {
    if (Status s = CutAfterFinalMessage(chat, out.text); !s.ok()) return s;
  }
  auto ids = context.text.tokenizer->Encode(out.text, {false, true});
  if (!ids.ok()) return ids.status();
  out.ids = std::move(*ids);
  if (Status s = CheckPromptLength(context, out.ids.size(), chat.sampling); !s.ok()) return s;
  return out;
}

}  // namespace baton::server
