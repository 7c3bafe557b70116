// The paged KV cache's layout: page-major, `[page][layer][k|v][token][kv_head][dim]`.
//
// A page is one contiguous run across all layers and one layer of a page is a fixed stride inside
// it, so that a finished page is one write on the wire and a finished layer of it is one too
// (design.md section 4). KvLayout is also the record that PD peers exchange and must agree on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "common/ids.h"
#include "kernels/tensor.h"

namespace baton::kernels {

struct KvLayout {
  int layers = 0;
  int page_tokens = 16;
  int kv_heads = 0;   // of this rank
  int head_dim = 0;
  DType dtype = DType::kF16;  // kF16, kBF16 or kF32

  size_t ElementBytes() const { return InfoOf(dtype).block_bytes; }
  size_t TokenBytes() const { return size_t(kv_heads) * head_dim * ElementBytes(); }   // K or V
  size_t PlaneBytes() const { return page_tokens * TokenBytes(); }  // K or V of one layer
  size_t LayerBytes() const { return 2 * PlaneBytes(); }            // one layer of one page
  size_t PageBytes() const { return layers * LayerBytes(); }
  size_t BytesPerToken() const { return 2 * size_t(layers) * TokenBytes(); }
  friend bool operator==(const KvLayout&, const KvLayout&) = default;
  std::string ToString() const;  // "30 layers, pages of 16 tokens, 3 heads of 64, f16"
};

// The pool of one rank. Does not own its memory.
struct KvPool {
  KvLayout layout;
  std::byte* base = nullptr;
  int pages = 0;

  std::byte* LayerOfPage(PageId page, int layer) const {
    return base + static_cast<size_t>(page) * layout.PageBytes() + layer * layout.LayerBytes();
  }
  std::byte* Keys(PageId page, int layer) const { return LayerOfPage(page, layer); }
  std::byte* Values(PageId page, int layer) const {
    return LayerOfPage(page, layer) + layout.PlaneBytes();
  }
};

// One sequence's part of a step. Its `q_len` new tokens stand at rows [q_begin, q_begin + q_len) of
// the batch and at positions [kv_len - q_len, kv_len); `pages` covers positions [0, kv_len).
struct SequenceSlice {
  int q_begin = 0;
  int q_len = 0;
  int kv_len = 0;
  std::span<const PageId> pages;
};

}  // namespace baton::kernels
