// The workers: who they are, whether they may take requests, and who is using them.
//
// One lock guards everything; no call under it blocks or calls out. A request holds Leases: a lease
// counts as load, holds a breaker permit, and is told when its worker is found dead. Workers are
// shared_ptr because a lease may outlive the worker's removal from the list.
//
// With --dp-aware a worker whose /server_info names several data-parallel ranks is one process with so
// many logical workers, URL@rank: those are listed and chosen, each with a load and a breaker of its
// own, while configuration, metadata, health and the prober are the process's. Without ranks a worker
// is its own process.
//
// Thread-safe. Down callbacks run on the thread that reported, without the lock.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/status.h"
#include "http/client.h"
#include "router/breaker.h"
#include "router/dp_rank.h"
#include "router/health.h"
#include "router/metrics.h"
#include "router/options.h"
#include "router/policy.h"
#include "router/role_check.h"
#include "router/routing.h"
#include "router/worker_load.h"

namespace baton::router {

// What the worker says about itself; "" and absent when it does not.
struct WorkerMetadata {
  std::string model_path, served_model_name, disaggregation_mode, version;
  std::optional<int64_t> tp_size, dp_size;
  std::optional<int64_t> max_total_tokens;  // of KV
  std::optional<uint16_t> bootstrap_port;
  bool is_baton = false;  // knows our own routes
  std::string ModelId() const {
    if (!served_model_name.empty()) return served_model_name;
    return model_path.empty() ? "unknown" : model_path;
  }
};

// What an operator may set, and change by PUT /workers/{id}.
struct WorkerConfig {
  std::string url;
  Role role = Role::kRegular;
  std::optional<uint16_t> bootstrap_port;  // prefill only
  std::string api_key;                     // sent to the worker instead of the client's
  std::string model_id;
  int64_t priority = 50;
  double cost = 1.0;
  std::map<std::string, std::string> labels;
  bool disable_health_check = false;
};

class Registry;

class Worker {
 public:
  const std::string& id() const { return id_; }
  const std::string& url() const { return url_; }
  const http::Origin& origin() const { return origin_; }
  Role role() const { return role_; }
  int64_t rank() const { return rank_; }  // -1: it has no ranks, or stands for all of them
  // Of a rank; nullptr for a worker that is its own process.
  const std::shared_ptr<Worker>& process() const { return process_; }

 private:
  friend class Registry;
  friend class Lease;
  Worker(WorkerConfig config, http::Origin origin, std::string id, uint64_t order,
         const RouterOptions& options, WorkerMetrics metrics);
  Worker(std::shared_ptr<Worker> process, int64_t rank, uint64_t order, const RouterOptions& options,
         WorkerMetrics metrics);

  // Of processes: may it take requests, as far as health checks and its own words go?
  bool fit() const { return health_.healthy() && wrong_role_.empty(); }

  const std::string id_;
  const http::Origin origin_;
  const std::shared_ptr<Worker> process_;
  const int64_t rank_ = -1;
  const std::string url_;  // normal form of the origin, and @rank
  const Role role_;
  const uint64_t order_;
  const uint64_t hash_;  // of the URL
  const int64_t added_s_;  // Unix time
  const WorkerMetrics metrics_;
  // Guarded by Registry::mutex_. Of processes only:
  WorkerConfig config_;
  WorkerMetadata metadata_;
  HealthState health_;
  int64_t ranks_ = 0;     // logical workers that stand for this one; 0: itself
  size_t load_rows_ = 1;  // ranks in its last report of loads, or that it was given since
  bool told_ = false;     // metadata_ is of the running process
  std::string wrong_role_;  // RoleConflict of the running process, if a Baton server
  bool was_fit_ = false;
  // Of each:
  Breaker breaker_;
  LoadTracker reported_;
  int64_t load_ = 0;
  bool removed_ = false;
  bool draining_ = false;
  bool dead_ = false;  // removed, and known to have ended
  uint64_t next_watch_ = 0;
  metrics::Counter* selections_ = nullptr;  // of its role and model
  metrics::Gauge* pool_size_ = nullptr;
  std::unordered_map<uint64_t, std::function<void()>> watches_;
  std::function<void()> kick_;  // wakes the prober
};
using WorkerPtr = std::shared_ptr<Worker>;

// One request's use of one worker. Move-only; ends by Settle or by destruction (no outcome).
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept { *this = std::move(other); }
  Lease& operator=(Lease&& other) noexcept;
  ~Lease() { Settle(Breaker::Outcome::kNone); }

  explicit operator bool() const { return worker_ != nullptr; }
  const Worker& worker() const { return *worker_; }
  const WorkerPtr& worker_ptr() const { return worker_; }
  const std::string& api_key() const { return api_key_; }
  std::optional<uint16_t> bootstrap_port() const { return bootstrap_port_; }
  const DpRank& rank() const { return rank_; }

  // `down` runs when health checks declare the worker dead while the lease lives, on any thread; now,
  // when they have already.
  void Watch(std::function<void()> down);
  // Tells the breaker now; the load stays until Settle or destruction.
  void Report(Breaker::Outcome outcome);
  // Reports (unless reported already) and gives the worker back.
  void Settle(Breaker::Outcome outcome);

 private:
  friend class Registry;
  std::shared_ptr<Registry> registry_;
  WorkerPtr worker_;
  uint64_t epoch_ = 0;
  bool reported_ = false;
  uint64_t watch_ = 0;
  std::string api_key_;
  std::optional<uint16_t> bootstrap_port_;
  DpRank rank_;
};

// A copy of one worker's state for pages and answers.
struct WorkerView {
  WorkerPtr worker;
  WorkerConfig config;
  WorkerMetadata metadata;
  bool healthy = false;      // and of the role that it was added as
  std::string wrong_role;    // "", or why it is not
  bool was_healthy = false;  // once
  int64_t added_s = 0;       // Unix time
  bool draining = false;
  int64_t load = 0;
  Breaker::State breaker = Breaker::State::kClosed;
  LoadEstimate reported;
};

struct PoolCounts {
  size_t total = 0;
  size_t healthy = 0;
};

class Registry : public std::enable_shared_from_this<Registry> {
 public:
  Registry(const RouterOptions& options, RouterMetrics& metrics);

  // kInvalidArgument for a bad URL; kResourceExhausted when role and URL are there already.
  Result<WorkerPtr> Add(WorkerConfig config);
  // By id or URL (any normal form). kNotFound; kInvalidArgument for one rank of several. Running
  // requests go on; with `dead` they are told as by health checks that their worker is gone.
  Status Remove(std::string_view id_or_url, bool dead = false);
  // A draining worker takes no new requests, and does not count as healthy; running ones go on.
  Status SetDraining(std::string_view id_or_url, bool draining);
  Result<WorkerView> View(std::string_view id_or_url) const;
  Status Update(std::string_view id_or_url, const std::function<void(WorkerConfig&)>& change);

  // In order of registration.
  std::vector<WorkerView> List() const;
  // Each process once, where List has its ranks.
  std::vector<WorkerView> ListProcesses() const;
  PoolCounts Counts(Role role) const;
  bool IsHealthy(const WorkerPtr& worker) const;
  // At least one healthy worker of each role that a request needs.
  bool Ready() const;

  // Picks by the role's policy among workers that are healthy and whose breaker admits, avoiding
  // `avoid` while there is another choice, and passing over decode and regular workers whose free KV
  // cannot hold the prompt while others can. kUnavailable says how many there are and why not.
  // With a target: that worker or none; kNotFound when there is no such worker. Decode ranks that
  // cannot be combined with the rank of `prefill` are taken only when there is no other choice.
  Result<Lease> Acquire(Role role, const std::vector<WorkerPtr>& avoid, TimePoint now,
                        const Routing& routing, const DpRank& prefill = {});
  // Does any policy in use compare prompts?
  bool WantsPrompt() const;
  // Is every worker of some needed role, as far as it tells, at the limit of waiting requests or of
  // KV in use (options)? A role with a worker that does not tell is not full.
  bool WorkersFull(TimePoint now) const;

  // What a poll of the worker's load said; or that it got no answer (`failed`), or that the worker
  // has no such route. `by_rank` may be empty for a worker without ranks.
  void OnLoad(const WorkerPtr& worker, const LoadReport& report, const RankReports& by_rank, TimePoint now);
  void OnNoLoad(const WorkerPtr& worker, bool failed);
  // The workers' prefix caches were flushed.
  void ForgetPrefixes();
  size_t TreeMemory() const;

  // A request's connection to the worker failed. `gone`: it was refused or broke, so out at once and probed
  // now. Else none came about: as a failed probe, and the next one, now, decides.
  void OnConnectionFailure(const WorkerPtr& worker, bool gone, TimePoint now);

  // For the prober.
  struct ProbePlan {
    bool removed = false;
    bool enabled = true;
    TimePoint at{};
    Duration patience{};
    bool healthy = false;
    bool wants_info = false;  // its metadata are not known, or of a process before it
    std::string api_key;
  };
  ProbePlan NextProbe(const WorkerPtr& worker) const;
  void SetKick(const WorkerPtr& worker, std::function<void()> kick);
  // Wakes every prober, so that it looks whether it should end.
  void KickAll();
  void OnProbe(const WorkerPtr& worker, bool good, Duration took, TimePoint now);
  // The probe could not be made, for want of something on this machine: nothing is known, try again soon.
  void OnNoProbe(const WorkerPtr& worker, TimePoint now);
  // A worker that says another role than it was added as is not healthy until it says otherwise.
  void SetMetadata(const WorkerPtr& worker, WorkerMetadata metadata);

 private:
  friend class Lease;
  WorkerPtr FindLocked(std::string_view id_or_url) const;
  Result<WorkerPtr> TargetLocked(Role role, const TargetWorker& target) const;
  Policy& PolicyOf(Role role) { return *policies_[static_cast<size_t>(role)]; }
  LoadEstimate EstimateOf(const Worker& worker, TimePoint now) const;
  // Fills candidates_ and indices_.
  void Collect(Role role, const std::vector<WorkerPtr>& avoid, const Worker* only, const DpRank& prefill, TimePoint now);
  void DropFullWorkers(Role role, uint64_t prompt_bytes);
  Lease LeaseLocked(const WorkerPtr& worker);
  Status NobodyLocked(Role role, const Worker* only) const;
  void SettleLease(Lease& lease, Breaker::Outcome outcome, bool give_back);
  void ShowBreaker(Worker& worker, Breaker::State before);
  void OnLoadLocked(Worker& worker, LoadReport report, TimePoint now);
  static Worker& ProcessOf(Worker& worker) { return worker.process_ ? *worker.process_ : worker; }
  static const Worker& ProcessOf(const Worker& worker) { return worker.process_ ? *worker.process_ : worker; }
  static DpRank RankOf(const Worker& worker);
  WorkerView ViewLocked(const WorkerPtr& worker) const;
  // Calls visit(WorkerPtr) for each listed worker of the process.
  template <typename Visit>
  void ForEachOf(const WorkerPtr& process, const Visit& visit) const {
    if (process->ranks_ == 0) return visit(process);
    for (const WorkerPtr& w : workers_) {
      if (w->process_ == process) visit(w);
    }
  }
  // registry_ranks.cpp: lists as many ranks as the process says it has. Gives what is to be called
  // without the lock: requests on ranks that are gone are told.
  std::vector<std::function<void()>> ExpandLocked(const WorkerPtr& process);
  void EnlistLocked(const WorkerPtr& worker);
  void DelistLocked(const WorkerPtr& worker);
  // To the gauges, of each listed worker of the process.
  void ShowHealth(const WorkerPtr& process);
  void CheckRole(const WorkerPtr& process);
  // What it was and said is not known to be true of what comes up next at its address.
  void ForgetProcess(Worker& process);
  // Moves the worker's series to the name of the model that it serves.
  void ShowModel(Worker& worker);
  std::string NewId();

  const RouterOptions options_;
  RouterMetrics& metrics_;
  mutable std::mutex mutex_;
  std::vector<WorkerPtr> workers_;
  std::array<std::unique_ptr<Policy>, 3> policies_;       // by role
  std::mt19937_64 random_;
  uint64_t next_order_ = 0;
  std::vector<Candidate> candidates_;  // scratch of Acquire
  std::vector<size_t> indices_;
  struct Tally {
    size_t total = 0, unhealthy = 0, open = 0, draining = 0, wrong_role = 0;
  } tally_;  // of the last Collect
};

}  // namespace baton::router
