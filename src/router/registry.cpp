#include "router/registry.h"

#include <algorithm>

#include "common/log.h"

namespace baton::router {

namespace {

// Tokens kept free beside the prompt, as SGLang's --num-reserved-decode-tokens.
constexpr int64_t kReservedTokens = 512;
// Bytes of prompt per token: a low guess, so that a prompt is rather thought too long than too short.
constexpr uint64_t kBytesPerToken = 4;

// A report holds over two missed polls.
Duration KeepOf(const RouterOptions& options) {
  return std::max<Duration>(3 * options.load_poll_interval, std::chrono::seconds(2));
}

HealthRules RulesFor(const WorkerConfig& config, const RouterOptions& options) {
  HealthRules rules = options.health;
  rules.enabled &= !config.disable_health_check;
  return rules;
}

}  // namespace

Worker::Worker(WorkerConfig config, http::Origin origin, std::string id, uint64_t order,
               const RouterOptions& options, WorkerMetrics metrics)
    : id_(std::move(id)),
      origin_(std::move(origin)),
      url_(origin_.ToString()),
      role_(config.role),
      order_(order),
      hash_(HashText(url_)),
      added_s_(static_cast<int64_t>(UnixSeconds())),
      metrics_(metrics),
      config_(std::move(config)),
      health_(RulesFor(config_, options)),
      breaker_(options.breaker),
      reported_(KeepOf(options)) {
  was_fit_ = fit();
  metrics_.health->Set(fit() ? 1 : 0);
}

Worker::Worker(std::shared_ptr<Worker> process, int64_t rank, uint64_t order, const RouterOptions& options,
               WorkerMetrics metrics)
    : id_(fmt::format("{}@{}", process->id_, rank)),
      origin_(process->origin_),
      process_(std::move(process)),
      rank_(rank),
      url_(fmt::format("{}@{}", process_->url_, rank)),
      role_(process_->role_),
      order_(order),
      hash_(HashText(url_)),
      added_s_(process_->added_s_),
      metrics_(metrics),
      health_(options.health),
      breaker_(options.breaker),
      reported_(KeepOf(options)) {
  metrics_.health->Set(process_->fit() ? 1 : 0);
}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this == &other) return *this;
  Settle(Breaker::Outcome::kNone);
  registry_ = std::move(other.registry_);
  worker_ = std::move(other.worker_);
  epoch_ = other.epoch_;
  reported_ = other.reported_;
  watch_ = std::exchange(other.watch_, 0);
  api_key_ = std::move(other.api_key_);
  bootstrap_port_ = other.bootstrap_port_;
  rank_ = other.rank_;
  other.worker_.reset();
  return *this;
}

void Lease::Watch(std::function<void()> down) {
  {
    std::lock_guard lock(registry_->mutex_);
    if (!worker_->dead_ && !Registry::ProcessOf(*worker_).health_.dead()) {
      watch_ = ++worker_->next_watch_;
      worker_->watches_.emplace(watch_, std::move(down));
      return;
    }
  }
  down();  // it died between Acquire and now: nobody would tell
}

void Lease::Report(Breaker::Outcome outcome) {
  if (worker_ && !reported_) registry_->SettleLease(*this, outcome, false);
}

void Lease::Settle(Breaker::Outcome outcome) {
  if (!worker_) return;
  registry_->SettleLease(*this, outcome, true);
  worker_.reset();
  registry_.reset();
}

Registry::Registry(const RouterOptions& options, RouterMetrics& metrics)
    : options_(options), metrics_(metrics), random_(std::random_device{}()) {
  for (Role role : {Role::kRegular, Role::kPrefill, Role::kDecode}) {
    const PolicyKind kind = role == Role::kPrefill ? options.prefill_policy : options.decode_policy;
    policies_[static_cast<size_t>(role)] = std::make_unique<Policy>(kind, random_(), options.policy);
  }
}

// A random UUID, version 4 (RFC 4122 section 4.4).
std::string Registry::NewId() {
  const uint64_t a = random_(), b = random_();
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xFFFF, a & 0xFFF,
                     0x8000 | (b >> 50), b & 0xFFFF'FFFF'FFFF);
}

Result<WorkerPtr> Registry::Add(WorkerConfig config) {
  auto origin = http::ParseOrigin(config.url);
  if (!origin.ok()) return origin.status();
  const std::string url = origin->ToString();
  std::lock_guard lock(mutex_);
  for (const WorkerPtr& w : workers_) {
    if (ProcessOf(*w).url_ == url && w->role_ == config.role) {
      return Error(Code::kResourceExhausted, "{} worker {} is registered already", RoleName(w->role_), url);
    }
  }
  config.url = url;
  if (config.api_key.empty()) config.api_key = options_.api_key;
  const Role role = config.role;
  WorkerPtr worker(new Worker(std::move(config), std::move(*origin), NewId(), next_order_++,
                              options_, metrics_.ForWorker(url)));
  EnlistLocked(worker);
  log::info("Worker registered: worker_type={} url={} id={}", RoleName(role), url, worker->id_);
  return worker;
}

WorkerPtr Registry::FindLocked(std::string_view id_or_url) const {
  std::string url;
  const auto ranked = options_.dp_aware ? SplitRankedUrl(id_or_url) : std::nullopt;
  if (auto origin = http::ParseOrigin(ranked ? ranked->url : id_or_url); origin.ok()) url = origin->ToString();
  if (ranked && !url.empty()) url += fmt::format("@{}", ranked->rank);
  for (const WorkerPtr& w : workers_) {
    if (w->id_ == id_or_url || w->url_ == url) return w;
    if (w->process_ && (w->process_->id_ == id_or_url || w->process_->url_ == url)) return w->process_;
  }
  return nullptr;
}

Status Registry::Remove(std::string_view id_or_url, bool dead) {
  std::function<void()> kick;
  std::vector<std::function<void()>> down;
  {
    std::lock_guard lock(mutex_);
    const WorkerPtr worker = FindLocked(id_or_url);
    if (!worker) return Error(Code::kNotFound, "no worker {}", id_or_url);
    if (worker->process_) {
      return Error(Code::kInvalidArgument, "{} is one rank of {}, which can be removed only as a whole", worker->url_,
                   worker->process_->url_);
    }
    worker->removed_ = true;
    kick = std::move(worker->kick_);
    worker->kick_ = nullptr;
    std::vector<WorkerPtr> listed;
    ForEachOf(worker, [&](const WorkerPtr& w) { listed.push_back(w); });
    worker->dead_ = dead;
    for (const WorkerPtr& w : listed) {
      w->removed_ = true;
      w->dead_ = dead;
      if (dead) {
        for (const auto& [id, watch] : w->watches_) down.push_back(watch);
      }
      DelistLocked(w);
    }
    log::info("Worker removed: worker_type={} url={} id={}", RoleName(worker->role_), worker->url_,
              worker->id_);
  }
  if (kick) kick();
  for (const auto& notify : down) notify();
  return Status::Ok();
}

Status Registry::SetDraining(std::string_view id_or_url, bool draining) {
  std::lock_guard lock(mutex_);
  const WorkerPtr w = FindLocked(id_or_url);
  if (!w) return Error(Code::kNotFound, "no worker {}", id_or_url);
  if (std::exchange(w->draining_, draining) != draining) {
    log::info("Worker {}: worker_type={} url={} id={}", draining ? "draining" : "takes requests again",
              RoleName(w->role_), w->url_, w->id_);
  }
  return Status::Ok();
}

WorkerView Registry::ViewLocked(const WorkerPtr& w) const {
  const Worker& p = ProcessOf(*w);
  WorkerView view{w, p.config_, p.metadata_, p.fit(), p.wrong_role_, p.was_fit_, p.added_s_, p.draining_ || w->draining_,
                  w->load_, w->breaker_.state(), EstimateOf(*w, Now())};
  if (p.ranks_ > 0 && &p == w.get()) {
    ForEachOf(w, [&](const WorkerPtr& rank) { view.load += rank->load_; });
  }
  return view;
}

Result<WorkerView> Registry::View(std::string_view id_or_url) const {
  std::lock_guard lock(mutex_);
  const WorkerPtr w = FindLocked(id_or_url);
  if (!w) return Error(Code::kNotFound, "no worker {}", id_or_url);
  return ViewLocked(w);
}

Status Registry::Update(std::string_view id_or_url,
                        const std::function<void(WorkerConfig&)>& change) {
  std::lock_guard lock(mutex_);
  const WorkerPtr w = FindLocked(id_or_url);
  if (!w) return Error(Code::kNotFound, "no worker {}", id_or_url);
  const WorkerPtr process = w->process_ ? w->process_ : w;
  change(process->config_);
  if (process->config_.api_key.empty()) process->config_.api_key = options_.api_key;
  ForEachOf(process, [&](const WorkerPtr& listed) { ShowModel(*listed); });
  return Status::Ok();
}

std::vector<WorkerView> Registry::List() const {
  std::lock_guard lock(mutex_);
  std::vector<WorkerView> views;
  views.reserve(workers_.size());
  for (const WorkerPtr& w : workers_) views.push_back(ViewLocked(w));
  return views;
}

std::vector<WorkerView> Registry::ListProcesses() const {
  std::lock_guard lock(mutex_);
  std::vector<WorkerView> views;
  for (const WorkerPtr& w : workers_) {
    if (w->rank_ <= 0) views.push_back(ViewLocked(w->process_ ? w->process_ : w));
  }
  return views;
}

PoolCounts Registry::Counts(Role role) const {
  std::lock_guard lock(mutex_);
  PoolCounts counts;
  for (const WorkerPtr& w : workers_) {
    if (w->role_ != role) continue;
    const Worker& p = ProcessOf(*w);
    ++counts.total;
    counts.healthy += p.fit() && !p.draining_ && !w->draining_;
  }
  return counts;
}

bool Registry::IsHealthy(const WorkerPtr& worker) const {
  std::lock_guard lock(mutex_);
  return ProcessOf(*worker).fit() && !worker->dead_;
}

bool Registry::Ready() const {
  if (!options_.pd_disaggregation) return Counts(Role::kRegular).healthy > 0;
  return Counts(Role::kPrefill).healthy > 0 && Counts(Role::kDecode).healthy > 0;
}

LoadEstimate Registry::EstimateOf(const Worker& w, TimePoint now) const {
  return w.reported_.Estimate(w.load_, now);
}

void Registry::Collect(Role role, const std::vector<WorkerPtr>& avoid, const Worker* only,
                       const DpRank& prefill, TimePoint now) {
  candidates_.clear();
  indices_.clear();
  tally_ = {};
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& w = *workers_[i];
    const Worker& p = ProcessOf(w);
    if (w.role_ != role || (only && only != &w && only != &p)) continue;
    if (prefill.given() && prefill.rank < p.ranks_ && !Combine(prefill, RankOf(w))) continue;
    ++tally_.total;
    if (p.draining_ || w.draining_) {
      ++tally_.draining;
      continue;
    }
    if (!p.wrong_role_.empty()) {
      ++tally_.wrong_role;
      continue;
    }
    if (!p.health_.healthy()) {
      ++tally_.unhealthy;
      continue;
    }
    const Breaker::State before = w.breaker_.state();
    const bool admits = w.breaker_.Admits(now);
    if (w.breaker_.state() != before) ShowBreaker(w, before);
    if (!admits) {
      ++tally_.open;
      continue;
    }
    if (std::find(avoid.begin(), avoid.end(), workers_[i]) != avoid.end()) continue;
    candidates_.push_back({w.order_, w.load_, w.hash_, EstimateOf(w, now)});
    indices_.push_back(i);
  }
}

// A decode worker without room for the prompt would keep it waiting behind everything that runs.
void Registry::DropFullWorkers(Role role, uint64_t prompt_bytes) {
  if (role == Role::kPrefill || candidates_.size() < 2) return;
  const int64_t need = static_cast<int64_t>(prompt_bytes / kBytesPerToken) + kReservedTokens;
  const auto full = [&](const Candidate& c) {
    return c.reported.free_tokens >= 0 && c.reported.free_tokens < need;
  };
  const auto count = std::count_if(candidates_.begin(), candidates_.end(), full);
  if (count == 0 || count == static_cast<ptrdiff_t>(candidates_.size())) return;
  size_t kept = 0;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (full(candidates_[i])) continue;
    candidates_[kept] = candidates_[i];
    indices_[kept++] = indices_[i];
  }
  candidates_.resize(kept);
  indices_.resize(kept);
}

Result<WorkerPtr> Registry::TargetLocked(Role role, const TargetWorker& target) const {
  if (!target.name.empty()) {
    const WorkerPtr named = FindLocked(target.name);
    if (!named) {
      return Error(Code::kNotFound, "x-smg-target-worker: no worker has the id or URL '{}'", target.name);
    }
    return named->role_ == role ? named : WorkerPtr();  // the other role is free to choose
  }
  const auto index = role == Role::kPrefill ? target.prefill : target.other;
  if (!index) return WorkerPtr();
  size_t seen = 0;
  for (const WorkerPtr& w : workers_) {
    if (w->role_ == role && seen++ == *index) return w;
  }
  return Error(Code::kNotFound, "x-smg-target-worker: there is no {} worker {}; {} are registered, counted from 0",
               RoleName(role), *index, seen);
}

Lease Registry::LeaseLocked(const WorkerPtr& worker) {
  worker->breaker_.Admit();
  worker->metrics_.active->Set(static_cast<double>(++worker->load_));
  worker->selections_->Add();
  Lease lease;
  lease.registry_ = shared_from_this();
  lease.worker_ = worker;
  lease.epoch_ = worker->breaker_.epoch();
  const Worker& process = ProcessOf(*worker);
  lease.api_key_ = process.config_.api_key;
  lease.bootstrap_port_ = process.config_.bootstrap_port ? process.config_.bootstrap_port
                                                         : process.metadata_.bootstrap_port;
  if (options_.dp_aware) lease.rank_ = RankOf(*worker);
  return lease;
}

Status Registry::NobodyLocked(Role role, const Worker* only) const {
  if (only) {
    return Error(Code::kUnavailable, "x-smg-target-worker: {} worker {} is {} now", RoleName(role),
                 only->url_, tally_.draining     ? "draining"
                             : tally_.wrong_role ? "of another role than it says itself"
                             : tally_.unhealthy  ? "unhealthy"
                                                 : "behind an open breaker");
  }
  return Error(Code::kUnavailable,
               "no {} worker can take the request: {} registered, {} unhealthy, {} with an open breaker, {} draining{}",
               RoleName(role), tally_.total, tally_.unhealthy, tally_.open, tally_.draining,
               tally_.wrong_role ? fmt::format(", {} of another role than they say themselves (see /workers)", tally_.wrong_role) : "");
}

Result<Lease> Registry::Acquire(Role role, const std::vector<WorkerPtr>& avoid, TimePoint now,
                                const Routing& routing, const DpRank& prefill) {
  static const std::vector<WorkerPtr> kNobody;
  Policy& policy = PolicyOf(role);
  const PickHints hints = routing.HintsAt(now);
  Policy::Matches matches;
  policy.Look(hints, &matches);
  Lease lease;
  {
    std::lock_guard lock(mutex_);
    WorkerPtr target;
    if (routing.target.given()) {
      auto found = TargetLocked(role, routing.target);
      if (!found.ok()) return found.status();
      target = std::move(*found);
    }
    // Of a worker with ranks a target may name one, or leave the choice among them.
    const bool one = target && target->ranks_ == 0;
    const std::vector<WorkerPtr>& avoided = one ? kNobody : avoid;
    if (!one && prefill.given()) Collect(role, avoided, target.get(), prefill, now);
    if (one || !prefill.given() || candidates_.empty()) Collect(role, avoided, target.get(), {}, now);
    if (candidates_.empty() && !avoid.empty()) Collect(role, kNobody, target.get(), {}, now);
    if (candidates_.empty()) return NobodyLocked(role, target.get());
    DropFullWorkers(role, routing.prompt_bytes);
    const size_t picked = one ? 0 : policy.Pick(candidates_, hints, matches);
    lease = LeaseLocked(workers_[indices_[picked]]);
  }
  policy.Placed(hints, lease.worker_->order_);
  return lease;
}

bool Registry::WantsPrompt() const {
  const auto wants = [&](Role role) { return router::WantsPrompt(policies_[static_cast<size_t>(role)]->kind()); };
  if (!options_.pd_disaggregation) return wants(Role::kRegular);
  return wants(Role::kPrefill) || wants(Role::kDecode);
}

bool Registry::WorkersFull(TimePoint now) const {
  std::lock_guard lock(mutex_);
  const auto full = [&](Role role) {
    bool any = false;
    for (const WorkerPtr& w : workers_) {
      if (w->role_ != role || !ProcessOf(*w).fit() || ProcessOf(*w).draining_ || w->draining_) continue;
      const LoadEstimate load = EstimateOf(*w, now);
      const bool queued = options_.worker_queue_limit > 0 && load.fresh && load.waiting >= options_.worker_queue_limit;
      const bool no_kv = options_.worker_kv_limit > 0 && load.fresh && load.usage >= options_.worker_kv_limit;
      if (!queued && !no_kv) return false;
      any = true;
    }
    return any;
  };
  if (!options_.pd_disaggregation) return full(Role::kRegular);
  return full(Role::kPrefill) || full(Role::kDecode);
}

void Registry::OnLoadLocked(Worker& worker, LoadReport report, TimePoint now) {
  if (!report.capacity) report.capacity = ProcessOf(worker).metadata_.max_total_tokens;
  worker.reported_.OnReport(report, worker.load_, now);
  worker.metrics_.reported_tokens->Set(static_cast<double>(report.tokens));
  worker.metrics_.reported_waiting->Set(static_cast<double>(report.waiting));
}

void Registry::OnLoad(const WorkerPtr& worker, const LoadReport& report, const RankReports& by_rank, TimePoint now) {
  std::lock_guard lock(mutex_);
  // Restarted with another number of ranks between two health checks.
  if (options_.dp_aware && worker->load_rows_ != by_rank.size()) worker->told_ = false;
  worker->load_rows_ = by_rank.size();
  ForEachOf(worker, [&](const WorkerPtr& w) {
    if (w->rank_ < 0) return OnLoadLocked(*w, report, now);
    const auto rank = static_cast<size_t>(w->rank_);
    if (rank < by_rank.size() && by_rank[rank]) OnLoadLocked(*w, *by_rank[rank], now);
    else w->reported_.Reset();
  });
}

void Registry::OnNoLoad(const WorkerPtr& worker, bool failed) {
  std::lock_guard lock(mutex_);
  ForEachOf(worker, [&](const WorkerPtr& w) { failed ? w->reported_.OnFailure() : w->reported_.Reset(); });
}

void Registry::ForgetPrefixes() {
  std::lock_guard lock(mutex_);
  for (const WorkerPtr& w : workers_) PolicyOf(w->role_).Forget(w->order_, false);
}

size_t Registry::TreeMemory() const {
  size_t sum = 0;
  for (const auto& policy : policies_) sum += policy->TreeMemory();
  return sum;
}

void Registry::ShowModel(Worker& w) {
  const Worker& p = ProcessOf(w);
  const std::string model = p.config_.model_id.empty() ? p.metadata_.ModelId() : p.config_.model_id;
  metrics_.KnowModel(model);
  if (w.pool_size_) w.pool_size_->Add(-1);
  w.pool_size_ = metrics_.PoolSize(RoleName(w.role_), model);
  w.pool_size_->Add(1);
  w.selections_ = metrics_.Selections(RoleName(w.role_), model, PolicyName(PolicyOf(w.role_).kind()));
}

void Registry::ShowBreaker(Worker& w, Breaker::State before) {
  const Breaker::State after = w.breaker_.state();
  w.metrics_.breaker_failures->Set(w.breaker_.consecutive_failures());
  w.metrics_.breaker_successes->Set(static_cast<double>(w.breaker_.consecutive_successes()));
  if (after == before) return;
  w.metrics_.breaker_state->Set(static_cast<double>(after));
  metrics_.CountBreakerTransition(w.url_, BreakerStateName(before), BreakerStateName(after));
  log::warn("Breaker of {} worker {}: {} -> {}", RoleName(w.role_), w.url_,
            BreakerStateName(before), BreakerStateName(after));
}

void Registry::SettleLease(Lease& lease, Breaker::Outcome outcome, bool give_back) {
  std::lock_guard lock(mutex_);
  Worker& w = *lease.worker_;
  if (!lease.reported_) {
    const Breaker::State before = w.breaker_.state();
    w.breaker_.Settle(outcome, lease.epoch_, Now());
    if (outcome == Breaker::Outcome::kSuccess) w.metrics_.outcomes_good->Add();
    if (outcome == Breaker::Outcome::kFailure) w.metrics_.outcomes_bad->Add();
    if (outcome != Breaker::Outcome::kNone || w.breaker_.state() != before) ShowBreaker(w, before);
    lease.reported_ = true;
  }
  if (!give_back) return;
  if (lease.watch_) w.watches_.erase(lease.watch_);
  w.metrics_.active->Set(static_cast<double>(--w.load_));
}

void Registry::ShowHealth(const WorkerPtr& process) {
  process->was_fit_ |= process->fit();
  ForEachOf(process, [&](const WorkerPtr& w) { w->metrics_.health->Set(process->fit() ? 1 : 0); });
}

void Registry::ForgetProcess(Worker& process) {
  process.told_ = false;
  process.wrong_role_.clear();
}

void Registry::CheckRole(const WorkerPtr& process) {
  std::string conflict = RoleConflict(process->role_, process->url_, process->metadata_.disaggregation_mode);
  // Of other engines, and of stand-ins that say one mode for all roles, we do not know what they mean.
  if (!conflict.empty() && !process->metadata_.is_baton) {
    log::warn("{} (it gets requests all the same)", conflict);
    conflict.clear();
  }
  const std::string before = std::exchange(process->wrong_role_, std::move(conflict));
  if (process->wrong_role_ == before) return;
  ShowHealth(process);
  if (!process->wrong_role_.empty()) log::error("Worker takes no requests: {}", process->wrong_role_);
  else log::info("Worker says the role that it was added as: worker_type={} url={}", RoleName(process->role_), process->url_);
}

void Registry::OnConnectionFailure(const WorkerPtr& worker, bool gone, TimePoint now) {
  std::function<void()> kick;
  {
    std::lock_guard lock(mutex_);
    if (worker->removed_) return;
    const WorkerPtr process = worker->process_ ? worker->process_ : worker;
    if (process->health_.OnConnectionFailure(gone, now)) {
      ForgetProcess(*process);
      ShowHealth(process);
      log::warn("Worker out after a failed connection: worker_type={} url={}",
                RoleName(process->role_), process->url_);
    }
    kick = process->kick_;
  }
  if (kick) kick();
}

Registry::ProbePlan Registry::NextProbe(const WorkerPtr& worker) const {
  std::lock_guard lock(mutex_);
  const Worker& process = ProcessOf(*worker);
  ProbePlan plan;
  plan.removed = process.removed_;
  plan.enabled = options_.health.enabled && !process.config_.disable_health_check;
  plan.at = process.health_.next_probe();
  plan.patience = process.health_.patience();
  plan.healthy = process.fit();
  plan.wants_info = !plan.healthy || !process.told_;
  plan.api_key = process.config_.api_key;
  return plan;
}

void Registry::SetKick(const WorkerPtr& worker, std::function<void()> kick) {
  std::lock_guard lock(mutex_);
  if (!worker->removed_) worker->kick_ = std::move(kick);
}

void Registry::KickAll() {
  std::vector<std::function<void()>> kicks;
  {
    std::lock_guard lock(mutex_);
    for (const WorkerPtr& w : workers_) {
      if (w->rank_ <= 0 && ProcessOf(*w).kick_) kicks.push_back(ProcessOf(*w).kick_);
    }
  }
  for (const auto& kick : kicks) kick();
}

void Registry::OnProbe(const WorkerPtr& worker, bool good, Duration took, TimePoint now) {
  std::vector<std::function<void()>> down;
  {
    std::lock_guard lock(mutex_);
    ForEachOf(worker, [&](const WorkerPtr& w) { (good ? w->metrics_.checks_good : w->metrics_.checks_bad)->Add(); });
    const HealthState::Change change = worker->health_.OnProbe(good, took, now);
    if (worker->removed_) return;
    if (change.flipped) {
      if (!good) ForgetProcess(*worker);
      ShowHealth(worker);
      if (!good || worker->fit()) {
        log::info("Worker {}: worker_type={} url={}", good ? "ready" : "down by health checks",
                  RoleName(worker->role_), worker->url_);
      }
    }
    if (change.flipped && good) {
      ForEachOf(worker, [&](const WorkerPtr& w) {
        const Breaker::State before = w->breaker_.state();
        w->breaker_.OnRecovered();
        if (w->breaker_.state() != before) ShowBreaker(*w, before);
      });
    }
    if (change.dead) {
      // Whatever comes back at this address has empty caches.
      ForEachOf(worker, [&](const WorkerPtr& w) {
        PolicyOf(w->role_).Forget(w->order_, false);
        w->reported_.Reset();
        for (const auto& [id, watch] : w->watches_) down.push_back(watch);
      });
    }
  }
  for (const auto& notify : down) notify();
}

void Registry::OnNoProbe(const WorkerPtr& worker, TimePoint now) {
  std::lock_guard lock(mutex_);
  worker->health_.OnNoProbe(now);
}

void Registry::SetMetadata(const WorkerPtr& worker, WorkerMetadata metadata) {
  std::vector<std::function<void()>> down;
  {
    std::lock_guard lock(mutex_);
    worker->metadata_ = std::move(metadata);
    worker->told_ = true;
    if (worker->removed_) return;
    CheckRole(worker);
    if (options_.dp_aware) down = ExpandLocked(worker);
    ForEachOf(worker, [&](const WorkerPtr& w) { ShowModel(*w); });
  }
  for (const auto& notify : down) notify();
}

}  // namespace baton::router
