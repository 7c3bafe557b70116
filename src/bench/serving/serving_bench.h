// `baton bench serving`: load on an OpenAI-compatible endpoint, and what came of it.
//
// RunServingBench blocks its thread, runs one io_context on it, and speaks through the hooks on
// that thread. Formatting is report_*.h.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/serving/load.h"

namespace baton::bench::serving {

struct ServingOptions {
  std::string base_url = "http://127.0.0.1:8000";  // a path in front of the API's is kept
  std::string path;                                // "": the API's own
  BodyOptions body;                                // model "": the first of /v1/models
  std::string api_key;
  std::vector<std::pair<std::string, std::string>> headers;
  WorkloadOptions workload;
  std::vector<std::optional<double>> rates{std::nullopt};  // one point each; nullopt: no rate
  std::vector<size_t> concurrencies{0};                    // crossed with the rates
  ArrivalKind arrival = ArrivalKind::kPoisson;
  double burstiness = 1;
  bool trace_times = false;  // send at the workload's own times
  double trace_scale = 1;
  std::optional<uint64_t> num_prompts;  // conversations of a point; absent: 1000 or the file's
  Duration duration{};
  Duration request_timeout = 1h;
  Duration connect_timeout = 10s;
  uint64_t warmup_requests = 1;
  uint64_t seed = 1;
  Slo slo;
  double slo_attainment = 0.99;  // the share of requests that must meet it
  bool handle_signals = true;    // SIGINT and SIGTERM end the run with its report
};

struct ServingHooks {
  Encoder encoder;  // empty: no tokenizer
  // Twice a second while a point runs.
  std::function<void(const Tally&, double elapsed_s)> progress;
  // One line at each stage.
  std::function<void(const std::string&)> note;
};

struct Point {
  std::optional<double> rate_per_s;
  size_t concurrency = 0;
  LoadOptions load;
  LoadResult result;
  double seconds() const {
    return result.tally.last_end_s > 0 ? result.tally.last_end_s : result.wall_s;
  }
  double PerSecond(uint64_t count) const {
    return seconds() > 0 ? static_cast<double>(count) / seconds() : 0;
  }
  // Of all requests that ended by themselves; 1 without an SLO.
  double Attainment() const;
};

struct ServingReport {
  std::string url, model, started_utc;
  std::vector<Point> points;
  size_t best = 0;      // most good requests per second among those that meet the SLO, else of all
  bool slo_met = true;  // by the best point
  bool interrupted = false;
  std::string lengths_by;  // "tokenizer", "calibrated: 1.21 tokens a word", "words"
  std::vector<std::string> warnings;
};

// kInvalidArgument and kNotFound before anything is sent; kUnavailable when the server answers
// neither the first look nor a warm-up request.
Result<ServingReport> RunServingBench(const ServingOptions& options, const ServingHooks& hooks);

// 0; 4 when every request failed; 5 after Ctrl-C; 6 when the SLO was missed.
int ExitCodeOf(const ServingReport& report);

}  // namespace baton::bench::serving
