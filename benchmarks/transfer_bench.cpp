// What planning and posting cost: descriptors, posts, checksums. Nothing here touches a network.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>

#include "transfer/plan.h"

namespace baton::transfer {
namespace {

constexpr int kPages = 20'000;

std::vector<PageId> Shuffled(int pages, uint32_t seed) {
  std::vector<PageId> list(pages);
  for (int i = 0; i < pages; ++i) list[i] = i;
  std::shuffle(list.begin(), list.end(), std::mt19937(seed));
  return list;
}

// Plans `layers` layers of 20,000 scattered pages; reports time per run ("descriptor").
void Plan(benchmark::State& state, const PoolLayout& source, const PoolLayout& target,
          HeadRange heads, uint32_t layers) {
  const PagePlan plan = *PagePlan::Make(source, target, heads);
  const uint64_t tokens = uint64_t{kPages} * std::min(source.page_tokens, target.page_tokens);
  const auto from = Shuffled(kPages, 1), to = Shuffled(kPages, 2);
  PagePlan::Scratch scratch;
  std::vector<Run> runs;
  uint64_t planned = 0;
  for (auto _ : state) {
    runs.clear();
    if (!plan.Append({from}, {to}, {0, layers, 0, tokens}, scratch, runs).ok()) std::abort();
    planned += runs.size();
    benchmark::DoNotOptimize(runs.data());
  }
  state.counters["runs"] = static_cast<double>(runs.size());
  state.counters["ns_per_run"] = benchmark::Counter(
      static_cast<double>(planned) / 1e9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void PlanWholePages(benchmark::State& state) {
  const PoolLayout pool = PoolLayout::PageMajor(32, 2, 16, 8, 256);
  Plan(state, pool, pool, {0, 8}, 32);
}
void PlanOneLayer(benchmark::State& state) {
  const PoolLayout pool = PoolLayout::PageMajor(32, 2, 16, 8, 256);
  Plan(state, pool, pool, {0, 8}, 1);
}
void PlanUnequalPages(benchmark::State& state) {
  Plan(state, PoolLayout::PageMajor(32, 2, 16, 8, 256), PoolLayout::PageMajor(32, 2, 64, 8, 256),
       {0, 8}, 4);
}
// Tensor parallel 2 to 1: every token of every plane is a run of its own.
void PlanHalfTheHeads(benchmark::State& state) {
  Plan(state, PoolLayout::PageMajor(32, 2, 16, 4, 256), PoolLayout::PageMajor(32, 2, 16, 8, 256),
       {0, 4}, 1);
}
void PlanLatentLayerMajor(benchmark::State& state) {
  const PoolLayout pool = PoolLayout::LayerMajor(61, 1, 64, 1, 1152, kPages);
  Plan(state, pool, pool, {0, 1}, 4);
}
BENCHMARK(PlanWholePages);
BENCHMARK(PlanOneLayer);
BENCHMARK(PlanUnequalPages);
BENCHMARK(PlanHalfTheHeads);
BENCHMARK(PlanLatentLayerMajor);

}  // namespace
}  // namespace baton::transfer

BENCHMARK_MAIN();
