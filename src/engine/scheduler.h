// The scheduler: a pure state machine. Events in (arrivals, aborts, reservations, step results,
// time), a batch plan out. No clock, no thread, no I/O, so the simulator and seeded tests run it as
// it is. Owns the page pool and the prefix cache (both plain data structures).
//
// Continuous batching with chunked prefill: each step spends its token budget on running decodes
// first (one token each), then on prompts in FCFS order, long ones cut at page borders. Admission
// keeps head-room for what running requests may still produce; when pages run out nonetheless, the
// running request with the fewest output tokens (then the longest prompt) is retracted: its pages
// are freed and it waits, ahead of new arrivals, to recompute prompt + output. Prefill-only
// requests and reservations are never retracted. The last running request is never retracted: a
// request that cannot fit alone ends with kFailed. (While reservations, holds or prefills keep
// pages that will come back, it pauses instead.)
//
// One queue, strictly in order of arrival, holds requests and reservations: nobody is overtaken, so
// nobody starves. A prompt gets all its pages when it is admitted; decoding takes one page at a
// time.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "engine/page_pool.h"
#include "engine/radix_cache.h"
#include "engine/sequence.h"

namespace baton::engine {

struct SchedulerOptions {
  int pages = 0;
  int page_tokens = 16;
  int max_running = 256;             // sequences of one step
  int step_tokens = 512;             // rows of one step; at least max_running + page_tokens
  int max_logit_rows = 256;          // logit rows of one step; at least max_running
  int reserved_decode_tokens = 512;  // head-room per active request at admission
  bool prefix_cache = true;
};

// Tokens [begin, begin + count) of one sequence are computed in this step.
struct PlanItem {
  Sequence* sequence = nullptr;
  int begin = 0;
  int count = 0;
  // Logits are wanted behind tokens [logit_begin, begin + count), an empty range for a chunk whose
  // logits nobody reads. The last of them gives the next token when `samples`.
  int logit_begin = 0;
  int logit_end = 0;
  bool samples = false;   // the step's last row yields an output token
  bool completes = false; // all of the sequence is computed then
  bool prefill = false;
};

struct StepPlan {
  std::vector<PlanItem> items;
  int rows = 0;
  int logit_rows = 0;
  int prefill_sequences = 0;
  int prefill_tokens = 0;
  int cached_tokens = 0;   // found in the prefix cache for this step's sequences
  int decodes = 0;
  bool empty() const { return items.empty(); }
};

// Something that happened outside of a step's results.
struct Notice {
  enum class Kind : uint8_t {
    kGranted,            // `granted`: its pages wait for the peer
    kReservationFailed,  // `sequence`, `status`
    kEnded,              // `sequence`, `finish`, `status`
  };
  Kind kind;
  Sequence* granted = nullptr;
  std::unique_ptr<Sequence> sequence;
  Finish finish = Finish::kRunning;
  Status status;
};

// Outcome of one plan item.
struct Progress {
  bool has_token = false;
  Finish finish = Finish::kRunning;
  int32_t stop_token = -1;
};

class Scheduler {
 public:
  struct Counters {
    uint64_t requests = 0, aborted = 0, retractions = 0, evicted_pages = 0, cached_tokens = 0,
             prompt_tokens = 0, output_tokens = 0;
  };

  explicit Scheduler(const SchedulerOptions& options);

  // Events. An id that is in use already comes back as a kEnded / kReservationFailed notice.
  void Add(std::unique_ptr<Sequence> sequence);
  void AddReservation(std::unique_ptr<Sequence> sequence);  // its `deadline` is set
  void Abort(RequestId id);      // ignores unknown ids and granted reservations
  void AbortAll();
  // The peer wrote all KV of a granted reservation's prompt and sampled `first_token`. Null when
  // there is no such reservation; else the outcome of that token, as from Commit.
  Sequence* Start(RequestId id, int32_t first_token, Progress* progress);
  // Null when there is no such granted reservation.
  std::unique_ptr<Sequence> ReleaseReservation(RequestId id);
  void ReleaseHold(RequestId id);

  // Expires reservations, retracts, admits, grants, and plans a step. The plan is valid until the
  // next call of any other method than Commit, Retire and TakeNotices; empty when there is nothing
  // to do.
  const StepPlan& Plan(TimePoint now);
  // The step computed `item`; `token` was sampled when item.samples (ignored otherwise). A finish
  // other than kRunning must be followed by Retire.
  Progress Commit(const PlanItem& item, int32_t token);
  // Ends a sequence: its full pages enter the prefix cache, the others go free. Those of a
  // prefill-only one all stay until ReleaseHold(id).
  std::unique_ptr<Sequence> Retire(Sequence& sequence);
  std::vector<Notice> TakeNotices() { return std::exchange(notices_, {}); }
  bool has_notices() const { return !notices_.empty(); }

  // Earliest deadline of a waiting reservation; TimePoint::max() for none.
  TimePoint NextDeadline() const;
  // kUnavailable while anything is queued, active, reserved or held.
  Status FlushCache();

  int waiting() const { return static_cast<int>(queue_.size() + retracted_.size()) - reserving_; }
  int reserving() const { return reserving_; }
  int reserved() const { return reserved_; }
  int active() const { return static_cast<int>(active_.size()); }
  int retracted() const { return static_cast<int>(retracted_.size()); }
  int holds() const { return static_cast<int>(holds_.size()); }
  const SchedulerOptions& options() const { return options_; }
  const PagePool& pool() const { return pool_; }
  const RadixCache& cache() const { return cache_; }
  const Counters& counters() const { return counters_; }
  int PagesFor(int tokens) const {
    return (tokens + options_.page_tokens - 1) / options_.page_tokens;
  }

 private:
  struct Hold {
    std::vector<PageId> shared;   // locked in the prefix cache, from the root
    std::vector<PageId> owned;
  };

  // Planning.
  void ExpireReservations(TimePoint now);
  void SecureDecodePages();
  bool HasNextPage(const Sequence& sequence) const;
  void SecureNextPage(Sequence& sequence);
  void FailForSize(Sequence& sequence);
  Sequence* PickVictim() const;
  void Retract(Sequence& sequence);
  void PlanDecodes();
  void PlanPrefill(Sequence& sequence);
  int ChunkTokens(const Sequence& sequence) const;
  void Admit(TimePoint now);
  bool TakePromptPages(Sequence& sequence, PageOwner owner);
  void Grant(Sequence& sequence, TimePoint now);
  void ExtendMatch(Sequence& sequence);

  // Pages.
  bool Allocate(int count, PageOwner owner, std::vector<PageId>& pages);
  int MatchLimit(const Sequence& sequence) const;   // pages
  int GrowthPages(const Sequence& sequence, int have) const;  // head-room beyond `have` pages
  int PromisedPages() const;                                  // head-room of all that were admitted
  void CacheComputedPages(Sequence& sequence);
  void ReleasePages(Sequence& sequence, PageOwner owner);
  void HoldPages(Sequence& sequence);

  std::span<const int32_t> PageTokens(const Sequence& sequence, int page) const;
  Progress Append(Sequence& sequence, int32_t token);
  void End(Sequence& sequence, Finish finish, Status status);
  std::unique_ptr<Sequence> Remove(Sequence& sequence);
  bool Register(std::unique_ptr<Sequence>& sequence);

  const SchedulerOptions options_;
  PagePool pool_;
  RadixCache cache_;
  std::unordered_map<RequestId, std::unique_ptr<Sequence>> sequences_;  // all that live
  std::deque<Sequence*> queue_;      // requests and reservations, by arrival
  std::deque<Sequence*> retracted_;  // ahead of the queue, by arrival
  std::vector<Sequence*> active_;    // by admission
  std::unordered_map<RequestId, Hold> holds_;
  int reserving_ = 0;
  int reserved_ = 0;
  int reserved_growth_pages_ = 0;    // their head-room
  StepPlan plan_;
  std::vector<Notice> notices_;
  Counters counters_;
};

}  // namespace baton::engine
