#include "kernels/tensor.h"

#include <bit>
#include <cstring>

#include "common/half.h"
#include "common/status.h"

namespace baton::kernels {
namespace {

constexpr std::array<DTypeInfo, 11> kInfo = {{
    {"f32", 1, 4},
    {"f16", 1, 2},
    {"bf16", 1, 2},
    {"f8_e4m3", 1, 1},
    {"q4_0", 32, 18},
    {"q4_1", 32, 20},
    {"q5_0", 32, 22},
    {"q5_1", 32, 24},
    {"q8_0", 32, 34},
    {"q4_k", 256, 144},
    {"q6_k", 256, 210},
}};

float LoadHalf(const uint8_t* p) {
  Half h;
  std::memcpy(&h, p, sizeof h);
  return ToFloat(h);
}

// 1 sign, 4 exponent (bias 7), 3 mantissa bits; no infinity, 0x7f and 0xff are NaN (OCP e4m3fn).
float LoadE4M3(uint8_t bits) {
  const uint32_t sign = uint32_t{bits & 0x80u} << 24;
  const uint32_t exponent = (bits >> 3) & 15u;
  const uint32_t mantissa = bits & 7u;
  if (exponent == 15 && mantissa == 7) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 120) << 23) | (mantissa << 20));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-9f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

// Q4_0 and Q5_0 have no minimum (codes are centred), Q4_1 and Q5_1 store one. `high` holds the
// fifth bits, zero for 4-bit codes. The products follow ggml's order so that bits agree.
void DequantizeNibbles(const uint8_t* codes, uint32_t high, float d, float m, int centre,
                       float* out) {
  for (int j = 0; j < 16; ++j) {
    const int lo = (codes[j] & 15) | static_cast<int>((high >> j) & 1u) << 4;
    const int hi = (codes[j] >> 4) | static_cast<int>((high >> (j + 16)) & 1u) << 4;
    out[j] = d * static_cast<float>(lo - centre) + m;
    out[j + 16] = d * static_cast<float>(hi - centre) + m;
  }
}

void DequantizeQ4K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const float dmin = LoadHalf(block + 2);
  const uint8_t* packed = block + 4;
  const uint8_t* codes = block + 16;
  for (int j = 0; j < 8; ++j) {
    int scale, minimum;
    if (j < 4) {
      scale = packed[j] & 63;
      minimum = packed[j + 4] & 63;
    } else {
      scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
      minimum = (packed[j + 4] >> 4) | (packed[j] >> 6) << 4;
    }
    const float ds = d * static_cast<float>(scale);
    const float dm = dmin * static_cast<float>(minimum);
    const uint8_t* group = codes + 32 * (j / 2);
    for (int l = 0; l < 32; ++l) {
      const int code = j % 2 == 0 ? group[l] & 15 : group[l] >> 4;
      out[32 * j + l] = ds * static_cast<float>(code) - dm;
    }
  }
}

void DequantizeQ6K(const uint8_t* block, float* out) {
  const float d = LoadHalf(block + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* ql = block + 64 * half;
    const uint8_t* qh = block + 128 + 32 * half;
    const auto* scales = reinterpret_cast<const int8_t*>(block + 192 + 8 * half);
    for (int i = 0; i < 128; ++i) {
      const int l = i % 32;
      const int quarter = i / 32;
      const uint8_t low_byte = ql[l + 32 * (quarter % 2)];
      const int low = quarter < 2 ? low_byte & 15 : low_byte >> 4;
      const int code = low | ((qh[l] >> (2 * quarter)) & 3) << 4;
      const float scale = d * static_cast<float>(scales[i / 16]);
      out[128 * half + i] = scale * static_cast<float>(code - 32);
    }
  }
}

void DequantizeBlock(DType dtype, const uint8_t* block, float* out) {
  uint32_t high = 0;
  switch (dtype) {
    case DType::kQ4_0:
      return DequantizeNibbles(block + 2, 0, LoadHalf(block), 0.0f, 8, out);
    case DType::kQ4_1:
      return DequantizeNibbles(block + 4, 0, LoadHalf(block), LoadHalf(block + 2), 0, out);
    case DType::kQ5_0:
      std::memcpy(&high, block + 2, sizeof high);
      return DequantizeNibbles(block + 6, high, LoadHalf(block), 0.0f, 16, out);
    case DType::kQ5_1:
      std::memcpy(&high, block + 4, sizeof high);
      return DequantizeNibbles(block + 8, high, LoadHalf(block), LoadHalf(block + 2), 0, out);
    case DType::kQ8_0: {
      const float d = LoadHalf(block);
      const auto* codes = reinterpret_cast<const int8_t*>(block + 2);
      for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(codes[j]) * d;
      return;
    }
    case DType::kQ4_K:
      return DequantizeQ4K(block, out);
    case DType::kQ6_K:
      return DequantizeQ6K(block, out);
    default:
      BATON_CHECK(false, "{} is not a block format", InfoOf(dtype).name);
  }
}

void DequantizePlainRow(const StoredTensor& stored, int64_t row, const std::byte* data,
                        float* out) {
  const int64_t cols = stored.cols;
  switch (stored.dtype) {
    case DType::kF32:
      std::memcpy(out, data, static_cast<size_t>(cols) * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t c = 0; c < cols; ++c) {
        Half h;
        std::memcpy(&h, data + 2 * c, sizeof h);
        out[c] = ToFloat(h);
      }
      return;
    case DType::kBF16:
      for (int64_t c = 0; c < cols; ++c) {
        BFloat16 b;
        std::memcpy(&b, data + 2 * c, sizeof b);
        out[c] = ToFloat(b);
      }
      return;
    default:
      break;
  }
  const int64_t scale_cols = (cols + 127) / 128;
  const float* scales =
      stored.block_scales ? stored.block_scales + (row / 128) * scale_cols : nullptr;
  for (int64_t c = 0; c < cols; ++c) {
    const float value = LoadE4M3(std::to_integer<uint8_t>(data[c]));
    out[c] = scales ? value * scales[c / 128] : value;
  }
}

}  // namespace

const DTypeInfo& InfoOf(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  BATON_CHECK(index < kInfo.size(), "dtype {}", index);
  return kInfo[index];
}

void DequantizeRows(const StoredTensor& stored, int64_t row, int64_t count, float* out) {
  const DTypeInfo& info = InfoOf(stored.dtype);
  BATON_CHECK(row >= 0 && count >= 0 && row <= stored.rows - count, "rows {}+{} of {}", row, count,
              stored.rows);
  BATON_CHECK(stored.cols % info.block_elements == 0, "{} columns of {}", stored.cols, info.name);
  const size_t row_bytes = stored.RowBytes();
  for (int64_t r = row; r < row + count; ++r, out += stored.cols) {
    const std::byte* data = stored.data + static_cast<size_t>(r) * row_bytes;
    if (info.block_elements == 1) {
      DequantizePlainRow(stored, r, data, out);
      continue;
    }
    const auto* block = reinterpret_cast<const uint8_t*>(data);
    for (int64_t c = 0; c < stored.cols; c += info.block_elements, block += info.block_bytes)
      DequantizeBlock(stored.dtype, block, out + c);
  }
}

}  // namespace baton::kernels
