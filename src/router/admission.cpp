#include "router/admission.h"

#include <algorithm>
#include <utility>

#include <boost/asio/post.hpp>

namespace baton::router {
namespace {

// How often those who wait for the workers look whether these have room again.
constexpr Duration kHoldInterval = std::chrono::milliseconds(50);
constexpr size_t kBytesPerCost = 4096;
constexpr uint32_t kMaxCost = 1024;

uint32_t CostOf(size_t prompt_bytes) {
  return static_cast<uint32_t>(std::min<size_t>(1 + prompt_bytes / kBytesPerCost, kMaxCost));
}

}  // namespace

Admission::Admission(const AdmissionRules& rules, RouterMetrics& metrics,
                     std::function<bool()> workers_full)
    : rules_(rules),
      metrics_(metrics),
      workers_full_(std::move(workers_full)),
      enabled_(rules.limits() || workers_full_),
      queue_(rules) {}

void Admission::Mark(uint64_t id, State state, Bells* bells) {
  Waiter& waiter = waiters_.at(id);
  waiter.state = state;
  bells->push_back(waiter.exchange);
}

void Admission::Pump(TimePoint now, Bells* bells) {
  if (workers_full_) {
    held_ = workers_full_();
    queue_.Hold(held_);
  }
  for (const uint64_t id : queue_.Expire(now)) Mark(id, State::kExpired, bells);
  while (const auto id = queue_.Next(now)) Mark(*id, State::kAdmitted, bells);
  metrics_.queued->Set(static_cast<double>(queue_.waiting()));
  metrics_.admitted->Set(static_cast<double>(queue_.running()));
}

void Admission::Ring(const Bells& bells) {
  for (const auto& exchange : bells) {
    asio::post(exchange->executor(), [exchange] { exchange->Notify(); });
  }
}

void Admission::End() {
  Bells bells;
  {
    std::lock_guard lock(mutex_);
    queue_.End();
    Pump(Now(), &bells);
  }
  Ring(bells);
}

TimePoint Admission::LookAgainAt(TimePoint now) const {
  const TimePoint wake = queue_.WakeAt().value_or(now + kHoldInterval);
  return held_ ? std::min(wake, now + kHoldInterval) : wake;
}

RouterError Admission::Refusal(State state, bool held) const {
  RouterError error;
  error.retry_after = "1";
  if (state == State::kClosed) {
    error.status = 503;
    error.code = "shutting_down";
    error.message = "the router is shutting down; send the request to another one";
  } else if (held) {
    error.status = 503;
    error.code = "workers_full";
    error.message = "every worker is at --worker-queue-limit or --worker-kv-limit; try again later";
  } else if (state == State::kExpired) {
    error.status = 408;
    error.code = "queue_timeout";
    error.message = fmt::format("waited {:.0f} s for a free place (--queue-timeout-secs)",
                                Seconds(rules_.queue_timeout));
  } else {
    error.status = 429;
    error.code = "queue_full";
    error.message = fmt::format("{} requests run and {} wait (--max-concurrent-requests, --queue-size)",
                                running(), waiting());
  }
  return error;
}

asio::awaitable<Admission::Entry> Admission::Enter(std::shared_ptr<Exchange> exchange,
                                                   std::string_view tenant, size_t prompt_bytes) {
  Entry entry;
  if (!enabled_) co_return entry;
  uint64_t id = 0;
  std::optional<State> refused;
  bool held = false;
  TimePoint again{};
  Bells bells;
  {
    std::lock_guard lock(mutex_);
    const TimePoint now = Now();
    Pump(now, &bells);
    id = ++next_id_;
    if (closed_) {
      refused = State::kClosed;
    } else {
      const auto offered = queue_.Offer(id, tenant, CostOf(prompt_bytes), now);
      if (offered.displaced) Mark(*offered.displaced, State::kDisplaced, &bells);
      if (offered.verdict == AdmissionQueue::Verdict::kFull) refused = State::kDisplaced;
      if (offered.verdict == AdmissionQueue::Verdict::kQueued) waiters_[id] = {exchange};
      if (offered.verdict == AdmissionQueue::Verdict::kAdmitted) entry.permit = Permit(shared_from_this());
    }
    held = held_;
    again = LookAgainAt(now);
    metrics_.queued->Set(static_cast<double>(queue_.waiting()));
    metrics_.admitted->Set(static_cast<double>(queue_.running()));
  }
  Ring(bells);
  const TimePoint arrived = Now();
  while (!refused) {
    bells.clear();
    State state = State::kAdmitted;
    {
      std::lock_guard lock(mutex_);
      const auto waiter = waiters_.find(id);
      if (waiter == waiters_.end()) break;  // was admitted at once
      const TimePoint now = Now();
      Pump(now, &bells);
      state = waiter->second.state;
      held = held_;
      again = LookAgainAt(now);
      // An admission that the client does not see any more goes back with the permit.
      if (state == State::kAdmitted) entry.permit = Permit(shared_from_this());
      if (exchange->client_gone() && state == State::kWaiting) queue_.Cancel(id);
      if (exchange->client_gone() || state != State::kWaiting) waiters_.erase(waiter);
      metrics_.queued->Set(static_cast<double>(queue_.waiting()));
    }
    Ring(bells);
    if (exchange->client_gone()) {
      entry.client_gone = true;
      co_return entry;
    }
    if (state == State::kAdmitted) break;
    if (state != State::kWaiting) refused = state;
    else co_await exchange->Wait(again);
  }
  metrics_.queue_seconds->Observe(Seconds(Now() - arrived));
  metrics_.CountAdmission(!refused);
  if (refused) entry.refused = Refusal(*refused, held && *refused != State::kClosed);
  co_return entry;
}

void Admission::Close() {
  Bells bells;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    for (const uint64_t id : queue_.Clear()) Mark(id, State::kClosed, &bells);
  }
  Ring(bells);
}

size_t Admission::waiting() const {
  std::lock_guard lock(mutex_);
  return queue_.waiting();
}

int64_t Admission::running() const {
  std::lock_guard lock(mutex_);
  return queue_.running();
}

}  // namespace baton::router
