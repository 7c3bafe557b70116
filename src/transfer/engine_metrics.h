// An engine's counts as metrics: totals, and per peer and class what moved and how fast.
//
// Series are never taken back, so a peer's are those of its seat (stats.h): peer="0" is the first
// one connected; whoever comes after it is gone goes on with the same series. Who has the seat now is
// in baton_transfer_peer_info, the only series that go.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "common/metrics.h"
#include "transfer/rails/rail_stats.h"
#include "transfer/stats.h"
#include "transfer/transfer.h"

namespace baton::transfer {

class EngineMetrics {
 public:
  // The registry must outlive this; the series may outlive both this and the engine.
  // `rails` may be null.
  EngineMetrics(metrics::Registry& registry, std::shared_ptr<Stats> stats, const FabricReport& report,
                std::shared_ptr<const RailsStats> rails);
  // Adds the series of seats that were taken since, and the names of who took one. Any thread, one at a time.
  void AddSeats();

 private:
  void AddTotals(const FabricReport& report);
  void AddInfo(const FabricReport& report);
  void AddRails(const std::shared_ptr<const RailsStats>& rails);
  void AddName(uint32_t seat);
  void AddNameSeries(uint32_t seat);
  void AddFlow(uint32_t seat, size_t priority);
  void AddTimes(const char* name, const char* help, uint32_t seat, size_t priority,
                Stats::Times Stats::Flow::*times);
  void Add(const char* name, const char* help, const Stats::Count& count, metrics::Labels labels,
           double scale = 1);

  metrics::Registry& registry_;
  const std::shared_ptr<Stats> stats_;
  const metrics::Labels labels_;
  std::array<bool, Stats::kSeats> added_{};
  std::array<std::string, Stats::kSeats> names_;  // with a series
};

}  // namespace baton::transfer
