#include "kernels/cpu/attention_plan.h"

#include <algorithm>

namespace baton::kernels::cpu {
namespace {

// Query rows that share one pass over a KV tile: enough to hide its conversion, few enough to stay
// in the first-level cache with it.
constexpr int kWantedRows = 64;

float* Align64(float* p) {
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(p) + 63) / 64 * 64);
}

Element ElementOf(DType dtype) {
  return dtype == DType::kF16    ? Element::kF16
         : dtype == DType::kBF16 ? Element::kBF16
                                 : Element::kF32;
}

int RoundUp16(int n) {
  return (n + 15) / 16 * 16;
}

}  // namespace

AttentionRunner::AttentionRunner(const KernelTable& kernels, ThreadTeam& team)
    : kernels_(kernels), team_(team), scratch_(team.size()) {}

AttentionJob AttentionRunner::MakeJob(const AttentionArgs& args, const SequenceSlice& slice) const {
  const KvLayout& layout = args.kv->layout;
  return {
      .q = args.q.Row(slice.q_begin),
      .q_stride = args.q.cols,
      .out = args.out.Row(slice.q_begin),
      .out_stride = args.out.cols,
      .layer_base = args.kv->LayerOfPage(0, args.layer),
      .page_bytes = layout.PageBytes(),
      .plane_bytes = layout.PlaneBytes(),
      .token_bytes = layout.TokenBytes(),
      .pages = slice.pages.data(),
      .page_tokens = layout.page_tokens,
      .element = ElementOf(layout.dtype),
      .group = group_,
      .head_dim = layout.head_dim,
      .scale = args.scale,
      .window = args.window,
      .first_position = slice.kv_len - slice.q_len,
  };
}

void AttentionRunner::PlanItems(const AttentionArgs& args) {
  items_.clear();
  const int block = std::max(1, kWantedRows / group_);
  block_rows_ = block * group_;
  for (size_t i = 0; i < args.slices.size(); ++i) {
    const SequenceSlice& slice = args.slices[i];
    // Last blocks first: they see the most positions.
    for (int begin = (slice.q_len - 1) / block * block; begin >= 0; begin -= block) {
      const int tokens = std::min(block, slice.q_len - begin);
      if (tokens <= 0) continue;
      const int first = slice.kv_len - slice.q_len + begin;
      const int last = first + tokens - 1;
      const int seen = args.window > 0 ? std::max(0, first - args.window + 1) : 0;
      for (int head = 0; head < args.kv->layout.kv_heads; ++head) {
        items_.push_back({static_cast<int>(i), head, begin, tokens, seen / kAttentionChunk,
                          last / kAttentionChunk + 1, -1});
      }
    }
  }
}

void AttentionRunner::CutItems() {
  parts_.clear();
  if (team_.size() == 1 || static_cast<int>(items_.size()) >= 4 * team_.size()) return;
  int partials = 0;
  for (Item& item : items_) {
    item.partial = partials;
    for (int chunk = item.chunk_begin; chunk < item.chunk_end; ++chunk) {
      parts_.push_back(item);
      parts_.back().chunk_begin = chunk;
      parts_.back().chunk_end = chunk + 1;
      parts_.back().partial = partials++;
    }
  }
  if (parts_.size() == items_.size()) {
    parts_.clear();  // nothing was long enough to cut
    return;
  }
  const size_t needed =
      static_cast<size_t>(partials) * (2 * RoundUp16(block_rows_) + block_rows_ * padded_) + 16;
  if (partials_.size() < needed) partials_.resize(needed);
}

AttentionState AttentionRunner::PartialState(int index) {
  const int states = RoundUp16(block_rows_);
  float* base =
      Align64(partials_.data()) + static_cast<size_t>(index) * (2 * states + block_rows_ * padded_);
  return {base, base + states, base + 2 * states};
}

void AttentionRunner::PrepareScratch(const AttentionArgs& args) {
  padded_ = PadHead(args.kv->layout.head_dim);
  const size_t rows = RoundUp16(block_rows_);
  const size_t tile = size_t{kAttentionTile} * padded_;
  const size_t needed = 3 * rows * padded_ + 3 * tile + rows * kAttentionTile + 5 * rows + 16;
  for (Scratch& s : scratch_) {
    if (s.memory.size() < needed) s.memory.resize(needed);
    float* p = Align64(s.memory.data());
    const auto take = [&p](size_t n) { return (p += n) - n; };
    s.arrays = {take(rows * padded_),        take(tile), take(tile), take(tile),
                take(rows * kAttentionTile), take(rows)};
    s.total = {take(rows), take(rows), take(rows * padded_)};
    s.chunk = {take(rows), take(rows), take(rows * padded_)};
  }
}

void AttentionRunner::RunItem(const AttentionArgs& args, const Item& item, Scratch& scratch) {
  const AttentionJob job = MakeJob(args, args.slices[item.slice]);
  kernels_.attention_load_q(job, item.kv_head, item.token_begin, item.tokens, scratch.arrays);
  for (int chunk = item.chunk_begin; chunk < item.chunk_end; ++chunk) {
    const bool first = chunk == item.chunk_begin;
    kernels_.attention_chunk(job, item.kv_head, item.token_begin, item.tokens, chunk,
                             scratch.arrays, first ? scratch.total : scratch.chunk);
    if (!first)
      kernels_.attention_merge(scratch.total, scratch.chunk, item.tokens * group_, padded_);
  }
  kernels_.attention_store(job, item.kv_head, item.token_begin, item.tokens, scratch.total);
}

void AttentionRunner::RunPart(const AttentionArgs& args, const Item& part, Scratch& scratch) {
  const AttentionJob job = MakeJob(args, args.slices[part.slice]);
  kernels_.attention_load_q(job, part.kv_head, part.token_begin, part.tokens, scratch.arrays);
  kernels_.attention_chunk(job, part.kv_head, part.token_begin, part.tokens, part.chunk_begin,
                           scratch.arrays, PartialState(part.partial));
}

void AttentionRunner::MergeParts(const AttentionArgs& args, const Item& item) {
  const AttentionJob job = MakeJob(args, args.slices[item.slice]);
  const AttentionState total = PartialState(item.partial);
  for (int i = 1; i < item.chunk_end - item.chunk_begin; ++i)
    kernels_.attention_merge(total, PartialState(item.partial + i), item.tokens * group_, padded_);
  kernels_.attention_store(job, item.kv_head, item.token_begin, item.tokens, total);
}

void AttentionRunner::Run(const AttentionArgs& args) {
  group_ = args.heads / args.kv->layout.kv_heads;
  PlanItems(args);
  if (items_.empty()) return;
  PrepareScratch(args);
  CutItems();
  if (parts_.empty()) {
    team_.Run(static_cast<int>(items_.size()),
              [&](int i, int member) { RunItem(args, items_[i], scratch_[member]); });
    return;
  }
  team_.Run(static_cast<int>(parts_.size()),
            [&](int i, int member) { RunPart(args, parts_[i], scratch_[member]); });
  for (const Item& item : items_) MergeParts(args, item);
}

}  // namespace baton::kernels::cpu
