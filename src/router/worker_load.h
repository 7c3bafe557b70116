// How busy a worker is: what it said last, and what was sent to it since. Pure.
//
// A poll that fails makes the worker look worse, never better: sglang-router stores -1 for it, which
// wins every comparison (specs/sglang-pd-protocol.md 3.7). Not thread-safe: the registry's lock
// guards trackers.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/status.h"

namespace baton::router {

struct LoadReport {
  int64_t requests = 0;  // running and waiting
  int64_t waiting = 0;
  int64_t tokens = 0;                // of KV in use, waiting prompts included where it says so
  std::optional<int64_t> capacity;   // tokens of KV in all
};

// Body of GET /v1/loads (`{"loads":[...]}`) or of GET /get_load (`[...]`), summed over the DP
// ranks, with the field names of SGLang 0.5.9 and 0.5.23. nullopt: it is neither.
// `by_rank`, when wanted, gets the report of each rank at its number; a rank without one is absent.
using RankReports = std::vector<std::optional<LoadReport>>;
std::optional<LoadReport> ReadLoadReport(std::string_view body, RankReports* by_rank = nullptr);

struct LoadEstimate {
  bool failing = false;  // the last poll got no answer
  bool fresh = false;    // the fields below tell of the present
  double tokens = 0;
  double usage = -1;          // tokens / capacity; -1 when the capacity is not known
  int64_t free_tokens = -1;   // -1 when the capacity is not known
  int64_t waiting = 0;
};

class LoadTracker {
 public:
  // A report is fresh for `keep`.
  explicit LoadTracker(Duration keep) : keep_(keep) {}

  // `in_flight`: the router's own requests on the worker at that moment.
  void OnReport(const LoadReport& report, int64_t in_flight, TimePoint now);
  void OnFailure() { state_ = State::kFailing; }
  // The worker has no such route, or was replaced: its own count has to do.
  void Reset() { state_ = State::kUnknown; }

  LoadEstimate Estimate(int64_t in_flight, TimePoint now) const;

 private:
  enum class State : uint8_t { kUnknown, kKnown, kFailing };
  Duration keep_;
  State state_ = State::kUnknown;
  LoadReport report_;
  int64_t in_flight_then_ = 0;
  TimePoint at_{};
};

}  // namespace baton::router
