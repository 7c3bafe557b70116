#include "kernels/cpu/thread_team.h"

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace baton::kernels::cpu {
namespace {

TEST(ThreadTeam, EveryTaskRunsOnceAndItsWritesAreSeen) {
  for (int threads : {1, 2, 3, 5}) {
    ThreadTeam team(threads);
    std::vector<int> counts(11, 0);  // plain ints: the join must order them
    std::vector<int> by_member(threads, 0);
    for (int run = 1; run <= 2000; ++run) {
      const int tasks = run % 12;
      team.Run(tasks, [&](int task, int member) {
        ++counts[task];
        ++by_member[member];
      });
      ASSERT_EQ(std::accumulate(by_member.begin(), by_member.end(), 0),
                std::accumulate(counts.begin(), counts.end(), 0));
    }
    for (int task = 0; task < 11; ++task)
      EXPECT_EQ(counts[task], 2000 / 12 * (11 - task) + std::max(0, 2000 % 12 - task));
  }
}

// Each run's function lives on the stack and is gone after: a late worker must not touch it.
TEST(ThreadTeam, ManyShortRunsOfDifferentFunctions) {
  ThreadTeam team(4);
  int64_t total = 0;
  for (int run = 0; run < 3000; ++run) {
    std::vector<int64_t> results(run % 7 + 2, -1);
    if (run % 2) team.Run(static_cast<int>(results.size()), [&](int t, int) { results[t] = t; });
    else team.Run(static_cast<int>(results.size()), [&, run](int t, int) { results[t] = t * run; });
    for (size_t t = 0; t < results.size(); ++t)
      ASSERT_EQ(results[t], static_cast<int64_t>(run % 2 ? t : t * run));
    total += results.back();
  }
  EXPECT_GT(total, 0);
}

// Runs of few and of many tasks in turn with more threads than cores: a worker that holds the last
// claim of a short run must not take a task of the long one that is being set up.
TEST(ThreadTeam, LateWorkersClaimNothingOfTheNextRun) {
  ThreadTeam team(8);
  int64_t wrong = 0;
  for (int run = 0; run < 30000; ++run) {
    const int tasks = run % 2 ? 3 : 24;
    std::vector<std::atomic<int>> times(static_cast<size_t>(tasks));
    std::atomic<int> outside = 0;
    team.Run(tasks, [&, run_of_function = run](int task, int) {
      if (task < 0 || task >= tasks || run_of_function != run) {
        ++outside;
      } else {
        ++times[static_cast<size_t>(task)];
      }
    });
    wrong += outside;
    for (const std::atomic<int>& count : times) wrong += count != 1;
  }
  EXPECT_EQ(wrong, 0);
}

TEST(ThreadTeam, RunsAfterSleeping) {
  ThreadTeam team(3);
  for (int run = 0; run < 20; ++run) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // far beyond the spin
    int done[3] = {};
    team.Run(3, [&](int task, int) {
      if (task == 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      done[task] = 1;
    });
    EXPECT_EQ(done[0] + done[1] + done[2], 3);
  }
}

// Tasks that wait for each other can only finish on different threads.
TEST(ThreadTeam, WorkersHelp) {
  ThreadTeam team(2);
  std::atomic<int> inside{0};
  team.Run(2, [&](int, int) {
    ++inside;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (inside < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  });
  EXPECT_EQ(inside, 2);
}

TEST(ThreadTeam, StartsAndStopsWithoutRuns) {
  for (int i = 0; i < 50; ++i) ThreadTeam team(1 + i % 4);
}

// CPU time of the whole process: workers that spun on would use all of the pause.
TEST(ThreadTeam, IdleWorkersUseNoCpu) {
  ThreadTeam team(4);
  team.Run(8, [](int, int) {});
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
