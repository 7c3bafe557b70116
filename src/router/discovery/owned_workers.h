// The registered workers of one source of discovery. Only these are ever changed or removed by it:
// workers of flags, of POST /workers and of other sources stay as they are, also when the source
// wants the same URL. A worker of ours that somebody removed by DELETE /workers stays away until the
// source has stopped wanting it. Thread-safe.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "router/discovery/wanted_worker.h"

namespace baton::router {

class OwnedWorkers {
 public:
  // `source` is the label in logs and metrics. `added` runs for every new worker (starts its prober).
  OwnedWorkers(std::string source, std::shared_ptr<Registry> registry, RouterMetrics& metrics,
               std::function<void(const WorkerPtr&)> added);

  // The whole set. Keys in `dead` are known to have ended: their running requests are told.
  void Apply(const std::vector<WantedWorker>& wanted, const std::set<std::string>& dead = {});
  size_t size() const;

 private:
  void Add(const WantedWorker& wanted);
  void Update(const WantedWorker& wanted);
  void Remove(const std::string& key, bool dead);

  const std::string source_;
  const std::shared_ptr<Registry> registry_;
  RouterMetrics& metrics_;
  const std::function<void(const WorkerPtr&)> added_;
  metrics::Gauge* const gauge_;
  mutable std::mutex mutex_;
  std::map<std::string, WantedWorker> have_;       // by key
  std::map<std::string, std::string> worker_ids_;  // by key
  std::set<std::string> refused_;                  // keys that were logged as not added
};

}  // namespace baton::router
