// From page lists to runs: which bytes of a sender's page pool go where in the receiver's, whatever
// the two layouts, in as few runs as adjacency on both sides allows.
//
// A PagePlan is made once per pair of layouts (PlanCache keeps it): there the two layouts are
// compared, the heads cut, and the constant part of every run computed. Append only adds the page
// offsets of one transfer.
//
// What differs may be: page size in tokens, order of dimensions (strides are free: page-major,
// layer-major, head-major), head range of each side (unequal tensor parallelism, both directions),
// layer range (pipeline stages). A latent cache (MLA) is one plane with one head, held by every rank.
// What must agree: planes, and bytes of one head of one token.
//
// Pure functions; no allocation beyond the caller's vectors once these have grown.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "transfer/transfer.h"

namespace baton::transfer {

// One rank's pool inside its region. Element (page p, layer l, plane c, token t, head h) is
// head_bytes at base + p * page_stride + l * layer_stride + c * plane_stride + t * token_stride +
// h * head_stride, where l and h count from the rank's first.
struct PoolLayout {
  uint32_t first_layer = 0, layers = 0;  // of the whole model's numbering
  uint32_t first_head = 0, heads = 0;    // likewise
  uint32_t planes = 2;                   // keys and values; 1 for a latent
  uint32_t page_tokens = 16;
  uint64_t head_bytes = 0;               // one token, one head, one plane
  uint64_t base = 0;
  uint64_t page_stride = 0, layer_stride = 0, plane_stride = 0, token_stride = 0, head_stride = 0;

  // [page][layer][plane][token][head]: the order of this server's own pools.
  static PoolLayout PageMajor(uint32_t layers, uint32_t planes, uint32_t page_tokens,
                              uint32_t heads, uint64_t head_bytes);
  // [layer][plane][page][token][head]: one tensor per layer and plane, `pages` pages each.
  static PoolLayout LayerMajor(uint32_t layers, uint32_t planes, uint32_t page_tokens,
                               uint32_t heads, uint64_t head_bytes, uint64_t pages);
  // Exchanges the order of token and head in either of these: [head][token] inside of a plane.
  PoolLayout HeadMajor() const;

  friend bool operator==(const PoolLayout&, const PoolLayout&) = default;
};

struct HeadRange {
  uint32_t first = 0, count = 0;
  friend bool operator==(HeadRange, HeadRange) = default;
};

// Heads that rank `rank` of `tp` holds: an equal share of `total`, or, when there are more ranks
// than heads (GQA, MLA), one head that tp / total ranks hold alike. One number must divide the other.
Result<HeadRange> HeadsOfRank(uint32_t total, uint32_t tp, uint32_t rank);

// Which heads source rank sends to target rank so that each target rank gets each of its heads from
// exactly one source; copies of a head are taken in turn by target rank. Empty: nothing.
Result<HeadRange> HeadsToSend(uint32_t total, uint32_t source_tp, uint32_t source_rank,
                              uint32_t target_tp, uint32_t target_rank);

// pages[i] holds tokens [first_token + i * page_tokens, + page_tokens): a list may begin behind
// tokens that nobody wants (a cached prefix, what a sliding window left).
struct TokenPages {
  std::span<const PageId> pages;
  uint64_t first_token = 0;
};

// Layers and tokens to move, both half-open. Layers outside of either pool are left out.
struct PlanRange {
  uint32_t layer_begin = 0, layer_end = ~0u;
  uint64_t token_begin = 0, token_end = 0;
};

class PagePlan {
 public:
  // Contiguous tokens of one page pair: both offsets lack the row's part.
  struct Segment {
    uint64_t source = 0, target = 0, bytes = 0;
  };
  using Scratch = std::vector<Segment>;

  // `heads`: those to move; must lie in both pools. kInvalidArgument says what does not fit.
  static Result<PagePlan> Make(const PoolLayout& source, const PoolLayout& target, HeadRange heads);
  // All heads that both pools hold.
  static Result<PagePlan> Make(const PoolLayout& source, const PoolLayout& target);

  // Appends the runs of one transfer. Target pages below zero are not wanted and skipped (a window
  // that let them go). kOutOfRange when a list does not cover the tokens, or a source page below
  // zero is wanted; `out` is as before then. `scratch` belongs to the caller and is reused.
  Status Append(const TokenPages& source, const TokenPages& target, const PlanRange& range,
                Scratch& scratch, std::vector<Run>& out) const;

  const PoolLayout& source() const { return source_; }
  const PoolLayout& target() const { return target_; }
  // Bytes that one token of one layer moves.
  uint64_t TokenLayerBytes() const { return uint64_t{source_.planes} * heads_.count * source_.head_bytes; }

 private:
  // The constant part of runs: one (layer, plane) or (layer, plane, head).
  struct Row {
    uint64_t source = 0, target = 0;
    // Rows from this one on that become one run when a segment has `joining_bytes_`.
    uint32_t joined = 1;
  };

  PagePlan(const PoolLayout& source, const PoolLayout& target, HeadRange heads);
  Status CollectSegments(const TokenPages& source, const TokenPages& target,
                         const PlanRange& range, Scratch& scratch) const;
  void AddTokens(uint64_t from, uint64_t to, uint64_t tokens, Scratch& scratch) const;

  PoolLayout source_, target_;
  HeadRange heads_;
  std::vector<Row> rows_;         // by layer
  uint32_t rows_per_layer_ = 0;
  uint32_t first_layer_ = 0, layers_ = 0;  // common to both pools
  uint64_t token_bytes_ = 0;      // contiguous bytes per token within a row
  bool tokens_join_ = false;      // tokens that follow each other are contiguous on both sides
  uint64_t joining_bytes_ = 0;    // segment size at which rows join; 0: never
};

// Plans by layout. Thread-safe; plans live as long as the cache.
class PlanCache {
 public:
  Result<const PagePlan*> Get(const PoolLayout& source, const PoolLayout& target, HeadRange heads);

 private:
  struct Kept {
    HeadRange heads;
    PagePlan plan;
  };
  std::mutex mutex_;
  std::vector<std::unique_ptr<Kept>> kept_;  // a handful: one per kind of peer
};

}  // namespace baton::transfer
