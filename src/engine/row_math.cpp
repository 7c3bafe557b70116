#include "engine/row_math.h"

#include <algorithm>
#include <array>
#include <limits>

namespace baton::engine {
namespace {
constexpr size_t kLanes = 16;
constexpr size_t kBlock = 1024;
}  // namespace

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

double SumExp(std::span<const float> row, float max, float scale) {
  double total = 0;
  for (size_t block = 0; block < row.size(); block += kBlock) {
    const std::span<const float> part = row.subspan(block, std::min(kBlock, row.size() - block));
    std::array<float, kLanes> lanes{};
    size_t i = 0;
    for (; i + kLanes <= part.size(); i += kLanes) {
      for (size_t j = 0; j < kLanes; ++j) lanes[j] += ExpNonPositive((part[i + j] - max) * scale);
    }
    for (; i < part.size(); ++i) lanes[0] += ExpNonPositive((part[i] - max) * scale);
    for (const float lane : lanes) total += lane;
  }
  return total;
}

}  // namespace baton::engine
