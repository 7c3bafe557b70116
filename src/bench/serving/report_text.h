// The report as a table for a terminal, and the live line while it runs.
#pragma once

#include <string>

#include "bench/serving/serving_bench.h"

namespace baton::bench::serving {

std::string ReportToText(const ServingReport& report, const ServingOptions& options);
// "8 req/s", "16 at once", "trace times" ...
std::string LoadName(const Point& point);
// Without a line end.
std::string ProgressLine(const Tally& tally, double elapsed_s);

}  // namespace baton::bench::serving
