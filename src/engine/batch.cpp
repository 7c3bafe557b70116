#include "engine/batch.h"

namespace baton::engine {

Batch::Batch(int max_rows, int max_sequences, int max_logit_rows) {
  tokens_.reserve(static_cast<size_t>(max_rows));
  positions_.reserve(static_cast<size_t>(max_rows));
  slices_.reserve(static_cast<size_t>(max_sequences));
  logit_rows_.reserve(static_cast<size_t>(max_logit_rows));
}

void Batch::Build(const StepPlan& plan) {
  tokens_.clear();
  positions_.clear();
  slices_.clear();
  logit_rows_.clear();
  for (const PlanItem& item : plan.items) {
    const Sequence& sequence = *item.sequence;
    const int row = static_cast<int>(tokens_.size());
    slices_.push_back({.q_begin = row,
                       .q_len = item.count,
                       .kv_len = item.begin + item.count,
                       .pages = sequence.pages});
    for (int i = 0; i < item.count; ++i) {
      tokens_.push_back(sequence.tokens[static_cast<size_t>(item.begin + i)]);
      positions_.push_back(item.begin + i);
    }
    for (int i = item.logit_begin; i < item.logit_end; ++i) {
      logit_rows_.push_back(row + i - item.begin);
    }
  }
}

}  // namespace baton::engine
