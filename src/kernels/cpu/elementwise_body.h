// Norms, gates, rope and number formats, row by row. Compiled once per instruction set.
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/vec.h"

namespace baton::kernels::cpu {
namespace {

constexpr float kExpLowest = -87.0f;  // below, Exp gives 0 (the result would be subnormal)

// e^x to about 1e-7 relative: x = n ln2 + r with ln2 in two parts (Cody and Waite), a Taylor
// polynomial on |r| <= 0.347 (next term below 1e-8), 2^n put into the exponent. Saturates at x
// = 88.
inline F32 Exp(F32 x) {
  const F32 lowest = Set1(kExpLowest);
  const F32 clamped = Max(Min(x, Set1(88.0f)), lowest);
  const I32 n = RoundToInt(Mul(clamped, Set1(1.44269504f)));
  const F32 whole = IntToFloat(n);
  F32 r = Fma(whole, Set1(-0.693359375f), clamped);
  r = Fma(whole, Set1(2.12194440e-4f), r);
  F32 p = Set1(1.0f / 5040);
  p = Fma(p, r, Set1(1.0f / 720));
  p = Fma(p, r, Set1(1.0f / 120));
  p = Fma(p, r, Set1(1.0f / 24));
  p = Fma(p, r, Set1(1.0f / 6));
  p = Fma(p, r, Set1(0.5f));
  p = Fma(p, r, Set1(1.0f));
  p = Fma(p, r, Set1(1.0f));
  const F32 power = AsFloat(ShiftLeft32<23>(AddInt(n, SetInt(127))));
  return ZeroBelow(x, lowest, Mul(p, power));
}

// Calls f(begin, count) for each vector of [0, n); count < kLanes only for the last.
template <typename F>
inline void ForVectors(int n, F f) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, kLanes);
  if (i < n) f(i, n - i);
}
inline F32 LoadSome(const float* p, int n) {
  return n == kLanes ? Load(p) : LoadTail(p, n);
}
inline void StoreSome(float* p, F32 v, int n) {
  if (n == kLanes) return Store(p, v);
  StoreTail(p, v, n);
}

void RmsNormRow(const float* x, const float* weight, int width, float eps, float* out) {
  F32 squares = Zero();
  ForVectors(width, [&](int i, int n) {
    const F32 v = LoadSome(x + i, n);
    squares = Fma(v, v, squares);
  });
  const float mean = ReduceAdd(squares) / static_cast<float>(width);
  const F32 inverse = Set1(1.0f / __builtin_sqrtf(mean + eps));
  ForVectors(width, [&](int i, int n) {
    StoreSome(out + i, Mul(Mul(LoadSome(x + i, n), inverse), LoadSome(weight + i, n)), n);
  });
}

inline F32 Sigmoid(F32 x) {
  return Div(Set1(1.0f), Add(Set1(1.0f), Exp(Sub(Zero(), x))));
}

void SiluMulRow(const float* gate, const float* up, int count, float* out) {
  ForVectors(count, [&](int i, int n) {
    const F32 g = LoadSome(gate + i, n);
    StoreSome(out + i, Mul(Mul(g, Sigmoid(g)), LoadSome(up + i, n)), n);
  });
}

// (1 + tanh u) / 2 is the sigmoid of 2u.
void GeluTanhMulRow(const float* gate, const float* up, int count, float* out) {
  ForVectors(count, [&](int i, int n) {
    const F32 g = LoadSome(gate + i, n);
    const F32 cubic = Fma(Mul(Mul(g, g), g), Set1(0.044715f), g);
    const F32 half = Sigmoid(Mul(cubic, Set1(2 * 0.7978845608f)));
    StoreSome(out + i, Mul(Mul(g, half), LoadSome(up + i, n)), n);
  });
}

void RopeRow(float* x, int heads, int head_dim, int rotary_dim, bool interleaved,
             const float* cos_sin) {
  const int pairs = rotary_dim / 2;
  const int step = interleaved ? 2 : 1;
  const int partner = interleaved ? 1 : pairs;
  for (int h = 0; h < heads; ++h, x += head_dim) {
    for (int i = 0; i < pairs; ++i) {
      const float a = x[i * step], b = x[i * step + partner];
      const float cosine = cos_sin[2 * i], sine = cos_sin[2 * i + 1];
      x[i * step] = a * cosine - b * sine;
      x[i * step + partner] = a * sine + b * cosine;
    }
  }
}

void StoreRow(const float* x, int count, Element element, std::byte* out) {
  if (element == Element::kF32) {
    __builtin_memcpy(out, x, static_cast<size_t>(count) * 4);
    return;
  }
  const auto convert = [element](std::byte* p, F32 v) {
    if (element == Element::kF16) return StoreF16(p, v);
    StoreBF16(p, v);
  };
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) convert(out + 2 * i, Load(x + i));
  if (i < count) {
    std::byte tail[2 * kLanes];
    convert(tail, LoadTail(x + i, count - i));
    __builtin_memcpy(out + 2 * i, tail, static_cast<size_t>(count - i) * 2);
  }
}

}  // namespace
}  // namespace baton::kernels::cpu
