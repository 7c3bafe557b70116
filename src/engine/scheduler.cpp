// Events and the life of a sequence; the planning of steps is in scheduler_plan.cpp.
#include "engine/scheduler.h"

#include <algorithm>

namespace baton::engine {
namespace {

bool Contains(std::span<const int32_t> ids, int32_t id) {
  return std::ranges::find(ids, id) != ids.end();
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options), pool_(options.pages), cache_(pool_, options.page_tokens) {
  BATON_CHECK(options.pages > 0 && options.page_tokens > 0 && options.max_running > 0);
  BATON_CHECK(options.max_logit_rows >= options.max_running);
  BATON_CHECK(options.step_tokens >= options.max_running);
  plan_.items.reserve(static_cast<size_t>(options.max_running));
  active_.reserve(static_cast<size_t>(options.max_running) * 2);
}

// ---------------------------------------------------------------------------------- events

bool Scheduler::Register(std::unique_ptr<Sequence>& sequence) {
  if (sequences_.contains(sequence->id())) return false;
  ++counters_.requests;
  Sequence* const live = sequence.get();
  sequences_.emplace(live->id(), std::move(sequence));
  queue_.push_back(live);
  return true;
}

void Scheduler::Add(std::unique_ptr<Sequence> sequence) {
  sequence->state = Sequence::State::kWaiting;
  if (Register(sequence)) return;
  notices_.push_back({.kind = Notice::Kind::kEnded,
                      .sequence = std::move(sequence),
                      .finish = Finish::kFailed,
                      .status = Error(Code::kInvalidArgument, "request id is in use already")});
}

void Scheduler::AddReservation(std::unique_ptr<Sequence> sequence) {
  sequence->state = Sequence::State::kReserving;
  if (Register(sequence)) {
    ++reserving_;
    return;
  }
  notices_.push_back({.kind = Notice::Kind::kReservationFailed,
                      .sequence = std::move(sequence),
                      .status = Error(Code::kInvalidArgument, "request id is in use already")});
}

void Scheduler::Abort(RequestId id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  Sequence& sequence = *found->second;
  // The peer may be writing: a granted reservation ends when its holder drops it.
  if (sequence.state == Sequence::State::kReserved) return;
  End(sequence, Finish::kAborted, Error(Code::kCancelled, "the request was aborted"));
}

void Scheduler::AbortAll() {
  std::vector<RequestId> ids;
  for (const auto& [id, sequence] : sequences_) ids.push_back(id);
  std::ranges::sort(ids);
  for (const RequestId id : ids) Abort(id);
}

Sequence* Scheduler::Start(RequestId id, int32_t first_token, Progress* progress) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return nullptr;
  Sequence& sequence = *found->second;
  if (sequence.state != Sequence::State::kReserved) return nullptr;
  --reserved_;
  reserved_growth_pages_ -= GrowthPages(sequence, static_cast<int>(sequence.pages.size()));
  for (size_t i = static_cast<size_t>(sequence.shared_pages); i < sequence.pages.size(); ++i) {
    pool_.Move(sequence.pages[i], PageOwner::kReservation, PageOwner::kSequence);
  }
  sequence.state = Sequence::State::kActive;
  sequence.computed = sequence.length();  // the prompt, and the outputs of a resumed request
  sequence.started = true;
  active_.push_back(&sequence);
  CacheComputedPages(sequence);
  *progress = sequence.max_outputs == 0 ? Progress{.finish = Finish::kLength}
                                        : Append(sequence, first_token);
  return &sequence;
}

std::unique_ptr<Sequence> Scheduler::ReleaseReservation(RequestId id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end() || found->second->state != Sequence::State::kReserved) return nullptr;
  Sequence& sequence = *found->second;
  --reserved_;
  reserved_growth_pages_ -= GrowthPages(sequence, static_cast<int>(sequence.pages.size()));
  ReleasePages(sequence, PageOwner::kReservation);
  return Remove(sequence);
}

void Scheduler::ReleaseHold(RequestId id) {
  const auto found = holds_.find(id);
  if (found == holds_.end()) return;
  cache_.Unlock(found->second.shared);
  for (const PageId page : found->second.owned) pool_.Free(page, PageOwner::kHold);
  holds_.erase(found);
}

Status Scheduler::FlushCache() {
  if (!sequences_.empty() || !holds_.empty()) {
    return Error(Code::kUnavailable,
                 "the prefix cache is in use by {} requests and {} transfers; flush when idle",
                 sequences_.size(), holds_.size());
  }
  cache_.Evict(cache_.pages());
  return Status::Ok();
}

TimePoint Scheduler::NextDeadline() const {
  TimePoint next = TimePoint::max();
  if (reserving_ == 0) return next;
  for (const Sequence* sequence : queue_) {
    if (sequence->state == Sequence::State::kReserving) next = std::min(next, sequence->deadline);
  }
  return next;
}

// ---------------------------------------------------------------------------------- results

Progress Scheduler::Commit(const PlanItem& item, int32_t token) {
  Sequence& sequence = *item.sequence;
  sequence.computed = item.begin + item.count;
  if (item.prefill) {
    counters_.prompt_tokens += static_cast<uint64_t>(item.count);
    CacheComputedPages(sequence);
  }
  if (item.samples) return Append(sequence, token);
  if (!item.completes) return {};
  sequence.started = true;
  return {.finish = Finish::kLength};  // max_new_tokens = 0
}

Progress Scheduler::Append(Sequence& sequence, int32_t token) {
  const Request& request = sequence.request;
  sequence.tokens.push_back(token);
  sequence.started = true;
  if (HasPenalties(request.sampling)) sequence.counts.AddOutput(token);
  ++counters_.output_tokens;
  Progress progress{.has_token = true};
  const bool ends = !request.sampling.ignore_eos && Contains(request.end_ids, token);
  if (ends || Contains(request.sampling.stop_token_ids, token)) {
    progress.finish = Finish::kStop;
    progress.stop_token = token;
  } else if (sequence.outputs() >= sequence.max_outputs) {
    progress.finish = Finish::kLength;
  }
  return progress;
}

std::unique_ptr<Sequence> Scheduler::Retire(Sequence& sequence) {
  CacheComputedPages(sequence);
  if (sequence.prefill_only()) {
    HoldPages(sequence);
  } else {
    ReleasePages(sequence, PageOwner::kSequence);
  }
  return Remove(sequence);
}

std::unique_ptr<Sequence> Scheduler::Remove(Sequence& sequence) {
  std::erase(active_, &sequence);
  std::erase(queue_, &sequence);
  std::erase(retracted_, &sequence);
  auto node = sequences_.extract(sequence.id());
  BATON_CHECK(!node.empty(), "request {} is not live", sequence.id().value);
  return std::move(node.mapped());
}

void Scheduler::End(Sequence& sequence, Finish finish, Status status) {
  Notice notice{.kind = Notice::Kind::kEnded, .finish = finish, .status = std::move(status)};
  if (finish == Finish::kAborted) ++counters_.aborted;
  if (sequence.state == Sequence::State::kReserving) {
    --reserving_;
    notice.kind = Notice::Kind::kReservationFailed;
  }
  notice.sequence = Retire(sequence);
  notices_.push_back(std::move(notice));
}

// ---------------------------------------------------------------------------------- pages

std::span<const int32_t> Scheduler::PageTokens(const Sequence& sequence, int page) const {
  return std::span(sequence.tokens)
      .subspan(static_cast<size_t>(page) * options_.page_tokens,
               static_cast<size_t>(options_.page_tokens));
}

bool Scheduler::Allocate(int count, PageOwner owner, std::vector<PageId>& pages) {
  const int missing = count - pool_.free_pages();
  if (missing > cache_.evictable()) return false;
  if (missing > 0) counters_.evicted_pages += static_cast<uint64_t>(cache_.Evict(missing));
  return pool_.Allocate(count, owner, pages.empty() ? -1 : pages.back(), pages);
}

void Scheduler::CacheComputedPages(Sequence& sequence) {
  if (!options_.prefix_cache) return;
  const int full_pages = sequence.computed / options_.page_tokens;
  for (; sequence.shared_pages < full_pages; ++sequence.shared_pages) {
    const int index = sequence.shared_pages;
    const PageId own = sequence.pages[static_cast<size_t>(index)];
    const PageId parent =
        index == 0 ? RadixCache::kRoot : sequence.pages[static_cast<size_t>(index) - 1];
    const PageId cached =
        cache_.Insert(parent, PageTokens(sequence, index), own, PageOwner::kSequence);
    if (cached == own) continue;
    // Somebody else computed the same page meanwhile; equal inputs give equal bytes (ops.h), so
    // one copy is enough. A transfer that may read ours keeps it until it ends.
    sequence.pages[static_cast<size_t>(index)] = cached;
    if (sequence.prefill_only()) {
      sequence.retired.push_back(own);
    } else {
      pool_.Free(own, PageOwner::kSequence);
    }
  }
}

void Scheduler::ReleasePages(Sequence& sequence, PageOwner owner) {
  const std::span<const PageId> pages = sequence.pages;
  const size_t shared = static_cast<size_t>(sequence.shared_pages);
  for (const PageId page : pages.subspan(shared)) pool_.Free(page, owner);
  for (const PageId page : sequence.retired) pool_.Free(page, owner);
  cache_.Unlock(pages.first(shared));
  sequence.pages.clear();
  sequence.retired.clear();
  sequence.shared_pages = 0;
  sequence.computed = 0;
}

void Scheduler::HoldPages(Sequence& sequence) {
  if (sequence.pages.empty()) return;
  const auto owned_begin = sequence.pages.begin() + sequence.shared_pages;
  Hold hold{.shared{sequence.pages.begin(), owned_begin}, .owned{owned_begin, sequence.pages.end()}};
  hold.owned.insert(hold.owned.end(), sequence.retired.begin(), sequence.retired.end());
  for (const PageId page : hold.owned) pool_.Move(page, PageOwner::kSequence, PageOwner::kHold);
  holds_.emplace(sequence.id(), std::move(hold));
  sequence.pages.clear();
  sequence.retired.clear();
  sequence.shared_pages = 0;
}

}  // namespace baton::engine
