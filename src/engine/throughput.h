// Tokens per second over the last second or so of work, and the batch lines of the log.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/clock.h"
#include "engine/scheduler.h"

namespace baton::engine {

// Counts tokens and the time in which they were made; idle time does not count. Engine thread.
class RateMeter {
 public:
  // `tokens` came out of a step that took `spent`.
  void Add(int tokens, Duration spent) {
    tokens_ += tokens;
    spent_ += spent;
    if (spent_ < 1s) return;
    rate_ = static_cast<double>(tokens_) / Seconds(spent_);
    tokens_ = 0;
    spent_ = {};
  }
  // The last full window; before there was one, what there is.
  double rate() const {
    return rate_ > 0 || spent_ <= Duration{} ? rate_ : static_cast<double>(tokens_) / Seconds(spent_);
  }

 private:
  int64_t tokens_ = 0;
  Duration spent_{};
  double rate_ = 0;
};

// Lines as SGLang prints them (specs/sglang-pd-protocol.md section 5), so that what people grep and
// plot still works. Engine thread.
class BatchLog {
 public:
  using PdFields = std::function<std::string(bool decode)>;

  void Configure(int interval, PdFields pd_fields) {
    interval_ = interval;
    pd_fields_ = std::move(pd_fields);
  }
  // After each step; `rate` of prefill or of decode.
  void OnStep(const StepPlan& plan, const Scheduler& scheduler, double prefill_rate,
              double decode_rate, TimePoint now);
  // Prints what is pending before the engine sleeps.
  void OnIdle(const Scheduler& scheduler, double prefill_rate);

 private:
  void PrintPrefill(const Scheduler& scheduler, double rate);
  void PrintDecode(const Scheduler& scheduler, double rate);
  std::string Fields(bool decode) const;

  int interval_ = 0;  // 0: silent
  PdFields pd_fields_;
  // Prefill work since the last line: a line per step would flood the log with chunks.
  int new_sequences_ = 0;
  int new_tokens_ = 0;
  int cached_tokens_ = 0;
  TimePoint last_prefill_line_{};
  int decode_steps_ = 0;
};

}  // namespace baton::engine
