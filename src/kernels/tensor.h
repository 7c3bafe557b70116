// Number formats and non-owning tensor views.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace baton::kernels {

// Element and block formats of weights, activations and KV. Block layouts: specs/engine.md 3.2.
enum class DType : uint8_t {
  kF32, kF16, kBF16, kF8E4M3,
  kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ4_K, kQ6_K,
};

struct DTypeInfo {
  std::string_view name;  // "f32", "q4_1" ...
  int block_elements;     // 1 for plain formats
  int block_bytes;
};
const DTypeInfo& InfoOf(DType dtype);

// A stored weight matrix in host memory (usually a mapped file): `rows` outputs of `cols` inputs,
// row after row, each a whole number of blocks. A vector is one row.
struct StoredTensor {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;
  // Only for kF8E4M3: f32 [ceil(rows/128), ceil(cols/128)], value = weight * scale.
  const float* block_scales = nullptr;

  size_t RowBytes() const {
    const DTypeInfo& info = InfoOf(dtype);
    return static_cast<size_t>(cols / info.block_elements) * info.block_bytes;
  }
};

// Activations: row-major [rows, cols], dense, in the memory and number format of the backend.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int rows = 0;
  int cols = 0;

  float* f32() const { return static_cast<float*>(data); }
  float* Row(int r) const { return f32() + static_cast<size_t>(r) * cols; }
  // The first `n` rows.
  Tensor Head(int n) const { return {data, dtype, n, cols}; }
};

// Writes `count` (whole rows) dequantised values of `stored`, starting at row `row`, to `out`
// [count, cols]. The scalar definition of every format; tests hold kernels against it.
void DequantizeRows(const StoredTensor& stored, int64_t row, int64_t count, float* out);

}  // namespace baton::kernels
