// A service level objective and how many requests met it (goodput).
//
// "ttft=500ms,tpot=50ms,e2e=2s": each limit holds per request; a request is good when all hold.
// Pure. Units us, ms, s; a bare number is milliseconds; ':' is taken for '=' as vLLM's --goodput
// writes it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace baton::bench::serving {

struct Slo {
  std::optional<double> ttft_ms, tpot_ms, e2e_ms, itl_ms;  // itl: the longest gap of a request

  static Result<Slo> Parse(std::string_view text);
  bool empty() const { return !ttft_ms && !tpot_ms && !e2e_ms && !itl_ms; }
  std::string ToString() const;
};

// What one finished request took.
struct RequestLatency {
  double ttft_ms = 0, tpot_ms = 0, e2e_ms = 0, max_itl_ms = 0;
};
bool Meets(const Slo& slo, const RequestLatency& latency);

// "250us", "1.5s", "20": milliseconds.
Result<double> ParseMilliseconds(std::string_view text);

}  // namespace baton::bench::serving
