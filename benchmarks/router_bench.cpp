// What choosing a worker costs the router: reading the prompt, looking into the trees, picking,
// remembering. Trees hold 1e5 prompts before the clock starts.
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "router/bootstrap.h"
#include "router/conversation.h"
#include "router/policy.h"

namespace baton::router {
namespace {

constexpr size_t kPrompts = 100'000;

std::string ChatBody(std::mt19937_64& random, size_t bytes) {
  std::string text = fmt::format("{} ", random());
  while (text.size() < bytes) text += "the quick brown fox jumps over the lazy dog ";
  return fmt::format(R"({{"model":"m","messages":[{{"role":"system","content":"be brief"}},{{"role":"user","content":"{}"}}],"max_tokens":16}})", text);
}

std::vector<Candidate> Fleet(size_t workers) {
  std::vector<Candidate> fleet;
  for (size_t i = 0; i < workers; ++i) fleet.push_back({i, 0, HashText(fmt::format("http://w{}", i)), {}});
  return fleet;
}

void Inspect(benchmark::State& state) {
  std::mt19937_64 random(1);
  const std::string body = ChatBody(random, static_cast<size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(InspectBody(Api::kChat, body));
}
BENCHMARK(Inspect)->Arg(2'000)->Arg(100'000);

void Digest(benchmark::State& state) {
  std::mt19937_64 random(1);
  const std::string body = ChatBody(random, static_cast<size_t>(state.range(0)));
  const auto facts = InspectBody(Api::kChat, body);
  for (auto _ : state) benchmark::DoNotOptimize(DigestPrompt(Api::kChat, body, *facts));
}
BENCHMARK(Digest)->Arg(2'000)->Arg(100'000);

// Arguments: policy, workers, bytes of a prompt, share of prompts seen before in percent.
void Pick(benchmark::State& state) {
  const auto kind = static_cast<PolicyKind>(state.range(0));
  const auto fleet = Fleet(static_cast<size_t>(state.range(1)));
  std::mt19937_64 random(1);
  Policy policy(kind, 1);
  for (const Candidate& c : fleet) policy.Join(c.order);
  std::vector<PrefixDigest> known, fresh;
  const auto send = [&](const PrefixDigest& digest) {
    const PickHints hints{&digest, "key", TimePoint{}};
    Policy::Matches matches;
    policy.Look(hints, &matches);
    const size_t picked = policy.Pick(fleet, hints, matches);
    policy.Placed(hints, fleet[picked].order);
  };
  const auto make = [&] {
    const std::string body = ChatBody(random, static_cast<size_t>(state.range(2)));
    return DigestPrompt(Api::kChat, body, *InspectBody(Api::kChat, body));
  };
  for (size_t i = 0; i < kPrompts; ++i) {
    const PrefixDigest digest = make();
    send(digest);
    if (i % 100 == 0) known.push_back(digest);
  }
  for (int i = 0; i < 100'000; ++i) fresh.push_back(make());  // none is sent twice
  size_t at = 0, next = 0;
  for (auto _ : state) {
    const bool old = static_cast<int64_t>(at % 100) < state.range(3);
    send(old ? known[at % known.size()] : fresh[next++ % fresh.size()]);
    ++at;
  }
  state.counters["tree_MB"] = static_cast<double>(policy.TreeMemory()) / 1e6;
}
BENCHMARK(Pick)
    ->Args({static_cast<int>(PolicyKind::kRoundRobin), 8, 2000, 50})
    ->Args({static_cast<int>(PolicyKind::kPowerOfTwo), 8, 2000, 50})
    ->Args({static_cast<int>(PolicyKind::kConsistentHashing), 8, 2000, 50})
    ->Args({static_cast<int>(PolicyKind::kCacheAware), 2, 2000, 50})
    ->Args({static_cast<int>(PolicyKind::kCacheAware), 8, 2000, 50})
    ->Args({static_cast<int>(PolicyKind::kCacheAware), 64, 2000, 50})
    ->Iterations(199'000);

}  // namespace
}  // namespace baton::router

BENCHMARK_MAIN();
