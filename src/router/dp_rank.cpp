#include "router/dp_rank.h"

#include <charconv>

#include <fmt/format.h>

namespace baton::router {

bool HasOldRankMember(std::string_view version) {
  std::array<int, 3> parts{};
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) {
      if (!version.starts_with('.')) return false;
      version.remove_prefix(1);
    }
    const auto [end, error] = std::from_chars(version.data(), version.data() + version.size(), parts[i]);
    if (error != std::errc()) return false;
    version.remove_prefix(static_cast<size_t>(end - version.data()));
  }
  // 0.0.0 is what a build from a source tree without tags says.
  return parts != std::array{0, 0, 0} && parts < std::array{0, 5, 10};
}

bool Combine(const DpRank& prefill, const DpRank& decode) {
  return !decode.old_member || (prefill.given() && prefill.rank == decode.rank);
}

std::string RankMembers(const DpRank& worker) {
  if (!worker.given()) return {};
  return fmt::format("\"{}\":{}", worker.old_member ? "data_parallel_rank" : "routed_dp_rank", worker.rank);
}

std::string DecodeRankMembers(const DpRank& prefill, const DpRank& decode) {
  std::string members = Combine(prefill, decode) ? RankMembers(decode) : std::string();
  if (prefill.given() && !decode.old_member) {
    if (!members.empty()) members += ',';
    members += fmt::format("\"disagg_prefill_dp_rank\":{}", prefill.rank);
  }
  return members;
}

std::optional<RankedUrl> SplitRankedUrl(std::string_view text) {
  const size_t at = text.rfind('@');
  if (at == std::string_view::npos) return std::nullopt;
  RankedUrl out{text.substr(0, at)};
  const auto [end, error] = std::from_chars(text.data() + at + 1, text.data() + text.size(), out.rank);
  if (error != std::errc() || end != text.data() + text.size() || out.rank < 0) return std::nullopt;
  return out;
}

}  // namespace baton::router
