// Passes over one row of logits: maximum, exponential, sum. The same bits on every x86-64 CPU: only
// IEEE additions and multiplications in a fixed order (libm's expf may differ between CPUs, and
// prefill and decode must agree on a sample).
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace baton::engine {

// e^x for x <= 0, within 2 ulp; 0 below -87; NaN stays NaN. Cephes' range reduction and polynomial
// (Moshier, "Methods and Programs for Mathematical Functions", 1989).
inline float ExpNonPositive(float x) {
  const float clamped = x < -87.0f ? -87.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = clamped * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  const float power = std::bit_cast<float>((exponent + 127) << 23);
  return x < -87.0f ? 0.0f : p * power;
}

// The largest value, NaNs passed over; -inf for an empty row.
float RowMax(std::span<const float> row);
// The lowest index that holds `value`; row.size() for none.
size_t FirstIndexOf(std::span<const float> row, float value);
// Sum of e^((row[i] - max) * scale): 16 float lanes in blocks of 1024, blocks summed in double.
double SumExp(std::span<const float> row, float max, float scale);

}  // namespace baton::engine
