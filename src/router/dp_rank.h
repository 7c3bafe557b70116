// Members of a request body that send it to one data-parallel rank of a worker (--dp-aware).
//
// SGLang before 0.5.10 has one member, data_parallel_rank. On a decode worker it means two things at
// once: the rank that runs the request, and the prefill rank that its KV is fetched from, so there
// both must be the same (or the member stays away: the worker chooses, and finds the prefill rank as
// the room modulo the number of prefill ranks, which the router sees to). Since 0.5.10 there are
// two, routed_dp_rank and disagg_prefill_dp_rank, and any two ranks go together. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace baton::router {

inline constexpr std::array<std::string_view, 3> kRankMembers = {
    "data_parallel_rank", "routed_dp_rank", "disagg_prefill_dp_rank"};

// A rank of a worker. Default: a worker as a whole.
struct DpRank {
  int64_t rank = -1;
  int64_t ranks = 1;        // that the worker has
  bool old_member = false;  // it knows data_parallel_rank only
  bool given() const { return rank >= 0; }
};

// Does a worker of this version know data_parallel_rank only? No, when the version is none of SGLang's.
bool HasOldRankMember(std::string_view version);

// Can a request of this prefill rank be sent to this decode rank? Otherwise the decode worker chooses
// among its ranks itself.
bool Combine(const DpRank& prefill, const DpRank& decode);

// "key":value,...; empty: none.
std::string RankMembers(const DpRank& worker);  // of a prefill or regular worker
std::string DecodeRankMembers(const DpRank& prefill, const DpRank& decode);

// "URL@rank" taken apart; nullopt when there is no rank at the end.
struct RankedUrl {
  std::string_view url;
  int64_t rank = 0;
};
std::optional<RankedUrl> SplitRankedUrl(std::string_view text);

}  // namespace baton::router
