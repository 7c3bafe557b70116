#include "router/generate_resume.h"

#include <utility>

namespace baton::router {
namespace {

bool IsNumber(const json::value* v, double wanted) {
  if (!v) return true;
  if (v->is_int64()) return static_cast<double>(v->get_int64()) == wanted;
  return v->is_double() && v->get_double() == wanted;
}

bool IsAbsentOrEmpty(const json::value* v) {
  return !v || (v->is_array() && v->get_array().empty()) || (v->is_string() && v->get_string().empty());
}

// Nothing in these depends on which tokens were outputs.
bool CanMove(const json::object& params) {
  for (const auto& [key, neutral] : {std::pair("frequency_penalty", 0.0), std::pair("presence_penalty", 0.0),
                                     std::pair("repetition_penalty", 1.0), std::pair("min_new_tokens", 0.0), std::pair("n", 1.0)}) {
    if (!IsNumber(json::Find(params, key), neutral)) return false;
  }
  for (const char* key : {"stop", "stop_regex", "json_schema", "regex", "ebnf", "structural_tag", "custom_params"}) {
    if (!IsAbsentOrEmpty(json::Find(params, key))) return false;
  }
  const json::value* temperature = json::Find(params, "temperature");
  return !json::Find(params, "sampling_seed") || (temperature && IsNumber(temperature, 0));
}

const json::object* ObjectAt(const json::object& from, std::string_view key) {
  const json::value* v = json::Find(from, key);
  return v && v->is_object() ? &v->get_object() : nullptr;
}

}  // namespace

std::optional<GenerateResume> GenerateResume::For(std::string_view body) {
  auto parsed = json::Parse(body);
  if (!parsed.ok() || !parsed->is_object()) return std::nullopt;
  GenerateResume out;
  out.request_ = std::move(parsed->get_object());
  const json::object& request = out.request_;
  const json::value* ids = json::Find(request, "input_ids");
  if (!ids || !ids->is_array() || ids->get_array().empty() || json::Find(request, "text")) return std::nullopt;
  for (const json::value& id : ids->get_array()) {
    if (!id.is_int64()) return std::nullopt;
  }
  const json::value* logprobs = json::Find(request, "return_logprob");
  if (logprobs && !(logprobs->is_bool() && !logprobs->get_bool())) return std::nullopt;
  if (const json::value* params = json::Find(request, "sampling_params")) {
    if (!params->is_object() || !CanMove(params->get_object())) return std::nullopt;
    if (const json::value* limit = json::Find(params->get_object(), "max_new_tokens")) {
      if (!limit->is_int64()) return std::nullopt;
      out.max_new_tokens_ = limit->get_int64();
    }
  }
  out.prompt_tokens_ = ids->get_array().size();
  return out;
}

void GenerateResume::Note(std::string_view payload) {
  if (payload.starts_with('{')) last_ = payload;
}

std::optional<GenerateResume::Progress> GenerateResume::Read(std::string_view payload) {
  const auto parsed = json::Parse(payload);
  if (!parsed.ok() || !parsed->is_object()) return std::nullopt;
  const json::object& event = parsed->get_object();
  const json::value* text = json::Find(event, "text");
  const json::value* ids = json::Find(event, "output_ids");
  const json::object* meta = ObjectAt(event, "meta_info");
  if (!text || !text->is_string() || !ids || !ids->is_array() || !meta) return std::nullopt;
  const json::value* count = json::Find(*meta, "completion_tokens");
  // Disjoint ids (--stream-output) look alike in the first event only: not enough to go on.
  if (!count || !count->is_int64() || count->get_int64() != static_cast<int64_t>(ids->get_array().size())) return std::nullopt;
  Progress out;
  out.text = text->get_string();
  for (const json::value& id : ids->get_array()) {
    if (!id.is_int64()) return std::nullopt;
    out.ids.push_back(id.get_int64());
  }
  const json::value* id = json::Find(*meta, "id");
  if (id && id->is_string()) out.id = id->get_string();
  return out;
}

bool GenerateResume::resumable() const {
  const auto progress = Read(last_);
  return progress && !progress->ids.empty() && static_cast<int64_t>(progress->ids.size()) < max_new_tokens_;
}

std::string GenerateResume::NextBody() {
  base_ = *Read(last_);
  json::object next = request_;
  json::array& ids = next.at("input_ids").get_array();
  for (const int64_t id : base_.ids) ids.push_back(id);
  if (!ObjectAt(next, "sampling_params")) next["sampling_params"] = json::object();
  next.at("sampling_params").get_object()["max_new_tokens"] = max_new_tokens_ - static_cast<int64_t>(base_.ids.size());
  return json::serialize(next);
}

std::string GenerateResume::Rewrite(std::string_view payload, int migrations) const {
  auto parsed = json::Parse(payload);
  const auto now = Read(payload);
  if (!now) return {};
  json::object& event = parsed->get_object();
  event["text"] = base_.text + now->text;
  json::array ids(base_.ids.begin(), base_.ids.end());
  for (const int64_t id : now->ids) ids.push_back(id);
  json::object& meta = event.at("meta_info").get_object();
  meta["completion_tokens"] = static_cast<int64_t>(ids.size());
  meta["prompt_tokens"] = static_cast<int64_t>(prompt_tokens_);
  if (!base_.id.empty()) meta["id"] = base_.id;
  json::value* reason = meta.if_contains("finish_reason");
  if (reason && reason->is_object() && reason->get_object().contains("length")) {
    reason->get_object()["length"] = static_cast<int64_t>(ids.size());
  }
  meta["baton_migrations"] = migrations;
  event["output_ids"] = std::move(ids);
  return json::serialize(event);
}

}  // namespace baton::router
