// Cuts a stream of bytes into lines, however the bytes were cut on their way.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace baton::router {

class LineSplitter {
 public:
  explicit LineSplitter(size_t max_bytes) : max_bytes_(max_bytes) {}

  // Appends; false, for good, when a line is longer than max_bytes.
  bool Feed(std::string_view bytes) {
    if (failed_) return false;
    buffer_.erase(0, begin_);
    scanned_ -= begin_;
    begin_ = 0;
    buffer_ += bytes;
    return true;
  }
  // The next complete line without its end; empty lines are skipped. Valid until the next Feed.
  std::optional<std::string_view> Next() {
    while (!failed_) {
      const size_t end = buffer_.find('\n', scanned_);
      if (end == std::string::npos) {
        scanned_ = buffer_.size();
        failed_ = buffer_.size() - begin_ > max_bytes_;
        return std::nullopt;
      }
      std::string_view line = std::string_view(buffer_).substr(begin_, end - begin_);
      begin_ = scanned_ = end + 1;
      failed_ = line.size() > max_bytes_;
      if (failed_) return std::nullopt;
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (!line.empty()) return line;
    }
    return std::nullopt;
  }
  bool failed() const { return failed_; }

 private:
  const size_t max_bytes_;
  std::string buffer_;
  size_t begin_ = 0;
  size_t scanned_ = 0;  // no line ends before it
  bool failed_ = false;
};

}  // namespace baton::router
