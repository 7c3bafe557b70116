#include "kernels/cpu/thread_team.h"

#include <gtest/gtest.h>
#include <time.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace baton::kernels::cpu {
namespace {

TEST(ThreadTeam, EveryMemberRunsOnceAndTheirWritesAreSeen) {
  for (int threads : {1, 2, 3, 5}) {
    ThreadTeam team(threads);
    std::vector<int> counts(threads, 0);  // plain ints: the join must order them
    for (int run = 1; run <= 2000; ++run) {
      team.Run([&](int member) { ++counts[member]; });
      ASSERT_EQ(std::accumulate(counts.begin(), counts.end(), 0), run * threads);
    }
    for (int count : counts) EXPECT_EQ(count, 2000);
  }
}

TEST(ThreadTeam, RunsAfterSleeping) {
  ThreadTeam team(3);
  for (int run = 0; run < 20; ++run) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // far beyond the spin
    int done[3] = {};
    team.Run([&](int member) {
      if (member == 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      done[member] = 1;
    });
    EXPECT_EQ(done[0] + done[1] + done[2], 3);
  }
}

TEST(ThreadTeam, StartsAndStopsWithoutRuns) {
  for (int i = 0; i < 50; ++i) ThreadTeam team(1 + i % 4);
}

// CPU time of the whole process: workers that spun on would use all of the pause.
TEST(ThreadTeam, IdleWorkersUseNoCpu) {
  ThreadTeam team(4);
  team.Run([](int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto cpu_seconds = [] {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_LT(cpu_seconds() - before, 0.1);
}

TEST(ShareOf, CoversEverythingOnce) {
  for (int64_t total : {0, 1, 2, 7, 100}) {
    for (int count : {1, 2, 3, 16}) {
      int64_t at = 0;
      for (int i = 0; i < count; ++i) {
        const Share share = ShareOf(total, i, count);
        EXPECT_EQ(share.begin, at);
        at = share.end;
      }
      EXPECT_EQ(at, total);
    }
  }
}

}  // namespace
}  // namespace baton::kernels::cpu
