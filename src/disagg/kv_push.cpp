#include "disagg/kv_push.h"

#include <algorithm>

namespace baton::disagg {

KvPush::KvPush(Target target, std::function<void(Status)> on_push_failed,
               std::function<void(Result)> on_end)
    : target_(std::move(target)), on_push_failed_(std::move(on_push_failed)), on_end_(std::move(on_end)) {
  runs_.reserve(target_.pages.size() + 1);
}

void KvPush::OnKvReady(int layer_begin, int layer_end, int token_begin, int token_end,
                       std::span<const PageId> pages) {
  const int page_tokens = target_.layout.page_tokens;
  const int skipped = target_.cached_tokens / page_tokens;
  const int first = std::max(token_begin / page_tokens, skipped);
  const int last = (token_end + page_tokens - 1) / page_tokens;
  if (failed_ || first >= last) return;
  const std::span<const PageId> from = pages.subspan(first, last - first);
  const std::span<const PageId> to = std::span<const PageId>(target_.pages).subspan(first - skipped, last - first);

  runs_.clear();
  const uint64_t layer_bytes = target_.layout.LayerBytes();
  transfer::PlanPages(from, to, {target_.layout.PageBytes(), layer_begin * layer_bytes,
                                 (layer_end - layer_begin) * layer_bytes}, runs_);
  const auto writes = target_.fabric->Push(target_.send, runs_);
  if (!writes.ok()) {
    failed_ = true;
    on_push_failed_(writes.status());
    return;
  }
  writes_ += *writes;
  for (const transfer::Run& run : runs_) bytes_ += run.bytes;
}

void KvPush::OnEnd(const engine::Output& last, std::shared_ptr<engine::KvHold> hold) {
  on_end_(Result{engine::OutputRecord(last), std::move(hold), writes_, bytes_, Now()});
}

}  // namespace baton::disagg
