// What the next step computes: pages for decodes, retraction, admission, chunks.
#include <algorithm>
#include <limits>

#include "engine/scheduler.h"

namespace baton::engine {

const StepPlan& Scheduler::Plan(TimePoint now) {
  plan_.items.clear();
  plan_.rows = plan_.logit_rows = plan_.prefill_sequences = plan_.prefill_tokens = 0;
  plan_.cached_tokens = plan_.decodes = 0;
  ExpireReservations(now);
  SecureDecodePages();
  PlanDecodes();
  for (Sequence* sequence : active_) {
    if (sequence->prefilling()) PlanPrefill(*sequence);
  }
  Admit(now);
  return plan_;
}

void Scheduler::ExpireReservations(TimePoint now) {
  if (reserving_ == 0) return;
  for (size_t i = 0; i < queue_.size();) {
    Sequence& sequence = *queue_[i];
    if (sequence.state == Sequence::State::kReserving && sequence.deadline <= now) {
      End(sequence, Finish::kFailed,
          Error(Code::kDeadlineExceeded,
                "no room for {} KV pages came free in time ({} of {} pages are free)",
                PagesFor(sequence.length()), pool_.free_pages() + cache_.evictable(),
                pool_.total()));
    } else {
      ++i;
    }
  }
}

// ---------------------------------------------------------------------------------- decodes

bool Scheduler::HasNextPage(const Sequence& sequence) const {
  return static_cast<int>(sequence.pages.size()) * options_.page_tokens >= sequence.length();
}

void Scheduler::SecureDecodePages() {
  for (size_t i = 0; i < active_.size();) {
    Sequence& sequence = *active_[i];
    if (sequence.prefilling() || HasNextPage(sequence)) {
      ++i;
      continue;
    }
    const size_t active = active_.size();
    SecureNextPage(sequence);
    // Who had a page keeps it, so starting over after a retraction costs one look each.
    i = active_.size() == active ? i + 1 : 0;
  }
}

// Gets the page of the next token, retracting others (or this one) as needed. Without success the
// sequence is retracted, failed, or pauses.
void Scheduler::SecureNextPage(Sequence& sequence) {
  if (PagesFor(sequence.length()) > pool_.total()) return FailForSize(sequence);
  while (!Allocate(1, PageOwner::kSequence, sequence.pages)) {
    Sequence* const victim = PickVictim();
    if (victim == nullptr) {
      const bool pages_come_back =
          reserved_ > 0 || !holds_.empty() ||
          std::ranges::any_of(active_, [](const Sequence* s) { return s->prefill_only(); });
      if (pages_come_back) return;
      return FailForSize(sequence);
    }
    Retract(*victim);
    if (victim == &sequence) return;
  }
}

void Scheduler::FailForSize(Sequence& sequence) {
  End(sequence, Finish::kFailed,
      Error(Code::kResourceExhausted,
            "the KV pool of {} tokens is full with this request alone ({} prompt and {} output "
            "tokens); enlarge the pool or lower max_new_tokens",
            pool_.total() * options_.page_tokens, sequence.prompt_tokens, sequence.outputs()));
}

Sequence* Scheduler::PickVictim() const {
  Sequence* victim = nullptr;
  int candidates = 0;
  for (Sequence* sequence : active_) {
    if (sequence->prefill_only()) continue;
    ++candidates;
    // <= on both: among equals the one admitted last.
    if (victim == nullptr || sequence->outputs() < victim->outputs() ||
        (sequence->outputs() == victim->outputs() &&
         sequence->prompt_tokens >= victim->prompt_tokens)) {
      victim = sequence;
    }
  }
  return candidates > 1 ? victim : nullptr;
}

void Scheduler::Retract(Sequence& sequence) {
  ++counters_.retractions;
  ++sequence.retractions;
  CacheComputedPages(sequence);  // recomputing is cheap if they survive
  ReleasePages(sequence, PageOwner::kSequence);
  if (!sequence.started) sequence.prompt_logprobs.clear();
  sequence.state = Sequence::State::kWaiting;
  std::erase(active_, &sequence);
  const auto arrived_later = [&](const Sequence* other) {
    return std::pair(sequence.queued_at, sequence.id()) < std::pair(other->queued_at, other->id());
  };
  retracted_.insert(std::ranges::find_if(retracted_, arrived_later), &sequence);
}

void Scheduler::PlanDecodes() {
  for (Sequence* sequence : active_) {
    if (static_cast<int>(plan_.items.size()) == options_.max_running) break;
    if (sequence->prefilling() || !HasNextPage(*sequence)) continue;
    const int length = sequence->length();
    plan_.items.push_back({.sequence = sequence,
                           .begin = length - 1,
                           .count = 1,
                           .logit_begin = length - 1,
                           .logit_end = length,
                           .samples = true,
                           .completes = true});
    ++plan_.rows;
    ++plan_.logit_rows;
    ++plan_.decodes;
  }
}

// ---------------------------------------------------------------------------------- prompts

namespace {

// The first token behind which a prompt logprob is read; beyond every token for none.
int FirstLogprobRow(const Sequence& sequence) {
  if (!sequence.wants_prompt_logprobs()) return std::numeric_limits<int>::max();
  return std::max(sequence.request.logprobs.prompt_start - 1, 0);
}

}  // namespace

// How many tokens of the sequence fit in what is left of the step, 0 for none.
int Scheduler::ChunkTokens(const Sequence& sequence) const {
  const int wanted = sequence.length() - sequence.computed;
  const int rows_left = options_.max_logit_rows - plan_.logit_rows;
  int count = std::min(wanted, options_.step_tokens - plan_.rows);
  const int before_logprobs = std::max(FirstLogprobRow(sequence) - sequence.computed, 0);
  if (before_logprobs < count) count = std::min(count, before_logprobs + rows_left);
  if (count == wanted && sequence.max_outputs > 0 && rows_left == 0) --count;
  if (count < wanted) {
    const int end = sequence.computed + count;
    const int aligned = end - end % options_.page_tokens - sequence.computed;
    if (aligned > 0) count = aligned;
  }
  return std::max(count, 0);
}

void Scheduler::PlanPrefill(Sequence& sequence) {
  if (static_cast<int>(plan_.items.size()) == options_.max_running) return;
  ExtendMatch(sequence);
  const int count = ChunkTokens(sequence);
  if (count == 0) return;
  const int end = sequence.computed + count;
  PlanItem item{.sequence = &sequence, .begin = sequence.computed, .count = count};
  item.prefill = true;
  item.completes = end == sequence.length();
  item.samples = item.completes && sequence.max_outputs > 0;
  // The row behind the last token predicts no prompt token: it is for sampling only.
  item.logit_end = item.completes && !item.samples ? end - 1 : end;
  item.logit_begin = std::max(item.begin, FirstLogprobRow(sequence));
  item.logit_begin = std::min(item.logit_begin, item.samples ? end - 1 : item.logit_end);
  plan_.rows += count;
  plan_.logit_rows += item.logit_end - item.logit_begin;
  plan_.prefill_tokens += count;
  ++plan_.prefill_sequences;
  plan_.items.push_back(item);
}

int Scheduler::MatchLimit(const Sequence& sequence) const {
  if (!options_.prefix_cache) return 0;
  const int length = sequence.length();
  // A reservation computes nothing here, so it may match all; else one token must be left.
  if (sequence.state == Sequence::State::kReserving) return length / options_.page_tokens;
  return std::min(length - 1, FirstLogprobRow(sequence)) / options_.page_tokens;
}

// Takes pages that others computed since this sequence was admitted.
void Scheduler::ExtendMatch(Sequence& sequence) {
  const int page_tokens = options_.page_tokens;
  const int limit = MatchLimit(sequence);
  while (sequence.shared_pages < limit &&
         sequence.computed == sequence.shared_pages * page_tokens) {
    const size_t index = static_cast<size_t>(sequence.shared_pages);
    const PageId parent = index == 0 ? RadixCache::kRoot : sequence.pages[index - 1];
    const PageId cached = cache_.Find(parent, PageTokens(sequence, sequence.shared_pages));
    if (cached < 0) return;
    cache_.Lock(cached);
    pool_.Free(sequence.pages[index], PageOwner::kSequence);  // nothing was written to it yet
    sequence.pages[index] = cached;
    ++sequence.shared_pages;
    sequence.computed += page_tokens;
    plan_.cached_tokens += page_tokens;
    counters_.cached_tokens += static_cast<uint64_t>(page_tokens);
    if (!sequence.started && sequence.retractions == 0) sequence.cached_tokens += page_tokens;
  }
}

// ---------------------------------------------------------------------------------- admission

int Scheduler::GrowthPages(const Sequence& sequence, int have) const {
  if (sequence.prefill_only()) return 0;
  // The last output's KV is never computed.
  const int final_tokens = sequence.prompt_tokens + std::max(sequence.max_outputs, 1) - 1;
  const int target = std::min(sequence.length() + options_.reserved_decode_tokens, final_tokens);
  return std::max(PagesFor(target) - have, 0);
}

int Scheduler::PromisedPages() const {
  int pages = reserved_growth_pages_;
  for (const Sequence* sequence : active_) {
    pages += GrowthPages(*sequence, static_cast<int>(sequence->pages.size()));
  }
  return pages;
}

bool Scheduler::TakePromptPages(Sequence& sequence, PageOwner owner) {
  const int pages = PagesFor(sequence.length());
  sequence.pages.reserve(static_cast<size_t>(pages + GrowthPages(sequence, pages)));
  const int matched = cache_.Match(sequence.tokens, MatchLimit(sequence), sequence.pages);
  const int needed = pages - matched;
  const int available = pool_.free_pages() + cache_.evictable();
  // Alone in the pool, a request need not leave room for anybody.
  const bool alone = active_.empty() && reserved_ == 0;
  const int head_room = alone ? 0 : PromisedPages() + GrowthPages(sequence, pages);
  if (needed + head_room > available) {
    cache_.Unlock(sequence.pages);
    sequence.pages.clear();
    return false;
  }
  sequence.shared_pages = matched;
  const bool allocated = Allocate(needed, owner, sequence.pages);
  BATON_CHECK(allocated, "{} pages of {} available", needed, available);
  return true;
}

void Scheduler::Grant(Sequence& sequence, TimePoint now) {
  sequence.scheduled_at = now;
  sequence.state = Sequence::State::kReserved;
  sequence.cached_tokens = sequence.shared_pages * options_.page_tokens;
  counters_.cached_tokens += static_cast<uint64_t>(sequence.cached_tokens);
  --reserving_;
  ++reserved_;
  reserved_growth_pages_ += GrowthPages(sequence, static_cast<int>(sequence.pages.size()));
  notices_.push_back({.kind = Notice::Kind::kGranted, .granted = &sequence});
}

void Scheduler::Admit(TimePoint now) {
  while (!retracted_.empty() || !queue_.empty()) {
    std::deque<Sequence*>& from = retracted_.empty() ? queue_ : retracted_;
    Sequence& sequence = *from.front();
    // Sharing every page with others, it came to need more than there are.
    if (PagesFor(sequence.length()) > pool_.total()) {
      FailForSize(sequence);
      continue;
    }
    if (sequence.state == Sequence::State::kReserving) {
      if (!TakePromptPages(sequence, PageOwner::kReservation)) return;
      from.pop_front();
      Grant(sequence, now);
      continue;
    }
    const bool room = active() < options_.max_running && plan_.rows < options_.step_tokens &&
                      plan_.logit_rows < options_.max_logit_rows;
    if (!room || !TakePromptPages(sequence, PageOwner::kSequence)) return;
    from.pop_front();
    sequence.state = Sequence::State::kActive;
    sequence.computed = sequence.shared_pages * options_.page_tokens;
    if (sequence.scheduled_at == TimePoint{}) sequence.scheduled_at = now;
    if (!sequence.started && sequence.retractions == 0) sequence.cached_tokens = sequence.computed;
    counters_.cached_tokens += static_cast<uint64_t>(sequence.computed);
    plan_.cached_tokens += sequence.computed;
    active_.push_back(&sequence);
    PlanPrefill(sequence);
  }
}

}  // namespace baton::engine
