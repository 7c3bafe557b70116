// What planning, posting and waking cost: descriptors, posts, checksums, the first write of a send. Only the
// last touches a fabric: shared memory.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "common/shared_memory.h"
#include "transfer/crc32c.h"
#include "transfer/engine_core.h"
#include "transfer/loopback/loopback.h"
#include "transfer/plan.h"
#include "transfer/transfer.h"

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

// Two cores on the loopback network, stepped by one thread: push, post, land, complete, count.
void Posts(benchmark::State& state) {
  constexpr uint32_t kRuns = 4096, kBytes = 64;
  const auto network = LoopbackNetwork::Create();
  std::vector<std::byte> memory(kRuns * kBytes);
  uint64_t done = 0;
  EngineCore a(network->Open(8192), {.epoch = 1}, [](const Event&) {});
  EngineCore b(network->Open(8192), {.epoch = 2}, [&](const Event&) { ++done; });
  for (EngineCore* core : {&a, &b})
    if (!core->Open().ok() || !core->Register({memory.data(), memory.size()}).ok()) std::abort();
  TimePoint now = Now();
  const PeerId to_b = *a.AddPeer(*ParseBlob(*b.Describe()), now);
  const PeerId to_a = *b.AddPeer(*ParseBlob(*a.Describe()), now);
  const auto step = [&] {
    now = Now();
    a.Step(now);
    b.Step(now);
  };
  for (int i = 0; i < 100; ++i) step();
  std::vector<Run> runs;
  for (uint32_t i = 0; i < kRuns; ++i) runs.push_back({i * kBytes, (kRuns - 1 - i) * kBytes, kBytes});
  for (auto _ : state) {
    const uint64_t before = done;
    const Slot slot = *b.Expect(to_a, now + 100s);
    const SendId send = *a.Begin(to_b, slot, {0}, {0}, now + 100s);
    const uint32_t writes = *a.Push(send, runs);
    a.Finish(send);
    b.Seal(slot, writes);
    while (done == before) step();
    b.Release(slot);
    step();
  }
  state.SetItemsProcessed(state.iterations() * kRuns);
}
BENCHMARK(Posts);

void PushOnly(benchmark::State& state) {
  SendTable table(4, 1 << 16, 1 << 20);
  const SendId send = *table.Begin({.local_bytes = 1 << 20, .remote_bytes = 1 << 20});
  std::vector<Run> runs(1024, {0, 0, 4096});
  table.TakeDirty([&](uint32_t index, SendTable::Requests) {
    table[index].state = SendTable::State::kOpen;
  });
  for (auto _ : state) {
    if (!table.Push(send, runs).ok()) std::abort();
    SendTable::Entry& entry = table[SendTable::IndexOf(send)];
    table.TakeRuns(table.RunsSoFar(), [](uint32_t) {});
    table.DropRuns(entry);
  }
  state.SetItemsProcessed(state.iterations() * runs.size());
}
BENCHMARK(PushOnly);

// From a grant in hand (Begin and the first Push) until the worker has posted the first write, over shared
// memory. The argument is how long nothing happened before, in microseconds: after 0 the worker still polls,
// after 5,000 it sleeps.
void GrantToFirstWrite(benchmark::State& state) {
  constexpr uint64_t kBytes = 1 << 16;
  struct End {
    SharedMemory memory;
    std::atomic<int> ended{0};
    std::atomic<int64_t> first_at_ns{0};
    std::unique_ptr<Engine> engine;
  };
  const auto open = [&] {
    auto end = std::unique_ptr<End>(new End{*SharedMemory::Create(kBytes, SharedMemory::Pages::kHuge)});
    Options options;
    options.provider = ProviderKind::kShm;
    options.self_test = false;
    end->engine = *Engine::Open(options, [end = end.get()](const Event& event) {
      end->first_at_ns = event.first_at.time_since_epoch().count();
      ++end->ended;
    });
    if (!end->engine->Register(end->memory.span()).ok()) std::abort();
    return end;
  };
  const auto a = open(), b = open();
  const PeerId to_b = *a->engine->Connect(b->engine->Describe(), Now() + 10s);
  const PeerId to_a = *b->engine->Connect(a->engine->Describe(), Now() + 10s);
  std::vector<double> waits;
  for (auto _ : state) {
    std::this_thread::sleep_for(std::chrono::microseconds(state.range(0)));
    const Slot slot = *b->engine->Expect(to_a, Now() + 10s);
    const int sent = a->ended, received = b->ended;
    const Run run{0, 0, kBytes};
    const TimePoint begin = Now();
    const SendId send = *a->engine->Begin(to_b, slot, {0}, {0}, begin + 10s);
    const uint32_t writes = *a->engine->Push(send, {&run, 1});
    a->engine->Finish(send);
    b->engine->Seal(slot, writes);
    while (a->ended == sent || b->ended == received) std::this_thread::yield();
    b->engine->Release(slot);
    waits.push_back(Seconds(Duration(a->first_at_ns) - begin.time_since_epoch()));
    state.SetIterationTime(waits.back());
  }
  std::sort(waits.begin(), waits.end());
  state.counters["p50_us"] = 1e6 * waits[waits.size() / 2];
  state.counters["p99_us"] = 1e6 * waits[waits.size() * 99 / 100];
}
BENCHMARK(GrantToFirstWrite)->Arg(0)->Arg(200)->Arg(5000)->Iterations(1000)->UseManualTime();

void Checksum(benchmark::State& state) {
  std::vector<std::byte> data(static_cast<size_t>(state.range(0)), std::byte{7});
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(data.data(), data.size()));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Checksum)->Arg(4096)->Arg(1 << 20);

}  // namespace
}  // namespace baton::transfer

BENCHMARK_MAIN();
