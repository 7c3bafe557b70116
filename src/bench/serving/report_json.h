// The report as JSON: the keys of the best point at the top, all of them under "points" for a
// sweep. docs/bench-serving.md lists the members.
#pragma once

#include "bench/serving/serving_bench.h"
#include "common/json.h"

namespace baton::bench::serving {

// {"count", "mean", "sd", "min", "p50", "p90", "p95", "p99", "max"}, milliseconds.
json::object ToJson(const Samples& samples);
json::object PointToJson(const Point& point);
json::object ReportToJson(const ServingReport& report, const ServingOptions& options);

}  // namespace baton::bench::serving
