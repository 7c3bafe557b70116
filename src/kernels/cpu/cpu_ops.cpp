// The CPU backend: ops.h on a thread team, with the kernels of one instruction set.
//
// This file decides who computes what; kernels compute. Work is cut by weight panels or by rows,
// and since no kernel's result depends on where the cuts are, neither do the outputs. Small
// operations stay on the calling thread. Called from one thread, as ops.h says.
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/host_buffer.h"
#include "kernels/op_checks.h"
#include "kernels/ops.h"

namespace baton::kernels {
namespace cpu {
namespace {

// Elements under which waking the team costs more than it saves (about a microsecond's work).
constexpr int64_t kSmallWork = 16 << 10;
// Tasks a thread when there is enough to do: uneven cores even out, claims still cost nothing.
constexpr int kTasksPerThread = 4;
// Quantised activations worked on at a time: they should stay in the second-level cache while the
// panels of a thread's share pass by.
constexpr size_t kActivationBytes = size_t{1} << 20;

template <typename T>
const T& Cast(const Weight& w) {
  const auto* weight = dynamic_cast<const T*>(&w);
  BATON_CHECK(weight != nullptr, "weight of another backend or use");
  return *weight;
}

class CpuOps final : public Ops {
 public:
  CpuOps(const KernelTable& kernels, int threads)
      : kernels_(kernels), team_(threads), attention_(kernels, team_) {
    info_ = {.name = "cpu", .isa = kernels.isa, .threads = threads, .activation = DType::kF32};
  }

  const BackendInfo& info() const override { return info_; }

  Result<WeightPtr> LoadWeight(std::span<const StoredTensor> parts, WeightUse use) override;
  Result<WeightPtr> LoadVector(const StoredTensor& stored) override;
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
  void SiluMul(Tensor gate_up, Tensor out) override { GatedMul(kernels_.silu_mul, gate_up, out); }
  void GeluTanhMul(Tensor gate_up, Tensor out) override {
    GatedMul(kernels_.gelu_tanh_mul, gate_up, out);
  }
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
  // f(begin, end) over shares of [0, count) that cost `elements` each.
  template <typename F>
  void ForShares(int64_t count, int64_t elements, F f) {
    const int64_t wanted = std::min(count * elements / (kSmallWork / 2), count);
    const int tasks = static_cast<int>(std::min<int64_t>(wanted, team_.size() * kTasksPerThread));
    if (tasks <= 1 || team_.size() == 1) return f(0, count);
    team_.Run(tasks, [&](int task, int) {
      const Share share = ShareOf(count, task, tasks);
      f(share.begin, share.end);
    });
  }
  void GatedMul(decltype(KernelTable::silu_mul) kernel, Tensor gate_up, Tensor out);
  void Quantize(const Tensor& x);
  void LinearPanels(const PackedWeight& w, const Tensor& x, const float* bias, bool add,
                    const Tensor& y, Share panels);

  const KernelTable& kernels_;
  BackendInfo info_;
  ThreadTeam team_;
  AttentionRunner attention_;
  std::vector<int16_t> codes_;  // activations of the Linear at hand; grows, never shrinks
  std::vector<BlockScale> scales_;
};

Result<WeightPtr> CpuOps::LoadWeight(std::span<const StoredTensor> parts, WeightUse) {
  if (Status status = ValidateWeightParts(parts); !status.ok()) return status;
  auto packed = PackWeight(parts, team_);
  if (!packed.ok()) return packed.status();
  return WeightPtr(std::move(packed).value());
}

Result<WeightPtr> CpuOps::LoadVector(const StoredTensor& stored) {
  if (Status status = ValidateVector(stored); !status.ok()) return status;
  auto vector = std::make_unique<PackedVector>();
  vector->rows = 1;
  vector->cols = stored.cols;
  vector->bytes = static_cast<size_t>(stored.cols) * sizeof(float);
  vector->values.resize(static_cast<size_t>(stored.cols));
  DequantizeRows(stored, 0, 1, vector->values.data());
  return WeightPtr(std::move(vector));
}

void CpuOps::Embed(const Weight& table, std::span<const int32_t> tokens, float scale, Tensor out) {
  CheckEmbed(table, tokens, out);
  const auto& weight = Cast<PackedWeight>(table);
  ForShares(out.rows, out.cols, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      weight.ReadRow(tokens[t], scale, out.Row(static_cast<int>(t)));
  });
}

void CpuOps::RmsNorm(Tensor x, const Weight& weight, float eps, Tensor out) {
  CheckRmsNorm(x, weight, out);
  const float* w = Cast<PackedVector>(weight).values.data();
  const int width = static_cast<int>(weight.cols);
  ForShares(x.rows, x.cols, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int c = 0; c < x.cols; c += width)
        kernels_.rms_norm(x.Row(static_cast<int>(t)) + c, w, width, eps,
                          out.Row(static_cast<int>(t)) + c);
  });
}

void CpuOps::Quantize(const Tensor& x) {
  const int blocks = x.cols / kBlock;
  const size_t needed = static_cast<size_t>(x.rows) * blocks;
  if (scales_.size() < needed) {
    scales_.resize(needed);
    codes_.resize(needed * kBlock);
  }
  ForShares(x.rows, x.cols, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t group = t / kTokenGroup * kTokenGroup;
      const int group_tokens = static_cast<int>(std::min<int64_t>(kTokenGroup, x.rows - group));
      const int64_t at = group * blocks + (t - group);
      kernels_.quantize_row(x.Row(static_cast<int>(t)), x.cols, group_tokens,
                            codes_.data() + at * kBlock, scales_.data() + at);
    }
  });
}

void CpuOps::LinearPanels(const PackedWeight& w, const Tensor& x, const float* bias, bool add,
                          const Tensor& y, Share panels) {
  const int blocks = x.cols / kBlock;
  const size_t row_bytes = static_cast<size_t>(x.cols) * sizeof(int16_t);
  const int chunk = static_cast<int>(
      std::max<size_t>(kTokenGroup, kActivationBytes / row_bytes / kTokenGroup * kTokenGroup));
  for (int token = 0; token < x.rows; token += chunk) {
    const int tokens = std::min(chunk, x.rows - token);
    int64_t first_panel = 0;
    for (const PackedSegment& s : w.segments) {
      const int begin =
          static_cast<int>(std::clamp<int64_t>(panels.begin - first_panel, 0, s.panels));
      const int end = static_cast<int>(std::clamp<int64_t>(panels.end - first_panel, 0, s.panels));
      first_panel += s.panels;
      if (begin >= end) continue;
      const LinearOutput out{y.Row(token) + s.row_begin, y.cols,
                             bias ? bias + s.row_begin : nullptr, add, static_cast<int>(s.rows)};
      if (s.quantised) {
        const int64_t at = static_cast<int64_t>(token) * blocks;
        const QuantRows rows{codes_.data() + at * kBlock, scales_.data() + at, tokens};
        kernels_.linear_quant(s.quant, rows, out, begin, end);
      } else {
        kernels_.linear_dense(s.dense, x.Row(token), tokens, out, begin, end);
      }
    }
  }
}

void CpuOps::Linear(Tensor x, const Weight& w, const Weight* bias, bool add, Tensor y) {
  CheckLinear(x, w, bias, y);
  if (x.rows == 0) return;
  const auto& weight = Cast<PackedWeight>(w);
  const float* b = bias ? Cast<PackedVector>(*bias).values.data() : nullptr;
  if (weight.any_quantised) Quantize(x);
  ForShares(weight.panels, int64_t{kPanelRows} * x.cols * x.rows / 8,
            [&](int64_t begin, int64_t end) {
              LinearPanels(weight, x, b, add, y, {begin, end});
            });
}

void CpuOps::GatedMul(decltype(KernelTable::silu_mul) kernel, Tensor gate_up, Tensor out) {
  CheckGatedMul(gate_up, out);
  ForShares(out.rows, int64_t{4} * out.cols, [&](int64_t begin, int64_t end) {
    for (int t = static_cast<int>(begin); t < end; ++t)
      kernel(gate_up.Row(t), gate_up.Row(t) + out.cols, out.cols, out.Row(t));
  });
}

void CpuOps::RopeTable(std::span<const int32_t> positions, std::span<const float> inv_freq,
                       float magnitude, float* cos_sin) {
  const auto pairs = static_cast<int64_t>(inv_freq.size());
  ForShares(static_cast<int64_t>(positions.size()), 32 * pairs, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < pairs; ++i) {
        const double angle = double{inv_freq[i]} * positions[t];
        cos_sin[2 * (t * pairs + i)] = static_cast<float>(std::cos(angle) * magnitude);
        cos_sin[2 * (t * pairs + i) + 1] = static_cast<float>(std::sin(angle) * magnitude);
      }
    }
  });
}

void CpuOps::Rope(const RopeArgs& args) {
  CheckRope(args);
  ForShares(args.q.rows, args.q.cols + args.k.cols, [&](int64_t begin, int64_t end) {
    for (int t = static_cast<int>(begin); t < end; ++t) {
      const float* table = args.cos_sin + static_cast<size_t>(t) * args.rotary_dim;
      for (const Tensor& x : {args.q, args.k})
        kernels_.rope(x.Row(t), x.cols / args.head_dim, args.head_dim, args.rotary_dim,
                      args.interleaved, table);
    }
  });
}

void CpuOps::AppendKv(Tensor k, Tensor v, std::span<const SequenceSlice> slices, const KvPool& kv,
                      int layer) {
  CheckAppendKv(k, v, slices, kv, layer);
  const KvLayout& layout = kv.layout;
  const Element element = layout.dtype == DType::kF16    ? Element::kF16
                          : layout.dtype == DType::kBF16 ? Element::kBF16
                                                         : Element::kF32;
  for (const SequenceSlice& s : slices) {
    ForShares(s.q_len, 2 * k.cols, [&](int64_t begin, int64_t end) {
      for (int i = static_cast<int>(begin); i < end; ++i) {
        const int position = s.kv_len - s.q_len + i;
        const PageId page = s.pages[position / layout.page_tokens];
        const size_t offset = (position % layout.page_tokens) * layout.TokenBytes();
        kernels_.store(k.Row(s.q_begin + i), k.cols, element, kv.Keys(page, layer) + offset);
        kernels_.store(v.Row(s.q_begin + i), v.cols, element, kv.Values(page, layer) + offset);
      }
    });
  }
}

void CpuOps::Attention(const AttentionArgs& args) {
  CheckAttention(args);
  attention_.Run(args);
}

void CpuOps::GatherRows(Tensor x, std::span<const int32_t> rows, Tensor out) {
  CheckGatherRows(x, rows, out);
  for (int i = 0; i < out.rows; ++i)
    std::memcpy(out.Row(i), x.Row(rows[i]), static_cast<size_t>(x.cols) * sizeof(float));
}

void CpuOps::SplitColumns(Tensor x, std::span<const Tensor> parts) {
  CheckSplitColumns(x, parts);
  ForShares(x.rows, x.cols, [&](int64_t begin, int64_t end) {
    for (int t = static_cast<int>(begin); t < end; ++t) {
      const float* in = x.Row(t);
      for (const Tensor& part : parts) {
        std::memcpy(part.Row(t), in, static_cast<size_t>(part.cols) * sizeof(float));
        in += part.cols;
      }
    }
  });
}

int CoresOfThisProcess() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace
}  // namespace cpu

Result<std::unique_ptr<Ops>> MakeCpuOps(const CpuOptions& options) {
  if (options.threads < 0)
    return Error(Code::kInvalidArgument, "threads must be 0 (all cores) or more");
  auto kernels = cpu::SelectKernels(options.isa);
  if (!kernels.ok()) return kernels.status();
  const int threads = options.threads > 0 ? options.threads : cpu::CoresOfThisProcess();
  return std::unique_ptr<Ops>(std::make_unique<cpu::CpuOps>(**kernels, threads));
}

}  // namespace baton::kernels
