#include "router/registry.h"

#include <algorithm>

#include "common/log.h"

namespace baton::router {

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kRegular: return "regular";
    case Role::kPrefill: return "prefill";
    case Role::kDecode: return "decode";
  }
  return "";
}

namespace {

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
      metrics_(metrics),
      config_(std::move(config)),
      health_(RulesFor(config_, options)),
      breaker_(options.breaker) {
  metrics_.health->Set(health_.healthy() ? 1 : 0);
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
  other.worker_.reset();
  return *this;
}

void Lease::Watch(std::function<void()> down) {
  std::lock_guard lock(registry_->mutex_);
  watch_ = ++worker_->next_watch_;
  worker_->watches_.emplace(watch_, std::move(down));
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
  policies_.emplace(Role::kPrefill, Policy(options.prefill_policy, random_()));
  policies_.emplace(Role::kDecode, Policy(options.decode_policy, random_()));
  policies_.emplace(Role::kRegular, Policy(options.decode_policy, random_()));
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
    if (w->url_ == url && w->role_ == config.role) {
      return Error(Code::kResourceExhausted, "{} worker {} is registered already", RoleName(w->role_), url);
    }
  }
  config.url = url;
  if (config.api_key.empty()) config.api_key = options_.api_key;
  const Role role = config.role;
  WorkerPtr worker(new Worker(std::move(config), std::move(*origin), NewId(), next_order_++,
                              options_, metrics_.ForWorker(url)));
  workers_.push_back(worker);
  metrics_.PoolSize(RoleName(role))->Add(1);
  log::info("Worker registered: worker_type={} url={} id={}", RoleName(role), url, worker->id_);
  return worker;
}

WorkerPtr Registry::FindLocked(std::string_view id_or_url) const {
  std::string url;
  if (auto origin = http::ParseOrigin(id_or_url); origin.ok()) url = origin->ToString();
  for (const WorkerPtr& w : workers_) {
    if (w->id_ == id_or_url || w->url_ == url) return w;
  }
  return nullptr;
}

Status Registry::Remove(std::string_view id_or_url) {
  std::function<void()> kick;
  {
    std::lock_guard lock(mutex_);
    const WorkerPtr worker = FindLocked(id_or_url);
    if (!worker) return Error(Code::kNotFound, "no worker {}", id_or_url);
    worker->removed_ = true;
    kick = std::move(worker->kick_);
    worker->kick_ = nullptr;
    std::erase(workers_, worker);
    worker->metrics_.health->Set(-1);
    metrics_.PoolSize(RoleName(worker->role_))->Add(-1);
    log::info("Worker removed: worker_type={} url={} id={}", RoleName(worker->role_), worker->url_,
              worker->id_);
  }
  if (kick) kick();
  return Status::Ok();
}

namespace {

WorkerView ViewOf(const WorkerPtr& worker, const WorkerConfig& config,
                  const WorkerMetadata& metadata, bool healthy, int64_t load,
                  Breaker::State breaker) {
  return WorkerView{worker, config, metadata, healthy, load, breaker};
}

}  // namespace

Result<WorkerView> Registry::View(std::string_view id_or_url) const {
  std::lock_guard lock(mutex_);
  const WorkerPtr w = FindLocked(id_or_url);
  if (!w) return Error(Code::kNotFound, "no worker {}", id_or_url);
  return ViewOf(w, w->config_, w->metadata_, w->health_.healthy(), w->load_, w->breaker_.state());
}

Status Registry::Update(std::string_view id_or_url,
                        const std::function<void(WorkerConfig&)>& change) {
  std::lock_guard lock(mutex_);
  const WorkerPtr w = FindLocked(id_or_url);
  if (!w) return Error(Code::kNotFound, "no worker {}", id_or_url);
  change(w->config_);
  return Status::Ok();
}

std::vector<WorkerView> Registry::List() const {
  std::lock_guard lock(mutex_);
  std::vector<WorkerView> views;
  views.reserve(workers_.size());
  for (const WorkerPtr& w : workers_) {
    views.push_back(ViewOf(w, w->config_, w->metadata_, w->health_.healthy(), w->load_,
                           w->breaker_.state()));
  }
  return views;
}

PoolCounts Registry::Counts(Role role) const {
  std::lock_guard lock(mutex_);
  PoolCounts counts;
  for (const WorkerPtr& w : workers_) {
    if (w->role_ != role) continue;
    ++counts.total;
    counts.healthy += w->health_.healthy();
  }
  return counts;
}

bool Registry::IsHealthy(const WorkerPtr& worker) const {
  std::lock_guard lock(mutex_);
  return worker->health_.healthy();
}

bool Registry::Ready() const {
  if (!options_.pd_disaggregation) return Counts(Role::kRegular).healthy > 0;
  return Counts(Role::kPrefill).healthy > 0 && Counts(Role::kDecode).healthy > 0;
}

Result<Lease> Registry::Acquire(Role role, const std::vector<WorkerPtr>& avoid, TimePoint now) {
  std::lock_guard lock(mutex_);
  size_t total = 0, unhealthy = 0, open = 0;
  const auto collect = [&](bool avoiding) {
    candidates_.clear();
    indices_.clear();
    total = unhealthy = open = 0;
    for (size_t i = 0; i < workers_.size(); ++i) {
      Worker& w = *workers_[i];
      if (w.role_ != role) continue;
      ++total;
      if (!w.health_.healthy()) {
        ++unhealthy;
        continue;
      }
      const Breaker::State before = w.breaker_.state();
      const bool admits = w.breaker_.Admits(now);
      if (w.breaker_.state() != before) ShowBreaker(w, before);
      if (!admits) {
        ++open;
        continue;
      }
      if (avoiding && std::find(avoid.begin(), avoid.end(), workers_[i]) != avoid.end()) continue;
      candidates_.push_back({w.order_, w.load_});
      indices_.push_back(i);
    }
  };
  collect(true);
  if (candidates_.empty() && !avoid.empty()) collect(false);
  if (candidates_.empty()) {
    return Error(Code::kUnavailable,
                 "no {} worker can take the request: {} registered, {} unhealthy, {} with an open breaker",
                 RoleName(role), total, unhealthy, open);
  }
  Policy& policy = policies_.at(role);
  const WorkerPtr& picked = workers_[indices_[policy.Pick(candidates_)]];
  picked->breaker_.Admit();
  picked->metrics_.active->Set(static_cast<double>(++picked->load_));
  Lease lease;
  lease.registry_ = shared_from_this();
  lease.worker_ = picked;
  lease.epoch_ = picked->breaker_.epoch();
  lease.api_key_ = picked->config_.api_key;
  lease.bootstrap_port_ = picked->config_.bootstrap_port ? picked->config_.bootstrap_port
                                                         : picked->metadata_.bootstrap_port;
  return lease;
}

void Registry::ShowBreaker(Worker& w, Breaker::State before) {
  const Breaker::State after = w.breaker_.state();
  w.metrics_.breaker_failures->Set(w.breaker_.consecutive_failures());
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
    if (outcome == Breaker::Outcome::kFailure || w.breaker_.state() != before) ShowBreaker(w, before);
    lease.reported_ = true;
  }
  if (!give_back) return;
  if (lease.watch_) w.watches_.erase(lease.watch_);
  w.metrics_.active->Set(static_cast<double>(--w.load_));
}

void Registry::OnConnectionFailure(const WorkerPtr& worker, TimePoint now) {
  std::function<void()> kick;
  {
    std::lock_guard lock(mutex_);
    if (worker->removed_) return;
    if (worker->health_.OnConnectionFailure(now)) {
      worker->metrics_.health->Set(0);
      log::warn("Worker out after a failed connection: worker_type={} url={}",
                RoleName(worker->role_), worker->url_);
    }
    kick = worker->kick_;
  }
  if (kick) kick();
}

Registry::ProbePlan Registry::NextProbe(const WorkerPtr& worker) const {
  std::lock_guard lock(mutex_);
  ProbePlan plan;
  plan.removed = worker->removed_;
  plan.enabled = options_.health.enabled && !worker->config_.disable_health_check;
  plan.at = worker->health_.next_probe();
  plan.patience = worker->health_.patience();
  plan.healthy = worker->health_.healthy();
  plan.api_key = worker->config_.api_key;
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
      if (w->kick_) kicks.push_back(w->kick_);
    }
  }
  for (const auto& kick : kicks) kick();
}

void Registry::OnProbe(const WorkerPtr& worker, bool good, Duration took, TimePoint now) {
  std::vector<std::function<void()>> down;
  {
    std::lock_guard lock(mutex_);
    (good ? worker->metrics_.checks_good : worker->metrics_.checks_bad)->Add();
    const HealthState::Change change = worker->health_.OnProbe(good, took, now);
    if (worker->removed_) return;
    if (change.flipped) {
      worker->metrics_.health->Set(good ? 1 : 0);
      log::info("Worker {}: worker_type={} url={}", good ? "ready" : "down by health checks",
                RoleName(worker->role_), worker->url_);
    }
    if (change.flipped && good) {
      const Breaker::State before = worker->breaker_.state();
      worker->breaker_.OnRecovered();
      if (worker->breaker_.state() != before) ShowBreaker(*worker, before);
    }
    if (change.dead) {
      for (const auto& [id, watch] : worker->watches_) down.push_back(watch);
    }
  }
  for (const auto& notify : down) notify();
}

void Registry::SetMetadata(const WorkerPtr& worker, WorkerMetadata metadata) {
  std::lock_guard lock(mutex_);
  worker->metadata_ = std::move(metadata);
}

}  // namespace baton::router
