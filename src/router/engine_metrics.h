// All workers' Prometheus texts as one: every sample gets a worker_addr label, samples of one
// family stay together, and HELP and TYPE are told once. Pure.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace baton::router {

// (worker address, its /metrics text) in order. Lines that are no samples are left out.
std::string MergeMetrics(const std::vector<std::pair<std::string, std::string>>& texts);

}  // namespace baton::router
