// Server-sent events as OpenAI's API uses them: `data: <payload>` lines closed by a blank line.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace baton::http {

// "data: {payload}\n\n". The payload holds no line break.
std::string SseEvent(std::string_view payload);
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

// Splits a byte stream into event payloads, whatever the pieces. Lines end in LF or CRLF; several
// data lines of one event are joined by '\n'; comments and other fields are skipped. An event
// larger than max_event_bytes makes `failed()` true. Not thread-safe.
class SseParser {
 public:
  explicit SseParser(size_t max_event_bytes = size_t{64} << 20) : max_bytes_(max_event_bytes) {}
  void Feed(std::string_view bytes);
  std::optional<std::string> Next();  // the next complete payload
  bool failed() const { return failed_; }

 private:
  void TakeLine(std::string_view line);

  size_t max_bytes_;
  std::string buffer_;
  size_t at_ = 0;       // start of the first line that is not taken yet
  size_t scanned_ = 0;  // no LF in [at_, scanned_)
  bool at_start_ = true;  // a byte-order mark may still come
  std::string data_;
  bool has_data_ = false;
  bool failed_ = false;
};

}  // namespace baton::http
