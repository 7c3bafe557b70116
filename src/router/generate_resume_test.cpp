// Broken /generate streams of workers that know no continuations: SGLang's requests and events.
#include "router/generate_resume.h"

#include <gtest/gtest.h>

#include "router/proxy.h"
#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

TEST(GenerateResume, OnlyWhereItIsTheSameThing) {
  for (const char* good : {R"({"input_ids":[1,2]})", R"({"input_ids":[1],"sampling_params":{"temperature":0,"sampling_seed":3}})",
                           R"({"input_ids":[1],"sampling_params":{"repetition_penalty":1.0,"stop":[],"n":1},"return_logprob":false})"}) {
    EXPECT_TRUE(GenerateResume::For(good)) << good;
  }
  for (const char* bad :
       {R"({"text":"a"})", R"({"input_ids":[[1]]})", R"({"input_ids":[]})", R"({"input_ids":["1"]})", R"([1])", "", R"({"input_ids":1})",
        R"({"input_ids":[1],"return_logprob":true})", R"({"input_ids":[1],"sampling_params":[{}]})",
        R"({"input_ids":[1],"sampling_params":{"frequency_penalty":0.1}})", R"({"input_ids":[1],"sampling_params":{"repetition_penalty":1.1}})",
        R"({"input_ids":[1],"sampling_params":{"stop":"x"}})", R"({"input_ids":[1],"sampling_params":{"sampling_seed":3}})",
        R"({"input_ids":[1],"sampling_params":{"min_new_tokens":3}})", R"({"input_ids":[1],"sampling_params":{"n":2}})",
        R"({"input_ids":[1],"sampling_params":{"regex":"a"}})"}) {
    EXPECT_FALSE(GenerateResume::For(bad)) << bad;
  }
}

TEST(GenerateResume, MovesOutputsIntoThePromptAndBack) {
  auto resume = GenerateResume::For(R"({"input_ids":[1,2],"x":9,"sampling_params":{"max_new_tokens":5}})");
  ASSERT_TRUE(resume);
  EXPECT_FALSE(resume->resumable());
  resume->Note(R"({"text":"ab","output_ids":[7,8],"meta_info":{"id":"r","prompt_tokens":2,"completion_tokens":2,"finish_reason":null}})");
  ASSERT_TRUE(resume->resumable());
  const json::value next = *json::Parse(resume->NextBody());
  EXPECT_EQ(json::serialize(next.at("input_ids")), "[1,2,7,8]");
  EXPECT_EQ(next.at("sampling_params").at("max_new_tokens").as_int64(), 3);
  EXPECT_EQ(next.at("x").as_int64(), 9);
  const json::value event = *json::Parse(resume->Rewrite(
      R"({"text":"c","output_ids":[9],"meta_info":{"id":"other","prompt_tokens":4,"completion_tokens":1,"finish_reason":{"type":"length","length":1}}})", 1));
  EXPECT_EQ(event.at("text").as_string(), "abc");
  EXPECT_EQ(json::serialize(event.at("output_ids")), "[7,8,9]");
  EXPECT_EQ(event.at("meta_info").at("id").as_string(), "r");
  EXPECT_EQ(event.at("meta_info").at("prompt_tokens").as_int64(), 2);
  EXPECT_EQ(event.at("meta_info").at("completion_tokens").as_int64(), 3);
  EXPECT_EQ(event.at("meta_info").at("finish_reason").at("length").as_int64(), 3);
}

TEST(GenerateResume, DisjointIdsAreNotEnough) {
  auto resume = GenerateResume::For(R"({"input_ids":[1,2]})");
  resume->Note(R"({"text":"ab","output_ids":[8],"meta_info":{"completion_tokens":2}})");
  EXPECT_FALSE(resume->resumable());
  resume->Note("[DONE]");
  EXPECT_FALSE(resume->resumable());
}

// SGLang's /generate: the n-th output of any context is its length, so a continuation must give the
// numbers that an undisturbed run gives.
Script SglangWorker(std::function<int()> die_after) {
  return [die_after](http::Request& request, http::Responder& responder) -> asio::awaitable<void> {
    const int death = die_after();
    const auto body = json::Parse(request.body);
    const int64_t prompt = static_cast<int64_t>(body->at("input_ids").as_array().size());
    const int64_t limit = body->at("sampling_params").at("max_new_tokens").as_int64();
    http::Headers headers;
    headers.Set("Content-Type", "text/event-stream; charset=utf-8");
    (void)co_await responder.BeginStream(200, headers);
    std::string text, ids;
    for (int64_t k = 0; k < limit; ++k) {
      if (k == death) {
        co_await Sleep(2ms);
        responder.AbortStream();
        co_return;
      }
      text += fmt::format("{} ", prompt + k);
      ids += fmt::format("{}{}", k ? "," : "", prompt + k);
      const std::string reason = k + 1 < limit ? "null" : fmt::format(R"({{"type":"length","length":{}}})", limit);
      (void)co_await responder.Write(http::SseEvent(fmt::format(
          R"({{"text":"{}","output_ids":[{}],"meta_info":{{"id":"id{}","finish_reason":{},"prompt_tokens":{},"weight_version":"default","total_retractions":0,"completion_tokens":{},"cached_tokens":0}}}})",
          text, ids, prompt, reason, prompt, k + 1)));
    }
    (void)co_await responder.Write(http::kSseDone);
    (void)co_await responder.EndStream();
  };
}

TEST(GenerateResume, StreamsOfSglangWorkersGoOn) {
  Fleet fleet(2, 3, [](RouterOptions& o) { o.breaker.enabled = false; });
  for (int at = 1; at < 8; ++at) {
    std::atomic<int> answers{0};
    for (const auto& d : fleet.decode) d->Set(SglangWorker([&answers, at] { return answers++ < 2 ? at : -1; }));
    ASSERT_TRUE(fleet.AllHealthy(5));
    const auto payloads = Payloads(fleet.Post("/generate", R"({"input_ids":[5,6,7],"stream":true,"sampling_params":{"max_new_tokens":20,"temperature":0}})").body);
    ASSERT_EQ(payloads.size(), 21u) << at;
    EXPECT_EQ(payloads.back(), "[DONE]");
    std::string text;
    for (int k = 0; k < 20; ++k) {
      const json::value event = *json::Parse(payloads[static_cast<size_t>(k)]);
      text += fmt::format("{} ", 3 + k);
      EXPECT_EQ(event.at("text").as_string(), text);
      EXPECT_EQ(event.at("output_ids").as_array().size(), static_cast<size_t>(k) + 1);
      EXPECT_EQ(event.at("meta_info").at("id").as_string(), "id3");
      EXPECT_EQ(event.at("meta_info").at("prompt_tokens").as_int64(), 3);
      EXPECT_EQ(event.at("meta_info").at("completion_tokens").as_int64(), k + 1);
    }
    EXPECT_EQ(json::Parse(payloads[19])->at("meta_info").at("finish_reason").at("length").as_int64(), 20);
    EXPECT_EQ(answers, 3);
  }
}

TEST(GenerateResume, OthersEndInAnErrorEvent) {
  Fleet fleet(1, 2);
  for (const auto& d : fleet.decode) d->Set(SglangWorker([] { return 3; }));
  const auto payloads = Payloads(fleet.Post("/generate", R"({"input_ids":[5],"stream":true,"sampling_params":{"max_new_tokens":9,"frequency_penalty":1}})").body);
  ASSERT_EQ(payloads.size(), 5u);
  EXPECT_NE(payloads[3].find("decode_server_error"), std::string::npos);
  EXPECT_EQ(payloads[4], "[DONE]");
}

}  // namespace
}  // namespace baton::router
