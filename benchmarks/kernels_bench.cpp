// CPU kernels, verified and then timed, beside the ceilings of the machine.
//
// `baton_kernels_bench [--benchmark_filter=...]`; BATON_ISA forces an instruction set and
// BATON_BENCH_THREADS a thread count. Each benchmark first compares a result with the reference
// backend and refuses to time a wrong one. GB/s count the weights (or KV) that a pass must read,
// GOP/s two operations for a weight and token.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <numeric>

#include "kernels/ops.h"
#include "kernels/test_data.h"

namespace baton::kernels {
namespace {

Ops& Cpu() {
  static const std::unique_ptr<Ops> ops = [] {
    const char* threads = std::getenv("BATON_BENCH_THREADS");
    auto made = MakeCpuOps({threads ? std::atoi(threads) : 0, ""});
    BATON_CHECK(made.ok(), "{}", made.status().message());
    return std::move(made).value();
  }();
  return *ops;
}

WeightPtr Load(Ops& ops, const RandomWeight& weight) {
  auto loaded = ops.LoadWeight({&weight.stored, 1}, WeightUse::kLinear);
  BATON_CHECK(loaded.ok(), "{}", loaded.status().message());
  return std::move(loaded).value();
}

bool Near(const Tensor& a, const Tensor& b, double tolerance) {
  double worst = 0, largest = 1e-30;
  for (int64_t i = 0; i < int64_t{a.rows} * a.cols; ++i) {
    worst = std::max(worst, std::abs(double{a.f32()[i]} - b.f32()[i]));
    largest = std::max(largest, std::abs(double{b.f32()[i]}));
  }
  return worst <= tolerance * largest;
}

// Against the reference on the first 64 rows of the weight.
bool LinearIsRight(DType dtype, int cols, int tokens) {
  const RandomWeight weight(dtype, 64, cols, 1);
  const auto reference = MakeReferenceOps();
  const WeightPtr w = Load(Cpu(), weight), expected_w = Load(*reference, weight);
  RandomTensor x(tokens, cols, 2);
  ZeroTensor y(tokens, 64), expected(tokens, 64);
  Cpu().Linear(x.tensor, *w, nullptr, false, y.tensor);
  reference->Linear(x.tensor, *expected_w, nullptr, false, expected.tensor);
  return Near(y.tensor, expected.tensor, 1e-4);
}

// As many copies of a weight as make 128 MB, used in turn: what a model's layers do to the caches.
void Linear(benchmark::State& state, DType dtype, int rows, int cols) {
  const int tokens = static_cast<int>(state.range(0));
  if (!LinearIsRight(dtype, cols, std::min(tokens, 40))) {
    state.SkipWithError("differs from the reference");
    return;
  }
  const RandomWeight source(dtype, rows, cols, 1);
  std::vector<WeightPtr> weights;
  const size_t copies = tokens > 64 ? 1 : (size_t{128} << 20) / source.bytes.size() + 1;
  for (size_t i = 0; i < copies; ++i) weights.push_back(Load(Cpu(), source));
  RandomTensor x(tokens, cols, 2);
  ZeroTensor y(tokens, rows);
  size_t next = 0;
  for (auto _ : state) {
    Cpu().Linear(x.tensor, *weights[next], nullptr, false, y.tensor);
    next = (next + 1) % weights.size();
  }
  const double passes = static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(passes * static_cast<double>(weights[0]->bytes) / 1e9,
                                              benchmark::Counter::kIsRate);
  state.counters["GOP/s"] =
      benchmark::Counter(passes * 2e-9 * rows * cols * tokens, benchmark::Counter::kIsRate);
}

#define LINEAR(name, dtype, rows, cols)              \
  BENCHMARK_CAPTURE(Linear, name, dtype, rows, cols) \
      ->Arg(1)                                       \
      ->Arg(4)                                       \
      ->Arg(16)                                      \
      ->Arg(512)                                     \
      ->UseRealTime()                                \
      ->MeasureProcessCPUTime()
LINEAR(q4_1_gate_up, DType::kQ4_1, 3072, 576);
LINEAR(q4_1_down, DType::kQ4_1, 576, 1536);
LINEAR(q8_0_head, DType::kQ8_0, 49152, 576);
LINEAR(q4_k, DType::kQ4_K, 2048, 2048);
LINEAR(q6_k, DType::kQ6_K, 2048, 2048);
LINEAR(bf16, DType::kBF16, 2048, 2048);
LINEAR(f32, DType::kF32, 2048, 2048);

// A transformer of SmolLM2-135M's shape with random weights: all operations of a step.
class SmolShape {
 public:
  static constexpr int kHidden = 576, kFfn = 1536, kHeads = 9, kKvHeads = 3, kDim = 64;
  static constexpr int kLayers = 30, kVocab = 49152, kQkv = (kHeads + 2 * kKvHeads) * kDim;

  SmolShape(int max_tokens, int max_context)
      : layout_{kLayers, 16, kKvHeads, kDim, DType::kF16},
        pool_(layout_, max_context / 16 + 1),
        x_(max_tokens, kHidden),
        normed_(max_tokens, kHidden),
        qkv_(max_tokens, kQkv),
        q_(max_tokens, kHidden),
        k_(max_tokens, kKvHeads * kDim),
        v_(max_tokens, kKvHeads * kDim),
        mixed_(max_tokens, kHidden),
        gate_up_(max_tokens, 2 * kFfn),
        gated_(max_tokens, kFfn),
        logits_(1, kVocab),
        cos_sin_(static_cast<size_t>(max_tokens) * kDim) {
    const RandomWeight qkv(DType::kQ4_1, kQkv, kHidden, 1), o(DType::kQ4_1, kHidden, kHidden, 2),
        gate_up(DType::kQ4_1, 2 * kFfn, kHidden, 3), down(DType::kQ4_1, kHidden, kFfn, 4),
        head(DType::kQ8_0, kVocab, kHidden, 5);
    for (int l = 0; l < kLayers; ++l)
      layers_.push_back(
          {Load(Cpu(), qkv), Load(Cpu(), o), Load(Cpu(), gate_up), Load(Cpu(), down)});
    head_ = Load(Cpu(), head);
    std::vector<float> ones(kHidden, 1.0f);
    auto norm = Cpu().LoadVector(
        {DType::kF32, 1, kHidden, reinterpret_cast<const std::byte*>(ones.data())});
    BATON_CHECK(norm.ok());
    norm_ = std::move(norm).value();
    pages_.resize(pool_.pool.pages);
    std::iota(pages_.begin(), pages_.end(), 0);
    inv_freq_.assign(kDim / 2, 0.01f);
  }

  void Step(int tokens, int context);
  size_t weight_bytes() const;

 private:
  struct Layer {
    WeightPtr qkv, o, gate_up, down;
  };
  KvLayout layout_;
  OwnedPool pool_;
  std::vector<Layer> layers_;
  WeightPtr head_, norm_;
  std::vector<PageId> pages_;
  std::vector<float> inv_freq_;
  ZeroTensor x_, normed_, qkv_, q_, k_, v_, mixed_, gate_up_, gated_, logits_;
  std::vector<float> cos_sin_;
};

void SmolShape::Step(int tokens, int context) {
  Ops& ops = Cpu();
  std::vector<int32_t> ids(tokens, 17), positions(tokens);
  std::iota(positions.begin(), positions.end(), context - tokens);
  const SequenceSlice slice{0, tokens, context, pages_};
  const auto head = [tokens](ZeroTensor& t) { return t.tensor.Head(tokens); };
  ops.Embed(*head_, ids, 1.0f, head(x_));
  ops.RopeTable(positions, inv_freq_, 1.0f, cos_sin_.data());
  for (int l = 0; l < kLayers; ++l) {
    const Layer& layer = layers_[l];
    ops.RmsNorm(head(x_), *norm_, 1e-5f, head(normed_));
    ops.Linear(head(normed_), *layer.qkv, nullptr, false, head(qkv_));
    const Tensor parts[] = {head(q_), head(k_), head(v_)};
    ops.SplitColumns(head(qkv_), parts);
    ops.Rope({head(q_), head(k_), cos_sin_.data(), kDim, kDim, true});
    ops.AppendKv(head(k_), head(v_), {&slice, 1}, pool_.pool, l);
    ops.Attention({head(q_), head(mixed_), {&slice, 1}, &pool_.pool, l, kHeads, 0.125f, 0});
    ops.Linear(head(mixed_), *layer.o, nullptr, true, head(x_));
    ops.RmsNorm(head(x_), *norm_, 1e-5f, head(normed_));
    ops.Linear(head(normed_), *layer.gate_up, nullptr, false, head(gate_up_));
    ops.SiluMul(head(gate_up_), head(gated_));
    ops.Linear(head(gated_), *layer.down, nullptr, true, head(x_));
  }
  const int32_t last = tokens - 1;
  ops.GatherRows(head(x_), {&last, 1}, normed_.tensor.Head(1));
  ops.RmsNorm(normed_.tensor.Head(1), *norm_, 1e-5f, normed_.tensor.Head(1));
  ops.Linear(normed_.tensor.Head(1), *head_, nullptr, false, logits_.tensor);
}

size_t SmolShape::weight_bytes() const {
  size_t bytes = head_->bytes;
  for (const Layer& l : layers_)
    bytes += l.qkv->bytes + l.o->bytes + l.gate_up->bytes + l.down->bytes;
  return bytes;
}

// A prompt of range(0) tokens in one step.
void SmolPrefill(benchmark::State& state) {
  const int tokens = static_cast<int>(state.range(0));
  SmolShape model(tokens, tokens);
  for (auto _ : state) model.Step(tokens, tokens);
  state.counters["tok/s"] = benchmark::Counter(static_cast<double>(state.iterations()) * tokens,
                                               benchmark::Counter::kIsRate);
}
BENCHMARK(SmolPrefill)
    ->Arg(128)
    ->Arg(512)
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);

// One token on a context of range(0).
void SmolDecode(benchmark::State& state) {
  const int context = static_cast<int>(state.range(0));
  SmolShape model(context, context);
  model.Step(context, context);
  for (auto _ : state) model.Step(1, context);
  const double steps = static_cast<double>(state.iterations());
  state.counters["tok/s"] = benchmark::Counter(steps, benchmark::Counter::kIsRate);
  state.counters["GB/s"] = benchmark::Counter(
      steps * static_cast<double>(model.weight_bytes()) / 1e9, benchmark::Counter::kIsRate);
}
BENCHMARK(SmolDecode)
    ->Arg(64)
    ->Arg(1024)
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);

void ForkJoin(benchmark::State& state) {
  ZeroTensor x(64, 1024), y(64, 512);  // just large enough for the team, next to no work
  for (auto _ : state) Cpu().SiluMul(x.tensor, y.tensor);
}
BENCHMARK(ForkJoin)->UseRealTime();

void Ceiling(benchmark::State& state) {
  CpuCeiling ceiling{};
  for (auto _ : state) ceiling = MeasureCpuCeiling(Cpu().info().threads, 0.3);
  state.counters["read_GB/s"] = ceiling.read_bytes_per_s / 1e9;
  state.counters["int8_GOP/s"] = ceiling.int8_ops_per_s / 1e9;
  state.SetLabel(Cpu().info().isa + ", " + std::to_string(Cpu().info().threads) + " threads");
}
BENCHMARK(Ceiling)->Iterations(1);

}  // namespace
}  // namespace baton::kernels

BENCHMARK_MAIN();
