// What each local rail did, for the metrics. Written by the worker, read by anyone; shared so that
// exported metrics outlive the fabric.
#pragma once

#include <string>
#include <vector>

#include "transfer/stats.h"

namespace baton::transfer {

struct RailStats {
  std::string name;
  Stats::Count bytes{0}, writes{0};      // posted
  Stats::Count failures{0};              // times that a path of it was closed
  Stats::Count bytes_per_second{0};      // of its paths lately, as one write sees it
  Stats::Count paths_open{0}, paths_closed{0};  // now, all peers; the rest was never needed
};

struct RailsStats {
  explicit RailsStats(size_t count) : rails(count) {}
  std::vector<RailStats> rails;
};

}  // namespace baton::transfer
