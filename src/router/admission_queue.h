// Who may run now and who waits: a pure state machine over (arrivals, ends, time).
//
// - A true cap: never more than `max_concurrent` admitted and not ended. sglang-router's token
//   bucket refills by time and is none (specs/sglang-pd-protocol.md 3.8).
// - A rate, if wanted: a bucket of one second's worth, in requests.
// - The queue is first in, first out; nobody passes a waiting one, also not when the cap has room
//   again. With `fair` each tenant has a FIFO of its own and tenants are served by deficit round
//   robin (Shreedhar and Varghese 1995), cost = a request and its prompt; when the queue is full, the
//   newest of the tenant with the longest queue goes in favour of one with a shorter queue.
// - Hold: nothing is admitted while the workers are full.
// Not thread-safe. Ids are the caller's, unique among those inside.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/clock.h"

namespace baton::router {

struct AdmissionRules {
  int64_t max_concurrent = -1;  // below 1: no cap
  size_t queue_size = 100;      // 0: nobody waits
  Duration queue_timeout = std::chrono::seconds(60);
  double rate_per_second = 0;   // 0: no rate
  bool fair = false;
  bool limits() const { return max_concurrent > 0 || rate_per_second > 0; }
};

class AdmissionQueue {
 public:
  explicit AdmissionQueue(const AdmissionRules& rules) : rules_(rules) {}

  enum class Verdict : uint8_t { kAdmitted, kQueued, kFull };
  struct Offered {
    Verdict verdict = Verdict::kAdmitted;
    std::optional<uint64_t> displaced;  // a waiting one that lost its place to this one
  };
  // `cost` > 0 counts for fairness only. `tenant` is ignored unless `fair`.
  Offered Offer(uint64_t id, std::string_view tenant, uint32_t cost, TimePoint now);
  // An admitted one has ended.
  void End() { --running_; }
  // A waiting one gave up. False when it is not waiting (any more).
  bool Cancel(uint64_t id);
  // Those whose time in the queue is over; they are out of it.
  std::vector<uint64_t> Expire(TimePoint now);
  // The next that may run, as long as there is one: call until nullopt.
  std::optional<uint64_t> Next(TimePoint now);
  // When Next should be asked again although nothing happens (the rate allows one more, or a
  // deadline comes); nullopt: never.
  std::optional<TimePoint> WakeAt() const;
  // All that wait; the queue is empty then.
  std::vector<uint64_t> Clear();

  void Hold(bool on) { held_ = on; }
  int64_t running() const { return running_; }
  size_t waiting() const { return places_.size(); }

 private:
  struct Waiting {
    uint64_t id = 0;
    uint32_t cost = 1;
    TimePoint deadline{};
  };
  struct Tenant {
    std::string name;
    std::list<Waiting> queue;
    int64_t deficit = 0;
    bool visited = false;  // has had its quantum in this round
  };
  struct Place {
    Tenant* tenant;
    std::list<Waiting>::iterator at;
  };

  bool MayRun(TimePoint now);
  void Refill(TimePoint now);
  void Enter(uint64_t id, std::string_view tenant, uint32_t cost, TimePoint now);
  void Leave(uint64_t id);
  void Rotate();
  std::optional<uint64_t> MakeRoom(std::string_view tenant);

  const AdmissionRules rules_;
  int64_t running_ = 0;
  bool held_ = false;
  double tokens_ = 0;  // of the rate
  std::optional<TimePoint> refilled_;
  std::unordered_map<uint64_t, Place> places_;
  // Deadlines come in order of arrival since all wait equally long.
  std::deque<std::pair<TimePoint, uint64_t>> deadlines_;
  std::map<std::string, Tenant, std::less<>> tenants_;  // with someone waiting
  std::deque<Tenant*> round_;  // those tenants, the one to serve first
};

}  // namespace baton::router
