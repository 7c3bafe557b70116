// Passes over one row of logits: maximum, exponential, sum. The same bits on every x86-64 CPU: only
// IEEE additions and multiplications in a fixed order (libm's expf may differ between CPUs, and
// prefill and decode must agree on a sample).
#pragma once

#include <cstddef>
#include <span>

namespace baton::engine {

// e^x for x <= 0, within 2 ulp; 0 below -87; NaN stays NaN.
float ExpNonPositive(float x);

// The largest value, NaNs passed over; -inf for an empty row.
float RowMax(std::span<const float> row);
// The lowest index that holds `value`; row.size() for none.
size_t FirstIndexOf(std::span<const float> row, float value);
// Sum of e^((row[i] - max) * scale): 16 float lanes in each block of kSumBlock, blocks summed in
// double. `blocks`, when not empty, takes the sum of each of the ceil(row.size() / kSumBlock).
inline constexpr size_t kSumBlock = 1024;
double SumExp(std::span<const float> row, float max, float scale, std::span<double> blocks = {});

}  // namespace baton::engine
