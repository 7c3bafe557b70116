// `baton bench transfer`: speed of the transfer engine between two processes or two hosts, every
// byte checked, with what a plain memcpy or a plain socket stream reaches beside it.
//
// The writer (RunTransferBench) drives; the target (ServeTransferBench) grants, receives and checks.
// Times are the writer's: from its first call until it knows that all bytes are in the target's
// memory. Nothing waits without a deadline.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/transfer_link.h"
#include "common/json.h"
#include "common/status.h"
#include "transfer/transfer.h"

namespace baton::bench {

struct TransferBenchOptions {
  transfer::ProviderKind provider = transfer::ProviderKind::kAuto;
  std::string fabric = "auto";  // as transfer::Options
  transfer::WriteMode write_mode = transfer::WriteMode::kAuto;
  bool require_rdma = false;
  std::vector<std::string> rails;  // of this end (transfer.h)
  uint64_t total_mib = 72;
  std::vector<uint64_t> block_kib = {4, 16, 64, 1024};
  uint32_t queue_depth = 1;    // transfers at once of each class; each moves its share of the blocks
  std::vector<transfer::Priority> classes = {transfer::Priority::kDecode};  // that the blocks are shared out to
  bool scattered = true;       // block places in random order on both sides
  bool shared_memory = true;   // pools as the server's; false: private memory
  int local_device = -1, remote_device = -1;  // CUDA ordinals of the pools, each on its own host; -1: host memory
  int rounds = 5;              // the median counts
  int latency_samples = 200;   // transfers of one block, one after another; 0: none
  Duration timeout = 60s;      // of each step
};

// One block size and class. Several classes move at once: then figures are of the class's share, from the
// common start to its own end, and times of single blocks are taken while the others move all they can.
struct TransferBenchRow {
  transfer::Priority priority = transfer::Priority::kDecode;
  std::string provider, fabric, ceiling;  // ceiling: "memcpy", "one copy cuda:0 to cuda:1" or "socket stream"
  uint64_t total_mib = 0, block_kib = 0, blocks = 0;
  double milliseconds = 0, gbps = 0, best_gbps = 0, ceiling_gbps = 0;
  double p50_us = 0, p99_us = 0;  // of one block
  uint64_t wrong = 0;             // bytes, over all rounds
  json::object ToJson(const TransferBenchOptions& options) const;
};

// `on_open` gets the engine's report, `on_row` every row as it is measured. kDataCorrupt when bytes
// were wrong (after all rows).
Status RunTransferBench(TransferLink link, const TransferBenchOptions& options,
                        const std::function<void(const std::string&)>& on_open,
                        const std::function<void(const TransferBenchRow&)>& on_row);

// The other end: serves one writer until it leaves.
Status ServeTransferBench(TransferLink link, Duration timeout, std::vector<std::string> rails = {});

}  // namespace baton::bench
