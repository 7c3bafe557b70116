// A request that goes on behind outputs which another engine made gives the rest of what an
// undisturbed run gives: tokens, logprobs, limits, ends. On one engine, and as a PD pair.
#include <future>

#include <gtest/gtest.h>

#include "engine/engine_harness.h"

namespace baton::engine {
namespace {

struct Whole {
  std::vector<int32_t> tokens;
  std::vector<TokenLogprob> logprobs;
  Finish finish;
};

// Sampling of all kinds by number: greedy, seeded, with penalties, with ends and minima.
Request MakeRequest(Engine& engine, int kind, std::shared_ptr<OutputSink> sink) {
  Request r = GreedyRequest(engine, Prompt(1 + kind * 7 % 43, kind % 4), 10 + kind % 17, std::move(sink));
  r.sampling.seed = static_cast<uint64_t>(kind) * 77 + 5;
  if (kind % 3 == 1) r.sampling.temperature = 0.9f;
  if (kind % 4 == 1) r.sampling.repetition_penalty = 1.3f;
  if (kind % 4 == 2) r.sampling.frequency_penalty = 0.7f;
  if (kind % 5 == 3) r.sampling.presence_penalty = 0.5f;
  if (kind % 5 == 4) {
    for (int32_t id = 0; id < 12; ++id) r.end_ids.push_back(id * 5);
    r.sampling.min_new_tokens = 6;
  }
  r.logprobs.enabled = kind % 2 == 0;
  r.logprobs.top = kind % 2 ? 0 : 2;
  return r;
}

Whole RunWhole(Engine& engine, int kind) {
  auto sink = std::make_shared<Recorder>();
  EXPECT_TRUE(engine.Submit(MakeRequest(engine, kind, sink)).ok());
  EXPECT_TRUE(sink->Wait());
  return {sink->tokens, sink->logprobs, sink->finish};
}

// Like Recorder, for events that begin at output number `from`.
class Tail : public OutputSink {
 public:
  explicit Tail(int from) : from_(from) {}
  void OnOutput(const Output& output) override {
    if (output.has_token) {
      EXPECT_EQ(output.output_index, from_ + static_cast<int>(rest.tokens.size()));
      rest.tokens.push_back(output.token);
      if (output.logprob) rest.logprobs.push_back(*output.logprob);
    }
    for (const TokenLogprob& l : output.prompt_logprobs) given.push_back(l);
    EXPECT_EQ(output.output_tokens, from_ + static_cast<int>(rest.tokens.size()));
    EXPECT_LE(output.cached_tokens, output.prompt_tokens);
    rest.finish = output.finish;
    if (output.finish != Finish::kRunning) done_.set_value();
  }
  bool Wait() { return done_.get_future().wait_for(60s) == std::future_status::ready; }

  Whole rest;
  std::vector<TokenLogprob> given;

 private:
  const int from_;
  std::promise<void> done_;
};

void ExpectEqualLogprobs(const TokenLogprob& a, const TokenLogprob& b) {
  EXPECT_EQ(a.token, b.token);
  EXPECT_EQ(a.logprob, b.logprob);
  EXPECT_EQ(a.top, b.top);
}

void ExpectRest(const Whole& whole, const Tail& tail, size_t cut, const std::string& name) {
  EXPECT_EQ(tail.rest.tokens, std::vector<int32_t>(whole.tokens.begin() + cut, whole.tokens.end())) << name;
  EXPECT_EQ(tail.rest.finish, whole.finish) << name;
  if (whole.logprobs.empty()) return;
  ASSERT_EQ(tail.rest.logprobs.size() + cut, whole.logprobs.size()) << name;
  ASSERT_EQ(tail.given.size(), cut) << name;
  for (size_t i = 0; i < whole.logprobs.size(); ++i) {
    ExpectEqualLogprobs(i < cut ? tail.given[i] : tail.rest.logprobs[i - cut], whole.logprobs[i]);
  }
}

Request Resumed(Request request, const Whole& whole, size_t cut) {
  request.resumed.assign(whole.tokens.begin(), whole.tokens.begin() + cut);
  if (request.logprobs.enabled && cut > 0) request.logprobs.prompt_start = static_cast<int>(request.prompt.size());
  return request;
}

TEST(EngineResumeTest, GoesOnAsIfNeverInterrupted) {
  auto first = MakeFakeEngine(SmallOptions());
  auto second = MakeFakeEngine(SmallOptions());
  for (int kind = 0; kind < 40; ++kind) {
    const Whole whole = RunWhole(*first, kind);
    for (size_t cut = 0; cut < whole.tokens.size(); cut += 1 + cut / 3) {
      auto tail = std::make_shared<Tail>(static_cast<int>(cut));
      ASSERT_TRUE(second->Submit(Resumed(MakeRequest(*second, kind, tail), whole, cut)).ok());
      ASSERT_TRUE(tail->Wait());
      ExpectRest(whole, *tail, cut, fmt::format("kind {} cut {}", kind, cut));
    }
  }
  ExpectAllReturned(*second);
}

// The page cache holds another's KV of the same tokens, the batch is full of others.
TEST(EngineResumeTest, InACrowd) {
  auto first = MakeFakeEngine(SmallOptions());
  EngineOptions tight = SmallOptions();
  tight.max_total_tokens = 160;  // retractions happen
  auto second = MakeFakeEngine(tight);
  std::vector<Whole> wholes;
  std::vector<std::shared_ptr<Tail>> tails;
  for (int i = 0; i < 60; ++i) {
    const int kind = i % 20;
    wholes.push_back(RunWhole(*first, kind));
    const size_t cut = (i * 5) % wholes.back().tokens.size();
    tails.push_back(std::make_shared<Tail>(static_cast<int>(cut)));
    ASSERT_TRUE(second->Submit(Resumed(MakeRequest(*second, kind, tails.back()), wholes.back(), cut)).ok());
  }
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(tails[i]->Wait());
    ExpectRest(wholes[i], *tails[i], (i * 5) % wholes[i].tokens.size(), fmt::format("request {}", i));
  }
  ExpectAllReturned(*second);
}

TEST(EngineResumeTest, OnANewPair) {
  auto first = MakeFakeEngine(SmallOptions());
  auto prefill = MakeFakeEngine(SmallOptions());
  auto decode = MakeFakeEngine(SmallOptions());
  for (int kind = 0; kind < 40; ++kind) {
    const Whole whole = RunWhole(*first, kind);
    for (size_t cut = 1; cut < whole.tokens.size(); cut += 2 + cut / 3) {
      auto tail = std::make_shared<Tail>(static_cast<int>(cut));
      Request request = Resumed(MakeRequest(*decode, kind, tail), whole, cut);
      ASSERT_TRUE(SubmitPd(*prefill, *decode, std::move(request), Now() + 10s, [] { FAIL(); }).ok());
      ASSERT_TRUE(tail->Wait());
      ExpectRest(whole, *tail, cut, fmt::format("kind {} cut {}", kind, cut));
    }
  }
  ExpectAllReturned(*prefill);
  ExpectAllReturned(*decode);
}

TEST(EngineResumeTest, RefusesWhatCannotGoOn) {
  auto engine = MakeFakeEngine(SmallOptions(), /*context_length=*/32);
  auto sink = std::make_shared<Recorder>();
  Request r = GreedyRequest(*engine, Prompt(4), 5, sink);
  r.resumed = {1, 2, 3, 4, 5};
  EXPECT_EQ(engine->Submit(r).code(), Code::kInvalidArgument) << "complete already";
  r.resumed = {1, FakeModel::kVocab};
  EXPECT_EQ(engine->Submit(r).code(), Code::kInvalidArgument) << "no such token";
  r.sampling.max_new_tokens = -1;
  r.resumed.assign(28, 1);
  EXPECT_EQ(engine->Submit(r).code(), Code::kInvalidArgument) << "the context is full";
  r.resumed.assign(27, 1);
  auto tail = std::make_shared<Tail>(27);
  r.sink = tail;
  ASSERT_TRUE(engine->Submit(r).ok());
  ASSERT_TRUE(tail->Wait());
  EXPECT_EQ(tail->rest.tokens.size(), 1u);
  EXPECT_EQ(tail->rest.finish, Finish::kLength);
}

}  // namespace
}  // namespace baton::engine
