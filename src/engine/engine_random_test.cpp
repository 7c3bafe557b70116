// Threads, aborts at random moments, small pools, prefill and decode on two engines: every request
// ends once with the tokens it would get alone (or a prefix of them when it was aborted), and every
// page comes back.
#include <atomic>
#include <random>

#include <gtest/gtest.h>

#include "engine/engine_harness.h"

namespace baton::engine {
namespace {

struct Case {
  std::shared_ptr<Recorder> sink = std::make_shared<Recorder>();
  std::vector<int32_t> expected;
  RequestId id;
  std::atomic<bool> failed = false;  // no pages in time, or prefill was aborted: nothing started
};

Request RandomRequest(std::mt19937& random, std::shared_ptr<OutputSink> sink) {
  Request request{.prompt = Prompt(1 + static_cast<int>(random() % 90), static_cast<int>(random() % 4)),
                  .sink = std::move(sink)};
  api::SamplingParams& p = request.sampling;
  p.max_new_tokens = static_cast<int>(random() % 50);
  p.seed = random();
  if (random() % 3 == 0) p.temperature = 0;
  if (random() % 3 == 0) p.top_k = 5;
  if (random() % 3 == 0) p.top_p = 0.8f;
  if (random() % 3 == 0) p.frequency_penalty = 0.5f;
  if (random() % 3 == 0) p.repetition_penalty = 1.3f;
  if (random() % 3 == 0) request.end_ids = {1, 2};
  if (random() % 3 == 0) p.stop_token_ids = {3};
  if (random() % 4 == 0) p.min_new_tokens = p.max_new_tokens / 2;
  if (random() % 4 == 0) request.logprobs = {.enabled = true, .prompt_start = static_cast<int>(random() % 20), .top = 2};
  return request;
}

EngineOptions RandomOptions(std::mt19937& random) {
  EngineOptions options = SmallOptions();
  options.max_total_tokens = 140 + static_cast<int>(random() % 200);
  options.max_running = 2 + static_cast<int>(random() % 8);
  options.max_logit_rows = options.max_running + static_cast<int>(random() % 8);
  options.chunk_tokens = 8 + static_cast<int>(random() % 32);
  options.reserved_decode_tokens = static_cast<int>(random() % 20);
  options.prefix_cache = random() % 4 != 0;
  return options;
}

void Check(const Case& c, bool may_be_aborted) {
  ASSERT_EQ(c.sink->events_after_end, 0);
  if (c.sink->finish == Finish::kAborted) {
    ASSERT_TRUE(may_be_aborted);
    ASSERT_LE(c.sink->tokens.size(), c.expected.size());
    EXPECT_TRUE(std::equal(c.sink->tokens.begin(), c.sink->tokens.end(), c.expected.begin()));
    return;
  }
  EXPECT_TRUE(c.sink->finish == Finish::kLength || c.sink->finish == Finish::kStop)
      << c.sink->last.status.ToString();
  EXPECT_EQ(c.sink->tokens, c.expected);
}

void RunOnOneEngine(uint32_t seed) {
  std::mt19937 random(seed);
  auto engine = MakeFakeEngine(RandomOptions(random));
  std::vector<Case> cases(30);
  const bool aborts = seed % 2;
  for (size_t i = 0; i < cases.size(); ++i) {
    Request request = RandomRequest(random, cases[i].sink);
    request.id = cases[i].id = engine->NewId();
    cases[i].expected = ExpectedTokens(request);
    ASSERT_TRUE(engine->Submit(std::move(request)).ok());
    if (aborts && random() % 3 == 0) engine->Abort(cases[random() % (i + 1)].id);
    if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
  }
  for (Case& c : cases) {
    ASSERT_TRUE(c.sink->Wait());
    Check(c, aborts);
  }
  ExpectAllReturned(*engine);
}

TEST(EngineRandomTest, OneEngine) {
  for (uint32_t seed = 0; seed < 300 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    RunOnOneEngine(seed);
  }
}

void RunOnTwoEngines(uint32_t seed) {
  std::mt19937 random(seed);
  auto prefill = MakeFakeEngine(RandomOptions(random));
  auto decode = MakeFakeEngine(RandomOptions(random));
  std::vector<Case> cases(20);
  const bool aborts = seed % 2;
  for (Case& c : cases) {
    Request request = RandomRequest(random, c.sink);
    request.sampling.max_new_tokens = std::max(request.sampling.max_new_tokens, 1);
    c.expected = ExpectedTokens(request);
    const Duration patience = random() % 10 == 0 ? Duration(1ms) : Duration(60s);
    ASSERT_TRUE(SubmitPd(*prefill, *decode, std::move(request), Now() + patience, [&c] { c.failed = true; }).ok());
    if (aborts && random() % 4 == 0) {
      // Ids of each engine count up from 1: hits waiting, granted, running and ended ones.
      prefill->Abort({1 + random() % 20});
      decode->Abort({1 + random() % 20});
    }
    if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
  }
  for (Case& c : cases) {
    const TimePoint give_up = Now() + 60s;
    while (!c.failed && !c.sink->Wait(1ms)) ASSERT_LT(Now(), give_up);
    if (c.failed) {
      EXPECT_TRUE(c.sink->tokens.empty());
      EXPECT_EQ(c.sink->finish, Finish::kRunning);
    } else {
      Check(c, aborts);
    }
  }
  ExpectAllReturned(*prefill);
  ExpectAllReturned(*decode);
}

TEST(EngineRandomTest, PrefillAndDecodeEngines) {
  for (uint32_t seed = 0; seed < 150 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    RunOnTwoEngines(seed);
  }
}

TEST(EngineRandomTest, ManyThreadsSubmitAndAbort) {
  EngineOptions options = SmallOptions();
  options.max_queued = 100000;
  auto engine = MakeFakeEngine(options);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&engine, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 100; ++i) {
        Case c;
        Request request = RandomRequest(random, c.sink);
        request.id = engine->NewId();
        c.expected = ExpectedTokens(request);
        const RequestId id = request.id;
        ASSERT_TRUE(engine->Submit(std::move(request)).ok());
        const bool abort = random() % 3 == 0;
        if (abort) {
          c.sink->WaitForTokens(random() % 10);
          engine->Abort(id);
        }
        ASSERT_TRUE(c.sink->Wait());
        Check(c, abort);
        engine->stats();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectAllReturned(*engine);
}

}  // namespace
}  // namespace baton::engine
