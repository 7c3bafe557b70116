#include "router/discovery/owned_workers.h"

#include "common/log.h"

namespace baton::router {

OwnedWorkers::OwnedWorkers(std::string source, std::shared_ptr<Registry> registry, RouterMetrics& metrics,
                           std::function<void(const WorkerPtr&)> added)
    : source_(std::move(source)),
      registry_(std::move(registry)),
      metrics_(metrics),
      added_(std::move(added)),
      gauge_(metrics.DiscoveredWorkers(source_)) {}

size_t OwnedWorkers::size() const {
  std::lock_guard lock(mutex_);
  return have_.size();
}

void OwnedWorkers::Apply(const std::vector<WantedWorker>& wanted, const std::set<std::string>& dead) {
  std::lock_guard lock(mutex_);
  const WorkerChanges changes = Compare(have_, wanted);
  const auto before = static_cast<double>(have_.size());
  for (const std::string& key : changes.remove) Remove(key, dead.contains(key));
  for (const WantedWorker& w : changes.update) Update(w);
  std::set<std::string> refused;
  for (const WantedWorker& w : changes.add) {
    Add(w);
    if (!have_.contains(w.key)) refused.insert(w.key);
  }
  refused_ = std::move(refused);
  gauge_->Add(static_cast<double>(have_.size()) - before);  // other owners may share the label
}

void OwnedWorkers::Add(const WantedWorker& wanted) {
  auto worker = registry_->Add(wanted.config);
  if (!worker.ok()) {
    // Asked for again at each Apply, since whoever has the URL may go; told once.
    if (refused_.contains(wanted.key)) return;
    const bool taken = worker.status().code() == Code::kResourceExhausted;
    metrics_.CountRegistration(source_, taken ? "duplicate" : "failed");
    log::warn("Worker {} of {} is not added: {}", wanted.config.url, source_, worker.status().message());
    return;
  }
  metrics_.CountRegistration(source_, "success");
  have_.emplace(wanted.key, wanted);
  worker_ids_[wanted.key] = (*worker)->id();
  added_(*worker);
}

void OwnedWorkers::Update(const WantedWorker& wanted) {
  have_[wanted.key] = wanted;
  const std::string& id = worker_ids_[wanted.key];
  const Status updated = registry_->Update(id, [&](WorkerConfig& config) {
    config.bootstrap_port = wanted.config.bootstrap_port;
    config.api_key = wanted.config.api_key;
    config.model_id = wanted.config.model_id;
    config.priority = wanted.config.priority;
    config.cost = wanted.config.cost;
    config.labels = wanted.config.labels;
  });
  if (updated.ok()) (void)registry_->SetDraining(id, wanted.draining);  // gone in between: removed by hand
}

void OwnedWorkers::Remove(const std::string& key, bool dead) {
  // kNotFound: it was removed by hand before.
  if (registry_->Remove(worker_ids_[key], dead).ok()) metrics_.CountDeregistration(source_);
  have_.erase(key);
  worker_ids_.erase(key);
}

}  // namespace baton::router
