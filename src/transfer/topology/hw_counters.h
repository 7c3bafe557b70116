// Counters that RDMA cards keep themselves, as gauges of /metrics:
//   baton_rdma_hw_<counter>{device="rdmap79s0",port="1"}     /sys/class/infiniband/*/ports/*/hw_counters/*
//   baton_rdma_hw_<counter>{device="rdmap79s0",port=""}      /sys/class/infiniband/*/hw_counters/*
//
// Which ones there are is up to the driver (docs/transfer-engine.md tells EFA's). A file that cannot be
// read, or is gone by then, has no sample in that scrape.
#pragma once

#include <string>

#include "common/metrics.h"

namespace baton::transfer {

// Finds the counters below `root`/sys and adds them; returns how many. The registry reads the files
// whenever it is rendered.
size_t ExportHwCounters(metrics::Registry& registry, const std::string& root = "/");

}  // namespace baton::transfer
