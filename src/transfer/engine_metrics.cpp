#include "transfer/engine_metrics.h"

#include <fmt/ranges.h>

#include <cmath>
#include <string>
#include <utility>

namespace baton::transfer {
namespace {

metrics::Labels With(metrics::Labels labels, std::string name, std::string value) {
  labels.emplace_back(std::move(name), std::move(value));
  return labels;
}

metrics::Labels OfFlow(const metrics::Labels& labels, uint32_t seat, size_t priority) {
  return With(With(labels, "peer", std::to_string(seat)), "class", std::string(PriorityName(static_cast<Priority>(priority))));
}

}  // namespace

EngineMetrics::EngineMetrics(metrics::Registry& registry, std::shared_ptr<Stats> stats,
                             const FabricReport& report, std::shared_ptr<const RailsStats> rails)
    : registry_(registry), stats_(std::move(stats)), labels_({{"provider", report.provider}}) {
  AddTotals(report);
  AddInfo(report);
  if (rails) AddRails(rails);
  AddSeats();
}

void EngineMetrics::AddRails(const std::shared_ptr<const RailsStats>& rails) {
  for (const RailStats& rail : rails->rails) {
    const auto add = [&](const char* name, const char* help, const Stats::Count& count, double scale = 1) {
      registry_.AddCallback(
          name, help, [rails, &count, scale] { return static_cast<double>(Stats::Get(count)) * scale; },
          With(labels_, "rail", rail.name));
    };
    add("baton_transfer_rail_bytes_total", "Bytes of writes posted on the rail", rail.bytes);
    add("baton_transfer_rail_writes_total", "Writes posted on the rail", rail.writes);
    add("baton_transfer_rail_failures_total", "Times that a path of the rail was closed", rail.failures);
    add("baton_transfer_rail_gb_per_second", "Rate of the rail as its writes saw it lately, 10^9 bytes/s",
        rail.bytes_per_second, 1e-9);
    add("baton_transfer_rail_paths_open", "Paths from the rail to peers that work", rail.paths_open);
    add("baton_transfer_rail_paths_closed", "Paths from the rail to peers that failed and are tried again",
        rail.paths_closed);
  }
}

void EngineMetrics::Add(const char* name, const char* help, const Stats::Count& count,
                        metrics::Labels labels, double scale) {
  // The stats stay as long as somebody can read them.
  registry_.AddCallback(
      name, help,
      [stats = stats_, &count, scale] { return static_cast<double>(Stats::Get(count)) * scale; },
      std::move(labels));
}

void EngineMetrics::AddTotals(const FabricReport& report) {
  const Stats& s = *stats_;
  const auto add = [&](const char* name, const char* help, const Stats::Count& count,
                       double scale = 1) { Add(name, help, count, labels_, scale); };
  add("baton_transfer_slots_held", "Receive slots held", s.slots_held);
  add("baton_transfer_slots_quarantined",
      "Slots that failed and are not released: their pages may still be written to",
      s.slots_quarantined);
  add("baton_transfer_sends_live", "Sends begun and not ended", s.sends_live);
  add("baton_transfer_peers", "Peers known", s.peers);
  add("baton_transfer_writes_in_flight", "Writes posted and not completed", s.writes_in_flight);
  add("baton_transfer_stray_writes_total", "Arrivals for no open slot", s.stray_writes);
  add("baton_transfer_bytes_sent_total", "Bytes of posted writes", s.bytes_sent);
  add("baton_transfer_bytes_received_total", "Bytes of arrivals, where the provider tells",
      s.bytes_received);
  add("baton_transfer_writes_sent_total", "Writes posted", s.writes_sent);
  add("baton_transfer_writes_received_total", "Arrivals counted", s.writes_received);
  add("baton_transfer_receives_done_total", "Slots completed", s.receives_done);
  add("baton_transfer_receives_failed_total", "Slots failed", s.receives_failed);
  add("baton_transfer_sends_done_total", "Sends completed", s.sends_done);
  add("baton_transfer_sends_failed_total", "Sends failed", s.sends_failed);
  add("baton_transfer_peers_lost_total", "Peers reported lost", s.peers_lost);
  add("baton_transfer_write_errors_total", "Writes that failed", s.write_errors);
  add("baton_transfer_fabric_busy_total", "Posts put off because the fabric was busy",
      s.fabric_busy);
  add("baton_transfer_deadlines_total", "Slots and sends ended by their deadline", s.deadlines);
  add("baton_transfer_fences_asked_total", "Times that a peer was asked to fence writes in doubt",
      s.fences_asked);
  add("baton_transfer_sends_repeated_total", "Sends begun anew after the loss of a rail",
      s.sends_repeated);
  add("baton_transfer_hellos_sent_total", "Mails that ask a peer for a sign of life", s.hellos_sent);
  add("baton_transfer_credits_sent_total", "Mails that grant credits", s.credits_sent);
  add("baton_transfer_credits_held",
      "Completion queue entries promised to peers; 0 where the queue has no bound", s.credits_held);
  add("baton_transfer_checksums_checked_total", "Writes verified by checksum", s.checksums_checked);
  add("baton_transfer_checksum_errors_total", "Writes whose checksum differed", s.checksum_errors);
  add("baton_transfer_registrations_total", "Memory regions registered", s.registrations);
  add("baton_transfer_registration_ms_total", "Milliseconds spent on registering memory",
      s.registration_us, 1e-3);
  add("baton_transfer_worker_steps_total", "Turns of the transfer worker", s.steps);
  const double gbps = report.self_test_gb_per_s;
  registry_.AddCallback("baton_transfer_self_test_gb_per_second",
                        "Start-up self-test, 10^9 bytes/s", [gbps] { return gbps; }, labels_);
  const double rdma = report.hardware_rdma ? 1 : 0;
  registry_.AddCallback("baton_transfer_hardware_rdma", "1 when writes are done by RDMA hardware",
                        [rdma] { return rdma; }, labels_);
}

// What was chosen at start, as labels: the value is always 1.
void EngineMetrics::AddInfo(const FabricReport& report) {
  metrics::Labels labels = labels_;
  labels.insert(labels.end(), {{"fabric", report.fabric},
                               {"rails", fmt::format("{}", fmt::join(report.rails, ","))},
                               {"write_path", report.write_path},
                               {"rdma", report.hardware_rdma ? "yes" : "no"},
                               {"libfabric", report.libfabric_version},
                               {"nixl", report.nixl_version}});
  registry_.AddCallback("baton_transfer_info", "The data plane that was chosen at start", [] { return 1.0; },
                        std::move(labels));
}

void EngineMetrics::AddSeats() {
  for (uint32_t i = 0; i < Stats::kSeats; ++i) {
    const Stats::Seat& seat = stats_->seats[i];
    if (seat.used) AddName(i);
    if (added_[i] || !seat.used) continue;
    added_[i] = true;
    const metrics::Labels labels = With(labels_, "peer", std::to_string(i));
    Add("baton_transfer_peer_credit_stalls_total", "Times that no credit was left to write",
        seat.credit_stalls, labels);
    Add("baton_transfer_peer_credit_stalled_seconds_total", "Time without a credit to write",
        seat.credit_stalled_us, labels, 1e-6);
    Add("baton_transfer_peer_received_bytes_total", "Bytes that the peer wrote here",
        seat.bytes_received, labels);
    Add("baton_transfer_peer_received_writes_total", "Writes of the peer that arrived",
        seat.writes_received, labels);
    Add("baton_transfer_peer_data_in_flight_bytes", "Data posted to the peer and not completed",
        seat.data_in_flight, labels);
    Add("baton_transfer_peer_data_limit_bytes", "Most data in flight to the peer, so that control does not wait",
        seat.data_limit, labels);
    for (size_t priority = 0; priority < kPriorities; ++priority) AddFlow(i, priority);
  }
}

void EngineMetrics::AddName(uint32_t seat) {
  const std::string name = stats_->seats[seat].name.Get(), before = std::exchange(names_[seat], name);
  if (name == before) return;
  if (!before.empty()) {
    registry_.Drop("peer_address", before);
    for (uint32_t other = 0; other < Stats::kSeats; ++other)  // a process may have had several seats
      if (names_[other] == before) AddNameSeries(other);
  }
  if (!name.empty()) AddNameSeries(seat);
}

void EngineMetrics::AddNameSeries(uint32_t seat) {
  registry_.AddCallback("baton_transfer_peer_info", "Who has the seat that `peer` names, by address",
                        [stats = stats_, seat] { return stats->seats[seat].taken ? 1.0 : NAN; },
                        With(With(labels_, "peer", std::to_string(seat)), "peer_address", names_[seat]));
}

void EngineMetrics::AddFlow(uint32_t seat, size_t priority) {
  const Stats::Flow& flow = stats_->seats[seat].flows[priority];
  const metrics::Labels labels = OfFlow(labels_, seat, priority);
  Add("baton_transfer_peer_bytes_total", "Bytes written to the peer", flow.bytes, labels);
  Add("baton_transfer_peer_writes_total", "Writes to the peer", flow.writes, labels);
  Add("baton_transfer_peer_runs_total", "Runs that these writes came from", flow.runs, labels);
  Add("baton_transfer_peer_sends_done_total", "Sends to the peer that completed", flow.sends_done,
      labels);
  Add("baton_transfer_peer_sends_failed_total", "Sends to the peer that failed", flow.sends_failed,
      labels);
  // Bytes per write over bytes per page says how well pages joined.
  registry_.AddCallback(
      "baton_transfer_peer_bytes_per_write", "Mean size of a write: how well runs coalesce",
      [stats = stats_, &flow] {
        const auto writes = static_cast<double>(Stats::Get(flow.writes));
        return writes > 0 ? static_cast<double>(Stats::Get(flow.bytes)) / writes : 0;
      },
      labels);
  AddTimes("baton_transfer_peer_write_seconds", "Post of a write to its completion", seat, priority,
           &Stats::Flow::write_time);
  AddTimes("baton_transfer_peer_first_write_wait_seconds", "Begin of a send to its first write",
           seat, priority, &Stats::Flow::first_wait);
}

// Cumulative buckets in Prometheus' form, read from counts by powers of two.
void EngineMetrics::AddTimes(const char* name, const char* help, uint32_t seat, size_t priority,
                             Stats::Times Stats::Flow::*member) {
  const Stats::Times& times = stats_->seats[seat].flows[priority].*member;
  const metrics::Labels labels = OfFlow(labels_, seat, priority);
  const auto below = [stats = stats_, &times](size_t buckets) {
    double count = 0;
    for (size_t i = 0; i < buckets; ++i) count += static_cast<double>(Stats::Get(times.buckets[i]));
    return count;
  };
  // Every second power: 1 us, 4 us ... 1 s.
  for (size_t i = 0; i + 1 < Stats::Times::kBuckets; i += 2)
    registry_.AddCallback(
        std::string(name) + "_bucket", help, [below, i] { return below(i + 1); },
        With(labels, "le", fmt::format("{:g}", static_cast<double>(uint64_t{1} << i) * 1e-6)));
  registry_.AddCallback(
      std::string(name) + "_bucket", help, [below] { return below(Stats::Times::kBuckets); },
      With(labels, "le", "+Inf"));
  registry_.AddCallback(
      std::string(name) + "_count", help, [below] { return below(Stats::Times::kBuckets); }, labels);
  Add((std::string(name) + "_sum").c_str(), help, times.sum_us, labels, 1e-6);
}

}  // namespace baton::transfer
