// Plain weights (f32, f16, bf16) times float32 activations. Compiled once per instruction set.
//
// One lane is one weight row; a result is a single chain of fused multiply-adds in order of the
// columns, whatever the tile, so it is the same to the bit in any batch. Independent chains for the
// pipeline come from tokens, and from neighbouring panels when there are few tokens.
#pragma once

#include "kernels/cpu/linear_quant_body.h"

namespace baton::kernels::cpu {
namespace {

template <Element kElement>
inline F32 LoadElements(const std::byte* p, int index) {
  if constexpr (kElement == Element::kF32) return Load(reinterpret_cast<const float*>(p) + index);
  if constexpr (kElement == Element::kF16)
    return LoadF16(reinterpret_cast<const uint16_t*>(p) + index);
  return LoadBF16(reinterpret_cast<const uint16_t*>(p) + index);
}

// P panels times N tokens from `x` (rows of w.cols).
template <Element kElement, int P, int N>
void DenseTile(const DensePanels& w, const std::byte* panel, const float* x,
               const LinearOutput& out, int token, int row) {
  constexpr int kSize = kElement == Element::kF32 ? 4 : 2;
  F32 acc[P * kSubPanels][N];
#pragma GCC unroll 8
  for (int s = 0; s < P * kSubPanels; ++s)
#pragma GCC unroll 12
    for (int n = 0; n < N; ++n) acc[s][n] = Zero();
  for (int k = 0; k < w.cols; ++k) {
    F32 v[P * kSubPanels];
#pragma GCC unroll 8
    for (int s = 0; s < P * kSubPanels; ++s) {
      const std::byte* p =
          panel + (s / kSubPanels) * w.panel_bytes + static_cast<size_t>(k) * kPanelRows * kSize;
      v[s] = LoadElements<kElement>(p, (s % kSubPanels) * kLanes);
    }
#pragma GCC unroll 12
    for (int n = 0; n < N; ++n) {
      const F32 xn = Set1(x[static_cast<int64_t>(n) * w.cols + k]);
#pragma GCC unroll 8
      for (int s = 0; s < P * kSubPanels; ++s) acc[s][n] = Fma(v[s], xn, acc[s][n]);
    }
  }
  for (int s = 0; s < P * kSubPanels; ++s) StoreTile(acc[s], out, token, row + s * kLanes);
}

// All tokens for panels from p: the widest tile that fits, then narrower ones. Returns how many
// panels were done.
template <Element kElement, int P>
int DensePanelGroup(const DensePanels& w, const float* x, int tokens, const LinearOutput& out,
                    int p) {
  const std::byte* panel = w.data + p * w.panel_bytes;
  const int row = p * kPanelRows;
  const auto at = [&](int token) { return x + static_cast<int64_t>(token) * w.cols; };
  constexpr int kWide = kLanes == 16 ? 8 : 4;
  int t = 0;
  if constexpr (P * kSubPanels <= 2)
    for (; t + kWide <= tokens; t += kWide)
      DenseTile<kElement, P, kWide>(w, panel, at(t), out, t, row);
  if constexpr (P * kSubPanels <= kWide)
    for (; t + 2 <= tokens; t += 2) DenseTile<kElement, P, 2>(w, panel, at(t), out, t, row);
  for (; t < tokens; ++t) DenseTile<kElement, P, 1>(w, panel, at(t), out, t, row);
  return P;
}

template <Element kElement>
void LinearDenseOf(const DensePanels& w, const float* x, int tokens, const LinearOutput& out,
                   int panel_begin, int panel_end) {
  constexpr int kMany = kLanes == 16 ? 2 : 1;
  int p = panel_begin;
  if (tokens < 4)
    while (p + 4 <= panel_end) p += DensePanelGroup<kElement, 4>(w, x, tokens, out, p);
  while (p + kMany <= panel_end) p += DensePanelGroup<kElement, kMany>(w, x, tokens, out, p);
  while (p < panel_end) p += DensePanelGroup<kElement, 1>(w, x, tokens, out, p);
}

void LinearDense(const DensePanels& w, const float* x, int tokens, const LinearOutput& out,
                 int panel_begin, int panel_end) {
  switch (w.element) {
    case Element::kF32:
      return LinearDenseOf<Element::kF32>(w, x, tokens, out, panel_begin, panel_end);
    case Element::kF16:
      return LinearDenseOf<Element::kF16>(w, x, tokens, out, panel_begin, panel_end);
    case Element::kBF16:
      return LinearDenseOf<Element::kBF16>(w, x, tokens, out, panel_begin, panel_end);
  }
}

}  // namespace
}  // namespace baton::kernels::cpu
