#include "common/log_lines.h"

#include <algorithm>

#include "common/log.h"

namespace baton::log {

void WarnLines(std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    warn("{}", text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

}  // namespace baton::log
