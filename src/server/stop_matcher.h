// Finds stop strings in text that arrives piece by piece, also across pieces. Text that may be the
// beginning of a stop string is held back until that is decided.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace baton::server {

class StopMatcher {
 public:
  // With keep_stop the stop string stays in the text.
  StopMatcher(std::vector<std::string> stops, bool keep_stop)
      : stops_(std::move(stops)), keep_stop_(keep_stop) {}

  // Appends to `out` what may be shown. Returns true when a stop string ended the text; nothing is
  // shown after that.
  bool Push(std::string_view text, std::string& out);
  // The text ended by other means: the held-back rest may be shown.
  void Flush(std::string& out);
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  bool keep_stop_;
  std::string held_;
  std::string matched_;
};

}  // namespace baton::server
