// Status and Result<T>: how every module reports failure.
//
// Exceptions never cross a module; code that calls a throwing library catches there and returns a
// Status. A Status carries a canonical code (what a caller can act on) and a message for people:
// what was wrong, where, and the way out. `api/errors.h` maps codes to HTTP and to exit codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include <fmt/format.h>

namespace baton {

enum class Code : uint8_t {
  kOk = 0,
  kInvalidArgument,     // The request, flag or file is wrong; retrying cannot help.
  kNotFound,            // The named thing does not exist.
  kUnauthenticated,     // Missing or wrong API key.
  kTooLarge,            // Body, prompt or file over a stated limit.
  kOutOfRange,          // A number outside of its range (offsets and counts in files too).
  kDataCorrupt,         // Bytes from a file or a peer break their format.
  kUnsupported,         // Well formed, but this build or model cannot do it.
  kUnavailable,         // Not now: starting, draining, peer gone. Retry elsewhere or later.
  kResourceExhausted,   // A bound was hit: queue full, no pages, no descriptors. Retry later.
  kDeadlineExceeded,    // A wait ended by its deadline.
  kCancelled,           // The caller or the client went away.
  kInternal,            // A bug or a broken environment.
  // No connection came about, so nothing was sent. Retry elsewhere.
  kRefused,             // Nobody listens at the peer's address: its process is gone.
  kUnreachable,         // No route, no answer, no such name, no TLS: nothing is known of the process.
};
inline constexpr size_t kCodeCount = static_cast<size_t>(Code::kUnreachable) + 1;

// Name as printed in logs and metrics, e.g. "invalid_argument".
std::string_view CodeName(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // OK
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return {}; }

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  // "invalid_argument: top_p must be in (0, 1]" for logs.
  std::string ToString() const;

  // The same failure with `context` in front: "loading model.gguf: ...".
  Status Prefixed(std::string_view context) const {
    return ok() ? Status() : Status(code_, fmt::format("{}: {}", context, message_));
  }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// `Error(Code::kNotFound, "no file {}", path)`.
template <typename... Args>
Status Error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

// A T, or the Status that says why there is none. Never holds an OK status.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {  // NOLINT: implicit
    if (std::get<1>(state_).ok()) {
      std::fprintf(stderr, "CHECK failed: Result made from an OK Status\n");
      std::abort();
    }
  }

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // The failure; OK when there is a value.
  Status status() const { return ok() ? Status() : std::get<1>(state_); }

  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, Status> state_;
};

// Broken invariant: print the state and die. For bugs only, never for input.
[[noreturn]] void CheckFailed(const char* expression, const char* file, int line,
                              const std::string& detail);

}  // namespace baton

#define BATON_CHECK(condition, ...)                                              \
  do {                                                                           \
    if (!(condition)) [[unlikely]]                                               \
      ::baton::CheckFailed(#condition, __FILE__, __LINE__, fmt::format("" __VA_ARGS__)); \
  } while (false)
