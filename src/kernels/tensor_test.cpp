#include "kernels/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "common/half.h"

namespace baton::kernels {
namespace {

std::vector<char> ReadGolden(std::string_view name) {
  std::ifstream in(
      std::string(BATON_SOURCE_DIR "/tests/golden/quant/") + std::string(name) + ".bin",
      std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class BlockFormat : public testing::TestWithParam<DType> {};

// Oracle: the PyPI package gguf (tests/golden/quant/make_quant_golden.py). Equal to the bit.
TEST_P(BlockFormat, MatchesGgufPackage) {
  const DTypeInfo& info = InfoOf(GetParam());
  const std::vector<char> golden = ReadGolden(info.name);
  ASSERT_GT(golden.size(), 4u);
  uint32_t blocks = 0;
  std::memcpy(&blocks, golden.data(), 4);
  const int64_t elements = int64_t{blocks} * info.block_elements;
  const size_t stored_bytes = size_t{blocks} * info.block_bytes;
  ASSERT_EQ(golden.size(), 4 + stored_bytes + elements * 4);
  std::vector<float> expected(elements), actual(elements);
  std::memcpy(expected.data(), golden.data() + 4 + stored_bytes, elements * 4);

  const auto* data = reinterpret_cast<const std::byte*>(golden.data() + 4);
  for (int64_t rows : {int64_t{1}, int64_t{2}, int64_t{4}}) {
    const StoredTensor stored{GetParam(), rows, elements / rows, data};
    std::fill(actual.begin(), actual.end(), NAN);
    for (int64_t r = 0; r < rows; ++r) DequantizeRows(stored, r, 1, &actual[r * stored.cols]);
    for (int64_t i = 0; i < elements; ++i) ASSERT_EQ(actual[i], expected[i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, BlockFormat,
                         testing::Values(DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                         DType::kQ8_0, DType::kQ4_K, DType::kQ6_K),
                         [](const auto& info) { return std::string(InfoOf(info.param).name); });

TEST(PlainFormat, HalvesAndFloats) {
  const float values[] = {0.0f, -1.5f, 65504.0f, 0x1p-24f};
  Half halves[4];
  BFloat16 brains[4];
  for (int i = 0; i < 4; ++i) {
    halves[i] = ToHalf(values[i]);
    brains[i] = ToBFloat16(values[i]);
  }
  float out[2];
  DequantizeRows({DType::kF16, 2, 2, reinterpret_cast<std::byte*>(halves)}, 1, 1, out);
  EXPECT_EQ(out[0], 65504.0f);
  EXPECT_EQ(out[1], 0x1p-24f);
  DequantizeRows({DType::kBF16, 2, 2, reinterpret_cast<std::byte*>(brains)}, 0, 1, out);
  EXPECT_EQ(out[1], -1.5f);
  DequantizeRows({DType::kF32, 2, 2, reinterpret_cast<const std::byte*>(values)}, 1, 1, out);
  EXPECT_EQ(out[0], 65504.0f);
}

// All 256 codes by the definition of OCP e4m3fn: (-1)^s 2^(e-7) (1 + m/8), subnormal below e = 1.
TEST(F8E4M3, EveryCode) {
  std::vector<std::byte> codes(256);
  for (int i = 0; i < 256; ++i) codes[i] = static_cast<std::byte>(i);
  std::vector<float> out(256);
  DequantizeRows({DType::kF8E4M3, 1, 256, codes.data()}, 0, 1, out.data());
  for (int i = 0; i < 256; ++i) {
    const int exponent = (i >> 3) & 15, mantissa = i & 7;
    if (exponent == 15 && mantissa == 7) {
      EXPECT_TRUE(std::isnan(out[i]));
      continue;
    }
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    EXPECT_EQ(out[i], i & 128 ? -magnitude : magnitude) << i;
  }
  EXPECT_EQ(out[0x7e], 448.0f);
}

TEST(F8E4M3, BlockScalesOf128By128) {
  const int64_t rows = 130, cols = 200;
  std::vector<std::byte> codes(rows * cols, std::byte{0x38});  // 1.0
  const float scales[] = {1, 2, 3, 4};                         // [2, 2]
  std::vector<float> out(rows * cols);
  DequantizeRows({DType::kF8E4M3, rows, cols, codes.data(), scales}, 0, rows, out.data());
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[127 * cols + 127], 1.0f);
  EXPECT_EQ(out[127 * cols + 128], 2.0f);
  EXPECT_EQ(out[128 * cols], 3.0f);
  EXPECT_EQ(out[129 * cols + 199], 4.0f);
}

TEST(DequantizeRowsDeathTest, RowsOutOfRange) {
  float value = 0;
  const StoredTensor stored{DType::kF32, 1, 1, reinterpret_cast<std::byte*>(&value)};
  EXPECT_DEATH(DequantizeRows(stored, 1, 1, &value), "CHECK failed");
}

}  // namespace
}  // namespace baton::kernels
