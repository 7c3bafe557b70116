// From one row of logits to one token, and to logprobs. A pure function of its arguments: the same
// request gives the same tokens alone or batched, on prefill or on decode.
//
// Order (specs: SGLang's meanings, vLLM's penalties):
//   0. logprobs are the log-softmax of the untouched row (LogProbs below);
//   1. masked ids become -inf (end and stop ids until min_new_tokens); logit_bias is added;
//   2. repetition_penalty r, over prompt and outputs: x > 0 ? x / r : x * r;
//   3. frequency_penalty * count and presence_penalty are subtracted, over outputs only;
//   4. temperature < 1e-6: the largest logit, lowest id among equals. Done;
//   5. p = softmax(logits / temperature);
//   6. tokens sorted by p, lower id first among equals. Token number i (from 0) is kept while
//      i < top_k, the p of those before it sum to less than top_p (so the one that crosses stays),
//      and p >= min_p * p of the likeliest. All three look at the p of step 5;
//   7. one of those kept by the inverse of their cumulated p at u, u = Philox(seed, output index).
//      Nothing filtered: cumulated in order of ids, else in sorted order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "api/sampling.h"
#include "common/status.h"
#include "engine/request.h"
#include "engine/token_counts.h"

namespace baton::engine {

struct SampleInput {
  const api::SamplingParams* params = nullptr;
  std::span<const int32_t> masked;        // ids that must not come
  std::span<const int32_t> more_masked;   // and these
  const TokenCounts* counts = nullptr;    // needed when a penalty is on
  int output_index = 0;
};

// Keeps scratch, so one per thread. Allocates nothing after construction.
class Sampler {
 public:
  explicit Sampler(int vocab);

  // kInternal when the row has no finite logit left or holds NaN.
  Result<int32_t> Sample(std::span<const float> logits, const SampleInput& input);

  // Fills `out` for `token`: its logprob, the `top` likeliest, the requested ones.
  void LogProbs(std::span<const float> logits, int32_t token, const LogprobRequest& request,
                TokenLogprob& out);

 private:
  struct Candidate {
    float logit;
    int32_t id;
    // Sorts likeliest first, lower id among equals.
    friend bool operator<(const Candidate& a, const Candidate& b) {
      return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    }
  };

  std::span<const float> Adjust(std::span<const float> logits, const SampleInput& input);
  int32_t DrawFromAll(std::span<const float> row, float max, float scale, double total, double u) const;
  int32_t DrawFiltered(std::span<const float> row, const api::SamplingParams& params, float max,
                       float scale, double total, double u);
  void Gather(std::span<const float> row, float lowest, size_t top_k);

  std::vector<float> row_;              // adjusted logits
  std::vector<double> blocks_;          // sums of e^x by block of the row
  std::vector<Candidate> candidates_;
  std::vector<float> weights_;          // e^((logit - max) / temperature) of the candidates
};

}  // namespace baton::engine
