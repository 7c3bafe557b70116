// Causal attention over paged KV with an online softmax (Milakov and Gimelshein 2018, in tiles as
// in FlashAttention, Dao et al. 2022). Compiled once per instruction set.
//
// Order of a row's operations is fixed by absolute position: tiles of 64 positions from 0, eight of
// them to a chunk with a softmax state of its own, chunks merged in order. A tile where the row
// sees nothing is left out. So neither batch, chunked prefill, page placement nor threads change a
// bit. Rows of a block: row = (token - token_begin) * group + head of the KV head's group.
#pragma once

#include "kernels/cpu/elementwise_body.h"
#include "kernels/cpu/linear_dense_body.h"

namespace baton::kernels::cpu {
namespace {

constexpr float kNothing = -__builtin_inff();
constexpr int kStrip = kLanes == 16 ? 4 : 2;  // vectors of a row's tile kept in registers

// c[r][strip] = (scale ? c * scale[r] : 0) + sum over k of a[r][k] * b[k][strip], R rows.
template <int R, int V>
void GemmTile(const float* a, int lda, const float* b, int ldb, int depth, const float* scale,
              float* c, int ldc) {
  F32 acc[R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      acc[r][v] = scale ? Mul(Load(c + r * ldc + v * kLanes), Set1(scale[r])) : Zero();
  for (int k = 0; k < depth; ++k) {
    F32 bv[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) bv[v] = Load(b + static_cast<int64_t>(k) * ldb + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const F32 av = Set1(a[r * lda + k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[r][v] = Fma(av, bv[v], acc[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) Store(c + r * ldc + v * kLanes, acc[r][v]);
}

template <int V>
void GemmRows(const float* a, int lda, const float* b, int ldb, int rows, int depth,
              const float* scale, float* c, int ldc) {
  int r = 0;
  for (; r + 4 <= rows; r += 4)
    GemmTile<4, V>(a + r * lda, lda, b, ldb, depth, scale ? scale + r : nullptr, c + r * ldc, ldc);
  for (; r < rows; ++r)
    GemmTile<1, V>(a + r * lda, lda, b, ldb, depth, scale ? scale + r : nullptr, c + r * ldc, ldc);
}

// c [rows, cols] from a [rows, depth] and b [depth, cols]; cols is a multiple of kLanes.
void Gemm(const float* a, int lda, const float* b, int ldb, int rows, int cols, int depth,
          const float* scale, float* c, int ldc) {
  int j = 0;
  for (; j + kStrip * kLanes <= cols; j += kStrip * kLanes)
    GemmRows<kStrip>(a, lda, b + j, ldb, rows, depth, scale, c + j, ldc);
  for (; j < cols; j += kLanes) GemmRows<1>(a, lda, b + j, ldb, rows, depth, scale, c + j, ldc);
}

// One stored row as floats, padded with zeros.
template <Element kElement>
inline void LoadKvRow(const std::byte* in, int dim, int padded, float* out) {
  constexpr int kSize = kElement == Element::kF32 ? 4 : 2;
  int i = 0;
  for (; i + kLanes <= dim; i += kLanes) Store(out + i, LoadElements<kElement>(in, i));
  if (i < padded) {
    alignas(64) std::byte tail[kSize * kLanes] = {};
    if (i < dim) __builtin_memcpy(tail, in + i * kSize, static_cast<size_t>(dim - i) * kSize);
    Store(out + i, LoadElements<kElement>(tail, 0));
    for (i += kLanes; i < padded; i += kLanes) Store(out + i, Zero());
  }
}

// K (transposed) and V of positions [begin, begin + count) into scratch; the rest of the tile zero.
template <Element kElement>
void LoadKvTile(const AttentionJob& job, int kv_head, int begin, int count,
                const AttentionScratch& scratch) {
  const int padded = PadHead(job.head_dim);
  const size_t head_bytes =
      static_cast<size_t>(kv_head) * job.head_dim * (kElement == Element::kF32 ? 4 : 2);
  for (int j = 0; j < count; ++j) {
    const int position = begin + j;
    const std::byte* key =
        job.layer_base +
        static_cast<size_t>(job.pages[position / job.page_tokens]) * job.page_bytes +
        (position % job.page_tokens) * job.token_bytes + head_bytes;
    LoadKvRow<kElement>(key, job.head_dim, padded, scratch.keys + j * padded);
    LoadKvRow<kElement>(key + job.plane_bytes, job.head_dim, padded, scratch.values + j * padded);
  }
  for (int i = count * padded; i < kAttentionTile * padded; i += kLanes) {
    Store(scratch.keys + i, Zero());
    Store(scratch.values + i, Zero());
  }
  const int used = (count + kLanes - 1) / kLanes * kLanes;
  for (int j = 0; j < used; j += kLanes)
    for (int d = 0; d < padded; d += kLanes)
      TransposeTile(scratch.keys + j * padded + d, padded, scratch.keys_t + d * kAttentionTile + j,
                    kAttentionTile);
  for (int j = used; j < kAttentionTile; j += kLanes)
    for (int d = 0; d < padded; ++d) Store(scratch.keys_t + d * kAttentionTile + j, Zero());
}

void LoadKvTileAny(const AttentionJob& job, int kv_head, int begin, int count,
                   const AttentionScratch& scratch) {
  switch (job.element) {
    case Element::kF32:
      return LoadKvTile<Element::kF32>(job, kv_head, begin, count, scratch);
    case Element::kF16:
      return LoadKvTile<Element::kF16>(job, kv_head, begin, count, scratch);
    case Element::kBF16:
      return LoadKvTile<Element::kBF16>(job, kv_head, begin, count, scratch);
  }
}

inline float ExpOne(float x) {
  alignas(64) float out[kLanes];
  Store(out, Exp(Set1(x)));
  return out[0];
}

// Softmax step of one row over a tile whose visible positions are [from, to): turns its scores into
// weights and updates top and total. Returns the factor for what was mixed before.
inline float SoftmaxStep(float* scores, int from, int to, float* top, float* total) {
  for (int j = 0; j < from; ++j) scores[j] = kNothing;
  for (int j = to; j < kAttentionTile; ++j) scores[j] = kNothing;
  F32 largest = Load(scores);
  for (int j = kLanes; j < kAttentionTile; j += kLanes) largest = Max(largest, Load(scores + j));
  const float tile_top = ReduceMax(largest);
  const float new_top = tile_top > *top ? tile_top : *top;
  const float alpha = ExpOne(*top - new_top);  // 0 at the first tile: -inf is below Exp's range
  const F32 shift = Set1(new_top);
  F32 sum = Zero();
  for (int j = 0; j < kAttentionTile; j += kLanes) {
    const F32 weight = Exp(Sub(Load(scores + j), shift));
    Store(scores + j, weight);
    sum = Add(sum, weight);
  }
  *top = new_top;
  *total = *total * alpha + ReduceAdd(sum);
  return alpha;
}

inline int FirstVisible(const AttentionJob& job, int position) {
  return job.window > 0 && position >= job.window ? position - job.window + 1 : 0;
}
inline int Smaller(int a, int b) {
  return a < b ? a : b;
}
inline int Larger(int a, int b) {
  return a > b ? a : b;
}

void AttentionLoadQ(const AttentionJob& job, int kv_head, int token_begin, int tokens,
                    const AttentionScratch& scratch) {
  const int padded = PadHead(job.head_dim);
  float* out = scratch.q;
  for (int t = 0; t < tokens; ++t) {
    const float* q = job.q + (token_begin + t) * job.q_stride +
                     static_cast<int64_t>(kv_head) * job.group * job.head_dim;
    for (int g = 0; g < job.group; ++g, q += job.head_dim, out += padded) {
      for (int d = 0; d < job.head_dim; ++d) out[d] = q[d] * job.scale;
      for (int d = job.head_dim; d < padded; ++d) out[d] = 0;
    }
  }
}

void AttentionChunk(const AttentionJob& job, int kv_head, int token_begin, int tokens, int chunk,
                    const AttentionScratch& scratch, const AttentionState& state) {
  const int padded = PadHead(job.head_dim);
  const int rows = tokens * job.group;
  for (int r = 0; r < rows; ++r) {
    state.top[r] = kNothing;
    state.total[r] = 0;
  }
  for (int i = 0; i < rows * padded; i += kLanes) Store(state.mixed + i, Zero());

  const int first_position = job.first_position + token_begin;
  const int last_position = first_position + tokens - 1;
  const int begin = chunk * kAttentionChunk;
  const int end = Smaller(begin + kAttentionChunk, last_position + 1);
  for (int tile = begin; tile < end; tile += kAttentionTile) {
    const int tile_end = tile + kAttentionTile;
    // Tokens that see some of this tile are a run: causality cuts its start, the window its end.
    int from = Larger(0, tile - first_position);
    int to = tokens;
    while (to > from && FirstVisible(job, first_position + to - 1) >= tile_end) --to;
    if (from >= to) continue;
    LoadKvTileAny(job, kv_head, tile, Smaller(kAttentionTile, last_position + 1 - tile), scratch);
    const int row = from * job.group;
    const int count = (to - from) * job.group;
    Gemm(scratch.q + row * padded, padded, scratch.keys_t, kAttentionTile, count, kAttentionTile,
         padded, nullptr, scratch.scores, kAttentionTile);
    for (int r = 0; r < count; ++r) {
      const int position = first_position + from + r / job.group;
      scratch.alpha[r] = SoftmaxStep(
          scratch.scores + r * kAttentionTile, Larger(0, FirstVisible(job, position) - tile),
          Smaller(kAttentionTile, position + 1 - tile), state.top + row + r, state.total + row + r);
    }
    Gemm(scratch.scores, kAttentionTile, scratch.values, padded, count, padded, kAttentionTile,
         scratch.alpha, state.mixed + row * padded, padded);
  }
}

void AttentionMerge(const AttentionState& into, const AttentionState& next, int rows, int padded) {
  for (int r = 0; r < rows; ++r) {
    if (next.top[r] == kNothing) continue;
    const float top = into.top[r] > next.top[r] ? into.top[r] : next.top[r];
    const float old_factor = ExpOne(into.top[r] - top);
    const float new_factor = ExpOne(next.top[r] - top);
    into.top[r] = top;
    into.total[r] = into.total[r] * old_factor + next.total[r] * new_factor;
    for (int d = 0; d < padded; d += kLanes) {
      float* mixed = into.mixed + r * padded + d;
      const F32 add = Mul(Load(next.mixed + r * padded + d), Set1(new_factor));
      Store(mixed, Fma(Load(mixed), Set1(old_factor), add));
    }
  }
}

void AttentionStore(const AttentionJob& job, int kv_head, int token_begin, int tokens,
                    const AttentionState& state) {
  const int padded = PadHead(job.head_dim);
  int row = 0;
  for (int t = 0; t < tokens; ++t) {
    float* out = job.out + (token_begin + t) * job.out_stride +
                 static_cast<int64_t>(kv_head) * job.group * job.head_dim;
    for (int g = 0; g < job.group; ++g, ++row, out += job.head_dim) {
      const float inverse = 1.0f / state.total[row];
      for (int d = 0; d < job.head_dim; ++d) out[d] = state.mixed[row * padded + d] * inverse;
    }
  }
}

}  // namespace
}  // namespace baton::kernels::cpu
