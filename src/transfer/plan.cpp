#include "transfer/plan.h"

#include <algorithm>

namespace baton::transfer {
namespace {

// Adds a run, or lengthens the last one when it goes on there on both sides.
inline void Join(std::vector<Run>& out, size_t first, uint64_t from, uint64_t to, uint64_t bytes) {
  if (out.size() > first) {
    Run& last = out.back();
    if (last.local_offset + last.bytes == from && last.remote_offset + last.bytes == to) {
      last.bytes += bytes;
      return;
    }
  }
  out.push_back({from, to, bytes});
}

Status CheckLayout(const char* side, const PoolLayout& l) {
  if (l.layers == 0 || l.heads == 0 || l.planes == 0 || l.page_tokens == 0 || l.head_bytes == 0)
    return Error(Code::kInvalidArgument,
                 "{} pool: {} layers, {} heads, {} planes, pages of {} tokens, heads of {} bytes: "
                 "none may be 0", side, l.layers, l.heads, l.planes, l.page_tokens, l.head_bytes);
  return Status::Ok();
}

}  // namespace

PoolLayout PoolLayout::PageMajor(uint32_t layers, uint32_t planes, uint32_t page_tokens,
                                 uint32_t heads, uint64_t head_bytes) {
  PoolLayout l{.layers = layers, .heads = heads, .planes = planes, .page_tokens = page_tokens,
               .head_bytes = head_bytes};
  l.head_stride = head_bytes;
  l.token_stride = heads * l.head_stride;
  l.plane_stride = page_tokens * l.token_stride;
  l.layer_stride = planes * l.plane_stride;
  l.page_stride = layers * l.layer_stride;
  return l;
}

PoolLayout PoolLayout::LayerMajor(uint32_t layers, uint32_t planes, uint32_t page_tokens,
                                  uint32_t heads, uint64_t head_bytes, uint64_t pages) {
  PoolLayout l = PageMajor(layers, planes, page_tokens, heads, head_bytes);
  l.page_stride = page_tokens * l.token_stride;
  l.plane_stride = pages * l.page_stride;
  l.layer_stride = planes * l.plane_stride;
  return l;
}

PoolLayout PoolLayout::HeadMajor() const {
  PoolLayout l = *this;
  l.token_stride = head_bytes;
  l.head_stride = page_tokens * head_bytes;
  return l;
}

Result<HeadRange> HeadsOfRank(uint32_t total, uint32_t tp, uint32_t rank) {
  if (total == 0 || tp == 0 || rank >= tp)
    return Error(Code::kInvalidArgument, "rank {} of {} over {} heads", rank, tp, total);
  if (total % tp == 0) return HeadRange{rank * (total / tp), total / tp};
  if (tp % total == 0) return HeadRange{rank / (tp / total), 1};
  return Error(Code::kInvalidArgument,
               "{} heads cannot be shared by {} ranks: one number must divide the other", total, tp);
}

Result<HeadRange> HeadsToSend(uint32_t total, uint32_t source_tp, uint32_t source_rank,
                              uint32_t target_tp, uint32_t target_rank) {
  const Result<HeadRange> held = HeadsOfRank(total, source_tp, source_rank);
  if (!held.ok()) return held.status();
  const Result<HeadRange> wanted = HeadsOfRank(total, target_tp, target_rank);
  if (!wanted.ok()) return wanted.status();
  const uint32_t copies = source_tp > total ? source_tp / total : 1;
  if (copies > 1 && source_rank % copies != target_rank % copies) return HeadRange{};
  const uint32_t begin = std::max(held->first, wanted->first);
  const uint32_t end = std::min(held->first + held->count, wanted->first + wanted->count);
  return begin < end ? HeadRange{begin, end - begin} : HeadRange{};
}

Result<PagePlan> PagePlan::Make(const PoolLayout& source, const PoolLayout& target) {
  const uint32_t begin = std::max(source.first_head, target.first_head);
  const uint32_t end =
      std::min(source.first_head + source.heads, target.first_head + target.heads);
  return Make(source, target, {begin, end > begin ? end - begin : 0});
}

Result<PagePlan> PagePlan::Make(const PoolLayout& source, const PoolLayout& target,
                                HeadRange heads) {
  if (Status s = CheckLayout("source", source); !s.ok()) return s;
  if (Status s = CheckLayout("target", target); !s.ok()) return s;
  if (source.planes != target.planes || source.head_bytes != target.head_bytes)
    return Error(Code::kInvalidArgument,
                 "pools differ in what cannot be re-sliced: {} and {} planes, heads of {} and {} "
                 "bytes", source.planes, target.planes, source.head_bytes, target.head_bytes);
  const auto holds = [&](const PoolLayout& l) {
    return heads.first >= l.first_head &&
           uint64_t{heads.first} + heads.count <= uint64_t{l.first_head} + l.heads;
  };
  if (heads.count == 0 || !holds(source) || !holds(target))
    return Error(Code::kInvalidArgument,
                 "heads [{}, +{}) are not in both pools: source holds [{}, +{}), target [{}, +{})",
                 heads.first, heads.count, source.first_head, source.heads, target.first_head,
                 target.heads);
  return PagePlan(source, target, heads);
}

PagePlan::PagePlan(const PoolLayout& source, const PoolLayout& target, HeadRange heads)
    : source_(source), target_(target), heads_(heads) {
  const uint64_t head = source.head_bytes;
  const auto both = [&](auto holds) { return holds(source) && holds(target); };
  const bool heads_join =
      heads.count == 1 || both([&](const PoolLayout& l) { return l.head_stride == head; });
  token_bytes_ = heads_join ? heads.count * head : head;
  tokens_join_ = both([&](const PoolLayout& l) { return l.token_stride == token_bytes_; });
  // Heads that lie apart are rows; so is every head where whole pages of single heads join.
  const uint32_t rows_of_heads = heads_join ? 1 : heads.count;
  rows_per_layer_ = source.planes * rows_of_heads;

  first_layer_ = std::max(source.first_layer, target.first_layer);
  const uint32_t end =
      std::min(source.first_layer + source.layers, target.first_layer + target.layers);
  layers_ = end > first_layer_ ? end - first_layer_ : 0;
  const auto offset = [&](const PoolLayout& l, uint32_t layer, uint32_t plane, uint32_t h) {
    return l.base + (layer - l.first_layer) * l.layer_stride + plane * l.plane_stride +
           (heads.first + h - l.first_head) * l.head_stride;
  };
  rows_.reserve(size_t{layers_} * rows_per_layer_);
  for (uint32_t layer = first_layer_; layer < first_layer_ + layers_; ++layer)
    for (uint32_t plane = 0; plane < source.planes; ++plane)
      for (uint32_t h = 0; h < rows_of_heads; ++h)
        rows_.push_back({offset(source, layer, plane, h), offset(target, layer, plane, h), 1});

  // Rows can only touch when a segment fills a whole page of both sides.
  if (!tokens_join_ || source.page_tokens != target.page_tokens) return;
  const uint64_t whole = source.page_tokens * token_bytes_;
  for (size_t i = rows_.size(); i-- > 1;) {
    Row& row = rows_[i - 1];
    const Row& next = rows_[i];
    if (next.source - row.source != whole || next.target - row.target != whole) continue;
    row.joined = next.joined + 1;
    joining_bytes_ = whole;
  }
}

void PagePlan::AddTokens(uint64_t from, uint64_t to, uint64_t tokens, Scratch& scratch) const {
  if (tokens_join_) {
    scratch.push_back({from, to, tokens * token_bytes_});
    return;
  }
  for (uint64_t t = 0; t < tokens; ++t)
    scratch.push_back({from + t * source_.token_stride, to + t * target_.token_stride, token_bytes_});
}

Status PagePlan::CollectSegments(const TokenPages& source, const TokenPages& target,
                                 const PlanRange& range, Scratch& scratch) const {
  const auto covers = [&](const TokenPages& list, const PoolLayout& l) {
    return range.token_begin >= list.first_token &&
           range.token_end - list.first_token <= list.pages.size() * uint64_t{l.page_tokens};
  };
  if (!covers(source, source_) || !covers(target, target_))
    return Error(Code::kOutOfRange,
                 "tokens [{}, {}) are not all in the {} source pages from token {} and the {} "
                 "target pages from token {}", range.token_begin, range.token_end,
                 source.pages.size(), source.first_token, target.pages.size(), target.first_token);
  const uint64_t from_tokens = source_.page_tokens, to_tokens = target_.page_tokens;
  uint64_t left = range.token_end - range.token_begin;
  uint64_t from_slot = (range.token_begin - source.first_token) % from_tokens;
  uint64_t to_slot = (range.token_begin - target.first_token) % to_tokens;
  size_t from_page = (range.token_begin - source.first_token) / from_tokens;
  size_t to_page = (range.token_begin - target.first_token) / to_tokens;
  while (left) {
    const uint64_t tokens = std::min({left, from_tokens - from_slot, to_tokens - to_slot});
    const PageId from = source.pages[from_page], to = target.pages[to_page];
    if (to >= 0) {
      if (from < 0)
        return Error(Code::kOutOfRange, "source page {} of the list is gone, but its tokens are wanted",
                     from_page);
      AddTokens(static_cast<uint64_t>(from) * source_.page_stride + from_slot * source_.token_stride,
                static_cast<uint64_t>(to) * target_.page_stride + to_slot * target_.token_stride,
                tokens, scratch);
    }
    left -= tokens;
    if ((from_slot += tokens) == from_tokens) from_slot = 0, ++from_page;
    if ((to_slot += tokens) == to_tokens) to_slot = 0, ++to_page;
  }
  return Status::Ok();
}

Status PagePlan::Append(const TokenPages& source, const TokenPages& target, const PlanRange& range,
                        Scratch& scratch, std::vector<Run>& out) const {
  const uint32_t layer_begin = std::max(range.layer_begin, first_layer_);
  const uint32_t layer_end = std::min(range.layer_end, first_layer_ + layers_);
  if (range.token_begin >= range.token_end || layer_begin >= layer_end) return Status::Ok();
  scratch.clear();
  if (Status s = CollectSegments(source, target, range, scratch); !s.ok()) return s;

  const size_t first_row = size_t{layer_begin - first_layer_} * rows_per_layer_;
  const size_t end_row = size_t{layer_end - first_layer_} * rows_per_layer_;
  const size_t first = out.size();
  // Row by row, so that neighbours in a pool with a tensor per layer come one after the other.
  if (joining_bytes_ == 0) {
    for (size_t r = first_row; r < end_row; ++r)
      for (const Segment& s : scratch)
        Join(out, first, rows_[r].source + s.source, rows_[r].target + s.target, s.bytes);
    return Status::Ok();
  }
  for (size_t r = first_row; r < end_row;) {
    const size_t joined = std::min<size_t>(rows_[r].joined, end_row - r);
    for (const Segment& s : scratch)
      if (s.bytes == joining_bytes_)
        Join(out, first, rows_[r].source + s.source, rows_[r].target + s.target, joined * s.bytes);
    r += joined;
  }
  // Parts of pages: only the first and the last can be.
  for (const Segment& s : scratch) {
    if (s.bytes == joining_bytes_) continue;
    for (size_t r = first_row; r < end_row; ++r)
      Join(out, first, rows_[r].source + s.source, rows_[r].target + s.target, s.bytes);
  }
  return Status::Ok();
}

Result<const PagePlan*> PlanCache::Get(const PoolLayout& source, const PoolLayout& target,
                                       HeadRange heads) {
  std::lock_guard lock(mutex_);
  for (const auto& kept : kept_)
    if (kept->heads == heads && kept->plan.source() == source && kept->plan.target() == target)
      return &kept->plan;
  Result<PagePlan> plan = PagePlan::Make(source, target, heads);
  if (!plan.ok()) return plan.status();
  kept_.push_back(std::make_unique<Kept>(Kept{heads, *std::move(plan)}));
  return &kept_.back()->plan;
}

}  // namespace baton::transfer
