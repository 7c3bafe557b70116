// The door to the engine: submit requests, get tokens; reserve KV pages for a transfer and start
// from KV that a peer wrote. Ignorant of roles, HTTP and text.
//
// One engine thread runs steps: drain commands, let the scheduler (a pure state machine) plan a
// batch, run the model, sample, emit. All public methods may be called from any thread; they post
// commands to a bounded queue and return at once. The thread sleeps when there is no work.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/memory.h"
#include "common/metrics.h"
#include "common/status.h"
#include "engine/request.h"
#include "kernels/ops.h"
#include "model/model.h"

namespace baton::engine {

struct EngineOptions {
  int page_tokens = 16;
  kernels::DType kv_dtype = kernels::DType::kF16;
  int max_total_tokens = 0;      // KV pool size in tokens; 0: from kv_memory_bytes
  size_t kv_memory_bytes = size_t{1} << 30;
  bool shared_kv = false;        // KV pool in memory that peers of this host can map (provider shm)
  int context_length = 0;        // 0: the model's
  int max_running = 256;         // sequences in one decode batch
  int max_queued = 4096;         // above it Submit answers kResourceExhausted
  int chunk_tokens = 512;        // most prompt tokens of one step (rounded to pages)
  int max_logit_rows = 256;      // most logit rows of one step; >= max_running
  int reserved_decode_tokens = 512;  // head-room kept per active request at admission, capped by
                                     // what the request can still produce
  bool prefix_cache = true;
};

// Most rows of one step (decodes and prompt tokens): load the model for so many
// (model::LoadOptions::max_tokens) and for max_logit_rows.
int MaxStepTokens(const EngineOptions& options);

// Pages for a whole prompt, granted to a peer that will write them. Move-only; destroying it gives
// the pages back, so whoever must wait for a peer keeps it (quarantine is just keeping it).
class KvReservation {
 public:
  KvReservation();
  KvReservation(KvReservation&&) noexcept;
  KvReservation& operator=(KvReservation&&) noexcept;
  ~KvReservation();
  // The page table of prompt tokens, from token 0; the first cached_tokens() / page_tokens of them
  // hold valid KV already and must not be written.
  std::span<const PageId> pages() const;
  int cached_tokens() const;     // a multiple of the page size
  RequestId id() const;
  explicit operator bool() const { return state_ != nullptr; }

 private:
  friend class Engine;
  struct State;
  std::unique_ptr<State> state_;
};

// What the prefill side hands over with the KV.
struct FirstToken {
  int32_t token = 0;
  TokenLogprob logprob;                        // when asked
  std::vector<TokenLogprob> prompt_logprobs;   // when asked
  int cached_tokens = 0;                       // on the prefill side
};

struct EngineStats {  // a snapshot; cheap, any thread
  int running = 0, queued = 0, reserving = 0 /*waiting for pages*/, reserved = 0 /*reservations held*/,
      retracted = 0, holds = 0 /*KvHolds alive*/;
  int pages_total = 0, pages_free = 0, pages_cached = 0 /*only in the prefix cache*/, pages_used = 0;
  int max_running = 0, max_total_tokens = 0;
  uint64_t steps = 0, prompt_tokens = 0, cached_tokens = 0, output_tokens = 0, requests = 0, aborted = 0,
           retractions = 0, evicted_tokens = 0;
  double gen_tok_s = 0, prefill_tok_s = 0;     // over the last second or so of work
  double token_usage = 0;                      // used / total
};

class Engine {
 public:
  // Takes ops and model; allocates the KV pool. kInvalidArgument for options that do not fit
  // (pool smaller than two pages, more rows than the model was loaded for ...).
  static Result<std::unique_ptr<Engine>> Create(std::unique_ptr<kernels::Ops> ops,
                                                std::unique_ptr<model::Model> model,
                                                const EngineOptions& options);
  ~Engine();  // aborts everything (each sink gets its last event), then joins the thread

  RequestId NewId();

  // kInvalidArgument (empty or too long prompt: names both numbers; ids out of range),
  // kResourceExhausted (queue full). After OK the sink gets all news.
  Status Submit(Request request);
  // Also of waiting reservations; a granted one ends when its holder drops it. Unknown ids are ignored.
  void Abort(RequestId id);
  void AbortAll();

  // Waits (FIFO, never overtaken by later reservations) until the pages for request.prompt fit with head-room, then calls `ready`
  // once on the engine thread: a reservation, or kDeadlineExceeded / kCancelled. Errors as Submit's;
  // then `ready` is not called. Request::observer must be null.
  Status ReserveKv(Request request, TimePoint deadline,
                   std::function<void(Result<KvReservation>)> ready);
  // All KV of the prompt is in the reserved pages: the request joins the running batch. The sink
  // gets the first token as its first event. An empty reservation is ignored.
  void StartWithKv(KvReservation reservation, FirstToken first);

  MemorySpan kv_memory() const;              // register this with the transfer engine
  const kernels::KvLayout& kv_layout() const;
  const model::ModelConfig& model_config() const;
  const kernels::BackendInfo& backend() const;
  size_t weight_bytes() const;               // read by one pass over the model
  const EngineOptions& options() const;      // with the zeros filled in
  int max_prompt_tokens() const;             // longest accepted prompt

  // Drops the prefix cache. kUnavailable while requests, reservations or holds are alive. Waits for
  // the running step, 5 s at most.
  Status FlushCache();
  EngineStats stats() const;
  // Progress for health checks: time of the last finished step, or Now() when idle.
  TimePoint last_progress() const;
  // Lines like SGLang's "Prefill batch, ..." and "Decode batch, ...", every `interval` decode steps;
  // `pd_fields` may add "#prealloc-req: 1, #transfer-req: 2" (called on the engine thread).
  void SetBatchLog(int interval, std::function<std::string(bool decode)> pd_fields);

 private:
  Engine();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton::engine
