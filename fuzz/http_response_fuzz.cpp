// Bytes of a server as the client reads them, by the same steps as ClientStream: head scan, byte
// check, Beast, framing, body. Pieces must not change the outcome.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "http/chunk_decoder.h"
#include "http/head_parser.h"
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
  ResponseHeadParser parser(&headers);
  outcome.failed = static_cast<bool>(parser.Parse(bytes.substr(0, end)));
  Framing framing;
  outcome.failed = outcome.failed || CheckFraming(headers, parser.version(), framing);
  if (outcome.failed) return outcome;
  outcome.status = parser.status();
  std::string_view rest = bytes.substr(end);
  if (!framing.chunked) {
    outcome.body = rest.substr(0, framing.length.value_or(rest.size()));
    outcome.done = outcome.body.size() == framing.length.value_or(rest.size());
    return outcome;
  }
  ChunkDecoder decoder(UINT64_MAX);
  while (!rest.empty() && !decoder.done() && !decoder.error())
    rest.remove_prefix(decoder.Decode(rest.substr(0, piece), &outcome.body));
  outcome.done = decoder.done();
  outcome.failed = decoder.error() != nullptr;
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (!(Parse(bytes, size + 1) == Parse(bytes, 1 + size % 5))) std::abort();
  return 0;
}
