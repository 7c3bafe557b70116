// The oracle: every operation of ops.h as plain loops over float32 weights with sums in double.
// Not fast and not meant to be; one thread (the caller's). Weights are kept dequantised.
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/half.h"
#include "kernels/host_buffer.h"
#include "kernels/op_checks.h"
#include "kernels/ops.h"

namespace baton::kernels {
namespace {

class ReferenceWeight final : public Weight {
 public:
  explicit ReferenceWeight(std::span<const StoredTensor> parts) {
    cols = parts[0].cols;
    for (const StoredTensor& part : parts) rows += part.rows;
    values.resize(static_cast<size_t>(rows * cols));
    bytes = values.size() * sizeof(float);
    float* out = values.data();
    for (const StoredTensor& part : parts) {
      DequantizeRows(part, 0, part.rows, out);
      out += part.rows * cols;
    }
  }
  const float* Row(int64_t row) const { return values.data() + row * cols; }

  std::vector<float> values;  // [rows, cols]
};

const ReferenceWeight& Cast(const Weight& w) {
  const auto* weight = dynamic_cast<const ReferenceWeight*>(&w);
  BATON_CHECK(weight != nullptr, "weight of another backend");
  return *weight;
}

double LoadElement(const std::byte* data, DType dtype, size_t index) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, data + 4 * index, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data + 2 * index, sizeof bits);
  return dtype == DType::kF16 ? ToFloat(Half{bits}) : ToFloat(BFloat16{bits});
}

void StoreElement(std::byte* data, DType dtype, size_t index, float value) {
  if (dtype == DType::kF32) {
    std::memcpy(data + 4 * index, &value, sizeof value);
    return;
  }
  const uint16_t bits = dtype == DType::kF16 ? ToHalf(value).bits : ToBFloat16(value).bits;
  std::memcpy(data + 2 * index, &bits, sizeof bits);
}

class ReferenceOps final : public Ops {
 public:
  const BackendInfo& info() const override { return info_; }

  Result<WeightPtr> LoadWeight(std::span<const StoredTensor> parts, WeightUse) override {
    if (Status status = ValidateWeightParts(parts); !status.ok()) return status;
    return WeightPtr(std::make_unique<ReferenceWeight>(parts));
  }
  Result<WeightPtr> LoadVector(const StoredTensor& stored) override {
    if (Status status = ValidateVector(stored); !status.ok()) return status;
    return WeightPtr(std::make_unique<ReferenceWeight>(std::span(&stored, 1)));
  }
  Result<std::unique_ptr<Buffer>> Allocate(size_t bytes) override {
    return AllocateHostBuffer(bytes);
  }
  Result<std::unique_ptr<Buffer>> AllocateShared(size_t bytes) override {
    return AllocateSharedHostBuffer(bytes);
  }

  void Embed(const Weight& table, std::span<const int32_t> tokens, float scale,
             Tensor out) override;
  void RmsNorm(Tensor x, const Weight& weight, float eps, Tensor out) override;
  void Linear(Tensor x, const Weight& w, const Weight* bias, bool add, Tensor y) override;
  void SiluMul(Tensor gate_up, Tensor out) override;
  void GeluTanhMul(Tensor gate_up, Tensor out) override;
  void RopeTable(std::span<const int32_t> positions, std::span<const float> inv_freq,
                 float magnitude, float* cos_sin) override;
  void Rope(const RopeArgs& args) override;
  void AppendKv(Tensor k, Tensor v, std::span<const SequenceSlice> slices, const KvPool& kv,
                int layer) override;
  void Attention(const AttentionArgs& args) override;
  void GatherRows(Tensor x, std::span<const int32_t> rows, Tensor out) override;
  void SplitColumns(Tensor x, std::span<const Tensor> parts) override;
  void Synchronize() override {}

 private:
  BackendInfo info_{.name = "reference", .isa = "scalar", .threads = 1};
};

void ReferenceOps::Embed(const Weight& table, std::span<const int32_t> tokens, float scale,
                         Tensor out) {
  CheckEmbed(table, tokens, out);
  for (int t = 0; t < out.rows; ++t) {
    const float* row = Cast(table).Row(tokens[t]);
    for (int c = 0; c < out.cols; ++c) out.Row(t)[c] = row[c] * scale;
  }
}

void ReferenceOps::RmsNorm(Tensor x, const Weight& weight, float eps, Tensor out) {
  CheckRmsNorm(x, weight, out);
  const float* w = Cast(weight).Row(0);
  const int width = static_cast<int>(weight.cols);
  for (int t = 0; t < x.rows; ++t) {
    for (int begin = 0; begin < x.cols; begin += width) {
      const float* in = x.Row(t) + begin;
      double squares = 0;
      for (int c = 0; c < width; ++c) squares += double{in[c]} * in[c];
      const double inverse = 1.0 / std::sqrt(squares / width + eps);
      for (int c = 0; c < width; ++c)
        out.Row(t)[begin + c] = static_cast<float>(in[c] * inverse * w[c]);
    }
  }
}

void ReferenceOps::Linear(Tensor x, const Weight& w, const Weight* bias, bool add, Tensor y) {
  CheckLinear(x, w, bias, y);
  const ReferenceWeight& weight = Cast(w);
  for (int t = 0; t < x.rows; ++t) {
    for (int r = 0; r < y.cols; ++r) {
      const float* row = weight.Row(r);
      double sum = 0;
      for (int c = 0; c < x.cols; ++c) sum += double{row[c]} * x.Row(t)[c];
      if (bias) sum += Cast(*bias).values[r];
      if (add) sum += y.Row(t)[r];
      y.Row(t)[r] = static_cast<float>(sum);
    }
  }
}

void ReferenceOps::SiluMul(Tensor gate_up, Tensor out) {
  CheckGatedMul(gate_up, out);
  for (int t = 0; t < out.rows; ++t) {
    for (int c = 0; c < out.cols; ++c) {
      const double gate = gate_up.Row(t)[c];
      out.Row(t)[c] =
          static_cast<float>(gate / (1.0 + std::exp(-gate)) * gate_up.Row(t)[out.cols + c]);
    }
  }
}

void ReferenceOps::GeluTanhMul(Tensor gate_up, Tensor out) {
  CheckGatedMul(gate_up, out);
  constexpr double kSqrt2OverPi = 0.79788456080286535588;
  for (int t = 0; t < out.rows; ++t) {
    for (int c = 0; c < out.cols; ++c) {
      const double g = gate_up.Row(t)[c];
      const double inner = kSqrt2OverPi * (g + 0.044715 * g * g * g);
      out.Row(t)[c] =
          static_cast<float>(0.5 * g * (1.0 + std::tanh(inner)) * gate_up.Row(t)[out.cols + c]);
    }
  }
}

void ReferenceOps::RopeTable(std::span<const int32_t> positions, std::span<const float> inv_freq,
                             float magnitude, float* cos_sin) {
  for (int32_t position : positions) {
    for (float frequency : inv_freq) {
      const double angle = double{frequency} * position;
      *cos_sin++ = static_cast<float>(std::cos(angle) * magnitude);
      *cos_sin++ = static_cast<float>(std::sin(angle) * magnitude);
    }
  }
}

void ReferenceOps::Rope(const RopeArgs& args) {
  CheckRope(args);
  const int pairs = args.rotary_dim / 2;
  for (const Tensor& x : {args.q, args.k}) {
    for (int t = 0; t < x.rows; ++t) {
      const float* table = args.cos_sin + static_cast<size_t>(t) * args.rotary_dim;
      for (int begin = 0; begin < x.cols; begin += args.head_dim) {
        float* head = x.Row(t) + begin;
        for (int i = 0; i < pairs; ++i) {
          float& a = head[args.interleaved ? 2 * i : i];
          float& b = head[args.interleaved ? 2 * i + 1 : i + pairs];
          const double cosine = table[2 * i], sine = table[2 * i + 1];
          const double first = a * cosine - b * sine;
          const double second = a * sine + b * cosine;
          a = static_cast<float>(first);
          b = static_cast<float>(second);
        }
      }
    }
  }
}

void ReferenceOps::AppendKv(Tensor k, Tensor v, std::span<const SequenceSlice> slices,
                            const KvPool& kv, int layer) {
  CheckAppendKv(k, v, slices, kv, layer);
  const KvLayout& layout = kv.layout;
  for (const SequenceSlice& s : slices) {
    for (int i = 0; i < s.q_len; ++i) {
      const int position = s.kv_len - s.q_len + i;
      const PageId page = s.pages[position / layout.page_tokens];
      const size_t offset = (position % layout.page_tokens) * layout.TokenBytes();
      for (int c = 0; c < k.cols; ++c) {
        StoreElement(kv.Keys(page, layer) + offset, layout.dtype, c, k.Row(s.q_begin + i)[c]);
        StoreElement(kv.Values(page, layer) + offset, layout.dtype, c, v.Row(s.q_begin + i)[c]);
      }
    }
  }
}

// One head of one token: softmax over the visible positions in double.
void AttendOne(const AttentionArgs& args, const SequenceSlice& s, int i, int head) {
  const KvLayout& layout = args.kv->layout;
  const int dim = layout.head_dim;
  const int kv_head = head / (args.heads / layout.kv_heads);
  const int position = s.kv_len - s.q_len + i;
  const int first = args.window > 0 && position >= args.window ? position - args.window + 1 : 0;
  const float* q = args.q.Row(s.q_begin + i) + head * dim;
  const auto item = [&](int j) {
    return (j % layout.page_tokens) * layout.TokenBytes() +
           static_cast<size_t>(kv_head) * dim * layout.ElementBytes();
  };
  std::vector<double> scores(position + 1);
  double top = -std::numeric_limits<double>::infinity();
  for (int j = first; j <= position; ++j) {
    const std::byte* key = args.kv->Keys(s.pages[j / layout.page_tokens], args.layer) + item(j);
    double dot = 0;
    for (int d = 0; d < dim; ++d) dot += q[d] * LoadElement(key, layout.dtype, d);
    scores[j] = dot * args.scale;
    top = std::max(top, scores[j]);
  }
  double total = 0;
  std::vector<double> mixed(dim, 0.0);
  for (int j = first; j <= position; ++j) {
    const double weight = std::exp(scores[j] - top);
    const std::byte* value = args.kv->Values(s.pages[j / layout.page_tokens], args.layer) + item(j);
    total += weight;
    for (int d = 0; d < dim; ++d) mixed[d] += weight * LoadElement(value, layout.dtype, d);
  }
  float* out = args.out.Row(s.q_begin + i) + head * dim;
  for (int d = 0; d < dim; ++d) out[d] = static_cast<float>(mixed[d] / total);
}

void ReferenceOps::Attention(const AttentionArgs& args) {
  CheckAttention(args);
  for (const SequenceSlice& s : args.slices)
    for (int i = 0; i < s.q_len; ++i)
      for (int head = 0; head < args.heads; ++head) AttendOne(args, s, i, head);
}

void ReferenceOps::GatherRows(Tensor x, std::span<const int32_t> rows, Tensor out) {
  CheckGatherRows(x, rows, out);
  for (int i = 0; i < out.rows; ++i)
    std::memcpy(out.Row(i), x.Row(rows[i]), x.cols * sizeof(float));
}

void ReferenceOps::SplitColumns(Tensor x, std::span<const Tensor> parts) {
  CheckSplitColumns(x, parts);
  for (int t = 0; t < x.rows; ++t) {
    const float* in = x.Row(t);
    for (const Tensor& part : parts) {
      std::memcpy(part.Row(t), in, part.cols * sizeof(float));
      in += part.cols;
    }
  }
}

}  // namespace

std::unique_ptr<Ops> MakeReferenceOps() {
  return std::make_unique<ReferenceOps>();
}

}  // namespace baton::kernels
