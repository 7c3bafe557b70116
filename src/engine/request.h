// What the engine is asked and what it answers. Token ids only: text, stop strings and JSON stay on
// the server's side.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "api/sampling.h"
#include "common/clock.h"
#include "common/ids.h"
#include "common/status.h"

namespace baton::engine {

struct LogprobRequest {
  bool enabled = false;
  int prompt_start = -1;            // also logprobs of prompt tokens from this index on; -1: none
  int top = 0;                      // the `top` likeliest tokens at each position
  std::vector<int32_t> token_ids;   // and these tokens at each position
};

// Log-softmax of the untouched logits (before penalties and temperature) at one position.
struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;                // of `token`; NaN for the first prompt token, which has none
  std::vector<std::pair<int32_t, float>> top;        // descending; ties by lower id
  std::vector<std::pair<int32_t, float>> requested;  // in the order of LogprobRequest::token_ids
};

enum class Finish : uint8_t { kRunning, kStop, kLength, kAborted, kFailed };

// One event of one request, valid during the callback only.
struct Output {
  RequestId id;
  bool has_token = false;
  int32_t token = 0;
  int output_index = 0;                             // of this token, from 0
  const TokenLogprob* logprob = nullptr;            // of this token, when asked
  std::span<const TokenLogprob> prompt_logprobs{};  // with the first token, when asked
  Finish finish = Finish::kRunning;
  int32_t stop_token = -1;                          // kStop: the end or stop id that matched
  Status status;                                    // kFailed: why
  // kFailed in PD: the side that broke ("prefill", "decode", or "none" when nobody did); static text.
  std::string_view guilty{};
  int prompt_tokens = 0;
  int cached_tokens = 0;                            // prompt tokens taken from the prefix cache
  int output_tokens = 0;                            // including this one
  int retractions = 0;
  // Times of this request so far; zero when not reached.
  TimePoint queued_at{}, scheduled_at{}, first_token_at{};
};

// Receives a request's events in order, on the engine thread; must not block. The last event has
// finish != kRunning, and there is exactly one such event.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  virtual void OnOutput(const Output& output) = 0;
};

// Pages kept alive after their request ended (a PD prefill's transfer still reads them). Dropping
// the last copy gives the pages back, from any thread.
class KvHold;

// Watches a prefill-only request's KV appear. Engine thread; must not block.
class PrefillObserver {
 public:
  virtual ~PrefillObserver() = default;
  // KV of prompt tokens [token_begin, token_end) in layers [layer_begin, layer_end) is in `pages`
  // (the request's page table, from token 0). Every (layer, token) is reported exactly once;
  // token_begin is a multiple of the page size and token_end is one too, or is the prompt's end.
  // Prefix-cache hits come first, all layers at once.
  virtual void OnKvReady(int layer_begin, int layer_end, int token_begin, int token_end,
                         std::span<const PageId> pages) = 0;
  // The request ended (first token sampled, aborted or failed). The pages live as long as `hold`.
  virtual void OnEnd(const Output& last, std::shared_ptr<KvHold> hold) = 0;
};

struct Request {
  RequestId id;                        // from Engine::NewId()
  std::vector<int32_t> prompt;         // 1 .. context_length - 1 ids, each < vocab
  api::SamplingParams sampling;        // seed must be set; n and text fields are ignored
  std::vector<int32_t> end_ids;        // ignored when sampling.ignore_eos
  LogprobRequest logprobs;
  // Outputs that another engine has produced already: the request goes on behind them as if it had
  // been retracted here after the last one (recomputed, counted for penalties, limits and seeds,
  // not emitted again). Fewer than the request may have; none of them ends it. With
  // logprobs.prompt_start their logprobs come behind the prompt's, with the first token.
  std::vector<int32_t> resumed;
  std::shared_ptr<OutputSink> sink;
  std::shared_ptr<PrefillObserver> observer;  // set: prefill only, ends after one token (kLength or kStop)
};

}  // namespace baton::engine
