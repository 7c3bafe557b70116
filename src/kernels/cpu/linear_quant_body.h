// Quantised weights times activations quantised to 16 bits. Compiled once per instruction set.
//
// One lane is one weight row, so a result is one chain of operations down its lane: for each block
// an exact integer dot product, then acc = fma(d * dx, dot, acc) and acc = fma(m, dx * sum, acc).
// The chain does not depend on the tile's width in tokens, which is what makes a row's result the
// same to the bit in any batch.
//
// Why 16 bits and not 8: with 8-bit activations in blocks of 32 SmolLM2-135M's log-probabilities
// move by 0.06 on average (measured against float32), three times what Baton allows itself.
// |code| <= 32512 keeps a block's sum below 2^31 for 8-bit weight codes: 32 * 255 * 32512 < 2^28.1.
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/vec.h"

namespace baton::kernels::cpu {
namespace {

constexpr int kSubPanels = kPanelRows / kLanes;
constexpr float kLargestCode = 32512.0f;

void QuantizeRow(const float* x, int cols, int group_tokens, int16_t* codes, BlockScale* scales) {
  constexpr int kVectors = kBlock / kLanes;
  for (int c = 0; c < cols; c += kBlock) {
    F32 v[kVectors];
    F32 top = Zero();
    for (int i = 0; i < kVectors; ++i) {
      v[i] = Load(x + c + i * kLanes);
      top = Max(top, Abs(v[i]));
    }
    const float largest = ReduceMax(top);
    // Below this the inverse would overflow; such a block is zero for any purpose.
    const bool empty = largest < 1e-30f;
    const F32 inverse = Set1(empty ? 0.0f : kLargestCode / largest);
    const float scale = empty ? 0.0f : largest / kLargestCode;
    I32 sums[2] = {ZeroInt(), ZeroInt()};
    for (int i = 0; i < kVectors; ++i) {
      const I32 code = RoundToInt(Mul(v[i], inverse));
      StoreInt16(codes + i * kLanes, code);
      I32& half = sums[i * kLanes / (kBlock / 2)];
      half = AddInt(half, code);
    }
    const int32_t low = ReduceAddInt(sums[0]);
    const int32_t high = ReduceAddInt(sums[1]);
    *scales = {scale,
               scale * static_cast<float>(low + high),
               {scale * static_cast<float>(low), scale * static_cast<float>(high)}};
    codes += group_tokens * kBlock;
    scales += group_tokens;
  }
}

// Pair p of the columns that one 64-byte vector of codes holds (pack.h): two codes a lane, widened
// to 16 bits.
template <int kBits>
inline I32 CodePair(I32 raw, int p) {
  if constexpr (kBits == 8) return p == 0 ? AndInt(raw, Set16(0xff)) : ShiftRight16<8>(raw);
  switch (p) {
    case 0:
      return AndInt(raw, Set16(15));
    case 1:
      return AndInt(ShiftRight16<4>(raw), Set16(15));
    case 2:
      return AndInt(ShiftRight16<8>(raw), Set16(15));
    default:
      return ShiftRight16<12>(raw);
  }
}

// Dot products of vectors [kBegin, kEnd) of a block's codes with N tokens.
template <int kBits, int kBegin, int kEnd, int N>
inline void DotBlock(const std::byte* codes, const int16_t* x, I32 (&dots)[N]) {
  constexpr int kPairs = kBits == 4 ? 4 : 2;
#pragma GCC unroll 8
  for (int v = kBegin; v < kEnd; ++v) {
    const I32 raw = LoadInt(codes + v * 64);
#pragma GCC unroll 4
    for (int p = 0; p < kPairs; ++p) {
      const I32 pair = CodePair<kBits>(raw, p);
#pragma GCC unroll 12
      for (int n = 0; n < N; ++n)
        dots[n] = DotPairs(dots[n], pair, BroadcastPair(x + n * kBlock + 2 * (v * kPairs + p)));
    }
  }
}

template <int N>
inline void Clear(I32 (&dots)[N]) {
#pragma GCC unroll 12
  for (int n = 0; n < N; ++n) dots[n] = ZeroInt();
}

// acc[n] += d * (scale_n * dot_n) + m * sum_n, in that order.
template <int N>
inline void AddScaled(F32 d, F32 m, const I32 (&dots)[N], const BlockScale* scales, int sum_index,
                      F32 (&acc)[N]) {
#pragma GCC unroll 12
  for (int n = 0; n < N; ++n) {
    const float* s = &scales[n].scale;
    acc[n] = Fma(Mul(d, Set1(s[0])), IntToFloat(dots[n]), acc[n]);
    acc[n] = Fma(m, Set1(s[sum_index]), acc[n]);
  }
}

inline F32 LoadScale(const std::byte* scales, bool wide, int index) {
  return wide ? Load(reinterpret_cast<const float*>(scales) + index)
              : LoadF16(reinterpret_cast<const uint16_t*>(scales) + index);
}

template <int N>
inline void StoreTile(const F32 (&acc)[N], const LinearOutput& out, int token, int row) {
  const int valid = out.rows - row;
  if (valid <= 0) return;
  for (int n = 0; n < N; ++n) {
    float* y = out.y + (token + n) * out.stride + row;
    F32 v = acc[n];
    if (valid >= kLanes) {
      if (out.bias) v = Add(v, Load(out.bias + row));
      if (out.add) v = Add(v, Load(y));
      Store(y, v);
    } else {
      if (out.bias) v = Add(v, LoadTail(out.bias + row, valid));
      if (out.add) v = Add(v, LoadTail(y, valid));
      StoreTail(y, v, valid);
    }
  }
}

// kLanes rows of a panel (its `sub`-th part) times N tokens.
template <int kBits, bool kHalves, int N>
void QuantTile(const QuantPanels& w, const std::byte* panel, int sub, const int16_t* codes,
               const BlockScale* scales, int group_tokens, F32 (&acc)[N]) {
  constexpr int kVectors = kBits == 4 ? 4 : 8;
  const int scale_row = sub * kLanes;
  const size_t scale_bytes = size_t{kPanelRows} * (w.wide_scales ? 4 : 2);
  const size_t block_scales = scale_bytes * (w.has_min || w.half_scales ? 2 : 1);
  const F32 minus_centre = Set1(w.minus_centre);
  const std::byte* weights = panel + sub * kLanes * 4;
  const std::byte* panel_scales = panel + w.scales_offset;
#pragma GCC unroll 12
  for (int n = 0; n < N; ++n) acc[n] = Zero();
  for (int b = 0; b < w.blocks; ++b) {
    if constexpr (N <= 2) {
      // One pass over the weights: the next lines are wanted soon and once.
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(weights + v * 64 + 4096);
    }
    const F32 d = LoadScale(panel_scales, w.wide_scales, scale_row);
    I32 dots[N];
    Clear(dots);
    if constexpr (kHalves) {
      const F32 d2 = LoadScale(panel_scales, w.wide_scales, kPanelRows + scale_row);
      DotBlock<kBits, 0, kVectors / 2>(weights, codes, dots);
      AddScaled(d, Mul(d, minus_centre), dots, scales, 2, acc);
      Clear(dots);
      DotBlock<kBits, kVectors / 2, kVectors>(weights, codes, dots);
      AddScaled(d2, Mul(d2, minus_centre), dots, scales, 3, acc);
    } else {
      const F32 m = w.has_min ? LoadScale(panel_scales, w.wide_scales, kPanelRows + scale_row)
                              : Mul(d, minus_centre);
      DotBlock<kBits, 0, kVectors>(weights, codes, dots);
      AddScaled(d, m, dots, scales, 1, acc);
    }
    weights += kVectors * 64;
    panel_scales += block_scales;
    codes += group_tokens * kBlock;
    scales += group_tokens;
  }
}

struct QuantPanelRun {
  const QuantPanels& w;
  const QuantRows& x;
  const LinearOutput& out;
  const std::byte* panel;
  int sub;
  int row;
};

// Tokens [token, end) of one group in tiles of N, then what is left in smaller ones.
template <int kBits, bool kHalves, int N>
void QuantGroup(const QuantPanelRun& run, int group, int token, int end) {
  const int group_begin = group * kTokenGroup;
  const int left = run.x.tokens - group_begin;
  const int group_tokens = left < kTokenGroup ? left : kTokenGroup;
  const int64_t base = int64_t{group_begin} * run.w.blocks;
  for (; token + N <= end; token += N) {
    F32 acc[N];
    QuantTile<kBits, kHalves>(run.w, run.panel, run.sub, run.x.codes + (base + token) * kBlock,
                              run.x.scales + base + token, group_tokens, acc);
    StoreTile(acc, run.out, group_begin + token, run.row);
  }
  if constexpr (N > 1) {
    if (token < end) QuantGroup<kBits, kHalves, (N > 8 ? 8 : N / 2)>(run, group, token, end);
  }
}

template <int kBits, bool kHalves>
void LinearQuantOf(const QuantPanels& w, const QuantRows& x, const LinearOutput& out,
                   int panel_begin, int panel_end) {
  // Accumulators for N tokens fill the vector registers: 32 with AVX-512, 16 with AVX2.
  constexpr int kTile = kLanes == 16 ? kTokenGroup : 4;
  const int groups = (x.tokens + kTokenGroup - 1) / kTokenGroup;
  for (int p = panel_begin; p < panel_end; ++p) {
    const std::byte* panel = w.data + p * w.panel_bytes;
    for (int sub = 0; sub < kSubPanels; ++sub) {
      const QuantPanelRun run{w, x, out, panel, sub, p * kPanelRows + sub * kLanes};
      for (int g = 0; g < groups; ++g) {
        const int left = x.tokens - g * kTokenGroup;
        QuantGroup<kBits, kHalves, kTile>(run, g, 0, left < kTokenGroup ? left : kTokenGroup);
      }
    }
  }
}

void LinearQuant(const QuantPanels& w, const QuantRows& x, const LinearOutput& out, int panel_begin,
                 int panel_end) {
  if (w.code_bits == 4) return LinearQuantOf<4, false>(w, x, out, panel_begin, panel_end);
  if (w.half_scales) return LinearQuantOf<8, true>(w, x, out, panel_begin, panel_end);
  LinearQuantOf<8, false>(w, x, out, panel_begin, panel_end);
}

}  // namespace
}  // namespace baton::kernels::cpu
