// What one request, or a few, must see: ends, limits, logprobs, aborts, reservations, holds.
#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <future>

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


// ------------------------------------------------------------------- ends

TEST(EngineTest, StopIdsEndTheRequestAndAreItsLastToken) {
  auto engine = MakeFakeEngine(SmallOptions());
  auto free_run = std::make_shared<Recorder>();
  ASSERT_TRUE(engine->Submit(GreedyRequest(*engine, Prompt(10), 30, free_run)).ok());
  ASSERT_TRUE(free_run->Wait());
  const int32_t fifth = free_run->tokens[4];
  const size_t first_at = static_cast<size_t>(std::ranges::find(free_run->tokens, fifth) - free_run->tokens.begin());
  for (const bool as_end_id : {true, false}) {
    for (const bool ignore_eos : {true, false}) {
      auto sink = std::make_shared<Recorder>();
      Request request = GreedyRequest(*engine, Prompt(10), 30, sink);
      (as_end_id ? request.end_ids : request.sampling.stop_token_ids) = {fifth};
      request.sampling.ignore_eos = ignore_eos;
      const std::vector<int32_t> expected = ExpectedTokens(request);
      ASSERT_TRUE(engine->Submit(std::move(request)).ok());
      ASSERT_TRUE(sink->Wait());
      EXPECT_EQ(sink->tokens, expected);
      if (as_end_id && ignore_eos) {
        EXPECT_EQ(sink->finish, Finish::kLength);
        continue;
      }
      EXPECT_EQ(sink->finish, Finish::kStop);
      EXPECT_EQ(sink->last.stop_token, fifth);
      EXPECT_EQ(sink->tokens.size(), first_at + 1);
      EXPECT_EQ(sink->tokens.back(), fifth);
    }
  }
}

TEST(EngineTest, MinNewTokensMasksEnds) {
  auto engine = MakeFakeEngine(SmallOptions());
  auto sink = std::make_shared<Recorder>();
  Request request = GreedyRequest(*engine, Prompt(10), 40, sink);
  for (int32_t id = 0; id < 30; ++id) (id % 2 ? request.end_ids : request.sampling.stop_token_ids).push_back(id);
  request.sampling.min_new_tokens = 12;
  const std::vector<int32_t> expected = ExpectedTokens(request);
  ASSERT_TRUE(engine->Submit(std::move(request)).ok());
  ASSERT_TRUE(sink->Wait());
  EXPECT_EQ(sink->tokens, expected);
  EXPECT_GT(sink->tokens.size(), 12u);
  for (int i = 0; i < 12; ++i) EXPECT_GE(sink->tokens[static_cast<size_t>(i)], 30);
  EXPECT_EQ(sink->finish, Finish::kStop);
}

TEST(EngineTest, TheContextEndsARequest) {
  auto engine = MakeFakeEngine(SmallOptions(), /*context_length=*/32);
  EXPECT_EQ(engine->max_prompt_tokens(), 31);
  for (const int max_new_tokens : {-1, 100}) {
    for (const int length : {1, 20, 31}) {
      auto sink = std::make_shared<Recorder>();
      Request request = GreedyRequest(*engine, Prompt(length), max_new_tokens, sink);
      const std::vector<int32_t> expected = ExpectedTokens(request, 32);
      ASSERT_TRUE(engine->Submit(std::move(request)).ok());
      ASSERT_TRUE(sink->Wait());
      EXPECT_EQ(sink->tokens, expected);
      EXPECT_EQ(sink->tokens.size(), static_cast<size_t>(32 - length));
      EXPECT_EQ(sink->finish, Finish::kLength);
    }
  }
}

TEST(EngineTest, NoNewTokensIsAPrefillAndOneEvent) {
  auto engine = MakeFakeEngine(SmallOptions());
  auto sink = std::make_shared<Recorder>();
  Request request = GreedyRequest(*engine, Prompt(20), 0, sink);
  request.logprobs = {.enabled = true, .prompt_start = 0};
  ASSERT_TRUE(engine->Submit(std::move(request)).ok());
  ASSERT_TRUE(sink->Wait());
  EXPECT_EQ(sink->finish, Finish::kLength);
  EXPECT_TRUE(sink->tokens.empty());
  EXPECT_FALSE(sink->last.has_token);
  EXPECT_EQ(sink->prompt_logprobs.size(), 20u);
  EXPECT_EQ(engine->stats().output_tokens, 0u);
  ExpectAllReturned(*engine);
}

TEST(EngineTest, ARequestThatOutgrowsThePoolFails) {
  EngineOptions options = SmallOptions();
  options.max_total_tokens = 32;
  auto engine = MakeFakeEngine(options);
  auto sink = std::make_shared<Recorder>();
  ASSERT_TRUE(engine->Submit(GreedyRequest(*engine, Prompt(20), 100, sink)).ok());
  ASSERT_TRUE(sink->Wait());
  EXPECT_EQ(sink->finish, Finish::kFailed);
  EXPECT_EQ(sink->last.status.code(), Code::kResourceExhausted);
  EXPECT_EQ(sink->tokens.size(), 13u);  // 20 + 12 in the pool, one more from the last row
  ExpectAllReturned(*engine);
}

TEST(EngineTest, RetractedRequestsGiveTheSameTokens) {
  EngineOptions options = SmallOptions();
  options.max_total_tokens = 120;
  options.reserved_decode_tokens = 0;
  for (const bool prefix_cache : {true, false}) {
    options.prefix_cache = prefix_cache;
    auto engine = MakeFakeEngine(options);
    std::vector<std::shared_ptr<Recorder>> sinks;
    std::vector<std::vector<int32_t>> expected;
    for (int i = 0; i < 6; ++i) {
      sinks.push_back(std::make_shared<Recorder>());
      Request request = GreedyRequest(*engine, Prompt(10 + i, i), 60, sinks.back());
      request.sampling.temperature = 1;
      request.sampling.seed = 100 + static_cast<uint64_t>(i);
      request.sampling.presence_penalty = 0.7f;
      request.sampling.repetition_penalty = 1.2f;
      request.logprobs = {.enabled = true, .prompt_start = 2};
      expected.push_back(ExpectedTokens(request));
      ASSERT_TRUE(engine->Submit(std::move(request)).ok());
    }
    int retractions = 0;
    for (size_t i = 0; i < sinks.size(); ++i) {
      ASSERT_TRUE(sinks[i]->Wait());
      EXPECT_EQ(sinks[i]->tokens, expected[i]);
      EXPECT_EQ(sinks[i]->prompt_logprobs.size(), 8 + i);
      retractions += sinks[i]->last.retractions;
    }
    EXPECT_GT(retractions, 0);
    EXPECT_EQ(engine->stats().retractions, static_cast<uint64_t>(retractions));
    ExpectAllReturned(*engine);
  }
}

// ------------------------------------------------------------------- logprobs

float LogProbBehind(std::span<const int32_t> prefix, int32_t token) {
  TokenLogprob out;
  Sampler(FakeModel::kVocab).LogProbs(FakeModel::LogitsBehind(prefix), token, {}, out);
  return out.logprob;
}

TEST(EngineTest, LogprobsOfPromptAndOutputAreOfTheRightTokens) {
  auto engine = MakeFakeEngine(SmallOptions());
  for (const int start : {-1, 0, 1, 7, 8, 9, 16, 17, 49, 50, 60}) {
    for (int pass = 0; pass < 2; ++pass) {  // the second finds the first's pages in the cache
      auto sink = std::make_shared<Recorder>();
      const std::vector<int32_t> prompt = Prompt(50);
      Request request = GreedyRequest(*engine, prompt, 5, sink);
      request.logprobs = {.enabled = true, .prompt_start = start, .top = 3, .token_ids = {4, 2}};
      ASSERT_TRUE(engine->Submit(std::move(request)).ok());
      ASSERT_TRUE(sink->Wait());
      const size_t expected = start < 0 ? 0 : static_cast<size_t>(std::max(50 - start, 0));
      ASSERT_EQ(sink->prompt_logprobs.size(), expected) << "start " << start;
      for (size_t i = 0; i < expected; ++i) {
        const size_t index = static_cast<size_t>(start) + i;
        const TokenLogprob& got = sink->prompt_logprobs[i];
        EXPECT_EQ(got.token, prompt[index]);
        if (index == 0) {
          EXPECT_TRUE(std::isnan(got.logprob));
          EXPECT_TRUE(got.top.empty());
        } else {
          EXPECT_EQ(got.logprob, LogProbBehind(std::span(prompt).first(index), prompt[index]));
          EXPECT_EQ(got.top.size(), 3u);
          EXPECT_EQ(got.requested.size(), 2u);
        }
      }
      ASSERT_EQ(sink->logprobs.size(), 5u);
      std::vector<int32_t> prefix = prompt;
      for (size_t i = 0; i < 5; ++i) {
        EXPECT_EQ(sink->logprobs[i].token, sink->tokens[i]);
        EXPECT_EQ(sink->logprobs[i].logprob, LogProbBehind(prefix, sink->tokens[i]));
        EXPECT_EQ(sink->logprobs[i].top[0].first, sink->tokens[i]);  // greedy
        prefix.push_back(sink->tokens[i]);
      }
    }
  }
}

// ------------------------------------------------------------------- prefix cache

TEST(EngineTest, APrefixIsComputedOnce) {
  auto engine = MakeFakeEngine(SmallOptions());
  for (int pass = 0; pass < 2; ++pass) {
    auto sink = std::make_shared<Recorder>();
    Request request = GreedyRequest(*engine, Prompt(50), 9, sink);
    const std::vector<int32_t> expected = ExpectedTokens(request);
    ASSERT_TRUE(engine->Submit(std::move(request)).ok());
    ASSERT_TRUE(sink->Wait());
    EXPECT_EQ(sink->tokens, expected);
    EXPECT_EQ(sink->last.cached_tokens, pass == 0 ? 0 : 48);
  }
  ExpectAllReturned(*engine);
  // Outputs are cached as well: a next turn begins behind them.
  auto sink = std::make_shared<Recorder>();
  Request request = GreedyRequest(*engine, Prompt(50), 1, sink);
  const std::vector<int32_t> answer = [&] {
    Request again = request;
    again.sampling.max_new_tokens = 9;
    return ExpectedTokens(again);
  }();
  request.prompt.insert(request.prompt.end(), answer.begin(), answer.end());
  ASSERT_TRUE(engine->Submit(std::move(request)).ok());
  ASSERT_TRUE(sink->Wait());
  EXPECT_EQ(sink->last.cached_tokens, 56);  // of 50 + 8 that were computed
}

// Tries to flush from inside of its first event, when its request is certainly active.
class FlushingSink : public Recorder {
 public:
  explicit FlushingSink(Engine& engine) : engine_(engine) {}
  void OnOutput(const Output& output) override {
    if (output.output_index == 0) answer = engine_.FlushCache();
    Recorder::OnOutput(output);
  }
  Status answer;

 private:
  Engine& engine_;
};

TEST(EngineTest, FlushingNeedsAnIdleEngine) {
  auto engine = MakeFakeEngine(SmallOptions());
  auto sink = std::make_shared<FlushingSink>(*engine);
  ASSERT_TRUE(engine->Submit(GreedyRequest(*engine, Prompt(50), 100, sink)).ok());
  ASSERT_TRUE(sink->Wait());
  EXPECT_EQ(sink->answer.code(), Code::kUnavailable);
  ExpectAllReturned(*engine);
  EXPECT_GT(engine->stats().pages_cached, 0);
  EXPECT_TRUE(engine->FlushCache().ok());
  for (int i = 0; i < 1000 && engine->stats().pages_cached > 0; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(engine->stats().pages_free, engine->stats().pages_total);
}

// ------------------------------------------------------------------- bad input

TEST(EngineTest, RefusesWhatCannotRun) {
  auto engine = MakeFakeEngine(SmallOptions(), 64);
  const auto code_of = [&](const std::function<void(Request&)>& change) {
    Request request = GreedyRequest(*engine, Prompt(5), 5, std::make_shared<Recorder>());
    change(request);
    return engine->Submit(std::move(request)).code();
  };
  EXPECT_EQ(code_of([](Request&) {}), Code::kOk);
  EXPECT_EQ(code_of([](Request& r) { r.prompt.clear(); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](Request& r) { r.prompt = Prompt(64); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](Request& r) { r.prompt = Prompt(63); }), Code::kOk);
  EXPECT_EQ(code_of([](Request& r) { r.prompt[2] = FakeModel::kVocab; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](Request& r) { r.prompt[2] = -1; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](Request& r) { r.end_ids = {FakeModel::kVocab}; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](Request& r) { r.logprobs.token_ids = {-5}; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](Request& r) { r.logprobs.top = -1; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](Request& r) { r.sampling.seed.reset(); }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](Request& r) { r.sampling.top_p = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](Request& r) { r.sink = nullptr; }), Code::kInvalidArgument);

  Request long_prompt = GreedyRequest(*engine, Prompt(64), 5, std::make_shared<Recorder>());
  const std::string message = engine->Submit(std::move(long_prompt)).message();
  EXPECT_NE(message.find("64"), std::string::npos);
  EXPECT_NE(message.find("63"), std::string::npos);
}

TEST(EngineTest, RefusesOptionsThatDoNotFit) {
  const auto code_of = [](const std::function<void(EngineOptions&)>& change) {
    EngineOptions options = SmallOptions();
    change(options);
    return Engine::Create(kernels::MakeReferenceOps(), std::make_unique<FakeModel>(64), options).status().code();
  };
  EXPECT_EQ(code_of([](EngineOptions& o) { o.max_total_tokens = 7; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](EngineOptions& o) { o.page_tokens = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](EngineOptions& o) { o.max_running = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](EngineOptions& o) { o.max_logit_rows = 7; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](EngineOptions& o) { o.context_length = 65; }), Code::kInvalidArgument);
  EXPECT_EQ(code_of([](EngineOptions& o) { o.max_total_tokens = 0, o.kv_memory_bytes = 100; }), Code::kInvalidArgument);
}

TEST(EngineTest, TheQueueIsBounded) {
  EngineOptions options = SmallOptions();
  options.max_queued = 5;
  options.max_running = 1;
  auto engine = MakeFakeEngine(options);
  std::vector<std::shared_ptr<Recorder>> sinks;
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    auto sink = std::make_shared<Recorder>();
    const Status status = engine->Submit(GreedyRequest(*engine, Prompt(10, i), 20, sink));
    if (status.ok()) {
      sinks.push_back(sink);
    } else {
      EXPECT_EQ(status.code(), Code::kResourceExhausted);
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
  for (const auto& sink : sinks) ASSERT_TRUE(sink->Wait());
  auto last = std::make_shared<Recorder>();
  for (int i = 0; i < 1000 && engine->stats().running > 0; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(engine->Submit(GreedyRequest(*engine, Prompt(10), 2, last)).ok());
  EXPECT_TRUE(last->Wait());
}

// ------------------------------------------------------------------- aborts

TEST(EngineTest, AbortEndsWaitingAndRunningRequestsOnce) {
  EngineOptions options = SmallOptions();
  options.max_running = 1;
  auto engine = MakeFakeEngine(options);
  auto running = std::make_shared<Recorder>(), waiting = std::make_shared<Recorder>();
  Request first = GreedyRequest(*engine, Prompt(10), 240, running);
  Request second = GreedyRequest(*engine, Prompt(12), 240, waiting);
  const RequestId first_id = first.id, second_id = second.id;
  ASSERT_TRUE(engine->Submit(std::move(first)).ok());
  ASSERT_TRUE(engine->Submit(std::move(second)).ok());
  engine->Abort(second_id);
  ASSERT_TRUE(waiting->Wait());
  engine->Abort(first_id);
  engine->Abort(first_id);
  engine->Abort({123456});
  ASSERT_TRUE(running->Wait());
  EXPECT_TRUE(running->finish == Finish::kAborted || running->finish == Finish::kLength);
  ExpectAllReturned(*engine);
  EXPECT_EQ(running->events_after_end + waiting->events_after_end, 0);
}

TEST(EngineTest, DestructionGivesEveryRequestItsLastEvent) {
  std::vector<std::shared_ptr<Recorder>> sinks;
  std::atomic<int> answered = 0;
  KvReservation outlives;
  {
    auto engine = MakeFakeEngine(SmallOptions());
    std::promise<void> granted;
    ASSERT_TRUE(engine->ReserveKv(GreedyRequest(*engine, Prompt(200), 5, std::make_shared<Recorder>()), Now() + 100s,
                                  [&](Result<KvReservation> r) {
                                    ASSERT_TRUE(r.ok());
                                    outlives = std::move(*r);
                                    granted.set_value();
                                  }).ok());
    granted.get_future().wait();
    for (int i = 0; i < 30; ++i) {
      sinks.push_back(std::make_shared<Recorder>());
      ASSERT_TRUE(engine->Submit(GreedyRequest(*engine, Prompt(20, i), 150, sinks.back())).ok());
    }
    ASSERT_TRUE(engine->ReserveKv(GreedyRequest(*engine, Prompt(200, 1), 5, std::make_shared<Recorder>()), Now() + 100s,
                                  [&](Result<KvReservation> r) {
                                    EXPECT_EQ(r.status().code(), Code::kCancelled);
                                    ++answered;
                                  }).ok());
  }
  for (const auto& sink : sinks) {
    EXPECT_NE(sink->finish, Finish::kRunning);
    EXPECT_EQ(sink->events_after_end, 0);
  }
  EXPECT_EQ(answered, 1);
  EXPECT_TRUE(outlives);  // dropped after the engine: harmless
}

// ------------------------------------------------------------------- reservations and holds

Result<KvReservation> Reserve(Engine& engine, Request request, Duration timeout) {
  std::promise<Result<KvReservation>> answer;
  const Status status = engine.ReserveKv(std::move(request), Now() + timeout,
                                         [&](Result<KvReservation> r) { answer.set_value(std::move(r)); });
  if (!status.ok()) return status;
  return answer.get_future().get();
}

TEST(EngineTest, ReservationsWaitForPagesAndExpire) {
  auto engine = MakeFakeEngine(SmallOptions());  // 256 tokens
  auto sink = std::make_shared<Recorder>();
  Result<KvReservation> first = Reserve(*engine, GreedyRequest(*engine, Prompt(200), 5, sink), 10s);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->pages().size(), 50u);
  EXPECT_EQ(first->cached_tokens(), 0);
  const TimePoint begin = Now();
  Result<KvReservation> second = Reserve(*engine, GreedyRequest(*engine, Prompt(200, 1), 5, sink), 50ms);
  EXPECT_EQ(second.status().code(), Code::kDeadlineExceeded);
  EXPECT_GE(Now() - begin, 50ms);
  std::thread dropper([moved = std::move(*first)]() mutable {
    std::this_thread::sleep_for(20ms);
    moved = KvReservation();  // from any thread
  });
  Result<KvReservation> third = Reserve(*engine, GreedyRequest(*engine, Prompt(200, 1), 5, sink), 10s);
  EXPECT_TRUE(third.ok());
  dropper.join();
  third = Status(Code::kCancelled, "dropped");
  ExpectAllReturned(*engine);
}

TEST(EngineTest, AFirstTokenThatEndsTheRequestIsItsOnlyEvent) {
  auto engine = MakeFakeEngine(SmallOptions());
  for (const bool by_length : {true, false}) {
    auto sink = std::make_shared<Recorder>();
    Request request = GreedyRequest(*engine, Prompt(20), by_length ? 1 : 10, sink);
    request.end_ids = {7};
    Result<KvReservation> reservation = Reserve(*engine, std::move(request), 10s);
    ASSERT_TRUE(reservation.ok());
    FakeModel::WriteKv({engine->kv_layout(), engine->kv_memory().data, 0}, Prompt(20),
                       reservation->cached_tokens(), 20, reservation->pages());
    engine->StartWithKv(std::move(*reservation), {.token = by_length ? 3 : 7, .cached_tokens = 4});
    ASSERT_TRUE(sink->Wait());
    EXPECT_EQ(sink->finish, by_length ? Finish::kLength : Finish::kStop);
    EXPECT_EQ(sink->tokens, std::vector<int32_t>{by_length ? 3 : 7});
    EXPECT_EQ(sink->last.cached_tokens, 4);
  }
  ExpectAllReturned(*engine);
}

TEST(EngineTest, ABadFirstTokenFailsAndTheKvIsNotCached) {
  auto engine = MakeFakeEngine(SmallOptions());
  auto sink = std::make_shared<Recorder>();
  Result<KvReservation> reservation = Reserve(*engine, GreedyRequest(*engine, Prompt(20), 10, sink), 10s);
  ASSERT_TRUE(reservation.ok());
  engine->StartWithKv(std::move(*reservation), {.token = FakeModel::kVocab});
  ASSERT_TRUE(sink->Wait());
  EXPECT_EQ(sink->finish, Finish::kFailed);
  EXPECT_EQ(sink->last.status.code(), Code::kDataCorrupt);
  ExpectAllReturned(*engine);
  EXPECT_EQ(engine->stats().pages_cached, 0);
}

class HoldKeeper : public PrefillObserver {
 public:
  void OnKvReady(int, int, int, int, std::span<const PageId>) override {}
  void OnEnd(const Output& last, std::shared_ptr<KvHold> hold) override {
    finish = last.finish;
    ended.set_value(std::move(hold));
  }
  Finish finish = Finish::kRunning;
  std::promise<std::shared_ptr<KvHold>> ended;
};

TEST(EngineTest, HeldPagesStayUntilTheHoldIsDropped) {
  auto engine = MakeFakeEngine(SmallOptions());
  auto observer = std::make_shared<HoldKeeper>();
  Request request = GreedyRequest(*engine, Prompt(30), 20, nullptr);
  request.observer = observer;
  ASSERT_TRUE(engine->Submit(std::move(request)).ok());
  std::shared_ptr<KvHold> hold = observer->ended.get_future().get();
  EXPECT_EQ(observer->finish, Finish::kLength);
  for (int i = 0; i < 1000 && engine->stats().holds != 1; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(engine->stats().holds, 1);
  EXPECT_EQ(engine->stats().pages_used, 8);
  EXPECT_EQ(engine->FlushCache().code(), Code::kUnavailable);
  hold.reset();
  ExpectAllReturned(*engine);
  EXPECT_TRUE(engine->FlushCache().ok());
}

TEST(EngineTest, AnIdleEngineSleepsAndTellsProgress) {
  auto engine = MakeFakeEngine(SmallOptions());
  auto sink = std::make_shared<Recorder>();
  ASSERT_TRUE(engine->Submit(GreedyRequest(*engine, Prompt(10), 5, sink)).ok());
  ASSERT_TRUE(sink->Wait());
  ExpectAllReturned(*engine);
  const uint64_t steps = engine->stats().steps;
  std::this_thread::sleep_for(30ms);
  EXPECT_EQ(engine->stats().steps, steps);
  EXPECT_LT(Now() - engine->last_progress(), 10ms);
}

TEST(EngineTest, BatchLogAsksForThePdFields) {
  auto engine = MakeFakeEngine(SmallOptions());
  std::atomic<int> prefill_lines = 0, decode_lines = 0;
  engine->SetBatchLog(10, [&](bool decode) {
    ++(decode ? decode_lines : prefill_lines);
    return std::string("#prealloc-req: 0");
  });
  auto sink = std::make_shared<Recorder>();
  ASSERT_TRUE(engine->Submit(GreedyRequest(*engine, Prompt(10), 45, sink)).ok());
  ASSERT_TRUE(sink->Wait());
  ExpectAllReturned(*engine);
  EXPECT_EQ(prefill_lines, 1);
  EXPECT_EQ(decode_lines, 4);
}

}  // namespace
}  // namespace baton::engine
