// Random weights, activations and KV pools for the kernel tests and benchmarks.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "common/half.h"
#include "kernels/ops.h"

namespace baton::kernels {

// Owns the bytes that a StoredTensor points at.
struct RandomWeight {
  RandomWeight(DType dtype, int64_t rows, int64_t cols, uint32_t seed) {
    std::mt19937 random(seed);
    stored = {dtype, rows, cols};
    bytes.resize(static_cast<size_t>(rows) * stored.RowBytes());
    if (InfoOf(dtype).block_elements > 1) FillBlocks(dtype, random);
    else FillPlain(dtype, random);
    stored.data = bytes.data();
    if (dtype == DType::kF8E4M3) {
      scales.resize(static_cast<size_t>((rows + 127) / 128 * ((cols + 127) / 128)));
      for (float& s : scales) s = std::uniform_real_distribution<float>(0.01f, 0.02f)(random);
      stored.block_scales = scales.data();
    }
  }
  RandomWeight(const RandomWeight&) = delete;
  RandomWeight& operator=(const RandomWeight&) = delete;

  StoredTensor stored;
  std::vector<std::byte> bytes;
  std::vector<float> scales;

 private:
  // Random codes; the fp16 fields get values that make weights of about 0.05.
  void FillBlocks(DType dtype, std::mt19937& random) {
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    std::normal_distribution<float> normal;
    const size_t block = InfoOf(dtype).block_bytes;
    const auto put = [&](size_t at, float value) {
      const Half h = ToHalf(value);
      std::memcpy(&bytes[at], &h, sizeof h);
    };
    for (size_t at = 0; at < bytes.size(); at += block) {
      const float d = 0.01f + 0.002f * normal(random);
      switch (dtype) {
        case DType::kQ4_1:
          put(at, d), put(at + 2, -8 * d);
          break;
        case DType::kQ5_1:
          put(at, d / 2), put(at + 2, -8 * d);
          break;
        case DType::kQ4_K:
          put(at, d / 32), put(at + 2, d / 4);
          break;
        case DType::kQ6_K:
          put(at + 208, d / 600);
          break;
        case DType::kQ8_0:
          put(at, d / 16);
          break;
        case DType::kQ5_0:
          put(at, d / 2);
          break;
        default:
          put(at, d);
          break;
      }
    }
  }
  void FillPlain(DType dtype, std::mt19937& random) {
    std::normal_distribution<float> normal(0, 0.05f);
    const size_t size = InfoOf(dtype).block_bytes;
    for (size_t i = 0; i < bytes.size() / size; ++i) {
      const float value = normal(random);
      const Half half = ToHalf(value);
      const BFloat16 brain = ToBFloat16(value);
      std::byte* out = &bytes[i * size];
      if (dtype == DType::kF32) std::memcpy(out, &value, size);
      if (dtype == DType::kF16) std::memcpy(out, &half, size);
      if (dtype == DType::kBF16) std::memcpy(out, &brain, size);
      if (dtype == DType::kF8E4M3) {
        const auto code = static_cast<uint8_t>(random());
        *out = static_cast<std::byte>((code & 0x7f) == 0x7f ? 0 : code);  // no NaN
      }
    }
  }
};

// Activations with an outlier here and there, as real ones have.
struct RandomTensor {
  RandomTensor(int rows, int cols, uint32_t seed) : values(static_cast<size_t>(rows) * cols) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& v : values) v = normal(random) * (random() % 97 == 0 ? 20.0f : 1.0f);
    tensor = {values.data(), DType::kF32, rows, cols};
  }
  RandomTensor(const RandomTensor&) = delete;
  RandomTensor& operator=(const RandomTensor&) = delete;

  std::vector<float> values;
  Tensor tensor;
};

struct ZeroTensor {
  ZeroTensor(int rows, int cols) : values(static_cast<size_t>(rows) * cols) {
    tensor = {values.data(), DType::kF32, rows, cols};
  }
  ZeroTensor(const ZeroTensor&) = delete;
  ZeroTensor& operator=(const ZeroTensor&) = delete;

  std::vector<float> values;
  Tensor tensor;
};

// A pool with its memory; pages hold garbage (NaN) until written.
struct OwnedPool {
  OwnedPool(const KvLayout& layout, int pages)
      : memory(layout.PageBytes() * static_cast<size_t>(pages), std::byte{0xff}) {
    pool = {layout, memory.data(), pages};
  }
  OwnedPool(const OwnedPool&) = delete;
  OwnedPool& operator=(const OwnedPool&) = delete;

  std::vector<std::byte> memory;
  KvPool pool;
};

}  // namespace baton::kernels
