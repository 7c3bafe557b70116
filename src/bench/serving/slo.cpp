#include "bench/serving/slo.h"

#include <charconv>
#include <cmath>

namespace baton::bench::serving {

Result<double> ParseMilliseconds(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  double scale = 0;
  if (unit.empty() || unit == "ms") scale = 1;
  if (unit == "us") scale = 1e-3;
  if (unit == "s") scale = 1e3;
  if (error != std::errc() || scale == 0 || !std::isfinite(value) || value <= 0) {
    return Error(Code::kInvalidArgument, "\"{}\" is not a time above 0 (500ms, 2s, 250us)", text);
  }
  return value * scale;
}

Result<Slo> Slo::Parse(std::string_view text) {
  Slo slo;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    text = comma == std::string_view::npos ? "" : text.substr(comma + 1);
    const size_t equals = part.find_first_of("=:");
    if (equals == std::string_view::npos) {
      return Error(Code::kInvalidArgument, "--slo: \"{}\" is not NAME=TIME (ttft=500ms)", part);
    }
    const std::string_view name = part.substr(0, equals);
    auto* const limit = name == "ttft"                    ? &slo.ttft_ms
                        : name == "tpot"                  ? &slo.tpot_ms
                        : name == "itl"                   ? &slo.itl_ms
                        : name == "e2e" || name == "e2el" ? &slo.e2e_ms
                                                          : nullptr;
    if (limit == nullptr)
      return Error(Code::kInvalidArgument, "--slo: \"{}\" is not ttft, tpot, itl or e2e", name);
    if (*limit) return Error(Code::kInvalidArgument, "--slo: {} is given twice", name);
    auto value = ParseMilliseconds(part.substr(equals + 1));
    if (!value.ok()) return value.status().Prefixed("--slo");
    *limit = *value;
  }
  return slo;
}

std::string Slo::ToString() const {
  std::string out;
  const auto add = [&](std::string_view name, const std::optional<double>& limit) {
    if (limit) out += fmt::format("{}{}={:g}ms", out.empty() ? "" : ",", name, *limit);
  };
  add("ttft", ttft_ms);
  add("tpot", tpot_ms);
  add("itl", itl_ms);
  add("e2e", e2e_ms);
  return out;
}

bool Meets(const Slo& slo, const RequestLatency& latency) {
  return (!slo.ttft_ms || latency.ttft_ms <= *slo.ttft_ms) &&
         (!slo.tpot_ms || latency.tpot_ms <= *slo.tpot_ms) &&
         (!slo.itl_ms || latency.max_itl_ms <= *slo.itl_ms) &&
         (!slo.e2e_ms || latency.e2e_ms <= *slo.e2e_ms);
}

}  // namespace baton::bench::serving
