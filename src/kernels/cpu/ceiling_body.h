// Two loops that do nothing but read, and nothing but multiply: the ceilings that bench reports
// beside its figures. Compiled once per instruction set.
#pragma once

#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/vec.h"

namespace baton::kernels::cpu {
namespace {

float ReadBytes(const std::byte* data, size_t bytes) {
  F32 sums[4] = {Zero(), Zero(), Zero(), Zero()};
  const auto* p = reinterpret_cast<const float*>(data);
  for (size_t i = 0; i < bytes / sizeof(float); i += 4 * kLanes)
    for (int s = 0; s < 4; ++s) sums[s] = Add(sums[s], Load(p + i + s * kLanes));
  return ReduceAdd(Add(Add(sums[0], sums[1]), Add(sums[2], sums[3])));
}

int64_t Int8Dots(int64_t rounds, int32_t* sink) {
  constexpr int kChains = 12;
  I32 sums[kChains];
#pragma GCC unroll 12
  for (int c = 0; c < kChains; ++c) sums[c] = SetInt(*sink + c);
  I32 a = SetInt(0x01020304 + *sink);
  const I32 b = SetInt(0x04030201);
  for (int64_t r = 0; r < rounds; ++r) {
    asm volatile("" : "+v"(a));  // keeps the products inside the loop
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = DotBytes(sums[c], a, b);
  }
  I32 sum = sums[0];
  for (int c = 1; c < kChains; ++c) sum = AddInt(sum, sums[c]);
  *sink = ReduceAddInt(sum);
  return rounds * kChains * kLanes * 4;
}

}  // namespace
}  // namespace baton::kernels::cpu
