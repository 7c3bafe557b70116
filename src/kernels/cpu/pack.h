// The form that the CPU kernels read weights in: panels of 16 rows.
//
// Quantised formats, one form for all of them. A panel holds the codes of all its blocks of 32
// columns, then their scales. Codes are unsigned, 4 bits (Q4_*) or 8 (all others, 5 and 6 bits
// widened), and laid out in 64-byte vectors with 4 bytes, i.e. two 16-bit words, for each row:
//   8 bits: vector v holds columns 4v..4v+3; byte p of word w is column 4v + 2p + w;
//   4 bits: vector v holds columns 8v..8v+7; nibble p of word w is column 8v + 2p + w.
// So one mask or shift yields a pair of neighbouring columns as 16-bit words for every row.
// Scales per block: d[16], then m[16] where the format has a minimum (value = code * d + m); the
// others have a constant centre (value = (code - centre) * d). They are f16 as stored in the file;
// f32 for Q4_K and Q6_K, whose scales are products that f16 cannot hold. Q6_K has d for each 16
// columns: d[16] of the first half, d[16] of the second. Nothing is rounded: a row read back equals
// DequantizeRows to the bit.
//
// Plain formats: [column][16 rows] of f32, f16 or bf16; F8_E4M3 becomes f32.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/status.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/ops.h"

namespace baton::kernels::cpu {

// Rows that came from one stored tensor.
struct PackedSegment {
  bool quantised = false;
  QuantPanels quant{};
  DensePanels dense{};
  int64_t row_begin = 0;  // in the whole weight
  int64_t rows = 0;
  int panels = 0;
};

class PackedWeight final : public Weight {
 public:
  // Writes row `row`, dequantised and times `scale`, to out [cols].
  void ReadRow(int64_t row, float scale, float* out) const;

  std::vector<PackedSegment> segments;  // by rows
  int panels = 0;                       // of all segments
  bool any_quantised = false;
  std::unique_ptr<Buffer> memory;
};

class PackedVector final : public Weight {
 public:
  std::vector<float> values;
};

// `parts` have passed ValidateWeightParts. kResourceExhausted when there is no memory.
Result<std::unique_ptr<const PackedWeight>> PackWeight(std::span<const StoredTensor> parts,
                                                       ThreadTeam& team);

}  // namespace baton::kernels::cpu
