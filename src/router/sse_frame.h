// Cuts a worker's event stream at event borders, so that the client never gets half an event.
//
// Bytes are passed on as they are. What a piece leaves unfinished is held until the blank line that
// ends the event; in practice a piece holds whole events and nothing is copied. Not thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace baton::router {

class SseFramer {
 public:
  // An event longer than this is an error of the worker.
  static constexpr size_t kMaxEventBytes = size_t{256} << 20;

  // The bytes that may go to the client now: all events complete with `piece`. The view is into
  // `piece` or into the framer and lives until the next call. Nothing behind `data: [DONE]`.
  std::string_view Feed(std::string_view piece);

  bool done() const { return done_; }      // `data: [DONE]` has come
  bool failed() const { return held_.size() > kMaxEventBytes; }
  bool unfinished() const { return !held_.empty(); }
  // The last event with data told of an error.
  bool last_was_error() const { return last_was_error_; }

  // The payload of the first event of `events` (as Feed returned it), without copying; "" when the
  // first event has no single data line.
  static std::string_view FirstPayload(std::string_view events);

 private:
  std::string_view Look(std::string_view events);

  std::string held_;   // the beginning of an unfinished event
  std::string ready_;  // keeps what Feed returned when it had to join pieces
  bool done_ = false;
  bool last_was_error_ = false;
};

}  // namespace baton::router
