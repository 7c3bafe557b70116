// Runs one point of load: conversations in a closed loop, or in an open loop at given times.
//
// Everything runs on one io_context thread. Closed: `concurrency` users, each sends its next
// request when the last one ended. Open: requests leave at their times whatever came of the earlier
// ones; with a concurrency cap a late one keeps its intended time. Further turns of a conversation
// follow at once.
#pragma once

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <optional>

#include "bench/serving/arrivals.h"
#include "bench/serving/request_call.h"
#include "bench/serving/workload.h"

namespace baton::bench::serving {

struct LoadOptions {
  std::optional<double> rate_per_s;  // open loop; absent: closed, or all at once without a cap
  ArrivalKind arrival = ArrivalKind::kPoisson;
  double burstiness = 1;
  std::optional<double> trace_scale;  // open loop at the workload's own times, multiplied by this
  size_t concurrency = 0;             // 0: no cap
  uint64_t conversations = 0;         // 0: until `duration`
  Duration duration{};                // 0: until `conversations`; no request starts after it
  uint64_t seed = 0;
  uint64_t first_index = 0;  // of the workload

  bool open_loop() const { return rate_per_s || trace_scale; }
};

struct LoadResult {
  Tally tally;
  double wall_s = 0;    // from the start to the end of the last request
  double cpu_s = 0;     // of this process in that time
  Samples loop_lag_ms;  // how late a timer of 20 ms fired: the load generator's own delay
  bool interrupted = false;
};

class LoadRun {
 public:
  // All references outlive the run.
  LoadRun(asio::io_context& io, RequestCaller& caller, const Workload& workload,
          const TextMaker& text, const BodyOptions& body, const LoadOptions& options,
          const Slo& slo);

  // Until the last request has ended or Stop took effect. Once per object.
  asio::awaitable<void> Run();
  // Starts nothing more and cancels what is in the air.
  void Stop();
  const Tally& tally() const { return result_.tally; }
  double elapsed_s() const { return Seconds(Now() - start_); }
  LoadResult TakeResult() { return std::move(result_); }

 private:
  struct Job {
    double at_s = 0;  // intended time; negative: as soon as it can
    ConversationPlan plan;
    std::string body;  // of the first turn, made before its time comes
  };

  std::optional<Job> NextJob();
  Result<std::string> BodyOf(const std::vector<Message>& messages, const TurnPlan& turn) const;
  asio::awaitable<void> User();        // one of `concurrency`
  asio::awaitable<void> Dispatcher();  // no cap
  asio::awaitable<void> Converse(Job job);
  asio::awaitable<void> ProbeLag();
  asio::awaitable<void> SleepUntil(double at_s);
  void Spawn(asio::awaitable<void> task, bool counted = true);
  double Elapsed() const { return Seconds(Now() - start_); }

  asio::io_context& io_;
  RequestCaller& caller_;
  const Workload& workload_;
  const TextMaker& text_;
  const BodyOptions& body_;
  const LoadOptions options_;
  std::optional<Arrivals> arrivals_;
  LoadResult result_;
  TimePoint start_{};
  uint64_t next_index_ = 0;
  bool stopping_ = false;
  size_t running_ = 0;  // counted tasks
  std::list<asio::cancellation_signal> signals_;
  asio::steady_timer all_done_;
};

}  // namespace baton::bench::serving
