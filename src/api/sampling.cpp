#include "api/sampling.h"

#include <cmath>

namespace baton::api {
namespace {

// NaN is inside of no range.
bool Within(double value, double low, double high) { return value >= low && value <= high; }

Status CheckRange(const char* field, double value, double low, double high) {
  if (Within(value, low, high)) return Status::Ok();
  return Error(Code::kInvalidArgument, "{} must be between {:g} and {:g}, got {:g}", field, low, high, value);
}

Status CheckTokenId(const char* field, int32_t id, int vocab) {
  if (id >= 0 && id < vocab) return Status::Ok();
  return Error(Code::kInvalidArgument, "{} holds token id {}; the model's ids are 0 to {}", field, id, vocab - 1);
}

Status CheckLengths(const SamplingParams& params) {
  if (params.max_new_tokens < -1) {
    return Error(Code::kInvalidArgument,
                 "max_new_tokens must be at least 0, or -1 for the rest of the context; got {}",
                 params.max_new_tokens);
  }
  if (params.min_new_tokens < 0 ||
      (params.max_new_tokens >= 0 && params.min_new_tokens > params.max_new_tokens)) {
    return Error(Code::kInvalidArgument,
                 "min_new_tokens must be between 0 and max_new_tokens ({}), got {}",
                 params.max_new_tokens, params.min_new_tokens);
  }
  if (params.n < 1 || params.n > 128) {
    return Error(Code::kInvalidArgument, "n must be between 1 and 128, got {}", params.n);
  }
  return Status::Ok();
}

Status CheckFilters(const SamplingParams& params) {
  if (!(params.temperature >= 0) || !std::isfinite(params.temperature)) {
    return Error(Code::kInvalidArgument, "temperature must be a number of at least 0, got {:g}",
                 params.temperature);
  }
  if (!(params.top_p > 0 && params.top_p <= 1)) {
    return Error(Code::kInvalidArgument, "top_p must be above 0 and at most 1, got {:g}", params.top_p);
  }
  if (params.top_k < -1) {
    return Error(Code::kInvalidArgument, "top_k must be at least 1, or 0 or -1 for all tokens; got {}",
                 params.top_k);
  }
  return CheckRange("min_p", params.min_p, 0, 1);
}

Status CheckPenalties(const SamplingParams& params) {
  if (Status s = CheckRange("frequency_penalty", params.frequency_penalty, -2, 2); !s.ok()) return s;
  if (Status s = CheckRange("presence_penalty", params.presence_penalty, -2, 2); !s.ok()) return s;
  if (!(params.repetition_penalty > 0 && params.repetition_penalty <= 2)) {
    return Error(Code::kInvalidArgument, "repetition_penalty must be above 0 and at most 2, got {:g}",
                 params.repetition_penalty);
  }
  return Status::Ok();
}

Status CheckIds(const SamplingParams& params, int vocab) {
  for (const auto& [id, bias] : params.logit_bias) {
    if (Status s = CheckTokenId("logit_bias", id, vocab); !s.ok()) return s;
    if (Status s = CheckRange("logit_bias", bias, -100, 100); !s.ok()) return s;
  }
  for (const int32_t id : params.stop_token_ids) {
    if (Status s = CheckTokenId("stop_token_ids", id, vocab); !s.ok()) return s;
  }
  for (const std::string& stop : params.stop) {
    if (stop.empty()) return Error(Code::kInvalidArgument, "stop must not hold an empty string");
  }
  return Status::Ok();
}

}  // namespace

Status Validate(const SamplingParams& params, int vocab) {
  if (Status s = CheckLengths(params); !s.ok()) return s;
  if (Status s = CheckFilters(params); !s.ok()) return s;
  if (Status s = CheckPenalties(params); !s.ok()) return s;
  return CheckIds(params, vocab);
}

}  // namespace baton::api
