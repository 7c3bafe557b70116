// Pushes one request's KV into granted pages as the engine reports it ready. Pages of the two sides may
// differ in size: each token of each layer is written once, wherever page borders fall, so that the
// count of writes is exact.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "disagg/messages.h"
#include "engine/output_record.h"
#include "engine/request.h"
#include "transfer/plan.h"

namespace baton::disagg {

// Lives from start to the engine's last word. Observer methods run on the engine thread.
class KvPush : public engine::PrefillObserver {
 public:
  struct Target {
    transfer::Engine* fabric;
    transfer::SendId send;
    const transfer::PagePlan* plan;  // of our pool to decode's; outlives the push
    std::vector<PageId> pages;       // decode's, for tokens from cached_tokens on
    int cached_tokens;               // decode has these already; a multiple of its page size
  };
  struct Result {
    engine::OutputRecord last;
    std::shared_ptr<engine::KvHold> hold;
    uint32_t writes = 0;
    uint64_t bytes = 0;
    TimePoint ended_at;
    TimePoint last_layer_at{};  // the last layer's keys and values were there; zero: never reported
  };
  // on_push_failed: a push was refused (engine thread, at most once).
  // on_end: the engine is done with the request (engine thread, once).
  KvPush(Target target, std::function<void(Status)> on_push_failed, std::function<void(Result)> on_end);

  void OnKvReady(int layer_begin, int layer_end, int token_begin, int token_end,
                 std::span<const PageId> pages) override;
  void OnEnd(const engine::Output& last, std::shared_ptr<engine::KvHold> hold) override;

 private:
  void Fail(Status why);

  Target target_;
  std::function<void(Status)> on_push_failed_;
  std::function<void(Result)> on_end_;
  std::vector<transfer::Run> runs_;  // reused, as is the next
  transfer::PagePlan::Scratch scratch_;
  uint32_t writes_ = 0;
  uint64_t bytes_ = 0;
  TimePoint last_layer_at_{};
  bool failed_ = false;
};

}  // namespace baton::disagg
