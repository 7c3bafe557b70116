// Vectors of eight floats for the kernel bodies: AVX2, FMA and F16C. Included by
// kernels_avx2.cpp only; the anonymous namespace keeps every symbol inside that file.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace baton::kernels::cpu {
namespace {

constexpr int kLanes = 8;
using F32 = __m256;
using I32 = __m256i;

inline F32 Load(const float* p) {
  return _mm256_loadu_ps(p);
}
inline void Store(float* p, F32 v) {
  _mm256_storeu_ps(p, v);
}
inline F32 Set1(float v) {
  return _mm256_set1_ps(v);
}
inline F32 Zero() {
  return _mm256_setzero_ps();
}
inline F32 Add(F32 a, F32 b) {
  return _mm256_add_ps(a, b);
}
inline F32 Sub(F32 a, F32 b) {
  return _mm256_sub_ps(a, b);
}
inline F32 Mul(F32 a, F32 b) {
  return _mm256_mul_ps(a, b);
}
inline F32 Div(F32 a, F32 b) {
  return _mm256_div_ps(a, b);
}
inline F32 Max(F32 a, F32 b) {
  return _mm256_max_ps(a, b);
}
inline F32 Min(F32 a, F32 b) {
  return _mm256_min_ps(a, b);
}
inline F32 Fma(F32 a, F32 b, F32 c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline F32 Abs(F32 a) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
// v where x >= limit, else 0.
inline F32 ZeroBelow(F32 x, F32 limit, F32 v) {
  return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_GE_OQ), v);
}

// The first n < kLanes elements; the rest read as zero, and are not written.
inline __m256i TailMask(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F32 LoadTail(const float* p, int n) {
  return _mm256_maskload_ps(p, TailMask(n));
}
inline void StoreTail(float* p, F32 v, int n) {
  _mm256_maskstore_ps(p, TailMask(n), v);
}

inline float ReduceAdd(F32 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float ReduceMax(F32 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

inline I32 ZeroInt() {
  return _mm256_setzero_si256();
}
inline I32 LoadInt(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline I32 SetInt(int32_t v) {
  return _mm256_set1_epi32(v);
}
inline I32 Set16(int16_t v) {
  return _mm256_set1_epi16(v);
}
inline I32 AddInt(I32 a, I32 b) {
  return _mm256_add_epi32(a, b);
}
inline I32 AndInt(I32 a, I32 b) {
  return _mm256_and_si256(a, b);
}
template <int kBits>
inline I32 ShiftRight16(I32 a) {
  return _mm256_srli_epi16(a, kBits);
}
template <int kBits>
inline I32 ShiftLeft32(I32 a) {
  return _mm256_slli_epi32(a, kBits);
}
inline I32 RoundToInt(F32 v) {
  return _mm256_cvtps_epi32(v);
}
inline F32 IntToFloat(I32 v) {
  return _mm256_cvtepi32_ps(v);
}
inline F32 AsFloat(I32 v) {
  return _mm256_castsi256_ps(v);
}
inline int32_t ReduceAddInt(I32 v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_unpackhi_epi64(s, s));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 1)));
}
// Saturating to 16 bits.
inline void StoreInt16(int16_t* p, I32 v) {
  const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
}

// acc + a.even * b.even + a.odd * b.odd on the 16-bit halves of each lane.
inline I32 DotPairs(I32 acc, I32 a, I32 b) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}
inline I32 BroadcastPair(const int16_t* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return _mm256_set1_epi32(pair);
}
// acc + unsigned bytes of a times signed bytes of b, four to a lane (a below 128 here).
inline I32 DotBytes(I32 acc, I32 a, I32 b) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), Set16(1)));
}

inline F32 LoadF16(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline F32 LoadBF16(const void* p) {
  return AsFloat(_mm256_slli_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))), 16));
}
inline void StoreF16(void* p, F32 v) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
// Round to nearest even. (Quiet NaNs may lose payload bits but stay NaN.)
inline void StoreBF16(void* p, F32 v) {
  const __m256i u = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  __m256i r =
      _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  r = _mm256_blendv_epi8(r, _mm256_set1_epi32(0x7fc0), nan);
  _mm_storeu_si128(static_cast<__m128i*>(p),
                   _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1)));
}

// out[c * out_stride + r] = in[r * in_stride + c] for an 8 x 8 tile.
inline void TransposeTile(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  __m256 r[8], s[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(in + i * in_stride);
  for (int i = 0; i < 4; ++i) {
    s[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    s[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    const __m256* a = s + 4 * i;
    r[4 * i] = _mm256_shuffle_ps(a[0], a[2], 0x44);
    r[4 * i + 1] = _mm256_shuffle_ps(a[0], a[2], 0xee);
    r[4 * i + 2] = _mm256_shuffle_ps(a[1], a[3], 0x44);
    r[4 * i + 3] = _mm256_shuffle_ps(a[1], a[3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

}  // namespace
}  // namespace baton::kernels::cpu
