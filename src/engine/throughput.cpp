#include "engine/throughput.h"

#include "common/log.h"

namespace baton::engine {
namespace {

int UsedPages(const Scheduler& s) { return s.pool().total() - s.pool().free_pages() - s.cache().evictable(); }

double Usage(const Scheduler& s) { return static_cast<double>(UsedPages(s)) / s.pool().total(); }

}  // namespace

std::string BatchLog::Fields(bool decode) const {
  std::string fields = pd_fields_ ? pd_fields_(decode) : std::string();
  if (!fields.empty()) fields += ", ";
  return fields;
}

void BatchLog::OnStep(const StepPlan& plan, const Scheduler& scheduler, double prefill_rate,
                      double decode_rate, TimePoint now) {
  if (interval_ <= 0) return;
  new_sequences_ += plan.prefill_sequences;
  new_tokens_ += plan.prefill_tokens;
  cached_tokens_ += plan.cached_tokens;
  if (new_tokens_ > 0 && now - last_prefill_line_ >= 1s) {
    last_prefill_line_ = now;
    PrintPrefill(scheduler, prefill_rate);
  }
  if (plan.decodes > 0 && ++decode_steps_ >= interval_) PrintDecode(scheduler, decode_rate);
}

void BatchLog::OnIdle(const Scheduler& scheduler, double prefill_rate) {
  if (interval_ > 0 && new_tokens_ > 0) PrintPrefill(scheduler, prefill_rate);
}

void BatchLog::PrintPrefill(const Scheduler& scheduler, double rate) {
  log::info(
      "Prefill batch, #new-seq: {}, #new-token: {}, #cached-token: {}, token usage: {:.2f}, "
      "#running-req: {}, #queue-req: {}, {}input throughput (token/s): {:.2f}, cuda graph: False",
      new_sequences_, new_tokens_, cached_tokens_, Usage(scheduler), scheduler.active(),
      scheduler.waiting(), Fields(false), rate);
  new_sequences_ = new_tokens_ = cached_tokens_ = 0;
}

void BatchLog::PrintDecode(const Scheduler& scheduler, double rate) {
  decode_steps_ = 0;
  const int page_tokens = scheduler.options().page_tokens;
  log::info(
      "Decode batch, #running-req: {}, #token: {}, token usage: {:.2f}, {}#retracted-req: {}, "
      "cuda graph: False, gen throughput (token/s): {:.2f}, #queue-req: {}",
      scheduler.active(), UsedPages(scheduler) * page_tokens, Usage(scheduler), Fields(true),
      scheduler.retracted(), rate, scheduler.waiting());
}

}  // namespace baton::engine
