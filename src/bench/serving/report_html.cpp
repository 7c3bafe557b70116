#include "bench/serving/report_html.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "bench/serving/report_text.h"
#include "bench/serving/svg_plot.h"

namespace baton::bench::serving {
namespace {

constexpr std::string_view kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>baton bench serving</title>
<style>
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#667;--rule:#d8dce2;--card:#f6f7f9;
--c0:#2563c9;--c1:#c2410c;--c2:#15803d;--c3:#7e3fb5;--c4:#a16207;--c5:#0e7490}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--fg:#e4e7eb;--dim:#98a2ae;--rule:#333a43;--card:#1c2127;
--c0:#6ea8fe;--c1:#fb923c;--c2:#4ade80;--c3:#c792ea;--c4:#facc15;--c5:#22d3ee}}
body{background:var(--bg);color:var(--fg);font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1200px;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}p.dim{color:var(--dim)}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{border-bottom:1px solid var(--rule);padding:.25rem .7rem;text-align:right}th{color:var(--dim);font-weight:500}
th:first-child,td:first-child,td.text{text-align:left}tr.best td{font-weight:600}
.wide{overflow-x:auto}.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1rem}
svg{background:var(--card);border-radius:8px;width:100%;height:auto}svg text{fill:var(--dim);font:11px system-ui,sans-serif}
svg text.title{fill:var(--fg);font-size:13px;font-weight:600}
.grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--dim);fill:none}.line{fill:none;stroke-width:2}
.line.s0{stroke:var(--c0)}.line.s1{stroke:var(--c1)}.line.s2{stroke:var(--c2)}.line.s3{stroke:var(--c3)}.line.s4{stroke:var(--c4)}.line.s5{stroke:var(--c5)}
.dot.s0{fill:var(--c0)}.dot.s1{fill:var(--c1)}.dot.s2{fill:var(--c2)}.dot.s3{fill:var(--c3)}.dot.s4{fill:var(--c4)}.dot.s5{fill:var(--c5)}
.warn{border-left:4px solid var(--c4);background:var(--card);padding:.4rem .8rem;margin:.4rem 0}
.bad{border-left-color:var(--c1)}
</style></head><body>
)";

std::string LatencyRow(std::string_view name, const Samples& s) {
  if (s.count() == 0) return "";
  return fmt::format(
      "<tr><td>{}</td><td>{:.2f}</td><td>{:.2f}</td><td>{:.2f}</td><td>{:.2f}</td><td>{:.2f}</"
      "td><td>{:.2f}</td></tr>\n",
      name, s.mean(), s.Percentile(50), s.Percentile(90), s.Percentile(95), s.Percentile(99),
      s.max());
}

std::string LatencyTable(const Point& p) {
  const Tally& t = p.result.tally;
  std::string out =
      "<div "
      "class=\"wide\"><table><tr><th>milliseconds</th><th>mean</th><th>p50</th><th>p90</"
      "th><th>p95</th><th>p99</th><th>max</th></tr>\n";
  out += LatencyRow("time to first token", t.ttft);
  if (p.load.open_loop())
    out += LatencyRow("time to first token, from actual sending", t.service_ttft);
  out += LatencyRow("time per output token", t.tpot) + LatencyRow("between tokens", t.itl) +
         LatencyRow("whole request", t.e2e);
  if (p.load.open_loop()) out += LatencyRow("whole request, from actual sending", t.service_e2e);
  return out + "</table></div>\n";
}

std::string ErrorTable(const Tally& t) {
  if (t.errors.empty()) return "";
  std::string out =
      "<div class=\"wide\"><table><tr><th>failure</th><th>count</th><th>first message</th></tr>\n";
  for (const ErrorRow& row : t.errors) {
    out += fmt::format("<tr><td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>\n",
                       FailureName(row.kind), row.count, EscapeHtml(row.first_message));
  }
  return out + "</table></div>\n";
}

Series Distribution(std::string name, const Samples& s) {
  Series series{std::move(name), {}, false};
  for (int i = 0; i <= 100 && s.count() > 0; ++i) series.points.emplace_back(s.Percentile(i), i);
  series.points.emplace_back(s.Percentile(99.5), 99.5);
  std::sort(series.points.begin(), series.points.end());
  return series;
}

Series OverTime(std::string name, const Timeline& line) {
  Series series{std::move(name), {}, false};
  for (size_t i = 0; i < line.slots().size(); ++i) {
    series.points.emplace_back((static_cast<double>(i) + 0.5) * line.slot_s(),
                               line.slots()[i] / line.slot_s());
  }
  return series;
}

Series Dots(std::string name, const Tally& t, float Dot::*value) {
  Series series{std::move(name), {}, true};
  for (const Dot& d : t.dots) series.points.emplace_back(d.at_s, d.*value);
  return series;
}

std::string PointPlots(const Point& p) {
  const Tally& t = p.result.tally;
  std::string out = "<div class=\"plots\">\n";
  out += ToSvg({"Time to first token and whole request, cumulative",
                "milliseconds",
                "% of requests",
                {Distribution("first token", t.ttft), Distribution("whole request", t.e2e)},
                true});
  out += ToSvg({"Gaps between tokens, cumulative",
                "milliseconds",
                "%",
                {Distribution("between tokens", t.itl), Distribution("per output token", t.tpot)},
                true});
  out += ToSvg({"Time to first token over time",
                "intended time of sending, s",
                "milliseconds",
                {Dots("first token", t, &Dot::ttft_ms)},
                false,
                true});
  out += ToSvg({"Whole request over time",
                "intended time of sending, s",
                "milliseconds",
                {Dots("whole request", t, &Dot::e2e_ms)},
                false,
                true});
  out += ToSvg({"Output tokens per second",
                "seconds",
                "tokens/s",
                {OverTime("tokens", t.tokens_over_time)},
                false,
                false,
                true});
  out += ToSvg({"Finished requests per second",
                "seconds",
                "requests/s",
                {OverTime("requests", t.done_over_time)},
                false,
                false,
                true});
  return out + "</div>\n";
}

// One axis varies: its curves. Both do: only the trade between throughput and latency is a plane.
std::string SweepPlots(const ServingReport& report) {
  std::set<double> rates, users;
  for (const Point& p : report.points) {
    rates.insert(p.rate_per_s.value_or(-1));
    users.insert(static_cast<double>(p.concurrency));
  }
  Plot ttft{"Time to first token", "", "milliseconds", {{"p50", {}}, {"p99", {}}}, false, true};
  Plot itl{"Between tokens", "", "milliseconds", {{"p50", {}}, {"p99", {}}}, false, true};
  Plot tokens{
      "Output tokens per second", "", "tokens/s", {{"output tokens/s", {}}}, false, false, true};
  Plot requests{
      "Requests per second", "", "requests/s", {{"all", {}}, {"good", {}}}, false, false, true};
  Plot trade{"Throughput against time per token",
             "output tokens/s",
             "time per token p50, ms",
             {{"points", {}}}};
  for (const Point& p : report.points) {
    const Tally& t = p.result.tally;
    // A point without a rate (inf) has no place on an axis of rates.
    const double x =
        rates.size() > 1 ? p.rate_per_s.value_or(std::nan("")) : static_cast<double>(p.concurrency);
    ttft.series[0].points.emplace_back(x, t.ttft.Percentile(50));
    ttft.series[1].points.emplace_back(x, t.ttft.Percentile(99));
    itl.series[0].points.emplace_back(x, t.itl.Percentile(50));
    itl.series[1].points.emplace_back(x, t.itl.Percentile(99));
    tokens.series[0].points.emplace_back(x, p.PerSecond(t.output_tokens));
    requests.series[0].points.emplace_back(x, p.PerSecond(t.completed));
    if (!t.slo().empty()) requests.series[1].points.emplace_back(x, p.PerSecond(t.good));
    trade.series[0].points.emplace_back(p.PerSecond(t.output_tokens), t.tpot.Percentile(50));
  }
  if (requests.series[1].points.empty()) requests.series.pop_back();
  std::string out = "<div class=\"plots\">\n";
  for (Plot* plot : {&ttft, &itl, &tokens, &requests}) {
    plot->x_label = rates.size() > 1 ? "offered requests/s" : "requests at once";
    if (rates.size() == 1 || users.size() == 1) out += ToSvg(*plot);
  }
  return out + ToSvg(trade) + "</div>\n";
}

std::string SummaryTable(const ServingReport& report) {
  std::string out =
      "<div "
      "class=\"wide\"><table><tr><th>load</th><th>completed</th><th>failed</th><th>seconds</"
      "th><th>req/s</th><th>output tok/s</th>"
      "<th>input tok/s</th><th>at once (mean)</th><th>TTFT p50</th><th>TTFT p99</th><th>TPOT "
      "p50</th><th>ITL p99</th><th>good %</th></tr>\n";
  for (size_t i = 0; i < report.points.size(); ++i) {
    const Point& p = report.points[i];
    const Tally& t = p.result.tally;
    out += fmt::format(
        "<tr{}><td>{}</td><td>{}</td><td>{}</td><td>{:.2f}</td><td>{:.2f}</td><td>{:.1f}</"
        "td><td>{:.1f}</td><td>{:.1f}</td>"
        "<td>{:.2f}</td><td>{:.2f}</td><td>{:.2f}</td><td>{:.2f}</td><td>{}</td></tr>\n",
        i == report.best && report.points.size() > 1 ? " class=\"best\"" : "",
        EscapeHtml(LoadName(p)), t.completed, t.failed, p.seconds(), p.PerSecond(t.completed),
        p.PerSecond(t.output_tokens), p.PerSecond(t.prompt_tokens),
        p.seconds() > 0 ? t.busy_s / p.seconds() : 0, t.ttft.Percentile(50), t.ttft.Percentile(99),
        t.tpot.Percentile(50), t.itl.Percentile(99),
        t.slo().empty() ? "-" : fmt::format("{:.1f}", 100 * p.Attainment()));
  }
  return out + "</table></div>\n";
}

}  // namespace

std::string ReportToHtml(const ServingReport& report, const ServingOptions& options) {
  std::string out(kHead);
  out += fmt::format(
      "<h1>{} at {}</h1>\n<p class=\"dim\">{} &middot; {} &middot; dataset {} &middot; lengths by "
      "{} &middot; seed {}</p>\n",
      EscapeHtml(report.model.empty() ? "model" : report.model), EscapeHtml(report.url),
      report.started_utc, ApiName(options.body.api), DatasetKindName(options.workload.kind),
      EscapeHtml(report.lengths_by), options.seed);
  if (report.interrupted)
    out += "<div class=\"warn bad\">Interrupted: this is what was done until then.</div>\n";
  if (!report.slo_met) {
    out += fmt::format(
        "<div class=\"warn bad\">SLO missed: fewer than {:g} % of the requests within {}.</div>\n",
        100 * options.slo_attainment, EscapeHtml(options.slo.ToString()));
  }
  for (const std::string& w : report.warnings)
    out += fmt::format("<div class=\"warn\">{}</div>\n", EscapeHtml(w));
  out += SummaryTable(report);
  if (report.points.size() > 1) out += "<h2>Sweep</h2>\n" + SweepPlots(report);
  for (const Point& p : report.points) {
    out += fmt::format("<h2>{}</h2>\n", EscapeHtml(LoadName(p))) + LatencyTable(p) +
           ErrorTable(p.result.tally) + PointPlots(p);
    out += fmt::format(
        "<p class=\"dim\">Load generator: {:.2f} &micro;s CPU a token, {:.0f} % of a core, late by "
        "{:.2f} ms (p99).</p>\n",
        p.result.tally.chunks ? p.result.cpu_s * 1e6 / static_cast<double>(p.result.tally.chunks)
                              : 0,
        p.result.wall_s > 0 ? 100 * p.result.cpu_s / p.result.wall_s : 0,
        p.result.loop_lag_ms.Percentile(99));
  }
  return out + "</body></html>\n";
}

}  // namespace baton::bench::serving
