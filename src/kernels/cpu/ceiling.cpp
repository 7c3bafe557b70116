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
  std::fill(span.data, span.data + kReadBytes, std::byte{0});
  constexpr size_t kPiece = size_t{1} << 20;
  std::vector<float> sums(team.size() * 16);  // a cache line apart
  return kReadBytes * RoundsPerSecond(seconds, [&] {
           team.Run(kReadBytes / kPiece, [&](int piece, int member) {
             sums[member * 16] += kernels.read_bytes(span.data + piece * kPiece, kPiece);
           });
         });
}

double MeasureInt8(const cpu::KernelTable& kernels, cpu::ThreadTeam& team, double seconds) {
  constexpr int64_t kRounds = 50'000;  // about a millisecond
  std::vector<int32_t> sinks(team.size() * 16);
  std::vector<int64_t> products(team.size() * 8);
  const int tasks = 8 * team.size();
  const double rounds = RoundsPerSecond(seconds, [&] {
    team.Run(tasks, [&](int, int member) {
      products[member * 8] = kernels.int8_dots(kRounds, &sinks[member * 16]);
    });
  });
  return rounds * 2.0 * static_cast<double>(products[0]) * tasks;
}

}  // namespace

CpuCeiling MeasureCpuCeiling(int threads, double seconds) {
  const auto kernels = cpu::SelectKernels("");
  if (!kernels.ok()) return {0, 0};
  cpu::ThreadTeam team(std::max(1, threads));
  return {MeasureRead(**kernels, team, seconds), MeasureInt8(**kernels, team, seconds)};
}

}  // namespace baton::kernels
