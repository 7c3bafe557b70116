#include "api/errors.h"

#include <array>

#include "common/json.h"

namespace baton::api {

const CodeRow& RowOf(Code code) {
  static constexpr std::array<CodeRow, kCodeCount> kRows = {{
      {200, "", false, 0},                        // ok
      {400, "invalid_request_error", false, 2},   // invalid_argument
      {404, "not_found_error", false, 2},         // not_found
      {401, "authentication_error", false, 2},    // unauthenticated
      {413, "invalid_request_error", false, 2},   // too_large
      {400, "invalid_request_error", false, 2},   // out_of_range
      {502, "bad_gateway_error", true, 3},        // data_corrupt: from a peer; files say it at start
      {501, "unsupported_error", false, 2},       // unsupported
      {503, "service_unavailable_error", true, 4},   // unavailable
      {503, "overloaded_error", true, 4},            // resource_exhausted
      {504, "timeout_error", true, 4},               // deadline_exceeded
      {499, "client_closed_request", false, 5},      // cancelled
      {500, "internal_server_error", true, 1},       // internal
      {503, "service_unavailable_error", true, 4},   // refused
      {503, "service_unavailable_error", true, 4},   // unreachable
  }};
  return kRows[static_cast<size_t>(code)];
}

std::string OpenAiError(const Status& status, std::string_view param, std::string_view guilty) {
  const CodeRow& row = RowOf(status.code());
  json::object inner;
  inner["message"] = status.message();
  inner["type"] = row.type;
  if (param.empty()) inner["param"] = nullptr;
  else inner["param"] = param;
  inner["code"] = row.http_status;
  json::object body{{"object", "error"}};
  for (const auto& field : inner) body[field.key()] = field.value();
  if (!guilty.empty()) inner["guilty"] = guilty;
  body["error"] = std::move(inner);
  return json::serialize(body);
}

std::string NativeError(const Status& status, std::string_view guilty) {
  json::object inner{{"message", status.message()}};
  if (!guilty.empty()) inner["guilty"] = guilty;
  return json::serialize(json::object{{"error", std::move(inner)}});
}

}  // namespace baton::api
