// Event streams: the events must not depend on how the bytes were cut.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "http/sse.h"

namespace {

std::vector<std::string> Events(std::string_view bytes, size_t piece, bool& failed) {
  baton::http::SseParser parser(200);
  std::vector<std::string> events;
  while (!bytes.empty()) {
    const size_t n = std::min(piece, bytes.size());
    parser.Feed(bytes.substr(0, n));
    bytes.remove_prefix(n);
    while (auto event = parser.Next()) events.push_back(std::move(*event));
  }
  failed = parser.failed();
  return events;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  bool failed = false;
  bool failed_in_pieces = false;
  const auto whole = Events(bytes, size + 1, failed);
  const auto pieces = Events(bytes, 1 + size % 9, failed_in_pieces);
  if (failed != failed_in_pieces || whole != pieces) std::abort();
  return 0;
}
