// Who failed, what the client is told, and whether another pair may be tried: pure rules.
//
// One attempt has one or two sides. A connection that broke or did not come about counts against the
// worker it belongs to, unless it was this machine that had no descriptor or port for it: that says
// nothing of any worker. An HTTP 5xx is weaker, since a worker also answers 5xx because its peer died. So a
// 5xx counts against its sender only while the twin shows no broken connection and the error does
// not name somebody else ("guilty" in Baton's own errors). 4xx is the client's doing; 408, 429 and
// 503 mean "not now": tried elsewhere, charged to nobody (sglang issues 12355, 31206).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "http/client.h"
#include "router/errors.h"

namespace baton::router {

enum class Side : uint8_t { kPrefill, kDecode, kWorker };
std::string_view SideName(Side side);

enum class FailureKind : uint8_t {
  kNone,
  kLocal,        // the router's own: no descriptor, port or memory for a connection
  kRefused,      // nobody listens at its address
  kUnreachable,  // no connection came about: no route, no answer, no such name, TLS
  kBroken,       // reset, closed early, or declared dead by health checks: it may have had the request
  kHttp,        // answered with an error status
  kTimeout,     // a deadline of the router
  kProtocol,    // answered, but not with what was asked for
};

struct SideFailure {
  FailureKind kind = FailureKind::kNone;
  int status = 0;  // kHttp
  std::string message;
  std::string guilty;  // from the worker's error body
  std::string body, content_type, retry_after;

  explicit operator bool() const { return kind != FailureKind::kNone; }
  // Of its connection, whether that came about or not.
  bool of_connection() const {
    return kind == FailureKind::kRefused || kind == FailureKind::kUnreachable || kind == FailureKind::kBroken;
  }
};

// From a status of http::Client (never OK or kCancelled).
SideFailure FailureOf(const Status& status);
// From an error response.
SideFailure FailureOf(int status, const http::Headers& headers, std::string body);
// From the first event of a stream, when that is an error ({"error":...} or a /generate answer
// aborted with a status): such a request can still be answered properly, or retried.
SideFailure FailureOfFirstEvent(std::string_view payload);

// Is `self` to blame for its failure, given its twin's (kNone when it did not fail)?
bool IsGuilty(Side side, const SideFailure& self, const SideFailure& twin);
// Could the twin's state still change who is to blame, or what the cause is? Then a moment's wait is
// worth it.
bool NeedsEvidence(Side side, const SideFailure& failure);

bool IsRetryable(const SideFailure& failure);

// What the client is told when `failure` of `side` on `url` ends the request.
RouterError Explain(Side side, std::string_view url, const SideFailure& failure);

}  // namespace baton::router
