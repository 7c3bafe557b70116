#include "router/worker_fields.h"

#include <algorithm>
#include <array>

namespace baton::router {
namespace {

constexpr std::array<std::string_view, 9> kFields = {
    "url", "worker_type", "bootstrap_port", "api_key", "model_id", "priority", "cost", "labels", "disable_health_check"};

Result<Role> ParseRole(bool pd, std::string_view name) {
  Role role;
  if (name == "prefill") role = Role::kPrefill;
  else if (name == "decode") role = Role::kDecode;
  else if (name == "regular" || (name.empty() && !pd)) role = Role::kRegular;
  else return Error(Code::kInvalidArgument, "worker_type must be {}", pd ? "prefill or decode" : "regular");
  if (pd == (role == Role::kRegular)) {
    return Error(Code::kInvalidArgument, "this router runs in {} mode: worker_type must be {}",
                 pd ? "PD" : "regular", pd ? "prefill or decode" : "regular");
  }
  return role;
}

}  // namespace

template <typename Is>
const json::value* FieldReader::Want(std::string_view key, std::string_view kind, const Is& is) {
  const json::value* v = json::Find(from_, key);
  if (!v) return nullptr;
  if (is(*v)) return v;
  if (status_.ok()) {
    status_ = Error(Code::kInvalidArgument, "{} must be {}, not {}", key, kind, json::KindName(*v));
  }
  return nullptr;
}

void FieldReader::Text(std::string_view key, std::string* out) {
  if (const json::value* v = Want(key, "a string", [](const json::value& x) { return x.is_string(); })) {
    *out = std::string_view(v->get_string());
  }
}

void FieldReader::Integer(std::string_view key, int64_t* out) {
  if (const json::value* v = Want(key, "an integer", [](const json::value& x) { return x.is_int64(); })) {
    *out = v->get_int64();
  }
}

void FieldReader::Number(std::string_view key, double* out) {
  if (const json::value* v = Want(key, "a number", [](const json::value& x) { return x.is_number(); })) {
    *out = v->to_number<double>();
  }
}

void FieldReader::Flag(std::string_view key, bool* out) {
  if (const json::value* v = Want(key, "a boolean", [](const json::value& x) { return x.is_bool(); })) {
    *out = v->get_bool();
  }
}

void FieldReader::TextMap(std::string_view key, std::map<std::string, std::string>* out) {
  const json::value* v = Want(key, "an object", [](const json::value& x) { return x.is_object(); });
  if (!v) return;
  out->clear();
  for (const auto& [name, value] : v->get_object()) {
    (*out)[std::string(name)] =
        value.is_string() ? std::string(value.get_string()) : json::serialize(value);
  }
}

Result<WorkerConfig> ReadNewWorker(bool pd, const json::object& body) {
  WorkerConfig config;
  std::string role;
  int64_t port = 0;
  FieldReader reader(body);
  reader.Text("url", &config.url);
  reader.Text("api_key", &config.api_key);
  reader.Text("model_id", &config.model_id);
  reader.Text("worker_type", &role);
  reader.Integer("bootstrap_port", &port);
  reader.Integer("priority", &config.priority);
  reader.Number("cost", &config.cost);
  reader.Flag("disable_health_check", &config.disable_health_check);
  reader.TextMap("labels", &config.labels);
  if (!reader.status().ok()) return reader.status();
  if (config.url.empty()) return Error(Code::kInvalidArgument, "url is missing");
  if (json::Find(body, "bootstrap_port")) {
    if (port < 1 || port > 65'535) return Error(Code::kInvalidArgument, "bootstrap_port {} is not in [1, 65535]", port);
    config.bootstrap_port = static_cast<uint16_t>(port);
  }
  const auto parsed = ParseRole(pd, role);
  if (!parsed.ok()) return parsed.status();
  config.role = *parsed;
  return config;
}

Status CheckKnownFields(const json::object& body) {
  for (const auto& [key, value] : body) {
    if (std::find(kFields.begin(), kFields.end(), std::string_view(key)) != kFields.end()) continue;
    return Error(Code::kInvalidArgument, "unknown field \"{}\"; known are {}", std::string_view(key), fmt::join(kFields, ", "));
  }
  return Status::Ok();
}

}  // namespace baton::router
