// All kernel bodies and the table over them, for the kernels_<isa>.cpp files.
#pragma once

#include "kernels/cpu/attention_body.h"
#include "kernels/cpu/ceiling_body.h"
#include "kernels/cpu/elementwise_body.h"
#include "kernels/cpu/linear_dense_body.h"
#include "kernels/cpu/linear_quant_body.h"

namespace baton::kernels::cpu {
namespace {

constexpr KernelTable MakeTable(const char* isa) {
  return {
      .isa = isa,
      .quantize_row = QuantizeRow,
      .linear_quant = LinearQuant,
      .linear_dense = LinearDense,
      .rms_norm = RmsNormRow,
      .silu_mul = SiluMulRow,
      .gelu_tanh_mul = GeluTanhMulRow,
      .rope = RopeRow,
      .store = StoreRow,
      .attention_load_q = AttentionLoadQ,
      .attention_chunk = AttentionChunk,
      .attention_merge = AttentionMerge,
      .attention_store = AttentionStore,
      .read_bytes = ReadBytes,
      .int8_dots = Int8Dots,
  };
}

}  // namespace
}  // namespace baton::kernels::cpu
