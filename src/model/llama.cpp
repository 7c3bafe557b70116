// Llama, Qwen2 (biases on q, k, v) and Qwen3 (RMSNorm on each head of q and k): RMSNorm, grouped-
// query attention with RoPE, SwiGLU (specs/engine.md 3.5). Read Forward first.
//
// Invariants: T = rows of the step <= max_tokens; all activations live in one arena made at load;
// Forward allocates nothing. Used from the rank's engine thread only.
#include "model/llama.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

namespace baton::model {
namespace {

using kernels::StoredTensor;
using kernels::Tensor;
using kernels::Weight;
using kernels::WeightPtr;
using kernels::WeightUse;

struct Layer {
  WeightPtr attention_norm;
  WeightPtr qkv;             // q | k | v stacked by rows
  WeightPtr qkv_bias;        // or null
  WeightPtr q_norm, k_norm;  // or null; [head_dim]
  WeightPtr o, o_bias;       // bias or null
  WeightPtr ffn_norm;
  WeightPtr gate_up;  // gate | up stacked by rows
  WeightPtr down;
};

class Llama final : public Model {
 public:
  Llama(const ModelConfig& config, WeightView weights, kernels::Ops& ops,
        const LoadOptions& options)
      : config_(config), weights_(std::move(weights)), ops_(ops), options_(options) {}

  Status Load();
  Status Allocate();

  const ModelConfig& config() const override { return config_; }
  kernels::KvLayout MakeKvLayout(int page_tokens, kernels::DType dtype) const override {
    return {config_.layers, page_tokens, config_.kv_heads, config_.head_dim, dtype};
  }
  std::span<const float> Forward(const ForwardInput& input, const kernels::KvPool& kv) override;
  size_t weight_bytes() const override { return weight_bytes_; }

 private:
  // Loading.
  Status Bind(std::initializer_list<WeightRole> roles, int layer, WeightUse use, WeightPtr* out);
  Status BindVector(std::initializer_list<WeightRole> roles, int layer, WeightPtr* out);
  Status BindLayer(int index, Layer* layer);
  void Account(const Weight& weight, bool read_by_each_pass);

  // The forward pass.
  void CheckInput(const ForwardInput& input, const kernels::KvPool& kv) const;
  void ProjectQkv(const Layer& layer, int rows);
  void Attend(int layer, const ForwardInput& input, const kernels::KvPool& kv);
  void FeedForward(const Layer& layer, Tensor x);
  std::span<const float> ComputeLogits(Tensor x);

  ModelConfig config_;
  // Let go after loading unless a backend reads weights where they lie.
  std::optional<WeightView> weights_;
  bool borrows_ = false;
  kernels::Ops& ops_;
  LoadOptions options_;

  WeightPtr embedding_, head_, output_norm_;  // head_ null: the embedding is the head
  std::vector<Layer> layers_;
  RopeFrequencies rope_;
  float attention_scale_ = 1;
  size_t weight_bytes_ = 0;
  double bound_ = 0, to_bind_ = 1;  // elements, for progress

  // Activations [max_tokens, ...], in one buffer.
  std::unique_ptr<kernels::Buffer> arena_, logits_buffer_;
  Tensor x_;       // [T, hidden] the residual stream
  Tensor x_kept_;  // [T, hidden] its rows that logits are wanted of
  Tensor normed_;  // [T, hidden]
  Tensor qkv_;     // [T, (heads + 2 kv_heads) * head_dim]
  Tensor q_, k_, v_;
  Tensor attended_;  // [T, heads * head_dim]
  Tensor kept_;      // [T, heads * head_dim] its rows that logits are wanted of
  Tensor gate_up_;   // [T, 2 * ffn]
  Tensor ffn_;       // [T, ffn]
  Tensor cos_sin_;   // [T, rotary_dim]: rotary_dim / 2 pairs
  Tensor logits_;    // [max_logit_rows, vocab]
};

// ---- Forward -----------------------------------------------------------------------------------

std::span<const float> Llama::Forward(const ForwardInput& input, const kernels::KvPool& kv) {
  CheckInput(input, kv);
  const int rows = static_cast<int>(input.tokens.size());
  const int wanted = static_cast<int>(input.logit_rows.size());
  Tensor x = x_.Head(rows);

  ops_.RopeTable(input.positions, rope_.inv_freq, rope_.magnitude, cos_sin_.f32());
  ops_.Embed(*embedding_, input.tokens, 1.0f, x);

  for (int l = 0; l < config_.layers; ++l) {
    const Layer& layer = layers_[l];
    const bool last = l + 1 == config_.layers;

    ops_.RmsNorm(x, *layer.attention_norm, config_.rms_eps, normed_.Head(rows));
    ProjectQkv(layer, rows);
    ops_.AppendKv(k_.Head(rows), v_.Head(rows), input.slices, kv, l);
    if (input.layer_done) {
      ops_.Synchronize();
      (*input.layer_done)(l);
    }
    if (last && wanted == 0) return {};  // a chunk inside a prompt: only its KV was wanted

    Attend(l, input, kv);
    Tensor attended = attended_.Head(rows);
    if (last) {  // what follows works row by row: go on with the wanted rows only
      ops_.GatherRows(x, input.logit_rows, x_kept_.Head(wanted));
      ops_.GatherRows(attended, input.logit_rows, kept_.Head(wanted));
      x = x_kept_.Head(wanted);
      attended = kept_.Head(wanted);
    }
    ops_.Linear(attended, *layer.o, layer.o_bias.get(), /*add=*/true, x);
    FeedForward(layer, x);
  }
  return ComputeLogits(x);
}

// normed_ -> q_, k_ (rotated) and v_.
void Llama::ProjectQkv(const Layer& layer, int rows) {
  const Tensor qkv = qkv_.Head(rows), q = q_.Head(rows), k = k_.Head(rows), v = v_.Head(rows);
  ops_.Linear(normed_.Head(rows), *layer.qkv, layer.qkv_bias.get(), /*add=*/false, qkv);
  const std::array parts = {q, k, v};
  ops_.SplitColumns(qkv, parts);
  if (layer.q_norm) ops_.RmsNorm(q, *layer.q_norm, config_.rms_eps, q);
  if (layer.k_norm) ops_.RmsNorm(k, *layer.k_norm, config_.rms_eps, k);
  ops_.Rope({.q = q,
             .k = k,
             .cos_sin = cos_sin_.f32(),
             .head_dim = config_.head_dim,
             .rotary_dim = config_.rotary_dim,
             .interleaved = config_.interleaved_rope});
}

// q_ and the pages -> attended_.
void Llama::Attend(int layer, const ForwardInput& input, const kernels::KvPool& kv) {
  const int rows = static_cast<int>(input.tokens.size());
  ops_.Attention({.q = q_.Head(rows),
                  .out = attended_.Head(rows),
                  .slices = input.slices,
                  .kv = &kv,
                  .layer = layer,
                  .heads = config_.heads,
                  .scale = attention_scale_});
}

// x += down(silu(gate(norm(x))) * up(norm(x))).
void Llama::FeedForward(const Layer& layer, Tensor x) {
  const Tensor normed = normed_.Head(x.rows), gate_up = gate_up_.Head(x.rows),
               ffn = ffn_.Head(x.rows);
  ops_.RmsNorm(x, *layer.ffn_norm, config_.rms_eps, normed);
  ops_.Linear(normed, *layer.gate_up, nullptr, /*add=*/false, gate_up);
  ops_.SiluMul(gate_up, ffn);
  ops_.Linear(ffn, *layer.down, nullptr, /*add=*/true, x);
}

std::span<const float> Llama::ComputeLogits(Tensor x) {
  const Tensor normed = normed_.Head(x.rows), logits = logits_.Head(x.rows);
  ops_.RmsNorm(x, *output_norm_, config_.rms_eps, normed);
  ops_.Linear(normed, head_ ? *head_ : *embedding_, nullptr, /*add=*/false, logits);
  ops_.Synchronize();
  return {logits.f32(), static_cast<size_t>(logits.rows) * logits.cols};
}

void Llama::CheckInput(const ForwardInput& input, const kernels::KvPool& kv) const {
  const size_t rows = input.tokens.size();
  BATON_CHECK(rows >= 1 && rows <= static_cast<size_t>(options_.max_tokens), "{} rows", rows);
  BATON_CHECK(input.positions.size() == rows, "{} positions for {} rows", input.positions.size(),
              rows);
  BATON_CHECK(input.logit_rows.size() <= rows &&
                  input.logit_rows.size() <= static_cast<size_t>(options_.max_logit_rows),
              "{} rows of logits of {}", input.logit_rows.size(), rows);
  BATON_CHECK(kv.layout == MakeKvLayout(kv.layout.page_tokens, kv.layout.dtype), "KV pool is {}",
              kv.layout.ToString());
}

// ---- Loading -----------------------------------------------------------------------------------

double Elements(const StoredTensor& tensor) {
  return double(tensor.rows) * double(tensor.cols);
}

// Several roles become one weight, stacked by rows.
Status Llama::Bind(std::initializer_list<WeightRole> roles, int layer, WeightUse use,
                   WeightPtr* out) {
  std::vector<StoredTensor> parts;
  for (const WeightRole role : roles) {
    const auto part = weights_->Get(role, layer);
    if (!part.ok()) return part.status();
    parts.push_back(*part);
  }
  auto weight = ops_.LoadWeight(parts, use);
  if (!weight.ok()) return weight.status().Prefixed(weights_->NameOf(*roles.begin(), layer));
  *out = std::move(*weight);
  Account(**out, use != WeightUse::kEmbedding);
  return Status::Ok();
}

// Several roles become one vector, end to end.
Status Llama::BindVector(std::initializer_list<WeightRole> roles, int layer, WeightPtr* out) {
  std::vector<float> values;
  for (const WeightRole role : roles) {
    const auto part = weights_->Get(role, layer);
    if (!part.ok()) return part.status();
    const size_t begin = values.size();
    values.resize(begin + part->cols);
    kernels::DequantizeRows(*part, 0, 1, values.data() + begin);
  }
  const StoredTensor joined{.dtype = kernels::DType::kF32,
                            .rows = 1,
                            .cols = static_cast<int64_t>(values.size()),
                            .data = reinterpret_cast<const std::byte*>(values.data())};
  auto vector = ops_.LoadVector(joined);
  if (!vector.ok()) return vector.status().Prefixed(weights_->NameOf(*roles.begin(), layer));
  *out = std::move(*vector);
  Account(**out, true);
  return Status::Ok();
}

void Llama::Account(const Weight& weight, bool read_by_each_pass) {
  if (read_by_each_pass) weight_bytes_ += weight.bytes;
  borrows_ |= weight.borrows;
  bound_ += double(weight.rows) * double(weight.cols);
  if (options_.progress) options_.progress(std::min(1.0, bound_ / to_bind_));
}

Status Llama::BindLayer(int index, Layer* layer) {
  using enum WeightRole;
  Status status = BindVector({kAttentionNorm}, index, &layer->attention_norm);
  const auto bind = [&](std::initializer_list<WeightRole> roles, WeightPtr* out) {
    if (status.ok()) status = Bind(roles, index, WeightUse::kLinear, out);
  };
  const auto bind_vector = [&](std::initializer_list<WeightRole> roles, WeightPtr* out) {
    if (status.ok()) status = BindVector(roles, index, out);
  };
  bind({kQ, kK, kV}, &layer->qkv);
  if (config_.attention_bias) bind_vector({kQBias, kKBias, kVBias}, &layer->qkv_bias);
  if (config_.qk_norm) {
    bind_vector({kQNorm}, &layer->q_norm);
    bind_vector({kKNorm}, &layer->k_norm);
  }
  bind({kO}, &layer->o);
  if (config_.output_bias) bind_vector({kOBias}, &layer->o_bias);
  bind_vector({kFfnNorm}, &layer->ffn_norm);
  bind({kGate, kUp}, &layer->gate_up);
  bind({kDown}, &layer->down);
  return status;
}

Status Llama::Load() {
  to_bind_ = 0;
  for (const WeightId& id : ListWeights(config_)) {
    const auto tensor = weights_->Get(id.role, id.layer);  // all are there before the slow part
    if (!tensor.ok()) return tensor.status();
    to_bind_ += Elements(*tensor);
  }
  const WeightUse table = config_.tied_embeddings ? WeightUse::kTied : WeightUse::kEmbedding;
  Status status = Bind({WeightRole::kEmbedding}, -1, table, &embedding_);
  if (status.ok()) status = BindVector({WeightRole::kOutputNorm}, -1, &output_norm_);
  if (status.ok() && !config_.tied_embeddings) {
    status = Bind({WeightRole::kHead}, -1, WeightUse::kLinear, &head_);
  }
  layers_.resize(config_.layers);
  for (int l = 0; l < config_.layers && status.ok(); ++l) status = BindLayer(l, &layers_[l]);
  rope_ = ComputeRope(config_.rope, config_.rotary_dim);
  attention_scale_ = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  if (!borrows_) weights_.reset();
  options_.progress = nullptr;  // the caller's; of no more use
  return status;
}

Status Llama::Allocate() {
  constexpr size_t kAlignBytes = 64;
  const int rows = options_.max_tokens;
  const int q = config_.heads * config_.head_dim, kv = config_.kv_heads * config_.head_dim;
  struct Slot {
    Tensor* tensor;
    int cols;
    kernels::DType dtype;
  };
  const kernels::DType dtype = ops_.info().activation;
  const Slot slots[] = {
      {&x_, config_.hidden, dtype},
      {&x_kept_, config_.hidden, dtype},
      {&normed_, config_.hidden, dtype},
      {&qkv_, q + 2 * kv, dtype},
      {&q_, q, dtype},
      {&k_, kv, dtype},
      {&v_, kv, dtype},
      {&attended_, q, dtype},
      {&kept_, q, dtype},
      {&gate_up_, 2 * config_.ffn, dtype},
      {&ffn_, config_.ffn, dtype},
      {&cos_sin_, config_.rotary_dim, kernels::DType::kF32},
  };
  const auto bytes_of = [&](const Slot& slot) {
    const size_t bytes = size_t(rows) * slot.cols * kernels::InfoOf(slot.dtype).block_bytes;
    return (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
  };
  size_t total = 0;
  for (const Slot& slot : slots) total += bytes_of(slot);
  auto arena = ops_.Allocate(total);
  if (!arena.ok()) return arena.status().Prefixed("activations");
  arena_ = std::move(*arena);
  std::byte* at = arena_->span().data;
  for (const Slot& slot : slots) {
    *slot.tensor = {at, slot.dtype, rows, slot.cols};
    at += bytes_of(slot);
  }
  auto logits = ops_.Allocate(size_t(options_.max_logit_rows) * config_.vocab * sizeof(float));
  if (!logits.ok()) return logits.status().Prefixed("logits");
  logits_buffer_ = std::move(*logits);
  logits_ = {logits_buffer_->span().data, kernels::DType::kF32, options_.max_logit_rows,
             config_.vocab};
  return Status::Ok();
}

}  // namespace

Result<std::unique_ptr<Model>> MakeLlama(const ModelConfig& config, WeightView weights,
                                         kernels::Ops& ops, const LoadOptions& options) {
  constexpr int kMostRows = 1 << 20;
  if (options.max_tokens < 1 || options.max_tokens > kMostRows || options.max_logit_rows < 1 ||
      options.max_logit_rows > kMostRows) {
    return Error(Code::kInvalidArgument,
                 "steps of {} tokens and {} rows of logits; 1 to {} are possible",
                 options.max_tokens, options.max_logit_rows, kMostRows);
  }
  auto model = std::make_unique<Llama>(config, std::move(weights), ops, options);
  if (Status status = model->Load(); !status.ok()) return status;
  if (Status status = model->Allocate(); !status.ok()) return status;
  return std::unique_ptr<Model>(std::move(model));
}

}  // namespace baton::model
