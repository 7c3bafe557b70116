// The shape rules of ops.h as CHECKs, one function per operation that has any. Backends call these
// first, so that a wrong shape dies with its numbers printed and never reads out of bounds.
#pragma once

#include <cstdint>
#include <span>

#include "common/status.h"
#include "kernels/ops.h"

namespace baton::kernels {

// kInvalidArgument / kUnsupported when the parts cannot form one weight: none, differing widths, a
// row that is not whole blocks. These come from files, so they are statuses.
Status ValidateWeightParts(std::span<const StoredTensor> parts);
Status ValidateVector(const StoredTensor& stored);

void CheckEmbed(const Weight& table, std::span<const int32_t> tokens, const Tensor& out);
void CheckRmsNorm(const Tensor& x, const Weight& weight, const Tensor& out);
void CheckLinear(const Tensor& x, const Weight& w, const Weight* bias, const Tensor& y);
void CheckGatedMul(const Tensor& gate_up, const Tensor& out);
void CheckRope(const RopeArgs& args);
void CheckAppendKv(const Tensor& k, const Tensor& v, std::span<const SequenceSlice> slices,
                   const KvPool& kv, int layer);
void CheckAttention(const AttentionArgs& args);
void CheckGatherRows(const Tensor& x, std::span<const int32_t> rows, const Tensor& out);
void CheckSplitColumns(const Tensor& x, std::span<const Tensor> parts);

}  // namespace baton::kernels
