// Server-sent events, after https://html.spec.whatwg.org/multipage/server-sent-events.html
// (section 9.2.6), less what this API never sends: lines that end in a lone CR, and the fields
// event, id and retry.
#include "http/sse.h"

#include <utility>

namespace baton::http {

namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

std::string SseEvent(std::string_view payload) {
  std::string event;
  event.reserve(payload.size() + 8);
  event.append("data: ").append(payload).append("\n\n");
  return event;
}

void SseParser::Feed(std::string_view bytes) {
  if (failed_) return;
  if (at_ == buffer_.size()) {
    buffer_.clear();
    at_ = scanned_ = 0;
  } else if (at_ > 4096 && at_ > buffer_.size() / 2) {
    buffer_.erase(0, at_);
    scanned_ -= at_;
    at_ = 0;
  }
  buffer_.append(bytes);
}

void SseParser::TakeLine(std::string_view line) {
  if (at_start_ && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
  at_start_ = false;
  std::string_view value;
  if (line.starts_with("data:")) {
    value = line.substr(5);
    if (value.starts_with(' ')) value.remove_prefix(1);
  } else if (line != "data") {
    return;
  }
  if (has_data_) data_.push_back('\n');
  data_.append(value);
  has_data_ = true;
}

std::optional<std::string> SseParser::Next() {
  while (!failed_) {
    const size_t newline = buffer_.find('\n', scanned_);
    if (newline == std::string::npos) {
      scanned_ = buffer_.size();
      failed_ = buffer_.size() - at_ > max_bytes_;
      return std::nullopt;
    }
    std::string_view line = std::string_view(buffer_).substr(at_, newline - at_);
    if (line.ends_with('\r')) line.remove_suffix(1);
    at_ = scanned_ = newline + 1;
    if (!line.empty()) {
      TakeLine(line);
      failed_ = data_.size() > max_bytes_;
      continue;
    }
    at_start_ = false;
    if (!has_data_) continue;
    has_data_ = false;
    return std::exchange(data_, {});
  }
  return std::nullopt;
}

}  // namespace baton::http
