#include "server/openai_format.h"

#include <algorithm>
#include <cmath>

namespace baton::server {
namespace {

std::string TokenText(const Context& context, int32_t id) {
  if (!context.text.tokenizer) return std::to_string(id);
  const int32_t ids[] = {id};
  return context.text.tokenizer->Decode(ids, false);
}

json::array TokenByteArray(const Context& context, int32_t id) {
  json::array out;
  if (!context.text.tokenizer) return out;
  for (const unsigned char c : context.text.tokenizer->TokenBytes(id)) out.push_back(c);
  return out;
}

double Finite(float logprob) { return std::isfinite(logprob) ? logprob : -9999.0; }

json::object ChatEntry(const Context& context, int32_t token, float logprob) {
  return {{"token", TokenText(context, token)}, {"bytes", TokenByteArray(context, token)},
          {"logprob", Finite(logprob)}};
}

}  // namespace

json::value OpenAiFinishReason(const Sequence& s) {
  switch (s.finish) {
    case engine::Finish::kRunning: return nullptr;
    case engine::Finish::kStop: return "stop";
    case engine::Finish::kLength: return "length";
    case engine::Finish::kAborted:
    case engine::Finish::kFailed: return "abort";
  }
  return nullptr;
}

json::value MatchedStop(const Sequence& s) {
  if (!s.matched_text.empty()) return json::string(s.matched_text);
  if (s.matched_token >= 0) return s.matched_token;
  return nullptr;
}

json::object Usage(const Context& context, const Generation& generation, int samples_per_prompt, bool timings) {
  int64_t prompt = 0, output = 0, cached = 0;
  for (int i = 0; i < generation.size(); ++i) {
    if (i % samples_per_prompt == 0) {
      prompt += generation[i].prompt_tokens;
      cached += generation[i].cached_tokens;
    }
    output += static_cast<int64_t>(generation[i].output_ids.size());
  }
  json::object out{{"prompt_tokens", prompt}, {"total_tokens", prompt + output}, {"completion_tokens", output},
                   {"prompt_tokens_details", nullptr}, {"reasoning_tokens", 0}};
  if (context.options.enable_cache_report || timings) {
    out["prompt_tokens_details"] = json::object{{"cached_tokens", cached}};
  }
  if (timings && generation.size() > 0) {
    const Sequence& s = generation[0];
    json::object t{{"ttft_ms", Milliseconds(s.first_token_at - s.submitted_at)}, {"cached_tokens", s.cached_tokens}};
    if (s.output_ids.size() > 1) {
      t["tokens_per_s"] = (s.output_ids.size() - 1) / std::max(1e-9, Seconds(s.last_token_at - s.first_token_at));
    }
    if (s.transfer) {
      t["prefill_ms"] = s.transfer->prefill_ms;
      t["transfer_ms"] = s.transfer->transfer_ms;
      if (s.transfer->exposed_ms >= 0) t["transfer_exposed_ms"] = s.transfer->exposed_ms;
      t["transfer_bytes"] = s.transfer->bytes;
      t["provider"] = context.decode->fabric().provider;
    }
    out["baton"] = std::move(t);
  }
  return out;
}

json::object ChatLogprobs(const Context& context, const Sequence& s, size_t from, size_t to, int top) {
  json::array content;
  for (size_t i = from; i < std::min(to, s.logprobs.size()); ++i) {
    const engine::TokenLogprob& l = s.logprobs[i];
    json::object entry = ChatEntry(context, l.token, l.logprob);
    json::array others;
    for (int k = 0; k < top && k < static_cast<int>(l.top.size()); ++k) {
      others.push_back(ChatEntry(context, l.top[k].first, l.top[k].second));
    }
    entry["top_logprobs"] = std::move(others);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

json::object CompletionLogprobs(const Context& context, const Sequence& s, std::span<const int32_t> prompt,
                                size_t from, size_t to, int top, size_t offset) {
  json::array tokens, values, tops, offsets;
  const auto add = [&](const engine::TokenLogprob& l) {
    const std::string text = TokenText(context, l.token);
    tokens.push_back(json::string(text));
    offsets.push_back(offset);
    offset += text.size();
    if (std::isnan(l.logprob)) {
      values.push_back(nullptr);
      tops.push_back(nullptr);
      return;
    }
    values.push_back(Finite(l.logprob));
    json::object row;
    for (int k = 0; k < top && k < static_cast<int>(l.top.size()); ++k) {
      row[TokenText(context, l.top[k].first)] = Finite(l.top[k].second);
    }
    // OpenAI's answer always holds the chosen token too.
    if (top > 0) row.emplace(text, Finite(l.logprob));
    tops.push_back(std::move(row));
  };
  if (!prompt.empty()) {
    for (const auto& l : s.prompt_logprobs) add(l);
  }
  for (size_t i = from; i < std::min(to, s.logprobs.size()); ++i) add(s.logprobs[i]);
  json::object out{{"tokens", std::move(tokens)}, {"token_logprobs", std::move(values)}};
  if (top > 0) out["top_logprobs"] = std::move(tops);
  else out["top_logprobs"] = nullptr;
  out["text_offset"] = std::move(offsets);
  return out;
}

}  // namespace baton::server
