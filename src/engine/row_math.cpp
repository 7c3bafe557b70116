#include "engine/row_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

namespace baton::engine {
namespace {

constexpr size_t kLanes = 16;

// Four floats in a register, by the vector extension of GCC and Clang: without -ffast-math neither
// turns the plain loop into vector code.
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));

// Cephes' range reduction and polynomial (Moshier, "Methods and Programs for Mathematical
// Functions", 1989).
inline Floats ExpNonPositive(Floats x) {
  const Ints tiny = x < -87.0f;
  const Floats clamped = tiny ? Floats{} - 87.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Floats shifted = clamped * 1.44269504088896341f + kRound;
  const Floats n = shifted - kRound;
  const Floats r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Ints exponent = std::bit_cast<Ints>(shifted) - std::bit_cast<int32_t>(kRound);
  const Floats power = std::bit_cast<Floats>((exponent + 127) << 23);
  return tiny ? Floats{} : p * power;
}

}  // namespace

float ExpNonPositive(float x) { return ExpNonPositive(Floats{} + x)[0]; }

float RowMax(std::span<const float> row) {
  std::array<float, kLanes> lanes;
  lanes.fill(-std::numeric_limits<float>::infinity());
  size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (size_t j = 0; j < kLanes; ++j) lanes[j] = row[i + j] > lanes[j] ? row[i + j] : lanes[j];
  }
  for (; i < row.size(); ++i) lanes[0] = row[i] > lanes[0] ? row[i] : lanes[0];
  return *std::ranges::max_element(lanes);
}

size_t FirstIndexOf(std::span<const float> row, float value) {
  return static_cast<size_t>(std::ranges::find(row, value) - row.begin());
}

double SumExp(std::span<const float> row, float max, float scale, std::span<double> blocks) {
  double total = 0;
  for (size_t block = 0, begin = 0; begin < row.size(); ++block, begin += kSumBlock) {
    const std::span<const float> part = row.subspan(begin, std::min(kSumBlock, row.size() - begin));
    std::array<Floats, kLanes / 4> lanes{};
    size_t i = 0;
    for (; i + kLanes <= part.size(); i += kLanes) {
      for (size_t j = 0; j < lanes.size(); ++j) {
        Floats x;
        std::memcpy(&x, part.data() + i + 4 * j, sizeof(x));
        lanes[j] += ExpNonPositive((x - max) * scale);
      }
    }
    for (; i < part.size(); ++i) lanes[0][0] += ExpNonPositive((part[i] - max) * scale);
    double sum = 0;
    for (const Floats& lane : lanes) {
      for (int k = 0; k < 4; ++k) sum += lane[k];
    }
    if (!blocks.empty()) blocks[block] = sum;
    total += sum;
  }
  return total;
}

}  // namespace baton::engine
