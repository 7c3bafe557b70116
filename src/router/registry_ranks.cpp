// The data-parallel ranks of a worker as logical workers (--dp-aware).
#include <algorithm>

#include "common/log.h"
#include "router/registry.h"

namespace baton::router {
namespace {

// Far above what SGLang is run with; a wrong number must not fill the memory.
constexpr int64_t kMaxRanks = 1024;

}  // namespace

DpRank Registry::RankOf(const Worker& worker) {
  const Worker& process = ProcessOf(worker);
  return {worker.rank_, std::max<int64_t>(process.ranks_, 1), HasOldRankMember(process.metadata_.version)};
}

void Registry::EnlistLocked(const WorkerPtr& worker) {
  // Policies want ascending order, and a worker that lost its ranks comes back with the one it had.
  const auto place = std::find_if(workers_.begin(), workers_.end(), [&](const WorkerPtr& w) { return w->order_ > worker->order_; });
  workers_.insert(place, worker);
  PolicyOf(worker->role_).Join(worker->order_);
  worker->metrics_.health->Set(ProcessOf(*worker).fit() ? 1 : 0);
  ShowModel(*worker);
}

void Registry::DelistLocked(const WorkerPtr& worker) {
  std::erase(workers_, worker);
  PolicyOf(worker->role_).Forget(worker->order_, true);
  worker->metrics_.health->Set(-1);
  worker->pool_size_->Add(-1);
  worker->pool_size_ = nullptr;
}

std::vector<std::function<void()>> Registry::ExpandLocked(const WorkerPtr& process) {
  std::vector<std::function<void()>> down;
  const int64_t told = process->metadata_.dp_size.value_or(1);
  if (told > kMaxRanks) {
    log::warn("Worker {} says that it has {} data-parallel ranks; above {} they are not told apart", process->url_, told, kMaxRanks);
  }
  const int64_t wanted = told > 1 && told <= kMaxRanks ? told : 0;
  const int64_t have = process->ranks_;
  if (wanted == have) return down;
  log::info("Worker has {} data-parallel ranks: worker_type={} url={} id={}", std::max<int64_t>(wanted, 1),
            RoleName(process->role_), process->url_, process->id_);
  if (have == 0) DelistLocked(process);
  std::vector<WorkerPtr> gone;
  for (const WorkerPtr& w : workers_) {
    if (w->process_ == process && w->rank_ >= wanted) gone.push_back(w);
  }
  // They ended with the process that had them.
  for (const WorkerPtr& w : gone) {
    w->removed_ = w->dead_ = true;
    for (const auto& [id, watch] : w->watches_) down.push_back(watch);
    DelistLocked(w);
  }
  process->ranks_ = wanted;
  process->load_rows_ = static_cast<size_t>(std::max<int64_t>(wanted, 1));
  for (int64_t rank = have; rank < wanted; ++rank) {
    const std::string url = fmt::format("{}@{}", process->url_, rank);
    EnlistLocked(WorkerPtr(new Worker(process, rank, next_order_++, options_, metrics_.ForWorker(url))));
  }
  if (wanted == 0) EnlistLocked(process);
  return down;
}

}  // namespace baton::router
