#include "router/errors.h"

#include "common/json.h"
#include "http/sse.h"
#include "router/json_scan.h"

namespace baton::router {
namespace {

constexpr size_t kMaxQuotedBytes = 2'000;

std::string MakeBody(const RouterError& error) {
  json::object inner;
  inner["type"] = http::ReasonPhrase(error.status);
  inner["code"] = error.code;
  inner["message"] = error.message;
  inner["param"] = nullptr;
  json::object outer;
  outer["error"] = std::move(inner);
  return json::serialize(outer);
}

std::string_view TextOf(const json::object& from, std::string_view key) {
  const json::value* found = json::Find(from, key);
  return found && found->is_string() ? std::string_view(found->get_string()) : std::string_view();
}

void ReadObject(const json::object& error, WorkerErrorText* out) {
  out->message = TextOf(error, "message");
  out->guilty = TextOf(error, "guilty");
  const json::value* code = json::Find(error, "code");
  if (code && code->is_int64() && code->get_int64() >= 400 && code->get_int64() <= 599) {
    out->status = static_cast<int>(code->get_int64());
  }
}

}  // namespace

http::Response ToResponse(const RouterError& error) {
  http::Response response;
  response.status = error.status;
  response.body = error.body.empty() ? MakeBody(error) : error.body;
  response.headers.Set("Content-Type", error.body.empty() || error.content_type.empty()
                                           ? "application/json"
                                           : error.content_type);
  response.headers.Set("X-SMG-Error-Code", error.code);
  if (!error.retry_after.empty()) response.headers.Set("Retry-After", error.retry_after);
  return response;
}

std::string ToSseEvent(const RouterError& error) { return http::SseEvent(MakeBody(error)); }

bool IsErrorEvent(std::string_view payload) {
  const size_t brace = SkipJsonSpace(payload);
  if (brace >= payload.size() || payload[brace] != '{') return false;
  return payload.substr(SkipJsonSpace(payload, brace + 1)).starts_with("\"error\"");
}

WorkerErrorText ReadWorkerError(std::string_view body) {
  WorkerErrorText out;
  const auto parsed = json::Parse(body);
  if (parsed.ok() && parsed->is_object()) {
    const json::object& object = parsed->get_object();
    const json::value* error = json::Find(object, "error");
    if (error && error->is_object()) {
      ReadObject(error->get_object(), &out);
      out.openai_shaped = !out.message.empty();
    } else {
      ReadObject(object, &out);
      if (error && error->is_string()) out.message = std::string_view(error->get_string());
      if (out.message.empty()) out.message = TextOf(object, "detail");
    }
  }
  if (out.message.empty() && json::IsValidUtf8(body)) {
    out.message = body.substr(0, kMaxQuotedBytes);
    while (!json::IsValidUtf8(out.message)) out.message.pop_back();  // cut inside a character
  }
  return out;
}

}  // namespace baton::router
