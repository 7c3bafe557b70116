// A step's plan as the flat arrays that the model reads. Sized once; building allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "model/model.h"

namespace baton::engine {

class Batch {
 public:
  Batch(int max_rows, int max_sequences, int max_logit_rows);

  // The result borrows the sequences' page tables: valid until the scheduler changes.
  void Build(const StepPlan& plan);
  // Rows and slices follow the plan's items in order; so do the logit rows.
  model::ForwardInput input(const model::LayerDone* layer_done) const {
    return {.tokens = tokens_,
            .positions = positions_,
            .slices = slices_,
            .logit_rows = logit_rows_,
            .layer_done = layer_done};
  }

 private:
  std::vector<int32_t> tokens_;
  std::vector<int32_t> positions_;
  std::vector<kernels::SequenceSlice> slices_;
  std::vector<int32_t> logit_rows_;
};

}  // namespace baton::engine
