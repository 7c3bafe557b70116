#include "server/stop_matcher.h"

#include <algorithm>

namespace baton::server {
namespace {

// Length of the longest suffix of `text` that is a proper prefix of `stop`.
size_t OverlapAtEnd(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

bool StopMatcher::Push(std::string_view text, std::string& out) {
  if (!matched_.empty()) return true;
  held_ += text;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at < first) {
      first = at;
      matched_ = stop;
    }
  }
  if (first != std::string::npos) {
    out.append(held_, 0, first + (keep_stop_ ? matched_.size() : 0));
    held_.clear();
    return true;
  }
  size_t keep = 0;
  for (const std::string& stop : stops_) keep = std::max(keep, OverlapAtEnd(held_, stop));
  out.append(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return false;
}

void StopMatcher::Flush(std::string& out) {
  out += held_;
  held_.clear();
}

}  // namespace baton::server
