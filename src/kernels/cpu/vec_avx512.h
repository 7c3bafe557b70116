// Vectors of sixteen floats for the kernel bodies: AVX-512 F/BW/VL/DQ, and VNNI where the file that
// includes this is compiled for it. The anonymous namespace keeps every symbol inside that file.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace baton::kernels::cpu {
namespace {

constexpr int kLanes = 16;
using F32 = __m512;
using I32 = __m512i;

inline F32 Load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline void Store(float* p, F32 v) {
  _mm512_storeu_ps(p, v);
}
inline F32 Set1(float v) {
  return _mm512_set1_ps(v);
}
inline F32 Zero() {
  return _mm512_setzero_ps();
}
inline F32 Add(F32 a, F32 b) {
  return _mm512_add_ps(a, b);
}
inline F32 Sub(F32 a, F32 b) {
  return _mm512_sub_ps(a, b);
}
inline F32 Mul(F32 a, F32 b) {
  return _mm512_mul_ps(a, b);
}
inline F32 Div(F32 a, F32 b) {
  return _mm512_div_ps(a, b);
}
inline F32 Max(F32 a, F32 b) {
  return _mm512_max_ps(a, b);
}
inline F32 Min(F32 a, F32 b) {
  return _mm512_min_ps(a, b);
}
inline F32 Fma(F32 a, F32 b, F32 c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline F32 Abs(F32 a) {
  return _mm512_abs_ps(a);
}
// v where x >= limit, else 0.
inline F32 ZeroBelow(F32 x, F32 limit, F32 v) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), v);
}

// The first n < kLanes elements; the rest read as zero, and are not written.
inline __mmask16 TailMask(int n) {
  return static_cast<__mmask16>((1u << n) - 1);
}
inline F32 LoadTail(const float* p, int n) {
  return _mm512_maskz_loadu_ps(TailMask(n), p);
}
inline void StoreTail(float* p, F32 v, int n) {
  _mm512_mask_storeu_ps(p, TailMask(n), v);
}

inline float ReduceAdd(F32 v) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float ReduceMax(F32 v) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

inline I32 ZeroInt() {
  return _mm512_setzero_si512();
}
inline I32 LoadInt(const void* p) {
  return _mm512_loadu_si512(p);
}
inline I32 SetInt(int32_t v) {
  return _mm512_set1_epi32(v);
}
inline I32 Set16(int16_t v) {
  return _mm512_set1_epi16(v);
}
inline I32 AddInt(I32 a, I32 b) {
  return _mm512_add_epi32(a, b);
}
inline I32 AndInt(I32 a, I32 b) {
  return _mm512_and_si512(a, b);
}
template <int kBits>
inline I32 ShiftRight16(I32 a) {
  return _mm512_srli_epi16(a, kBits);
}
template <int kBits>
inline I32 ShiftLeft32(I32 a) {
  return _mm512_slli_epi32(a, kBits);
}
inline I32 RoundToInt(F32 v) {
  return _mm512_cvtps_epi32(v);
}
inline F32 IntToFloat(I32 v) {
  return _mm512_cvtepi32_ps(v);
}
inline F32 AsFloat(I32 v) {
  return _mm512_castsi512_ps(v);
}
inline int32_t ReduceAddInt(I32 v) {
  const __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti32x8_epi32(v, 1));
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  s = _mm_add_epi32(s, _mm_unpackhi_epi64(s, s));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 1)));
}
// Saturating to 16 bits.
inline void StoreInt16(int16_t* p, I32 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(v));
}

// acc + a.even * b.even + a.odd * b.odd on the 16-bit halves of each lane.
inline I32 DotPairs(I32 acc, I32 a, I32 b) {
#ifdef __AVX512VNNI__
  return _mm512_dpwssd_epi32(acc, a, b);
#else
  return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
}
inline I32 BroadcastPair(const int16_t* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return _mm512_set1_epi32(pair);
}
// acc + unsigned bytes of a times signed bytes of b, four to a lane (a below 128 here).
inline I32 DotBytes(I32 acc, I32 a, I32 b) {
#ifdef __AVX512VNNI__
  return _mm512_dpbusd_epi32(acc, a, b);
#else
  return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), Set16(1)));
#endif
}

inline F32 LoadF16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
inline F32 LoadBF16(const void* p) {
  return AsFloat(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p))), 16));
}
inline void StoreF16(void* p, F32 v) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
// Round to nearest even. (Quiet NaNs may lose payload bits but stay NaN.)
inline void StoreBF16(void* p, F32 v) {
  const __m512i u = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r =
      _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(r));
}

// out[c * out_stride + r] = in[r * in_stride + c] for a 16 x 16 tile.
inline void TransposeTile(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  __m512 r[16], s[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_ps(in + i * in_stride);
  for (int i = 0; i < 8; ++i) {
    s[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    s[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  // r[4g + c]: columns c, c+4, c+8, c+12 of rows 4g..4g+3, one per 128-bit lane.
  for (int g = 0; g < 4; ++g) {
    const __m512* a = s + 4 * g;
    r[4 * g] = _mm512_shuffle_ps(a[0], a[2], 0x44);
    r[4 * g + 1] = _mm512_shuffle_ps(a[0], a[2], 0xee);
    r[4 * g + 2] = _mm512_shuffle_ps(a[1], a[3], 0x44);
    r[4 * g + 3] = _mm512_shuffle_ps(a[1], a[3], 0xee);
  }
  // A 4 x 4 transpose of 128-bit lanes for each column class c.
  for (int c = 0; c < 4; ++c) {
    const __m512 a = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);  // lanes 0, 2
    const __m512 b = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);  // lanes 1, 3
    const __m512 d = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
    const __m512 e = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
    _mm512_storeu_ps(out + c * out_stride, _mm512_shuffle_f32x4(a, d, 0x88));
    _mm512_storeu_ps(out + (c + 8) * out_stride, _mm512_shuffle_f32x4(a, d, 0xdd));
    _mm512_storeu_ps(out + (c + 4) * out_stride, _mm512_shuffle_f32x4(b, e, 0x88));
    _mm512_storeu_ps(out + (c + 12) * out_stride, _mm512_shuffle_f32x4(b, e, 0xdd));
  }
}

}  // namespace
}  // namespace baton::kernels::cpu
