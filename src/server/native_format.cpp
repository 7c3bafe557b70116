#include "server/native_format.h"

#include <algorithm>
#include <cmath>

#include "api/errors.h"

namespace baton::server {
namespace {

json::value TokenText(const NativeFormat& format, int32_t token) {
  if (!format.text_in_logprobs || !format.context.text.tokenizer) return nullptr;
  const int32_t ids[] = {token};
  return json::string(format.context.text.tokenizer->Decode(ids, false));
}

json::array Triple(const NativeFormat& format, float logprob, int32_t token) {
  json::value number = nullptr;
  if (!std::isnan(logprob)) number = std::isinf(logprob) ? -1e9 : static_cast<double>(logprob);
  return {std::move(number), token, TokenText(format, token)};
}

using Logprobs = std::span<const engine::TokenLogprob>;

json::array ChosenList(const NativeFormat& format, Logprobs logprobs) {
  json::array out;
  for (const auto& l : logprobs) out.push_back(Triple(format, l.logprob, l.token));
  return out;
}

json::array PairLists(const NativeFormat& format, Logprobs logprobs,
                      std::vector<std::pair<int32_t, float>> engine::TokenLogprob::*list) {
  json::array out;
  for (const auto& l : logprobs) {
    if (std::isnan(l.logprob)) {  // the first prompt token has no distribution
      out.push_back(nullptr);
      continue;
    }
    json::array row;
    for (const auto& [token, logprob] : l.*list) row.push_back(Triple(format, logprob, token));
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace

json::value NativeFinishReason(const Sequence& s) {
  switch (s.finish) {
    case engine::Finish::kRunning: return nullptr;
    case engine::Finish::kStop:
      if (!s.matched_text.empty()) return json::object{{"type", "stop"}, {"matched", s.matched_text}};
      return json::object{{"type", "stop"}, {"matched", s.matched_token}};
    case engine::Finish::kLength:
      return json::object{{"type", "length"}, {"length", s.output_ids.size()}};
    case engine::Finish::kAborted:
    case engine::Finish::kFailed: break;
  }
  json::object out{{"type", "abort"}, {"message", s.status.ok() ? "Abort" : s.status.message()}};
  out["status_code"] = api::HttpStatusOf(s.status.ok() ? Code::kCancelled : s.status.code());
  out["err_type"] = nullptr;
  return out;
}

json::object NativeFormat::Format(const Sequence& s, size_t from) const {
  json::object meta{{"id", s.rid}, {"finish_reason", NativeFinishReason(s)}, {"prompt_tokens", s.prompt_tokens},
                    {"weight_version", "default"}, {"total_retractions", s.retractions},
                    {"completion_tokens", s.output_ids.size()}, {"cached_tokens", s.cached_tokens}};
  // A prefill worker's finish is a formality: one token, then decode goes on.
  if (context.prefill && s.finish == engine::Finish::kLength) {
    meta["finish_reason"] = json::object{{"type", "length"}, {"length", 0}};
  }
  if (s.finish != engine::Finish::kRunning) meta["e2e_latency"] = Seconds(Now() - s.submitted_at);
  if (s.transfer) {
    meta["prefill_ms"] = s.transfer->prefill_ms;
    meta["kv_transfer_ms"] = s.transfer->transfer_ms;
    meta["kv_transfer_bytes"] = s.transfer->bytes;
  }
  if (logprobs) {
    const Logprobs prompt = s.prompt_logprobs;
    const Logprobs output = Logprobs(s.logprobs).subspan(std::min(from, s.logprobs.size()));
    meta["input_token_logprobs"] = ChosenList(*this, prompt);
    meta["output_token_logprobs"] = ChosenList(*this, output);
    if (top_logprobs > 0) {
      meta["input_top_logprobs"] = PairLists(*this, prompt, &engine::TokenLogprob::top);
      meta["output_top_logprobs"] = PairLists(*this, output, &engine::TokenLogprob::top);
    }
    if (token_ids_logprob) {
      meta["input_token_ids_logprobs"] = PairLists(*this, prompt, &engine::TokenLogprob::requested);
      meta["output_token_ids_logprobs"] = PairLists(*this, output, &engine::TokenLogprob::requested);
    }
  }
  json::array ids;
  for (size_t i = from; i < s.output_ids.size(); ++i) ids.push_back(s.output_ids[i]);
  return {{"text", s.text}, {"output_ids", std::move(ids)}, {"meta_info", std::move(meta)}};
}

}  // namespace baton::server
