#include "router/access_log.h"

#include <array>
#include <cmath>
#include <ctime>

#include "common/printable.h"

namespace baton::router {

std::string AccessLine(const http::Request& request, const http::Outcome& outcome, double unix_s) {
  const auto whole = static_cast<time_t>(unix_s);
  tm utc{};
  ::gmtime_r(&whole, &utc);
  std::string line;
  line.reserve(512);
  fmt::format_to(std::back_inserter(line), R"({{"time":"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z")",
                 utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                 static_cast<int>((unix_s - std::floor(unix_s)) * 1000));
  const auto text = [&](std::string_view name, std::string_view value) {
    (line += ",\"").append(name).append("\":");
    AppendJsonString(line, value);
  };
  text("request_id", request.id);
  text("client", request.peer);
  text("method", request.method);
  text("path", request.path);
  fmt::format_to(std::back_inserter(line), R"(,"status":{},"bytes":{},"duration_ms":{:.3f})", outcome.status,
                 outcome.body_bytes, Milliseconds(Now() - outcome.received));
  if (outcome.first_byte != TimePoint{}) {
    fmt::format_to(std::back_inserter(line), R"(,"ttft_ms":{:.3f})", Milliseconds(outcome.first_byte - outcome.received));
  }
  if (!outcome.complete) line += R"(,"complete":false)";
  return line.append(outcome.note).append("}");
}

bool IsLogged(const http::Request& request, const http::Outcome& outcome) {
  constexpr std::array<std::string_view, 4> kProbes = {"/health", "/liveness", "/readiness", "/metrics"};
  if (outcome.status != 200) return true;
  for (std::string_view probe : kProbes) {
    if (request.path == probe) return false;
  }
  return true;
}

}  // namespace baton::router
