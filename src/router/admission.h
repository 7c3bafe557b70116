// The gate before the attempts: a coroutine shell around AdmissionQueue.
//
// A request passes at once, waits for its turn, or is refused: 429 when the queue is full, 408 when
// its time there is over (sglang-router's codes), 503 when the workers are full or the router shuts
// down; all with Retry-After. A Permit is held until the end of the answer, streams included.
// Thread-safe; waiters are resumed on their own strands.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "router/admission_queue.h"
#include "router/errors.h"
#include "router/exchange.h"
#include "router/metrics.h"

namespace baton::router {

class Admission : public std::enable_shared_from_this<Admission> {
 public:
  // `workers_full` tells whether new requests should wait for the workers; empty: never. It is
  // called often, under this object's lock, and must not call back.
  Admission(const AdmissionRules& rules, RouterMetrics& metrics, std::function<bool()> workers_full);

  class Permit {
   public:
    Permit() = default;
    explicit Permit(std::shared_ptr<Admission> from) : from_(std::move(from)) {}
    Permit(Permit&& other) noexcept = default;
    Permit& operator=(Permit&& other) noexcept {
      std::swap(from_, other.from_);
      return *this;
    }
    ~Permit() {
      if (from_) from_->End();
    }

   private:
    std::shared_ptr<Admission> from_;
  };

  struct Entry {
    Permit permit;
    std::optional<RouterError> refused;
    bool client_gone = false;
  };
  // Waits at most the queue's deadline. `exchange` is the request's own.
  asio::awaitable<Entry> Enter(std::shared_ptr<Exchange> exchange, std::string_view tenant,
                               size_t prompt_bytes);
  // Refuses all that wait, and all that come.
  void Close();
  bool enabled() const { return enabled_; }
  size_t waiting() const;
  int64_t running() const;

 private:
  enum class State : uint8_t { kWaiting, kAdmitted, kExpired, kDisplaced, kClosed };
  struct Waiter {
    std::shared_ptr<Exchange> exchange;
    State state = State::kWaiting;
  };
  using Bells = std::vector<std::shared_ptr<Exchange>>;

  void End();
  // Under the lock. Those in `bells` must be notified after it.
  void Pump(TimePoint now, Bells* bells);
  void Mark(uint64_t id, State state, Bells* bells);
  TimePoint LookAgainAt(TimePoint now) const;
  static void Ring(const Bells& bells);
  RouterError Refusal(State state, bool held) const;

  const AdmissionRules rules_;
  RouterMetrics& metrics_;
  const std::function<bool()> workers_full_;
  const bool enabled_;
  mutable std::mutex mutex_;
  AdmissionQueue queue_;
  bool held_ = false;
  bool closed_ = false;
  uint64_t next_id_ = 0;
  std::unordered_map<uint64_t, Waiter> waiters_;
};

}  // namespace baton::router
