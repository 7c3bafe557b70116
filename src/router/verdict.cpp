#include "router/verdict.h"

#include "common/json.h"

namespace baton::router {
namespace {

std::string_view CodeSuffix(int status) {
  switch (status) {
    case 400: return "bad_request";
    case 404: return "not_found";
    case 500: return "internal_error";
    case 502: return "bad_gateway";
    case 503: return "unavailable";
    default: return "error";
  }
}

bool IsOverload(int status) { return status == 408 || status == 429 || status == 503; }

// meta_info.finish_reason of a /generate event, when it says abort with a status.
SideFailure AbortOf(const json::object& event) {
  const json::value* meta = json::Find(event, "meta_info");
  if (!meta || !meta->is_object()) return {};
  const json::value* reason = json::Find(meta->get_object(), "finish_reason");
  if (!reason || !reason->is_object()) return {};
  const json::object& r = reason->get_object();
  const json::value* type = json::Find(r, "type");
  const json::value* status = json::Find(r, "status_code");
  if (!type || !type->is_string() || type->get_string() != "abort") return {};
  if (!status || !status->is_int64() || status->get_int64() < 400 || status->get_int64() > 599) return {};
  SideFailure failure;
  failure.kind = FailureKind::kHttp;
  failure.status = static_cast<int>(status->get_int64());
  const json::value* message = json::Find(r, "message");
  if (message && message->is_string()) failure.message = std::string_view(message->get_string());
  const json::value* guilty = json::Find(r, "guilty");
  if (guilty && guilty->is_string()) failure.guilty = std::string_view(guilty->get_string());
  return failure;
}

}  // namespace

std::string_view SideName(Side side) {
  switch (side) {
    case Side::kPrefill: return "prefill";
    case Side::kDecode: return "decode";
    case Side::kWorker: return "worker";
  }
  return "";
}

SideFailure FailureOf(const Status& status) {
  SideFailure failure;
  failure.message = status.message();
  switch (status.code()) {
    case Code::kDeadlineExceeded: failure.kind = FailureKind::kTimeout; break;
    case Code::kTooLarge:
    case Code::kDataCorrupt: failure.kind = FailureKind::kProtocol; break;
    case Code::kRefused: failure.kind = FailureKind::kRefused; break;
    case Code::kUnreachable: failure.kind = FailureKind::kUnreachable; break;
    case Code::kResourceExhausted:
    case Code::kInvalidArgument: failure.kind = FailureKind::kLocal; break;  // the latter: our TLS files
    default: failure.kind = FailureKind::kBroken; break;
  }
  return failure;
}

SideFailure FailureOf(int status, const http::Headers& headers, std::string body) {
  SideFailure failure;
  WorkerErrorText text = ReadWorkerError(body);
  failure.kind = FailureKind::kHttp;
  failure.status = status;
  failure.message = std::move(text.message);
  failure.guilty = std::move(text.guilty);
  failure.retry_after = headers.Get("Retry-After");
  if (text.openai_shaped) {
    failure.body = std::move(body);
    failure.content_type = headers.Get("Content-Type");
  }
  return failure;
}

SideFailure FailureOfFirstEvent(std::string_view payload) {
  // Parsing every first event would cost more than the rest of the request.
  const bool error = IsErrorEvent(payload);
  if (!error && payload.find("\"abort\"") == std::string_view::npos) return {};
  const auto parsed = json::Parse(payload);
  if (!parsed.ok() || !parsed->is_object()) return {};
  if (!error) return AbortOf(parsed->get_object());
  if (!json::Find(parsed->get_object(), "error")) return {};
  const WorkerErrorText text = ReadWorkerError(payload);
  return FailureOf(text.status ? text.status : 500, {}, std::string(payload));
}

bool IsGuilty(Side side, const SideFailure& self, const SideFailure& twin) {
  switch (self.kind) {
    case FailureKind::kRefused:
    case FailureKind::kUnreachable:
    case FailureKind::kBroken:
    case FailureKind::kProtocol: return true;
    case FailureKind::kNone:
    case FailureKind::kLocal:
    case FailureKind::kTimeout: return false;  // nobody can tell which side was waited for
    case FailureKind::kHttp: break;
  }
  if (self.status < 500 || IsOverload(self.status)) return false;
  if (!self.guilty.empty()) return self.guilty == SideName(side);
  return !twin.of_connection() && twin.kind != FailureKind::kLocal;
}

bool NeedsEvidence(Side side, const SideFailure& failure) {
  if (failure.kind != FailureKind::kHttp || failure.status < 500) return false;
  return failure.guilty.empty() || (failure.guilty != SideName(side) && failure.guilty != "none");
}

bool IsRetryable(const SideFailure& failure) {
  switch (failure.kind) {
    case FailureKind::kLocal:
    case FailureKind::kRefused:
    case FailureKind::kUnreachable:
    case FailureKind::kBroken:
    case FailureKind::kProtocol: return true;
    case FailureKind::kNone:
    case FailureKind::kTimeout: return false;  // its time is used up
    case FailureKind::kHttp: break;
  }
  const int s = failure.status;
  return IsOverload(s) || s == 500 || s == 502 || s == 504;
}

RouterError Explain(Side side, std::string_view url, const SideFailure& failure) {
  RouterError error;
  const std::string_view name = SideName(side);
  const std::string worker = fmt::format("{}worker {}", side == Side::kWorker ? "" : fmt::format("{} ", name), url);
  switch (failure.kind) {
    case FailureKind::kTimeout:
      error.status = 504;
      error.code = fmt::format("{}_timeout", name);
      error.message = fmt::format("{} did not answer in time: {}", worker, failure.message);
      return error;
    case FailureKind::kLocal:
      error.status = 503;
      error.code = "router_cannot_connect";
      error.retry_after = "1";
      error.message = fmt::format("the router cannot connect to {}: {}", worker, failure.message);
      return error;
    case FailureKind::kHttp: break;
    default:
      error.status = 502;
      error.code = fmt::format("{}_server_error", name);
      error.message = fmt::format("{} failed: {}", worker, failure.message);
      return error;
  }
  error.status = failure.status;
  error.code = fmt::format("{}_{}", name, CodeSuffix(failure.status));
  error.retry_after = failure.retry_after;
  if (failure.status < 500) {
    // The client's own mistake: the worker's words as they are.
    error.message = failure.message;
    error.body = failure.body;
    error.content_type = failure.content_type;
    if (error.message.empty()) error.message = fmt::format("{} answered {}", worker, failure.status);
    return error;
  }
  error.message = fmt::format("{} answered {}: {}", worker, failure.status,
                              failure.message.empty() ? http::ReasonPhrase(failure.status)
                                                      : std::string_view(failure.message));
  return error;
}

}  // namespace baton::router
