#include "bench/serving/report_json.h"

namespace baton::bench::serving {
namespace {

json::array ErrorsToJson(const Tally& tally) {
  json::array rows;
  for (const ErrorRow& row : tally.errors) {
    json::object o{{"kind", FailureName(row.kind)},
                   {"count", row.count},
                   {"first_message", row.first_message}};
    if (row.http_status) o["status"] = row.http_status;
    rows.push_back(std::move(o));
  }
  return rows;
}

json::object ToolToJson(const Point& point) {
  const LoadResult& r = point.result;
  const auto per_piece = [&](double v) {
    return r.tally.chunks ? v / static_cast<double>(r.tally.chunks) : 0;
  };
  return {{"cpu_us_per_token", per_piece(r.cpu_s * 1e6)},
          {"cpu_share", r.wall_s > 0 ? r.cpu_s / r.wall_s : 0},
          {"loop_lag_ms", ToJson(r.loop_lag_ms)},
          {"send_lag_ms", ToJson(r.tally.send_lag)},
          {"exact_percentiles", r.tally.itl.exact()}};
}

json::object ConfigToJson(const ServingOptions& o) {
  json::object config{{"backend", ApiName(o.body.api)},
                      {"dataset", DatasetKindName(o.workload.kind)},
                      {"input_len", o.workload.input.text()},
                      {"output_len", o.workload.output.text()},
                      {"turns", o.workload.turns},
                      {"arrival", o.trace_times ? "trace" : ArrivalKindName(o.arrival)},
                      {"burstiness", o.burstiness},
                      {"stream", o.body.stream},
                      {"ignore_eos", o.body.ignore_eos},
                      {"temperature", o.body.temperature},
                      {"seed", o.seed},
                      {"warmup_requests", o.warmup_requests},
                      {"duration_s", Seconds(o.duration)},
                      {"request_timeout_s", Seconds(o.request_timeout)}};
  if (!o.workload.path.empty()) config["dataset_path"] = o.workload.path;
  if (o.num_prompts) config["num_prompts"] = *o.num_prompts;
  if (o.workload.kind == DatasetKind::kSharedPrefix) {
    config["prefix_groups"] = o.workload.prefix_groups;
    config["prompts_per_group"] = o.workload.prompts_per_group;
    config["prefix_len"] = o.workload.prefix_tokens;
  }
  if (o.trace_times) config["time_scale"] = o.trace_scale;
  if (o.workload.kind == DatasetKind::kMooncake) config["length_scale"] = o.workload.length_scale;
  return config;
}

}  // namespace

json::object ToJson(const Samples& s) {
  return {{"count", s.count()},      {"mean", s.mean()},        {"sd", s.deviation()},
          {"min", s.min()},          {"p50", s.Percentile(50)}, {"p90", s.Percentile(90)},
          {"p95", s.Percentile(95)}, {"p99", s.Percentile(99)}, {"max", s.max()}};
}

json::object PointToJson(const Point& point) {
  const Tally& t = point.result.tally;
  json::object o;
  o["completed"] = t.completed;
  o["failed"] = t.failed;
  o["cancelled"] = t.cancelled;
  o["duration_s"] = point.seconds();
  o["req_s"] = point.PerSecond(t.completed);
  o["input_tok_s"] = point.PerSecond(t.prompt_tokens);
  o["output_tok_s"] = point.PerSecond(t.output_tokens);
  o["total_tok_s"] = point.PerSecond(t.prompt_tokens + t.output_tokens);
  o["input_tokens"] = t.prompt_tokens;
  o["output_tokens"] = t.output_tokens;
  o["cached_tokens"] = t.cached_tokens;
  o["ttft_ms"] = ToJson(t.ttft);
  o["tpot_ms"] = ToJson(t.tpot);
  o["itl_ms"] = ToJson(t.itl);
  o["e2e_ms"] = ToJson(t.e2e);
  o["ttft_from_send_ms"] = ToJson(t.service_ttft);
  o["e2e_from_send_ms"] = ToJson(t.service_e2e);
  o["request_rate"] = point.rate_per_s ? json::value(*point.rate_per_s) : json::value(nullptr);
  o["max_concurrency"] = point.concurrency ? json::value(point.concurrency) : json::value(nullptr);
  o["open_loop"] = point.load.open_loop();
  o["concurrency"] = json::object{{"mean", point.seconds() > 0 ? t.busy_s / point.seconds() : 0},
                                  {"max", t.max_in_flight}};
  o["token_count_source"] = t.by_usage == t.completed ? "usage"
                            : t.by_usage == 0         ? "chunks"
                                                      : "mixed";
  if (!t.slo().empty()) {
    o["goodput"] = json::object{{"slo", t.slo().ToString()},
                                {"good", t.good},
                                {"share", point.Attainment()},
                                {"req_s", point.PerSecond(t.good)}};
  }
  o["errors"] = ErrorsToJson(t);
  o["tool"] = ToolToJson(point);
  return o;
}

json::object ReportToJson(const ServingReport& report, const ServingOptions& options) {
  json::object o;
  if (!report.points.empty()) o = PointToJson(report.points[report.best]);
  o["url"] = report.url;
  o["model"] = report.model;
  o["started"] = report.started_utc;
  o["interrupted"] = report.interrupted;
  o["lengths_by"] = report.lengths_by;
  if (!options.slo.empty()) {
    o["slo_met"] = report.slo_met;
    o["slo_attainment"] = options.slo_attainment;
  }
  o["config"] = ConfigToJson(options);
  json::array warnings;
  for (const std::string& w : report.warnings) warnings.emplace_back(w);
  o["warnings"] = std::move(warnings);
  if (report.points.size() > 1) {
    json::array points;
    for (const Point& p : report.points) points.push_back(PointToJson(p));
    o["points"] = std::move(points);
    o["best_point"] = report.best;
  }
  return o;
}

}  // namespace baton::bench::serving
