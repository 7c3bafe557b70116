#include "kernels/op_checks.h"

namespace baton::kernels {
namespace {

void CheckF32(const Tensor& t) {
  BATON_CHECK(t.dtype == DType::kF32, "activation is {}", InfoOf(t.dtype).name);
  BATON_CHECK(t.rows >= 0 && t.cols >= 0 && (t.data != nullptr || t.rows == 0 || t.cols == 0),
              "[{}, {}] at {}", t.rows, t.cols, t.data);
}

void CheckSlices(std::span<const SequenceSlice> slices, int rows, const KvPool& kv, int layer) {
  const KvLayout& layout = kv.layout;
  BATON_CHECK(layer >= 0 && layer < layout.layers, "layer {} of {}", layer, layout.layers);
  BATON_CHECK(layout.page_tokens > 0 && kv.base != nullptr);
  BATON_CHECK(
      layout.dtype == DType::kF16 || layout.dtype == DType::kBF16 || layout.dtype == DType::kF32,
      "KV in {}", InfoOf(layout.dtype).name);
  for (const SequenceSlice& s : slices) {
    BATON_CHECK(s.q_begin >= 0 && s.q_len >= 0 && s.q_begin <= rows - s.q_len, "rows {}+{} of {}",
                s.q_begin, s.q_len, rows);
    BATON_CHECK(s.kv_len >= s.q_len, "kv_len {} < q_len {}", s.kv_len, s.q_len);
    const size_t pages = (static_cast<size_t>(s.kv_len) + layout.page_tokens - 1) /
                         static_cast<size_t>(layout.page_tokens);
    BATON_CHECK(s.pages.size() >= pages, "{} pages for {} tokens", s.pages.size(), s.kv_len);
    for (size_t i = 0; i < pages; ++i)
      BATON_CHECK(s.pages[i] >= 0 && s.pages[i] < kv.pages, "page {} of {}", s.pages[i], kv.pages);
  }
}

}  // namespace

Status ValidateWeightParts(std::span<const StoredTensor> parts) {
  if (parts.empty()) return Error(Code::kInvalidArgument, "a weight needs at least one part");
  for (const StoredTensor& part : parts) {
    const DTypeInfo& info = InfoOf(part.dtype);
    if (part.rows <= 0 || part.cols <= 0 || part.rows > INT32_MAX || part.cols > INT32_MAX)
      return Error(Code::kInvalidArgument, "weight shape [{}, {}]", part.rows, part.cols);
    if (part.data == nullptr) return Error(Code::kInvalidArgument, "weight without data");
    if (part.cols != parts[0].cols) {
      return Error(Code::kInvalidArgument, "weights of {} and {} columns cannot be stacked",
                   parts[0].cols, part.cols);
    }
    if (part.cols % info.block_elements != 0) {
      return Error(Code::kInvalidArgument, "{} rows of {} columns are not whole blocks of {}",
                   info.name, part.cols, info.block_elements);
    }
  }
  return Status::Ok();
}

Status ValidateVector(const StoredTensor& stored) {
  if (stored.rows != 1)
    return Error(Code::kInvalidArgument, "a vector has one row, not {}", stored.rows);
  return ValidateWeightParts({&stored, 1});
}

void CheckEmbed(const Weight& table, std::span<const int32_t> tokens, const Tensor& out) {
  CheckF32(out);
  BATON_CHECK(out.rows == static_cast<int>(tokens.size()) && out.cols == table.cols,
              "{} tokens of width {} into [{}, {}]", tokens.size(), table.cols, out.rows, out.cols);
  for (int32_t token : tokens)
    BATON_CHECK(token >= 0 && token < table.rows, "token {} of {}", token, table.rows);
}

void CheckRmsNorm(const Tensor& x, const Weight& weight, const Tensor& out) {
  CheckF32(x);
  CheckF32(out);
  BATON_CHECK(x.rows == out.rows && x.cols == out.cols);
  BATON_CHECK(weight.rows == 1 && weight.cols > 0 && x.cols % weight.cols == 0,
              "{} columns normed by {}", x.cols, weight.cols);
}

void CheckLinear(const Tensor& x, const Weight& w, const Weight* bias, const Tensor& y) {
  CheckF32(x);
  CheckF32(y);
  BATON_CHECK(x.cols == w.cols && y.cols == w.rows && x.rows == y.rows,
              "[{}, {}] x [{}, {}] into [{}, {}]", x.rows, x.cols, w.rows, w.cols, y.rows, y.cols);
  if (bias) BATON_CHECK(bias->rows == 1 && bias->cols == w.rows, "bias of {}", bias->cols);
}

void CheckGatedMul(const Tensor& gate_up, const Tensor& out) {
  CheckF32(gate_up);
  CheckF32(out);
  BATON_CHECK(gate_up.rows == out.rows && gate_up.cols == 2 * out.cols, "[{}, {}] into [{}, {}]",
              gate_up.rows, gate_up.cols, out.rows, out.cols);
}

void CheckRope(const RopeArgs& args) {
  CheckF32(args.q);
  CheckF32(args.k);
  BATON_CHECK(args.q.rows == args.k.rows);
  BATON_CHECK(
      args.head_dim > 0 && args.q.cols % args.head_dim == 0 && args.k.cols % args.head_dim == 0,
      "{} and {} columns in heads of {}", args.q.cols, args.k.cols, args.head_dim);
  BATON_CHECK(args.rotary_dim >= 0 && args.rotary_dim % 2 == 0 && args.rotary_dim <= args.head_dim,
              "rotary {} of {}", args.rotary_dim, args.head_dim);
  BATON_CHECK(args.cos_sin != nullptr || args.rotary_dim == 0 || args.q.rows == 0);
}

void CheckAppendKv(const Tensor& k, const Tensor& v, std::span<const SequenceSlice> slices,
                   const KvPool& kv, int layer) {
  CheckF32(k);
  CheckF32(v);
  const int width = kv.layout.kv_heads * kv.layout.head_dim;
  BATON_CHECK(k.cols == width && v.cols == width && k.rows == v.rows, "[{}, {}] into {}", k.rows,
              k.cols, kv.layout.ToString());
  CheckSlices(slices, k.rows, kv, layer);
}

void CheckAttention(const AttentionArgs& args) {
  CheckF32(args.q);
  CheckF32(args.out);
  BATON_CHECK(args.kv != nullptr);
  const KvLayout& layout = args.kv->layout;
  BATON_CHECK(layout.kv_heads > 0 && args.heads > 0 && args.heads % layout.kv_heads == 0,
              "{} heads over {}", args.heads, layout.kv_heads);
  BATON_CHECK(args.q.cols == args.heads * layout.head_dim && args.out.cols == args.q.cols &&
                  args.out.rows == args.q.rows,
              "q [{}, {}] with {} heads of {}", args.q.rows, args.q.cols, args.heads,
              layout.head_dim);
  BATON_CHECK(args.window >= 0);
  CheckSlices(args.slices, args.q.rows, *args.kv, args.layer);
}

void CheckGatherRows(const Tensor& x, std::span<const int32_t> rows, const Tensor& out) {
  CheckF32(x);
  CheckF32(out);
  BATON_CHECK(out.rows == static_cast<int>(rows.size()) && out.cols == x.cols);
  for (int32_t row : rows) BATON_CHECK(row >= 0 && row < x.rows, "row {} of {}", row, x.rows);
}

void CheckSplitColumns(const Tensor& x, std::span<const Tensor> parts) {
  CheckF32(x);
  int columns = 0;
  for (const Tensor& part : parts) {
    CheckF32(part);
    BATON_CHECK(part.rows == x.rows, "{} rows into {}", x.rows, part.rows);
    columns += part.cols;
  }
  BATON_CHECK(columns == x.cols, "{} columns split into {}", x.cols, columns);
}

}  // namespace baton::kernels
