#include "disagg/kv_push.h"

#include <algorithm>
#include <numeric>

namespace baton::disagg {

KvPush::KvPush(Target target, std::function<void(Status)> on_push_failed,
               std::function<void(Result)> on_end)
    : target_(std::move(target)), on_push_failed_(std::move(on_push_failed)), on_end_(std::move(on_end)) {
  runs_.reserve(target_.pages.size() + 1);
}

void KvPush::OnKvReady(int layer_begin, int layer_end, int token_begin, int token_end,
                       std::span<const PageId> pages) {
  // Of all chunks the last one stays.
  if (static_cast<uint32_t>(layer_end) == target_.plan->source().layers) last_layer_at_ = Now();
  const int first = std::max(token_begin, target_.cached_tokens);
  if (failed_ || first >= token_end) return;
  // The prompt's last page goes to its end where pages are equal: nobody reads what is behind the
  // last token, and keys and values stay one run.
  const auto unit = static_cast<int>(std::gcd(target_.plan->source().page_tokens, target_.plan->target().page_tokens));
  const int last = (token_end + unit - 1) / unit * unit;

  runs_.clear();
  const transfer::PlanRange range{static_cast<uint32_t>(layer_begin), static_cast<uint32_t>(layer_end),
                                  static_cast<uint64_t>(first), static_cast<uint64_t>(last)};
  if (Status s = target_.plan->Append({pages, 0}, {target_.pages, static_cast<uint64_t>(target_.cached_tokens)}, range,
                                      scratch_, runs_);
      !s.ok()) {
    return Fail(std::move(s));
  }
  const auto writes = target_.fabric->Push(target_.send, runs_);
  if (!writes.ok()) return Fail(writes.status());
  writes_ += *writes;
  for (const transfer::Run& run : runs_) bytes_ += run.bytes;
}

void KvPush::Fail(Status why) {
  failed_ = true;
  on_push_failed_(std::move(why));
}

void KvPush::OnEnd(const engine::Output& last, std::shared_ptr<engine::KvHold> hold) {
  on_end_(Result{engine::OutputRecord(last), std::move(hold), writes_, bytes_, Now(), last_layer_at_});
}

}  // namespace baton::disagg
