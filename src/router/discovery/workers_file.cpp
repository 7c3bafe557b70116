#include "router/discovery/workers_file.h"

#include <map>

#include "http/client.h"
#include "router/worker_fields.h"

namespace baton::router {
namespace {

Result<WorkerConfig> ReadEntry(const json::value& entry, bool pd) {
  if (!entry.is_object()) return Error(Code::kInvalidArgument, "must be an object, not {}", json::KindName(entry));
  if (Status s = CheckKnownFields(entry.get_object()); !s.ok()) return s;
  auto config = ReadNewWorker(pd, entry.get_object());
  if (!config.ok()) return config;
  auto origin = http::ParseOrigin(config->url);
  if (!origin.ok()) return origin.status();
  config->url = origin->ToString();
  return config;
}

}  // namespace

WantedWorker ListedWorker(WorkerConfig config) {
  WantedWorker w;
  w.key = fmt::format("{} {}{}", RoleName(config.role), config.url, config.disable_health_check ? " unchecked" : "");
  w.config = std::move(config);
  return w;
}

Result<std::vector<WantedWorker>> ReadWorkersFile(std::string_view path, std::string_view text, bool pd) {
  const auto parsed = json::ParseFile(path, text);
  if (!parsed.ok()) return parsed.status();
  const json::value* list = &*parsed;
  if (parsed->is_object()) {
    for (const auto& [key, value] : parsed->get_object()) {
      if (key != "workers") return Error(Code::kInvalidArgument, "{}: unknown field \"{}\"; the list is in \"workers\"", path, std::string_view(key));
    }
    list = parsed->get_object().if_contains("workers");
  }
  if (!list || !list->is_array()) {
    return Error(Code::kInvalidArgument, "{}: expected [WORKER, ...] or {{\"workers\": [WORKER, ...]}}", path);
  }
  std::vector<WantedWorker> workers;
  std::map<std::pair<Role, std::string>, size_t> seen;
  for (size_t i = 0; i < list->get_array().size(); ++i) {
    auto config = ReadEntry(list->get_array()[i], pd);
    if (!config.ok()) return config.status().Prefixed(fmt::format("{}: worker {} (counted from 1)", path, i + 1));
    const auto [first, fresh] = seen.emplace(std::pair(config->role, config->url), i);
    if (!fresh) {
      return Error(Code::kInvalidArgument, "{}: workers {} and {} (counted from 1) are both {} {}", path, first->second + 1,
                   i + 1, RoleName(config->role), config->url);
    }
    workers.push_back(ListedWorker(std::move(*config)));
  }
  return workers;
}

}  // namespace baton::router
