#include "router/admission_queue.h"

#include <algorithm>

namespace baton::router {
namespace {

constexpr int64_t kQuantum = 16;

}  // namespace

void AdmissionQueue::Refill(TimePoint now) {
  const double most = std::max(1.0, rules_.rate_per_second);
  if (!refilled_) tokens_ = most;
  else if (now > *refilled_) tokens_ = std::min(most, tokens_ + Seconds(now - *refilled_) * rules_.rate_per_second);
  refilled_ = refilled_ ? std::max(*refilled_, now) : now;
}

bool AdmissionQueue::MayRun(TimePoint now) {
  if (held_ || (rules_.max_concurrent > 0 && running_ >= rules_.max_concurrent)) return false;
  if (rules_.rate_per_second <= 0) return true;
  Refill(now);
  return tokens_ >= 1;
}

AdmissionQueue::Offered AdmissionQueue::Offer(uint64_t id, std::string_view tenant, uint32_t cost,
                                              TimePoint now) {
  if (!rules_.fair) tenant = {};
  Offered offered;
  if (places_.empty() && MayRun(now)) {
    ++running_;
    if (rules_.rate_per_second > 0) tokens_ -= 1;
    return offered;
  }
  offered.verdict = Verdict::kQueued;
  if (places_.size() >= rules_.queue_size) {
    offered.displaced = MakeRoom(tenant);
    if (!offered.displaced) {
      offered.verdict = Verdict::kFull;
      return offered;
    }
  }
  Enter(id, tenant, cost, now);
  return offered;
}

// Only between tenants, and only when the newcomer's queue stays shorter than the one cut.
std::optional<uint64_t> AdmissionQueue::MakeRoom(std::string_view tenant) {
  if (!rules_.fair || rules_.queue_size == 0) return std::nullopt;
  const auto own = tenants_.find(tenant);
  const size_t own_length = own == tenants_.end() ? 0 : own->second.queue.size();
  const Tenant* longest = nullptr;
  for (const auto& [name, t] : tenants_) {
    if (!longest || t.queue.size() > longest->queue.size()) longest = &t;
  }
  if (!longest || longest->queue.size() <= own_length + 1) return std::nullopt;
  const uint64_t victim = longest->queue.back().id;
  Leave(victim);
  return victim;
}

void AdmissionQueue::Enter(uint64_t id, std::string_view tenant, uint32_t cost, TimePoint now) {
  auto found = tenants_.find(tenant);
  if (found == tenants_.end()) {
    found = tenants_.emplace(std::string(tenant), Tenant{std::string(tenant), {}, 0, false}).first;
    round_.push_back(&found->second);
  }
  Tenant& t = found->second;
  const TimePoint deadline = now + rules_.queue_timeout;
  t.queue.push_back({id, std::max<uint32_t>(cost, 1), deadline});
  places_[id] = {&t, std::prev(t.queue.end())};
  deadlines_.emplace_back(deadline, id);
}

void AdmissionQueue::Leave(uint64_t id) {
  const auto place = places_.find(id);
  Tenant& t = *place->second.tenant;
  t.queue.erase(place->second.at);
  places_.erase(place);
  while (!deadlines_.empty() && !places_.contains(deadlines_.front().second)) deadlines_.pop_front();
  // Left-over entries of those that left early may not outgrow the queue.
  if (deadlines_.size() > 2 * places_.size() + 64) {
    std::erase_if(deadlines_, [&](const auto& d) { return !places_.contains(d.second); });
  }
  if (!t.queue.empty()) return;
  std::erase(round_, &t);
  tenants_.erase(tenants_.find(t.name));
}

bool AdmissionQueue::Cancel(uint64_t id) {
  if (!places_.contains(id)) return false;
  Leave(id);
  return true;
}

std::vector<uint64_t> AdmissionQueue::Expire(TimePoint now) {
  std::vector<uint64_t> out;
  while (!deadlines_.empty() && deadlines_.front().first <= now) {
    const uint64_t id = deadlines_.front().second;
    deadlines_.pop_front();
    if (!places_.contains(id)) continue;
    Leave(id);
    out.push_back(id);
  }
  return out;
}

void AdmissionQueue::Rotate() {
  round_.front()->visited = false;
  round_.push_back(round_.front());
  round_.pop_front();
}

std::optional<uint64_t> AdmissionQueue::Next(TimePoint now) {
  if (places_.empty() || !MayRun(now)) return std::nullopt;
  while (true) {
    Tenant& t = *round_.front();
    if (!t.visited) {
      t.visited = true;
      t.deficit += kQuantum;
    }
    const Waiting first = t.queue.front();
    // One tenant alone needs no turns, and its deficit must not pile up.
    if (round_.size() > 1 && first.cost > t.deficit) {
      Rotate();
      continue;
    }
    t.deficit = std::max<int64_t>(0, t.deficit - first.cost);
    Leave(first.id);
    ++running_;
    if (rules_.rate_per_second > 0) tokens_ -= 1;
    return first.id;
  }
}

std::optional<TimePoint> AdmissionQueue::WakeAt() const {
  if (places_.empty()) return std::nullopt;
  TimePoint at = deadlines_.front().first;
  const bool room = rules_.max_concurrent <= 0 || running_ < rules_.max_concurrent;
  if (room && !held_ && rules_.rate_per_second > 0 && refilled_) {
    const double wait = std::max(0.0, (1 - tokens_) / rules_.rate_per_second);
    // A nanosecond more than computed: the bucket must have filled by then.
    at = std::min(at, *refilled_ + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(wait)) + 1ns);
  }
  return at;
}

std::vector<uint64_t> AdmissionQueue::Clear() {
  std::vector<uint64_t> out;
  for (const auto& [deadline, id] : deadlines_) {
    if (places_.contains(id)) out.push_back(id);
  }
  places_.clear();
  deadlines_.clear();
  round_.clear();
  tenants_.clear();
  return out;
}

}  // namespace baton::router
