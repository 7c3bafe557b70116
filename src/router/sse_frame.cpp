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

}  // namespace

std::string_view SseFramer::Feed(std::string_view piece) {
  if (held_.empty()) {
    const size_t end = LastEventEnd(piece, 0);
    held_.assign(piece.substr(end));
    if (end) LookAtLast(piece.substr(0, end));
    return piece.substr(0, end);
  }
  // A blank line may straddle the border: its last LF is in the new piece in any case.
  const size_t from = held_.size();
  held_ += piece;
  const size_t end = LastEventEnd(held_, from);
  if (!end) return {};
  ready_.assign(held_, 0, end);
  held_.erase(0, end);
  LookAtLast(ready_);
  return ready_;
}

void SseFramer::LookAtLast(std::string_view events) {
  while (!events.empty() && (events.back() == '\n' || events.back() == '\r')) events.remove_suffix(1);
  const size_t line = events.rfind('\n');
  const std::string_view payload =
      PayloadOfLine(line == std::string_view::npos ? events : events.substr(line + 1));
  done_ = payload == "[DONE]";
  last_was_error_ = IsErrorEvent(payload);
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
