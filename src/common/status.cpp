#include "common/status.h"

#include <array>

namespace baton {

std::string_view CodeName(Code code) {
  static constexpr std::array<std::string_view, kCodeCount> kNames = {
      "ok",          "invalid_argument",  "not_found",   "unauthenticated",    "too_large",
      "out_of_range", "data_corrupt",     "unsupported", "unavailable",        "resource_exhausted",
      "deadline_exceeded", "cancelled",   "internal",    "refused",            "unreachable"};
  return kNames[static_cast<size_t>(code)];
}

std::string Status::ToString() const {
  if (ok()) return "ok";
  return fmt::format("{}: {}", CodeName(code_), message_);
}

void CheckFailed(const char* expression, const char* file, int line, const std::string& detail) {
  fmt::print(stderr, "CHECK failed at {}:{}: {} {}\n", file, line, expression, detail);
  std::abort();
}

}  // namespace baton
