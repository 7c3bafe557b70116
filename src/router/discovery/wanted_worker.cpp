#include "router/discovery/wanted_worker.h"

#include <set>
#include <tuple>

namespace baton::router {
namespace {

auto Settings(const WantedWorker& w) {
  const WorkerConfig& c = w.config;
  return std::tie(w.draining, c.bootstrap_port, c.api_key, c.model_id, c.priority, c.cost, c.labels);
}

}  // namespace

WorkerChanges Compare(const std::map<std::string, WantedWorker>& have, const std::vector<WantedWorker>& wanted) {
  WorkerChanges changes;
  std::set<std::string_view> keys;
  for (const WantedWorker& w : wanted) {
    keys.insert(w.key);
    const auto found = have.find(w.key);
    if (found == have.end()) {
      if (!w.draining) changes.add.push_back(w);
    } else if (Settings(found->second) != Settings(w)) {
      changes.update.push_back(w);
    }
  }
  for (const auto& [key, worker] : have) {
    if (!keys.contains(key)) changes.remove.push_back(key);
  }
  return changes;
}

}  // namespace baton::router
