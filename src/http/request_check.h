// What is refused before and after Beast parses a message head.
//
// Beast takes some heads that two servers in a row could read differently (folded lines, lone CR
// or LF, repeated equal lengths, codings other than chunked). Where readings can differ a request
// can be smuggled past a proxy (RFC 9112 sections 2.2, 5, 6.3, 11.2), so here they are errors.
// Pure functions over bytes; also what fuzz/ runs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "http/message.h"

namespace baton::http {

// Looks for the blank line that ends a head. `scanned` remembers where the last call stopped:
// start with 0 and pass it again as bytes are added at the end.
enum class HeadScan { kNeedMore, kComplete, kBareLineFeed };
HeadScan FindHeadEnd(std::string_view bytes, size_t& scanned, size_t& end);

// The bytes of a whole head, from start line to blank line: what is wrong with them, or nullptr.
// Lines end in CRLF, names are tokens followed at once by ':', no folding, no control characters.
const char* CheckHeadBytes(std::string_view head);

// How a message is framed by its fields, after they were parsed.
struct Framing {
  bool chunked = false;
  std::optional<uint64_t> length;
};
// At most one Content-Length of digits only, or one Transfer-Encoding that is "chunked" alone.
// Returns what is wrong, or nullptr. `version` is 10 or 11.
const char* CheckFraming(const Headers& headers, int version, Framing& framing);

// A refusal that goes to the client.
struct Rejection {
  int status = 400;
  std::string message;
};

// Host, Expect and method, for a request whose head has been parsed.
std::optional<Rejection> CheckRequest(const Request& request, int version);

// Takes the target apart into path and query (percent-decoded). Knows the origin form, the
// absolute form (whose authority then replaces Host, RFC 9112 section 3.2.2; `target` becomes its
// origin form) and "*". Returns what is wrong, or nullptr.
const char* ParseTarget(Request& request);

bool IsTokenByte(char c);

}  // namespace baton::http
