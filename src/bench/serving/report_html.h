// The report as one HTML file: tables and plots (inline SVG), no script, nothing loaded from
// elsewhere. Colours follow the reader's dark or light setting.
#pragma once

#include <string>

#include "bench/serving/serving_bench.h"

namespace baton::bench::serving {

std::string ReportToHtml(const ServingReport& report, const ServingOptions& options);

}  // namespace baton::bench::serving
