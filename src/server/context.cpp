#include "server/context.h"

namespace baton::server {

std::string_view ModeName(Mode mode) {
  switch (mode) {
    case Mode::kNull: return "null";
    case Mode::kPrefill: return "prefill";
    case Mode::kDecode: return "decode";
  }
  return "null";
}

Status Context::Submit(engine::Request request, const api::Bootstrap& bootstrap, bool want_prompt_logprobs,
                       std::function<void(const disagg::TransferTiming&)> on_transfer) {
  if (prefill) return prefill->Submit(std::move(request), bootstrap);
  if (decode) {
    return decode->Submit(std::move(request), bootstrap, want_prompt_logprobs, std::move(on_transfer));
  }
  return engine->Submit(std::move(request));
}

void Context::Abort(RequestId id) {
  if (prefill) prefill->Abort(id);
  else if (decode) decode->Abort(id);
  else engine->Abort(id);
}

}  // namespace baton::server
