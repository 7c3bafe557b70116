// What one request, or a few, must see: ends, limits, logprobs, aborts, reservations, holds.
#include "engine/engine.h"

#include <cmath>

#include <gtest/gtest.h>

#include "engine/engine_harness.h"

namespace baton::engine {
namespace {

TEST(EngineTest, GivesTheModelsTokens) {
  auto engine = MakeFakeEngine(SmallOptions());
  for (const int length : {1, 3, 4, 5, 16, 17, 50, 100}) {
    auto sink = std::make_shared<Recorder>();
    Request request = GreedyRequest(*engine, Prompt(length), 20, sink);
    const std::vector<int32_t> expected = ExpectedTokens(request);
    ASSERT_TRUE(engine->Submit(std::move(request)).ok());
    ASSERT_TRUE(sink->Wait());
    EXPECT_EQ(sink->tokens, expected) << "prompt of " << length;
    EXPECT_EQ(sink->finish, Finish::kLength);
    EXPECT_EQ(sink->last.prompt_tokens, length);
  }
  ExpectAllReturned(*engine);
}

TEST(EngineTest, ManyAtOnceGiveTheSameTokensAsAlone) {
  auto engine = MakeFakeEngine(SmallOptions());
  std::vector<std::shared_ptr<Recorder>> sinks;
  std::vector<std::vector<int32_t>> expected;
  for (int i = 0; i < 40; ++i) {
    sinks.push_back(std::make_shared<Recorder>());
    Request request = GreedyRequest(*engine, Prompt(1 + i * 3 % 60, i % 5), 5 + i % 30, sinks.back());
    request.sampling.temperature = i % 2 ? 1.0f : 0.0f;
    request.sampling.seed = static_cast<uint64_t>(i);
    expected.push_back(ExpectedTokens(request));
    ASSERT_TRUE(engine->Submit(std::move(request)).ok());
  }
  for (size_t i = 0; i < sinks.size(); ++i) {
    ASSERT_TRUE(sinks[i]->Wait());
    EXPECT_EQ(sinks[i]->tokens, expected[i]) << i;
    EXPECT_EQ(sinks[i]->events_after_end, 0);
  }
  ExpectAllReturned(*engine);
}

TEST(EngineTest, PrefillHereDecodeThere) {
  auto prefill = MakeFakeEngine(SmallOptions());
  auto decode = MakeFakeEngine(SmallOptions());
  for (int i = 0; i < 20; ++i) {
    auto sink = std::make_shared<Recorder>();
    Request request = GreedyRequest(*decode, Prompt(1 + i * 5, i % 3), 12, sink);
    request.sampling.temperature = 0.8f;
    request.sampling.frequency_penalty = 0.5f;
    const std::vector<int32_t> expected = ExpectedTokens(request);
    ASSERT_TRUE(SubmitPd(*prefill, *decode, std::move(request), Now() + 10s).ok());
    ASSERT_TRUE(sink->Wait());
    EXPECT_EQ(sink->tokens, expected) << i;
  }
  ExpectAllReturned(*prefill);
  ExpectAllReturned(*decode);
}

}  // namespace
}  // namespace baton::engine
