#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/philox.h"
#include "engine/row_math.h"

namespace baton::engine {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();
constexpr float kGreedyBelow = 1e-6f;


}  // namespace

Sampler::Sampler(int vocab)
    : row_(static_cast<size_t>(vocab)), blocks_((static_cast<size_t>(vocab) + kSumBlock - 1) / kSumBlock) {
  candidates_.reserve(static_cast<size_t>(vocab));
  weights_.reserve(static_cast<size_t>(vocab));
}

// Steps 1-3; the row itself when there is nothing to do.
std::span<const float> Sampler::Adjust(std::span<const float> logits, const SampleInput& input) {
  const api::SamplingParams& p = *input.params;
  const bool penalties = HasPenalties(p);
  if (input.masked.empty() && input.more_masked.empty() && p.logit_bias.empty() && !penalties) {
    return logits;
  }
  std::ranges::copy(logits, row_.begin());
  const std::span<float> row(row_.data(), logits.size());
  for (const int32_t id : input.masked) row[static_cast<size_t>(id)] = kNegativeInfinity;
  for (const int32_t id : input.more_masked) row[static_cast<size_t>(id)] = kNegativeInfinity;
  for (const auto& [id, bias] : p.logit_bias) row[static_cast<size_t>(id)] += bias;
  if (!penalties) return row;
  for (const TokenCounts::Entry& entry : input.counts->slots()) {
    if (entry.token < 0) continue;
    float& x = row[static_cast<size_t>(entry.token)];
    x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
    if (entry.outputs > 0) {
      x -= p.frequency_penalty * static_cast<float>(entry.outputs) + p.presence_penalty;
    }
  }
  return row;
}

Result<int32_t> Sampler::Sample(std::span<const float> logits, const SampleInput& input) {
  const api::SamplingParams& p = *input.params;
  const std::span<const float> row = Adjust(logits, input);
  const float max = RowMax(row);
  if (!std::isfinite(max)) {
    return Error(Code::kInternal, "no token can be sampled: the largest logit is {}", max);
  }
  if (p.temperature < kGreedyBelow) return static_cast<int32_t>(FirstIndexOf(row, max));
  const float scale = 1.0f / p.temperature;
  const double total = SumExp(row, max, scale, blocks_);
  if (!std::isfinite(total)) return Error(Code::kInternal, "the model's logits hold NaN");
  const double u = UniformAt(p.seed.value_or(0), static_cast<uint64_t>(input.output_index));
  const bool filtered = p.top_k > 0 || p.top_p < 1 || p.min_p > 0;
  return filtered ? DrawFiltered(row, p, max, scale, total, u)
                  : DrawFromAll(row, max, scale, total, u);
}

int32_t Sampler::DrawFromAll(std::span<const float> row, float max, float scale, double total,
                             double u) const {
  const double target = u * total;
  double sum = 0;
  size_t block = 0;
  while (block + 1 < blocks_.size() && sum + blocks_[block] <= target) sum += blocks_[block++];
  // From here id by id. Blocks were summed in another order, so rounding may carry us past the end
  // of the block or leave us a hair short of the target: take the next that can come, or the last.
  int32_t last_possible = static_cast<int32_t>(FirstIndexOf(row, max));
  for (size_t i = block * kSumBlock; i < row.size(); ++i) {
    const float weight = ExpNonPositive((row[i] - max) * scale);
    if (weight <= 0) continue;
    last_possible = static_cast<int32_t>(i);
    sum += weight;
    if (sum > target) break;
  }
  return last_possible;
}

// Candidates of at least `lowest`, sorted; only the first top_k when there are more.
void Sampler::Gather(std::span<const float> row, float lowest, size_t top_k) {
  candidates_.clear();
  for (size_t i = 0; i < row.size(); ++i) {
    if (row[i] >= lowest) candidates_.push_back({row[i], static_cast<int32_t>(i)});
  }
  if (candidates_.size() > top_k) {
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(top_k),
                     candidates_.end());
    candidates_.resize(top_k);
  }
  std::sort(candidates_.begin(), candidates_.end());
}

int32_t Sampler::DrawFiltered(std::span<const float> row, const api::SamplingParams& params,
                              float max, float scale, double total, double u) {
  const size_t top_k = params.top_k > 0 ? static_cast<size_t>(params.top_k) : row.size();
  const double mass = params.top_p < 1 ? params.top_p * total : total * 2;  // * 2: never reached
  // Look near the maximum first: the head of the sorted order is the same however far we look.
  double kept = 0;
  for (const float depth : {12.0f, 40.0f, std::numeric_limits<float>::infinity()}) {
    const bool everything = std::isinf(depth);
    Gather(row, everything ? std::numeric_limits<float>::lowest() : max - depth / scale, top_k);
    weights_.clear();
    kept = 0;
    bool complete = everything || candidates_.size() == top_k;
    for (const Candidate& candidate : candidates_) {
      const float weight = ExpNonPositive((candidate.logit - max) * scale);
      if (kept >= mass || weight < params.min_p) {  // the likeliest weighs 1
        complete = true;
        break;
      }
      weights_.push_back(weight);
      kept += weight;
    }
    if (complete) break;
  }
  const double target = u * kept;
  double sum = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    sum += weights_[i];
    if (sum > target) return candidates_[i].id;
  }
  // Rounding: the last one that can come at all.
  size_t last = weights_.size() - 1;
  while (last > 0 && weights_[last] <= 0) --last;
  return candidates_[last].id;
}

void Sampler::LogProbs(std::span<const float> logits, int32_t token, const LogprobRequest& request,
                       TokenLogprob& out) {
  const float max = RowMax(logits);
  const double log_sum = std::log(SumExp(logits, max, 1.0f));
  const auto logprob_of = [&](float logit) {
    return static_cast<float>(static_cast<double>(logit) - max - log_sum);
  };
  out.token = token;
  out.logprob = logprob_of(logits[static_cast<size_t>(token)]);
  out.requested.clear();
  for (const int32_t id : request.token_ids) {
    out.requested.emplace_back(id, logprob_of(logits[static_cast<size_t>(id)]));
  }
  out.top.clear();
  const size_t top = std::min(static_cast<size_t>(request.top), logits.size());
  if (top == 0) return;
  // A heap of the best so far with the worst of them in front; few rows pass the first test.
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    const Candidate candidate{logits[i], static_cast<int32_t>(i)};
    if (candidates_.size() == top) {
      if (!(candidate < candidates_.front())) continue;
      std::pop_heap(candidates_.begin(), candidates_.end());
      candidates_.pop_back();
    }
    candidates_.push_back(candidate);
    std::push_heap(candidates_.begin(), candidates_.end());
  }
  std::sort_heap(candidates_.begin(), candidates_.end());
  for (const Candidate& candidate : candidates_) {
    out.top.emplace_back(candidate.id, logprob_of(candidate.logit));
  }
}

}  // namespace baton::engine
