// One request inside the engine: its tokens, its pages and how far it has come. Owned by the
// scheduler, read by the batch builder and the step. Engine thread only, once it is handed in.
#pragma once

#include <cstdint>
#include <vector>

#include "common/clock.h"
#include "engine/page_pool.h"
#include "engine/request.h"
#include "engine/token_counts.h"

namespace baton::engine {

struct Sequence {
  enum class State : uint8_t {
    kWaiting,    // in the queue, without pages (new, or retracted)
    kReserving,  // in the queue: a reservation that waits for pages
    kReserved,   // its pages are granted to a peer
    kActive,     // has pages; prefills or decodes
  };

  Request request;                 // `prompt` moved to `tokens`
  std::vector<int32_t> tokens;     // prompt, then outputs (resumed ones first)
  int prompt_tokens = 0;
  int max_outputs = 0;             // by max_new_tokens and context; 1 at most when prefill only
  TimePoint deadline{};            // of a reservation's wait

  State state = State::kWaiting;
  int computed = 0;                // tokens whose KV is in the pages
  std::vector<PageId> pages;       // the page table
  int shared_pages = 0;            // the first of them belong to the prefix cache, locked by us
  std::vector<PageId> retired;     // our own copies of pages that turned out to be cached: a
                                   // transfer may still read them
  int reported = 0;                // tokens whose KV the observer knows of

  TokenCounts counts;              // only filled when a penalty is on
  std::vector<TokenLogprob> prompt_logprobs;
  bool started = false;            // the first output (or the end) was reached once
  int cached_tokens = 0;
  int retractions = 0;
  TimePoint queued_at{}, scheduled_at{}, first_token_at{};

  RequestId id() const { return request.id; }
  int length() const { return static_cast<int>(tokens.size()); }
  int outputs() const { return length() - prompt_tokens; }
  bool prefill_only() const { return request.observer != nullptr; }
  bool prefilling() const { return computed < length() - 1 || outputs() == 0; }
  // Whether logprobs of prompt tokens are still to be collected.
  bool wants_prompt_logprobs() const {
    return request.logprobs.enabled && request.logprobs.prompt_start >= 0 && !started;
  }
};

}  // namespace baton::engine
