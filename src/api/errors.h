// One table from Code to HTTP status, and the error bodies of SGLang's and OpenAI's APIs
// (specs/sglang-pd-protocol.md section 2.1).
#pragma once

#include <string>
#include <string_view>

#include "common/status.h"

namespace baton::api {

struct CodeRow {
  int http_status;
  std::string_view type;  // the OpenAI error type
  bool retryable;         // another worker, or later, may succeed
  int exit_code;          // of a command that ends by it
};
const CodeRow& RowOf(Code code);
inline int HttpStatusOf(Code code) { return RowOf(code).http_status; }

// {"object":"error","message":S,"type":S,"param":P,"code":INT}: /v1 routes of servers, with
// OpenAI's {"error":{...}} nesting beside it so that both kinds of client find the message.
// `guilty` (inside the nested error, left out when empty) tells routers which side of a PD pair
// broke: "prefill", "decode" or "none".
std::string OpenAiError(const Status& status, std::string_view param = {}, std::string_view guilty = {});
// {"error":{"message":S}}: native routes.
std::string NativeError(const Status& status, std::string_view guilty = {});

}  // namespace baton::api
