// The native /generate request.
#include "api/generate.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "api/request_parts.h"

namespace baton::api {
namespace {

// Every key that SGLang 0.5.9 and 0.5.23 take in sampling_params.
constexpr std::array<std::string_view, 29> kSamplingKeys = {
    "max_new_tokens", "min_new_tokens", "stop", "stop_token_ids", "stop_regex", "temperature", "top_p",
    "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "n",
    "json_schema", "regex", "ebnf", "structural_tag", "ignore_eos", "skip_special_tokens",
    "spaces_between_special_tokens", "no_stop_trim", "logit_bias", "custom_params",
    "stream_interval", "sampling_seed", "seed", "max_tokens", "min_tokens", "include_stop_str_in_output"};

std::optional<RequestError> ReadSampling(const json::value& from, SamplingParams& out) {
  if (!from.is_object()) {
    return MakeError("sampling_params", Error(Code::kInvalidArgument,
        "sampling_params must be an object, found {}", json::KindName(from)));
  }
  for (const auto& entry : from.get_object()) {
    if (std::find(kSamplingKeys.begin(), kSamplingKeys.end(), std::string_view(entry.key())) ==
        kSamplingKeys.end()) {
      return MakeError("sampling_params", Error(Code::kInvalidArgument,
          "unknown sampling parameter \"{}\"", std::string_view(entry.key())));
    }
  }
  FieldReader reader(from.get_object());
  ReadCommonSampling(reader, out);
  reader.Integer("max_tokens", out.max_new_tokens, 0);
  reader.Integer("max_new_tokens", out.max_new_tokens, 0);
  reader.Integer("min_tokens", out.min_new_tokens, 0);
  reader.Integer("min_new_tokens", out.min_new_tokens, 0);
  reader.Integer("n", out.n, 1, kMaxSamples);
  RefuseUnsupported(reader);
  return ErrorOf(reader);
}

// text | input_ids as one prompt or a list of them.
std::optional<RequestError> ReadPrompts(FieldReader& reader, std::vector<Prompt>& out, bool& is_list) {
  const json::value* text = reader.Take("text");
  const json::value* ids = reader.Take("input_ids");
  if (!text == !ids) {
    return MakeError("text", Status(Code::kInvalidArgument, text
        ? "give either text or input_ids, not both"
        : "one of text and input_ids is required"));
  }
  const json::value& given = text ? *text : *ids;
  const char* field = text ? "text" : "input_ids";
  is_list = given.is_array() && !given.get_array().empty() && (text || given.get_array()[0].is_array());
  if (text && given.is_array() && given.get_array().empty()) {
    return MakeError(field, Error(Code::kInvalidArgument, "text is an empty array"));
  }
  const json::array one{given};
  const json::array& list = is_list ? given.get_array() : one;
  if (list.size() > kMaxBatch) {
    return MakeError(field, Error(Code::kInvalidArgument, "a batch of {} prompts; at most {} are allowed",
                                  list.size(), kMaxBatch));
  }
  for (const json::value& v : list) {
    Prompt prompt;
    if (text) {
      if (!v.is_string()) {
        return MakeError(field, Error(Code::kInvalidArgument,
            "text must be a string or an array of strings, found {}", json::KindName(v)));
      }
      prompt.text = std::string(v.get_string());
    } else {
      auto parsed = AsTokenIds(v, "input_ids");
      if (!parsed.ok()) return MakeError(field, parsed.status());
      prompt.ids = std::move(*parsed);
    }
    out.push_back(std::move(prompt));
  }
  return std::nullopt;
}

// Element `i` when the field is a list (one entry per prompt), else the scalar itself.
const json::value* PerPrompt(FieldReader& reader, std::string_view key, size_t i, size_t prompts,
                             bool is_list) {
  const json::value* v = reader.Take(key);
  if (!v || !is_list || !v->is_array()) return v;
  if (v->get_array().size() != prompts) {
    reader.Fail(Error(Code::kInvalidArgument, "{} has {} entries for {} prompts", key,
                      v->get_array().size(), prompts), key);
    return nullptr;
  }
  return &v->get_array()[i];
}

void ReadLogprobs(FieldReader& reader, size_t i, size_t prompts, bool is_list, LogprobOptions& out) {
  // One object per prompt, so that the same typed readers serve scalars and lists.
  json::object mine;
  for (const char* key : {"return_logprob", "logprob_start_len", "top_logprobs_num"}) {
    if (const json::value* v = PerPrompt(reader, key, i, prompts, is_list)) mine[key] = *v;
  }
  if (const json::value* v = reader.Take("token_ids_logprob")) {
    const bool nested = v->is_array() && !v->get_array().empty() && v->get_array()[0].is_array();
    if (const json::value* one = nested ? PerPrompt(reader, "token_ids_logprob", i, prompts, is_list) : v) {
      mine["token_ids_logprob"] = *one;
    }
  }
  FieldReader item(mine);
  item.Bool("return_logprob", out.enabled);
  item.Integer("logprob_start_len", out.prompt_start, -1);
  item.Integer("top_logprobs_num", out.top, 0, kMaxTopLogprobs);
  item.TokenIds("token_ids_logprob", out.token_ids);
  if (!item.status().ok()) reader.Fail(item.status(), item.field());
}

std::string RidOf(FieldReader& reader, size_t i, size_t prompts, bool is_list) {
  const json::value* rid = PerPrompt(reader, "rid", i, prompts, is_list);
  if (!rid) return NewRequestId();
  if (!rid->is_string()) {
    reader.Wrong("rid", "a string or an array of strings", *rid);
    return {};
  }
  std::string text(rid->get_string());
  const json::value* whole = reader.Take("rid");
  return prompts > 1 && whole && whole->is_string() ? fmt::format("{}_{}", text, i) : text;
}

}  // namespace

std::optional<RequestError> ParseGenerate(const json::value& body, const SamplingParams& defaults,
                                          GenerateRequest& out) {
  if (!body.is_object()) {
    return MakeError("", Error(Code::kInvalidArgument, "the request body must be a JSON object, found {}",
                               json::KindName(body)));
  }
  FieldReader reader(body.get_object());
  RefuseUnsupported(reader);
  if (auto error = ErrorOf(reader)) return error;
  std::vector<Prompt> prompts;
  bool is_list = false;
  if (auto error = ReadPrompts(reader, prompts, is_list)) return error;
  reader.Bool("stream", out.stream);
  reader.Bool("return_text_in_logprobs", out.text_in_logprobs);

  for (size_t i = 0; i < prompts.size() && reader.status().ok(); ++i) {
    GenerateItem item;
    item.prompt = std::move(prompts[i]);
    item.sampling = defaults;
    if (const json::value* v = PerPrompt(reader, "sampling_params", i, prompts.size(), is_list)) {
      if (auto error = ReadSampling(*v, item.sampling)) return error;
    }
    ReadLogprobs(reader, i, prompts.size(), is_list, item.logprobs);
    item.rid = RidOf(reader, i, prompts.size(), is_list);
    const int samples = item.sampling.n;
    for (int s = 0; s < samples; ++s) {
      GenerateItem sample = item;
      sample.sampling.n = 1;
      if (samples > 1) {
        sample.rid = fmt::format("{}_{}", item.rid, s);
        if (sample.sampling.seed) *sample.sampling.seed += s;
      }
      out.items.push_back(std::move(sample));
    }
    if (out.items.size() > kMaxBatch) {
      return MakeError("n", Error(Code::kInvalidArgument, "more than {} sequences in one request", kMaxBatch));
    }
  }
  std::vector<Bootstrap> bootstraps;
  ReadBootstraps(reader, out.items.size(), bootstraps);
  for (size_t i = 0; i < bootstraps.size() && i < out.items.size(); ++i) {
    out.items[i].bootstrap = bootstraps[i];
  }
  out.is_list = is_list || out.items.size() > 1;
  ReadResume(reader, out.items.size(), out.stream, out.resume);
  for (size_t i = 0; out.resume && i < out.items.size(); ++i) {
    if (!out.resume->choices[i].id.empty()) out.items[i].rid = out.resume->choices[i].id;
  }
  return ErrorOf(reader);
}

}  // namespace baton::api
