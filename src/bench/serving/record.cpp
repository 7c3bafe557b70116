#include "bench/serving/record.h"

#include <algorithm>

namespace baton::bench::serving {
namespace {

constexpr size_t kMaxErrorRows = 64;  // kinds times statuses: far fewer in practice

double PerToken(double from_s, double to_s, uint32_t tokens) {
  return tokens > 1 ? (to_s - from_s) * 1e3 / (tokens - 1) : 0;
}

}  // namespace

std::string_view FailureName(Failure failure) {
  switch (failure) {
    case Failure::kNone:
      return "none";
    case Failure::kConnect:
      return "connect";
    case Failure::kStatus:
      return "status";
    case Failure::kTimeout:
      return "timeout";
    case Failure::kBroken:
      return "broken_stream";
    case Failure::kWrongJson:
      return "wrong_json";
    case Failure::kServerError:
      return "server_error";
    case Failure::kEmpty:
      return "no_tokens";
    case Failure::kCancelled:
      return "cancelled";
  }
  return "?";
}

void Timeline::Add(double at_s, double amount) {
  auto slot = static_cast<size_t>(std::max(at_s, 0.0) / slot_s_);
  while (slot >= kMaxSlots) {
    for (size_t i = 0; i < (slots_.size() + 1) / 2; ++i) {
      slots_[i] = slots_[2 * i] + (2 * i + 1 < slots_.size() ? slots_[2 * i + 1] : 0);
    }
    slots_.resize((slots_.size() + 1) / 2);
    slot_s_ *= 2;
    slot = static_cast<size_t>(at_s / slot_s_);
  }
  if (slots_.size() <= slot) slots_.resize(slot + 1);
  slots_[slot] += amount;
}

void Tally::OnSent(double intended_s, double sent_s) {
  ++sent;
  max_in_flight = std::max(max_in_flight, ++in_flight);
  send_lag.Add(std::max(0.0, sent_s - intended_s) * 1e3);
}

void Tally::AddError(const RequestRecord& record) {
  for (ErrorRow& row : errors) {
    if (row.kind != record.failure || row.http_status != record.http_status) continue;
    ++row.count;
    return;
  }
  if (errors.size() < kMaxErrorRows)
    errors.push_back({record.failure, record.http_status, 1, record.message});
}

void Tally::AddDot(const Dot& dot) {
  if (dot_count_++ % dot_stride_ != 0) return;
  dots.push_back(dot);
  if (dots.size() < kMaxDots) return;
  for (size_t i = 0; i < dots.size() / 2; ++i) dots[i] = dots[2 * i];
  dots.resize(dots.size() / 2);
  dot_stride_ *= 2;
}

void Tally::OnDone(const RequestRecord& r, std::span<const float> gaps_ms) {
  --in_flight;
  last_end_s = std::max(last_end_s, r.end_s);
  busy_s += r.end_s - r.sent_s;
  chunks += r.chunks;
  if (r.failure == Failure::kCancelled) {
    ++cancelled;
    return;
  }
  if (r.failure != Failure::kNone) {
    ++failed;
    AddError(r);
    return;
  }
  ++completed;
  prompt_tokens += r.prompt_tokens;
  cached_tokens += r.cached_tokens;
  output_tokens += r.output_tokens;
  by_usage += r.counted_by_usage;
  with_prompt_tokens += r.has_prompt_tokens;
  RequestLatency latency{(r.first_s - r.intended_s) * 1e3,
                         PerToken(r.first_s, r.end_s, r.output_tokens),
                         (r.end_s - r.intended_s) * 1e3, 0};
  for (const float gap : gaps_ms) {
    itl.Add(gap);
    latency.max_itl_ms = std::max<double>(latency.max_itl_ms, gap);
  }
  ttft.Add(latency.ttft_ms);
  e2e.Add(latency.e2e_ms);
  service_ttft.Add((r.first_s - r.sent_s) * 1e3);
  service_e2e.Add((r.end_s - r.sent_s) * 1e3);
  if (r.output_tokens > 1) tpot.Add(latency.tpot_ms);
  good += Meets(slo_, latency);
  done_over_time.Add(r.end_s, 1);
  AddDot({static_cast<float>(r.intended_s), static_cast<float>(latency.ttft_ms),
          static_cast<float>(latency.e2e_ms), static_cast<float>(latency.tpot_ms)});
}

}  // namespace baton::bench::serving
