// What one request took, and the tally of one run of many.
//
// A Tally belongs to the thread that runs the load. Times are seconds since the start of the run.
// Latency counts from the intended time of sending: in an open loop a request that the load
// generator (or its concurrency cap) sent late has waited, whoever was at fault (this is what is
// called coordinated omission). The same from the actual sending is kept beside it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/serving/samples.h"
#include "bench/serving/slo.h"

namespace baton::bench::serving {

enum class Failure : uint8_t {
  kNone,
  kConnect,      // no head of an answer: refused, reset, unresolved
  kStatus,       // an HTTP status other than 200
  kTimeout,      // --request-timeout passed
  kBroken,       // the stream ended before its end
  kWrongJson,    // an answer that is not JSON or not this API's shape
  kServerError,  // an error inside of a stream
  kEmpty,        // a proper end without any token
  kCancelled,    // by Ctrl-C: neither completed nor failed
};
inline constexpr size_t kFailureKinds = 9;
std::string_view FailureName(Failure failure);

struct RequestRecord {
  double intended_s = 0, sent_s = 0, first_s = 0, end_s = 0;
  uint32_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0, chunks = 0;
  bool counted_by_usage = false;
  bool has_prompt_tokens = false;
  Failure failure = Failure::kNone;
  int http_status = 0;
  std::string message;  // of a failure
};

struct ErrorRow {
  Failure kind = Failure::kNone;
  int http_status = 0;
  uint64_t count = 0;
  std::string first_message;
};

// One point of a plot: a finished request.
struct Dot {
  float at_s = 0, ttft_ms = 0, e2e_ms = 0, tpot_ms = 0;
};

// Sums over time with a bounded number of slots: when they run out, two become one.
class Timeline {
 public:
  void Add(double at_s, double amount);
  double slot_s() const { return slot_s_; }
  const std::vector<double>& slots() const { return slots_; }

 private:
  static constexpr size_t kMaxSlots = 1024;
  double slot_s_ = 0.25;
  std::vector<double> slots_;
};

class Tally {
 public:
  Tally() = default;
  explicit Tally(const Slo& slo) : slo_(slo) {}

  // A request went out, late by (actual - intended).
  void OnSent(double intended_s, double sent_s);
  // A request is over. `gaps_ms`: between its outputs. Exactly once per OnSent.
  void OnDone(const RequestRecord& record, std::span<const float> gaps_ms);

  uint64_t sent = 0, completed = 0, failed = 0, cancelled = 0, good = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0, chunks = 0;
  uint64_t by_usage = 0, with_prompt_tokens = 0;
  uint64_t in_flight = 0, max_in_flight = 0;
  double last_end_s = 0;
  double busy_s = 0;  // sum over requests of (end - sent): Little's law gives the mean concurrency
  // Milliseconds. ttft, e2e: from the intended time; service_*: from the actual sending.
  Samples ttft, tpot, itl, e2e, service_ttft, service_e2e, send_lag;
  std::vector<ErrorRow> errors;
  std::vector<Dot> dots;  // at most kMaxDots, an even sample of the whole run
  Timeline tokens_over_time, done_over_time;
  const Slo& slo() const { return slo_; }

 private:
  static constexpr size_t kMaxDots = 4000;
  void AddError(const RequestRecord& record);
  void AddDot(const Dot& dot);

  Slo slo_;
  uint64_t dot_stride_ = 1, dot_count_ = 0;
};

}  // namespace baton::bench::serving
