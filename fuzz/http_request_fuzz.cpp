// Bytes as the server reads them: head scan, byte check, Beast, framing, target, body. What our
// check lets through must be framed the same by Beast's stock parser, whatever the pieces.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <boost/beast/http.hpp>

#include "http/chunk_decoder.h"
#include "http/head_parser.h"
#include "http/request_check.h"

using namespace baton::http;

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

// The request in `bytes`, fed in pieces of `piece` bytes; false when it is refused or unfinished.
bool Parse(std::string_view bytes, size_t piece, Request& request, size_t& used) {
  size_t scanned = 0;
  size_t end = 0;
  size_t have = 0;
  HeadScan scan = HeadScan::kNeedMore;
  while (scan == HeadScan::kNeedMore && have < bytes.size()) {
    have = std::min(have + piece, bytes.size());
    scan = FindHeadEnd(bytes.substr(0, have), scanned, end);
  }
  if (scan != HeadScan::kComplete || CheckHeadBytes(bytes.substr(0, end))) return false;
  RequestHeadParser parser(&request.headers);
  if (parser.Parse(bytes.substr(0, end))) return false;
  request.method = parser.take_method();
  request.target = parser.take_target();
  Framing framing;
  if (CheckFraming(request.headers, parser.version(), framing)) return false;
  if (CheckRequest(request, parser.version())) return false;
  if (ParseTarget(request)) return false;
  Require(request.path == "*" || request.path.starts_with('/'));
  Require(request.path.find('\0') == std::string::npos);
  if (framing.chunked) {
    ChunkDecoder decoder(1 << 20);
    while (!decoder.done()) {
      const std::string_view next = bytes.substr(end, piece);
      const size_t taken = decoder.Decode(next, &request.body);
      end += taken;
      if (decoder.error() || (next.empty() && !decoder.done())) return false;
    }
  } else if (framing.length) {
    if (*framing.length > bytes.size() - end) return false;
    request.body = bytes.substr(end, *framing.length);
    end += *framing.length;
  }
  used = end;
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Request whole;
  size_t used = 0;
  const bool accepted = Parse(bytes, size + 1, whole, used);
  Request pieces;
  size_t used_in_pieces = 0;
  const bool accepted_in_pieces = Parse(bytes, 1 + size % 7, pieces, used_in_pieces);
  Require(accepted == accepted_in_pieces);
  if (!accepted) return 0;
  Require(used == used_in_pieces && whole.body == pieces.body && whole.path == pieces.path);

  boost::beast::http::request_parser<boost::beast::http::string_body> oracle;
  oracle.eager(true);
  oracle.header_limit(UINT32_MAX);
  oracle.body_limit(boost::none);
  boost::system::error_code ec;
  size_t taken = 0;
  while (!ec && !oracle.is_done() && taken < size)
    taken += oracle.put(boost::asio::buffer(bytes.data() + taken, size - taken), ec);
  // The text of extensions is dropped, so ours does not parse it.
  if (ec == boost::beast::http::error::bad_chunk_extension) return 0;
  Require(!ec && oracle.is_done() && taken == used);
  Require(oracle.get().body() == whole.body);
  return 0;
}
