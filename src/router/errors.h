// Errors that the router itself answers: {"error":{"type","code","message","param"}} plus the
// header X-SMG-Error-Code (specs/sglang-pd-protocol.md 3.1). OpenAI's clients find error.message.
#pragma once

#include <string>
#include <string_view>

#include "http/message.h"

namespace baton::router {

struct RouterError {
  int status = 500;
  std::string code;     // "decode_server_error", for programs
  std::string message;  // cause and way out, for people
  // A worker's own error body, passed on as it came; empty: made from the fields above.
  std::string body;
  std::string content_type;
  std::string retry_after;  // seconds; empty: none
};

http::Response ToResponse(const RouterError& error);
// One SSE event without line breaks inside.
std::string ToSseEvent(const RouterError& error);

// An event of the form {"error":...}, told by its first bytes.
bool IsErrorEvent(std::string_view payload);

// What a worker's error body says, whatever its shape; "" when it says nothing readable.
struct WorkerErrorText {
  std::string message;
  int status = 0;            // error.code when it is an HTTP status, else 0
  std::string guilty;        // error.guilty: "prefill", "decode" or "none"; Baton's servers only
  bool openai_shaped = false;  // has error.message, so clients can read the body as it is
};
WorkerErrorText ReadWorkerError(std::string_view body);

}  // namespace baton::router
