// MeasureCpuCeiling: what this machine can read and multiply, on all threads at once.
#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/host_buffer.h"
#include "kernels/ops.h"

namespace baton::kernels {
namespace {

using Clock = std::chrono::steady_clock;

// As much as the weights of a small model, so that it is found where weights are found: in memory,
// or in a third-level cache that is large enough.
constexpr size_t kReadBytes = size_t{128} << 20;

// Runs f (one round of work) until `seconds` have passed, after one round to warm up. Rounds/s.
template <typename F>
double RoundsPerSecond(double seconds, F f) {
  f();
  const auto start = Clock::now();
  int64_t rounds = 0;
  double elapsed = 0;
  do {
    f();
    ++rounds;
    elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  } while (elapsed < seconds);
  return static_cast<double>(rounds) / elapsed;
}

double MeasureRead(const cpu::KernelTable& kernels, cpu::ThreadTeam& team, double seconds) {
  auto memory = AllocateHostBuffer(kReadBytes);
  if (!memory.ok()) return 0;
  const MemorySpan span = (*memory)->span();
  constexpr int64_t kPieces = kReadBytes / 4096;
  std::vector<float> sums(team.size() * 16);  // a cache line apart
  team.Run([&](int member) {  // pages appear where their reader runs
    const auto share = cpu::ShareOf(kPieces, member, team.size());
    std::fill(span.data + share.begin * 4096, span.data + share.end * 4096, std::byte{0});
  });
  return kReadBytes * RoundsPerSecond(seconds, [&] {
    team.Run([&](int member) {
      const auto share = cpu::ShareOf(kPieces, member, team.size());
      sums[member * 16] =
          kernels.read_bytes(span.data + share.begin * 4096, (share.end - share.begin) * 4096);
    });
  });
}

double MeasureInt8(const cpu::KernelTable& kernels, cpu::ThreadTeam& team, double seconds) {
  constexpr int64_t kRounds = 200'000;
  std::vector<int32_t> sinks(team.size() * 16);
  std::vector<int64_t> products(team.size() * 8);
  const double rounds = RoundsPerSecond(seconds, [&] {
    team.Run([&](int member) {
      products[member * 8] = kernels.int8_dots(kRounds, &sinks[member * 16]);
    });
  });
  return rounds * 2.0 * static_cast<double>(products[0]) * team.size();
}

}  // namespace

CpuCeiling MeasureCpuCeiling(int threads, double seconds) {
  const auto kernels = cpu::SelectKernels("");
  if (!kernels.ok()) return {0, 0};
  cpu::ThreadTeam team(std::max(1, threads));
  return {MeasureRead(**kernels, team, seconds), MeasureInt8(**kernels, team, seconds)};
}

}  // namespace baton::kernels
