// One step of the engine: forward, sample, commit, emit. Takes no lock and, once its scratch has
// grown, allocates nothing for requests without prompt logprobs.
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/engine_impl.h"

namespace baton::engine {

void Engine::Impl::Step(const StepPlan& plan) {
  const TimePoint begin = Now();
  batch.Build(plan);
  ReportCachedKv(plan);
  current_plan = &plan;
  const std::span<const float> logits = model->Forward(batch.input(&layer_done), kv);
  size_t row = 0;
  const size_t vocab = static_cast<size_t>(model->config().vocab);
  for (const PlanItem& item : plan.items) {
    const size_t rows = static_cast<size_t>(item.logit_end - item.logit_begin);
    FinishItem(item, logits.subspan(row * vocab, rows * vocab));
    row += rows;
  }
  current_plan = nullptr;
  const TimePoint end = Now();
  ++steps;
  progress = end.time_since_epoch().count();
  if (plan.prefill_tokens > 0) prefill_rate.Add(plan.prefill_tokens, end - begin);
  if (plan.decodes > 0) decode_rate.Add(plan.decodes, end - begin);
  batch_log.OnStep(plan, scheduler, prefill_rate.rate(), decode_rate.rate(), end);
}

// Tells observers of pages that came from the prefix cache, before the first layer that is computed.
void Engine::Impl::ReportCachedKv(const StepPlan& plan) {
  for (const PlanItem& item : plan.items) {
    Sequence& sequence = *item.sequence;
    const int ready = item.begin - item.begin % options.page_tokens;
    if (!sequence.prefill_only() || ready <= sequence.reported) continue;
    sequence.request.observer->OnKvReady(0, kv.layout.layers, sequence.reported, ready, sequence.pages);
    sequence.reported = ready;
  }
}

void Engine::Impl::ReportLayer(int layer) {
  for (const PlanItem& item : current_plan->items) {
    Sequence& sequence = *item.sequence;
    if (!sequence.prefill_only()) continue;
    const int end = item.begin + item.count;
    const int ready = item.completes ? end : end - end % options.page_tokens;
    if (ready <= sequence.reported) continue;
    sequence.request.observer->OnKvReady(layer, layer + 1, sequence.reported, ready, sequence.pages);
    if (layer + 1 == kv.layout.layers) sequence.reported = ready;
  }
}

void Engine::Impl::FinishItem(const PlanItem& item, std::span<const float> rows) {
  Sequence& sequence = *item.sequence;
  const LogprobRequest& logprobs = sequence.request.logprobs;
  if (sequence.wants_prompt_logprobs()) CollectPromptLogprobs(sequence, item, rows);
  int32_t token = 0;
  if (item.samples) {
    const std::span<const float> last = rows.last(static_cast<size_t>(model->config().vocab));
    Result<int32_t> sampled = SampleNext(sequence, last);
    if (!sampled.ok()) {
      Output output = MakeOutput(sequence);
      output.finish = Finish::kFailed;
      output.status = sampled.status();
      EmitEnd(scheduler.Retire(sequence), output);
      return;
    }
    token = *sampled;
    if (logprobs.enabled) sampler.LogProbs(last, token, logprobs, logprob);
  }
  const bool first = !sequence.started;
  const Progress done = scheduler.Commit(item, token);
  if (!done.has_token && done.finish == Finish::kRunning) return;  // a chunk in the middle
  if (done.has_token && sequence.first_token_at == TimePoint{}) sequence.first_token_at = Now();
  Output output = MakeOutput(sequence);
  output.has_token = done.has_token;
  output.token = token;
  output.output_index = sequence.outputs() - 1;
  output.finish = done.finish;
  output.stop_token = done.stop_token;
  if (done.has_token && logprobs.enabled) output.logprob = &logprob;
  if (first) output.prompt_logprobs = sequence.prompt_logprobs;
  if (done.finish == Finish::kRunning) {
    Emit(sequence, output);
  } else {
    EmitEnd(scheduler.Retire(sequence), output);
  }
}

// Row i of the item is read behind token logit_begin + i, so it scores the token after that.
void Engine::Impl::CollectPromptLogprobs(Sequence& sequence, const PlanItem& item,
                                         std::span<const float> rows) {
  const LogprobRequest& request = sequence.request.logprobs;
  std::vector<TokenLogprob>& out = sequence.prompt_logprobs;
  if (out.empty() && request.prompt_start == 0) {
    out.push_back({.token = sequence.tokens[0], .logprob = std::numeric_limits<float>::quiet_NaN()});
  }
  const size_t vocab = static_cast<size_t>(model->config().vocab);
  for (int position = item.logit_begin; position < item.logit_end; ++position) {
    const int scored = position + 1;
    if (scored < request.prompt_start || scored >= sequence.length()) continue;
    const size_t row = static_cast<size_t>(position - item.logit_begin);
    sampler.LogProbs(rows.subspan(row * vocab, vocab), sequence.tokens[static_cast<size_t>(scored)],
                     request, out.emplace_back());
  }
}

Result<int32_t> Engine::Impl::SampleNext(const Sequence& sequence, std::span<const float> logits) {
  const api::SamplingParams& params = sequence.request.sampling;
  SampleInput input{.params = &params,
                    .counts = &sequence.counts,
                    .output_index = sequence.outputs()};
  if (sequence.outputs() < params.min_new_tokens) {
    if (!params.ignore_eos) input.masked = sequence.request.end_ids;
    input.more_masked = params.stop_token_ids;
  }
  return sampler.Sample(logits, input);
}

void Engine::Impl::Handle(StartMessage&& message) {
  const FirstToken& first = message.first;
  if (first.token < 0 || first.token >= model->config().vocab) {
    std::unique_ptr<Sequence> sequence = scheduler.ReleaseReservation(message.id);
    if (sequence == nullptr) return;
    Output output = MakeOutput(*sequence);
    output.finish = Finish::kFailed;
    output.status = Error(Code::kDataCorrupt, "the prefill side sent token id {}; ids are 0 to {}",
                          first.token, model->config().vocab - 1);
    EmitEnd(std::move(sequence), output);
    return;
  }
  Progress done;
  Sequence* const sequence = scheduler.Start(message.id, first.token, &done);
  if (sequence == nullptr) return;
  sequence->cached_tokens = first.cached_tokens;
  sequence->first_token_at = Now();
  Output output = MakeOutput(*sequence);
  output.has_token = done.has_token;
  output.token = first.token;
  output.output_index = sequence->outputs() - 1;
  output.finish = done.finish;
  output.stop_token = done.stop_token;
  if (sequence->request.logprobs.enabled) {
    if (done.has_token) output.logprob = &first.logprob;
    output.prompt_logprobs = first.prompt_logprobs;
  }
  if (done.finish == Finish::kRunning) {
    Emit(*sequence, output);
  } else {
    EmitEnd(scheduler.Retire(*sequence), output);
  }
}

// ---------------------------------------------------------------------------------- events

Output Engine::Impl::MakeOutput(const Sequence& sequence) const {
  Output output;
  output.id = sequence.id();
  output.prompt_tokens = sequence.prompt_tokens;
  output.cached_tokens = std::min(sequence.cached_tokens, sequence.prompt_tokens);
  output.output_tokens = sequence.outputs();
  output.retractions = sequence.retractions;
  output.queued_at = sequence.queued_at;
  output.scheduled_at = sequence.scheduled_at;
  output.first_token_at = sequence.first_token_at;
  return output;
}

void Engine::Impl::Emit(Sequence& sequence, const Output& output) {
  if (sequence.request.sink != nullptr) sequence.request.sink->OnOutput(output);
}

void Engine::Impl::EmitEnd(std::unique_ptr<Sequence> sequence, const Output& output) {
  Emit(*sequence, output);
  if (!sequence->prefill_only()) return;
  sequence->request.observer->OnEnd(output, std::make_shared<KvHold>(inbox, sequence->id()));
}

}  // namespace baton::engine
