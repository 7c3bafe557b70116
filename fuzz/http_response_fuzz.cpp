// Bytes of a server as the client reads them, by the same steps as ClientStream: head scan, byte
// check, Beast, framing, body. Pieces must not change the outcome.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "http/parser.h"
#include "http/request_check.h"

using namespace baton::http;

namespace {

struct Outcome {
  int status = 0;
  std::string body;
  bool done = false;
  bool failed = false;
  bool operator==(const Outcome&) const = default;
};

Outcome Parse(std::string_view bytes, size_t piece) {
  Outcome outcome;
  size_t scanned = 0;
  size_t end = 0;
  size_t have = 0;
  HeadScan scan = HeadScan::kNeedMore;
  while (scan == HeadScan::kNeedMore && have < bytes.size()) {
    have = std::min(have + piece, bytes.size());
    scan = FindHeadEnd(bytes.substr(0, have), scanned, end);
  }
  outcome.failed = scan == HeadScan::kBareLineFeed ||
                   (scan == HeadScan::kComplete && CheckHeadBytes(bytes.substr(0, end)));
  if (scan != HeadScan::kComplete || outcome.failed) return outcome;
  Headers headers;
  ResponseParser parser(&headers, &outcome.body, UINT64_MAX);
  boost::system::error_code ec;
  parser.put(boost::asio::buffer(bytes.data(), end), ec);
  Framing framing;
  outcome.failed = (ec && ec != boost::beast::http::error::need_more) ||
                   CheckFraming(headers, parser.version(), framing);
  if (outcome.failed) return outcome;
  outcome.status = parser.status();
  have = std::max(have, end);
  while (!parser.is_done()) {
    const size_t used =
        have > end ? parser.put(boost::asio::buffer(bytes.data() + end, have - end), ec) : 0;
    end += used;
    if (ec && ec != boost::beast::http::error::need_more) {
      // How much of the body came before the error may differ with the pieces.
      outcome.failed = true;
      outcome.body.clear();
      return outcome;
    }
    ec = {};
    if (used > 0 && end < have) continue;
    if (have == bytes.size()) break;
    have = std::min(have + piece, bytes.size());
  }
  if (!parser.is_done()) parser.put_eof(ec);
  outcome.done = parser.is_done();
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (!(Parse(bytes, size + 1) == Parse(bytes, 1 + size % 5))) std::abort();
  return 0;
}
