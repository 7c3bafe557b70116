#include "router/sse_frame.h"

#include "router/errors.h"

namespace baton::router {
namespace {

// The end of the last complete event in `text` (after its blank line), or 0. Looks only at blank
// lines that end beyond `from`.
size_t LastEventEnd(std::string_view text, size_t from) {
  size_t at = text.size();
  while (at > from) {
    const size_t lf = text.rfind('\n', at - 1);
    if (lf == std::string_view::npos || lf < from) return 0;
    if (lf >= 1 && text[lf - 1] == '\n') return lf + 1;
    if (lf >= 2 && text[lf - 1] == '\r' && text[lf - 2] == '\n') return lf + 1;
    at = lf;
  }
  return 0;
}

std::string_view PayloadOfLine(std::string_view line) {
  if (!line.starts_with("data:")) return {};
  line.remove_prefix(5);
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// The end of the first event of `events`, all whole ones, that has the data line [DONE]; 0: none has.
size_t EndOfDone(std::string_view events) {
  constexpr std::string_view kDone = "[DONE]";
  for (size_t at = events.find(kDone); at != std::string_view::npos; at = events.find(kDone, at + 1)) {
    const size_t before = events.rfind('\n', at);
    const size_t begin = before == std::string_view::npos ? 0 : before + 1;
    size_t lf = events.find('\n', at);
    if (PayloadOfLine(events.substr(begin, lf - begin)) != kDone) continue;
    while (lf != std::string_view::npos) {
      const size_t next = events.find('\n', lf + 1);
      const std::string_view line = events.substr(lf + 1, next - lf - 1);
      if (next != std::string_view::npos && (line.empty() || line == "\r")) return next + 1;
      lf = next;
    }
    return events.size();
  }
  return 0;
}

}  // namespace

std::string_view SseFramer::Feed(std::string_view piece) {
  if (done_) return {};
  if (held_.empty()) {
    const size_t end = LastEventEnd(piece, 0);
    const std::string_view events = Look(piece.substr(0, end));
    if (!done_) held_.assign(piece.substr(end));
    return events;
  }
  // A blank line may straddle the border: its last LF is in the new piece in any case.
  const size_t from = held_.size();
  held_ += piece;
  const size_t end = LastEventEnd(held_, from);
  if (!end) return {};
  ready_.assign(held_, 0, end);
  held_.erase(0, end);
  const std::string_view events = Look(ready_);
  if (done_) held_.clear();
  return events;
}

// Whole events: up to and with [DONE] where that is among them.
std::string_view SseFramer::Look(std::string_view events) {
  const size_t end = EndOfDone(events);
  done_ = end != 0;
  if (done_) events = events.substr(0, end);
  // Comments and fields other than data say nothing about it.
  std::string_view left = events;
  while (!left.empty()) {
    left.remove_suffix(1);  // the LF
    const size_t lf = left.rfind('\n');
    const size_t begin = lf == std::string_view::npos ? 0 : lf + 1;
    if (const std::string_view payload = PayloadOfLine(left.substr(begin)); !payload.empty()) {
      last_was_error_ = IsErrorEvent(payload);
      break;
    }
    left = left.substr(0, begin);
  }
  return events;
}

std::string_view SseFramer::FirstPayload(std::string_view events) {
  while (!events.empty()) {
    const size_t lf = events.find('\n');
    const std::string_view line = events.substr(0, lf);
    const std::string_view payload = PayloadOfLine(line);
    if (!payload.empty()) return payload;
    if (lf == std::string_view::npos) return {};
    events.remove_prefix(lf + 1);
  }
  return {};
}

}  // namespace baton::router
