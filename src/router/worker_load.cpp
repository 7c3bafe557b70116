#include "router/worker_load.h"

#include <algorithm>
#include <cmath>

#include "common/json.h"

namespace baton::router {
namespace {

// A request that nothing is known about, tokens of KV.
constexpr double kTypicalTokens = 1024;
constexpr int64_t kMaxRank = 4095;
constexpr double kMostCounted = 1e15;  // sums of these stay exact

// What no count of a worker can be is no count.
std::optional<int64_t> Number(const json::object& from, std::string_view key) {
  const json::value* found = json::Find(from, key);
  if (!found || !(found->is_int64() || found->is_double())) return std::nullopt;
  const double number = found->to_number<double>();
  if (!(std::abs(number) <= kMostCounted)) return std::nullopt;
  return static_cast<int64_t>(number);
}

bool AddRank(const json::object& rank, bool old_form, LoadReport* sum) {
  const auto tokens = Number(rank, old_form ? "num_tokens" : "num_used_tokens");
  if (!tokens) return false;
  const int64_t waiting = Number(rank, "num_waiting_reqs").value_or(0);
  sum->tokens += *tokens;
  sum->waiting += waiting;
  if (old_form) {
    sum->requests += Number(rank, "num_reqs").value_or(0);
  } else {
    const auto total = Number(rank, "num_total_reqs");
    sum->requests += total ? *total : Number(rank, "num_running_reqs").value_or(0) + waiting;
  }
  if (const auto most = Number(rank, "max_total_num_tokens"); most && *most > 0) {
    sum->capacity = sum->capacity.value_or(0) + *most;
  }
  return true;
}

// A row without a number stands for the rank of its place.
void NoteRank(const json::object& row, bool old_form, size_t place, RankReports* by_rank) {
  const int64_t rank = Number(row, "dp_rank").value_or(static_cast<int64_t>(place));
  LoadReport report;
  if (rank < 0 || rank > kMaxRank || !AddRank(row, old_form, &report)) return;
  if (by_rank->size() <= static_cast<size_t>(rank)) by_rank->resize(static_cast<size_t>(rank) + 1);
  (*by_rank)[static_cast<size_t>(rank)] = report;
}

}  // namespace

std::optional<LoadReport> ReadLoadReport(std::string_view body, RankReports* by_rank) {
  const auto parsed = json::Parse(body);
  if (!parsed.ok()) return std::nullopt;
  const json::value* list = &*parsed;
  const bool old_form = !list->is_object();
  if (!old_form) list = json::Find(list->get_object(), "loads");
  if (!list || !list->is_array() || list->get_array().empty()) return std::nullopt;
  LoadReport sum;
  if (by_rank) by_rank->clear();
  size_t place = 0;
  for (const json::value& rank : list->get_array()) {
    if (!rank.is_object() || !AddRank(rank.get_object(), old_form, &sum)) return std::nullopt;
    if (by_rank) NoteRank(rank.get_object(), old_form, place++, by_rank);
  }
  return sum;
}

void LoadTracker::OnReport(const LoadReport& report, int64_t in_flight, TimePoint now) {
  state_ = State::kKnown;
  report_ = report;
  in_flight_then_ = in_flight;
  at_ = now;
}

LoadEstimate LoadTracker::Estimate(int64_t in_flight, TimePoint now) const {
  LoadEstimate estimate;
  estimate.failing = state_ == State::kFailing;
  if (state_ != State::kKnown || now - at_ > keep_) return estimate;
  estimate.fresh = true;
  const double each = report_.requests > 0 && report_.tokens > 0
                          ? static_cast<double>(report_.tokens) / static_cast<double>(report_.requests)
                          : kTypicalTokens;
  const int64_t since = in_flight - in_flight_then_;
  estimate.tokens =
      std::max(0.0, static_cast<double>(report_.tokens) + static_cast<double>(since) * each);
  estimate.waiting = std::max<int64_t>(0, report_.waiting + since);
  if (report_.capacity) {
    const auto capacity = static_cast<double>(*report_.capacity);
    estimate.usage = estimate.tokens / capacity;
    estimate.free_tokens = static_cast<int64_t>(std::max(0.0, capacity - estimate.tokens));
  }
  return estimate;
}

}  // namespace baton::router
