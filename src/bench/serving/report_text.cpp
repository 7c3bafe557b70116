#include "bench/serving/report_text.h"

namespace baton::bench::serving {

std::string LoadName(const Point& p) {
  std::string name = p.load.trace_scale ? "trace times"
                     : p.rate_per_s     ? fmt::format("{:g} req/s", *p.rate_per_s)
                                        : "";
  if (p.concurrency)
    name += fmt::format("{}{} at once", name.empty() ? "" : ", cap ", p.concurrency);
  return name.empty() ? "all at once" : name;
}

namespace {

std::string LatencyRow(std::string_view name, const Samples& s) {
  if (s.count() == 0) return fmt::format("  {:<22}{:>10}\n", name, "-");
  return fmt::format("  {:<22}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}\n", name,
                     s.mean(), s.Percentile(50), s.Percentile(90), s.Percentile(95),
                     s.Percentile(99), s.max());
}

std::string PointText(const Point& p) {
  const Tally& t = p.result.tally;
  std::string out = fmt::format(
      "{}: {} completed, {} failed{} in {:.2f} s\n"
      "  {:<22}{:>10.2f} req/s   {:.1f} output tok/s   {:.1f} input tok/s\n"
      "  {:<22}{:>10} in ({} cached), {} out; counted by {}\n"
      "  {:<22}{:>10.1f} mean, {} at most\n",
      LoadName(p), t.completed, t.failed,
      t.cancelled ? fmt::format(", {} cancelled", t.cancelled) : "", p.seconds(), "throughput",
      p.PerSecond(t.completed), p.PerSecond(t.output_tokens), p.PerSecond(t.prompt_tokens),
      "tokens", t.prompt_tokens, t.cached_tokens, t.output_tokens,
      t.by_usage == t.completed ? "usage"
      : t.by_usage == 0         ? "pieces of the stream"
                                : "usage and pieces of the stream",
      "concurrency", p.seconds() > 0 ? t.busy_s / p.seconds() : 0, t.max_in_flight);
  out += fmt::format("  {:<22}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "milliseconds", "mean",
                     "p50", "p90", "p95", "p99", "max");
  out += LatencyRow("time to first token", t.ttft);
  if (p.load.open_loop()) out += LatencyRow("  from actual sending", t.service_ttft);
  out += LatencyRow("time per output token", t.tpot);
  out += LatencyRow("between tokens", t.itl);
  out += LatencyRow("whole request", t.e2e);
  if (p.load.open_loop()) out += LatencyRow("  from actual sending", t.service_e2e);
  if (!t.slo().empty()) {
    out += fmt::format("  {:<22}{:>10.2f} req/s, {:.2f} % of requests within {}\n", "goodput",
                       p.PerSecond(t.good), 100 * p.Attainment(), t.slo().ToString());
  }
  for (const ErrorRow& row : t.errors) {
    out +=
        fmt::format("  {:<22}{:>10}   {}\n", FailureName(row.kind), row.count, row.first_message);
  }
  const LoadResult& r = p.result;
  out +=
      fmt::format("  {:<22}{:>10.2f} us CPU a token, {:.0f} % of a core, late by {:.2f} ms (p99)\n",
                  "load generator", t.chunks ? r.cpu_s * 1e6 / static_cast<double>(t.chunks) : 0,
                  r.wall_s > 0 ? 100 * r.cpu_s / r.wall_s : 0, r.loop_lag_ms.Percentile(99));
  return out;
}

std::string SweepTable(const ServingReport& report) {
  std::string out = fmt::format("\n{:<26}{:>8}{:>8}{:>10}{:>11}{:>11}{:>11}{:>10}{:>10}{:>9}\n",
                                "load", "done", "failed", "req/s", "out tok/s", "TTFT p50",
                                "TTFT p99", "ITL p50", "ITL p99", "good %");
  for (size_t i = 0; i < report.points.size(); ++i) {
    const Point& p = report.points[i];
    const Tally& t = p.result.tally;
    out += fmt::format(
        "{:<26}{:>8}{:>8}{:>10.2f}{:>11.1f}{:>11.2f}{:>11.2f}{:>10.2f}{:>10.2f}{:>9}{}\n",
        LoadName(p), t.completed, t.failed, p.PerSecond(t.completed), p.PerSecond(t.output_tokens),
        t.ttft.Percentile(50), t.ttft.Percentile(99), t.itl.Percentile(50), t.itl.Percentile(99),
        t.slo().empty() ? "-" : fmt::format("{:.1f}", 100 * p.Attainment()),
        i == report.best ? "  best" : "");
  }
  return out;
}

}  // namespace

std::string ReportToText(const ServingReport& report, const ServingOptions& options) {
  std::string out = fmt::format("{} {}\ndataset {}, lengths by {}\n\n", report.url, report.model,
                                DatasetKindName(options.workload.kind), report.lengths_by);
  for (const Point& p : report.points) out += PointText(p);
  if (report.points.size() > 1) out += SweepTable(report);
  for (const std::string& warning : report.warnings) out += "Warning: " + warning + "\n";
  if (report.interrupted) out += "Interrupted: this is what was done until then.\n";
  if (!report.slo_met) {
    out += fmt::format("SLO missed: fewer than {:g} % of the requests within {}.\n",
                       100 * options.slo_attainment, options.slo.ToString());
  }
  return out;
}

std::string ProgressLine(const Tally& t, double elapsed_s) {
  const double s = elapsed_s > 0 ? elapsed_s : 1;
  double tokens = 0;
  for (const double slot : t.tokens_over_time.slots()) tokens += slot;
  return fmt::format(
      "{:.0f} s  sent {}  in flight {}  done {}  failed {}  {:.1f} req/s  {:.0f} tok/s  TTFT mean "
      "{:.0f} ms",
      elapsed_s, t.sent, t.in_flight, t.completed, t.failed, static_cast<double>(t.completed) / s,
      tokens / s, t.ttft.mean());
}

}  // namespace baton::bench::serving
