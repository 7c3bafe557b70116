// One request through the router, happy and unhappy, on real sockets with scripted workers.
#include "router/proxy.h"

#include <set>

#include <gtest/gtest.h>

#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

constexpr const char* kPaths[] = {"/generate", "/v1/chat/completions", "/v1/completions"};

int64_t RoomOf(const std::string& body) { return json::Parse(body)->at("bootstrap_room").as_int64(); }

TEST(Proxy, WholeAnswersOnAllRoutes) {
  Fleet fleet;
  for (const char* path : kPaths) {
    fleet.decode[0]->Set(AnswerJson(200, fmt::format(R"({{"from":"{}"}})", path)));
    const http::Response response = fleet.Post(path, R"({"model":"m","x":1})");
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, fmt::format(R"({{"from":"{}"}})", path));
    EXPECT_EQ(response.headers.Get("Content-Type"), "application/json");
    EXPECT_FALSE(response.headers.Get("x-request-id").empty());
  }
  // An answer does not wait for prefill.
  EXPECT_TRUE(Eventually([&] { return fleet.prefill[0]->requests() == 3; }));
}

TEST(Proxy, StreamsOnAllRoutes) {
  Fleet fleet;
  for (const char* path : kPaths) {
    fleet.prefill[0]->Set(AnswerStream({R"({"p":1})"}));
    fleet.decode[0]->Set(AnswerStream({R"({"a":1})", R"({"a":2})"}));
    const http::Response response = fleet.Post(path, R"({"stream":true})");
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.headers.Get("Content-Type"), "text/event-stream");
    EXPECT_EQ(Payloads(response.body), (std::vector<std::string>{R"({"a":1})", R"({"a":2})", "[DONE]"}));
  }
}

TEST(Proxy, BothWorkersGetTheSameBodyWithBootstrapFieldsInFront) {
  Fleet fleet;
  const std::string body = R"({"unknown" : [1.50,{"é":"\u00e9"}], "messages":[], "big":12345678901234567890})";
  fleet.Post("/v1/chat/completions", body);
  ASSERT_TRUE(Eventually([&] { return fleet.prefill[0]->requests() == 1 && fleet.decode[0]->requests() == 1; }));
  const std::string sent = fleet.prefill[0]->body(0);
  EXPECT_EQ(sent, fleet.decode[0]->body(0));
  const std::string front = fmt::format(R"({{"bootstrap_host":"127.0.0.1","bootstrap_port":9000,"bootstrap_room":{},)", RoomOf(sent));
  EXPECT_EQ(sent, front + body.substr(1));
}

TEST(Proxy, BatchesGetListsOfRooms) {
  Fleet fleet;
  fleet.Post("/v1/chat/completions", R"({"messages":[],"n":3})");
  const auto sent = json::Parse(fleet.decode[0]->body(0));
  std::set<int64_t> rooms;
  for (const auto& room : sent->at("bootstrap_room").as_array()) rooms.insert(room.as_int64());
  EXPECT_EQ(rooms.size(), 3u);
  EXPECT_EQ(sent->at("n").as_int64(), 3);
}

TEST(Proxy, BootstrapPortComesFromServerInfoWhenTheFlagHasNone) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.prefill[0].bootstrap_port.reset(); });
  fleet.Post("/generate", R"({"text":"a"})");
  EXPECT_EQ(json::Parse(fleet.decode[0]->body(0))->at("bootstrap_port").as_int64(), 4321);
}

TEST(Proxy, ForwardsOnlyTheNamedHeaders) {
  Fleet fleet;
  http::Headers headers;
  headers.Set("Authorization", "Bearer k");
  headers.Set("x-correlation-id", "c1");
  headers.Set("traceparent", "t");
  headers.Set("x-smg-routing-key", "r");
  headers.Set("x-request-id-extra", "e");
  headers.Set("Cookie", "secret");
  headers.Set("X-Forwarded-For", "1.2.3.4");
  const http::Response response = fleet.Fetch("POST", "/generate", R"({"text":"a"})", headers);
  EXPECT_EQ(response.headers.Get("x-request-id"), "c1");
  ASSERT_TRUE(Eventually([&] { return fleet.prefill[0]->requests() == 1; }));
  for (const auto& worker : {fleet.prefill[0].get(), fleet.decode[0].get()}) {
    const http::Headers got = worker->headers(0);
    EXPECT_EQ(got.Get("Authorization"), "Bearer k");
    EXPECT_EQ(got.Get("x-correlation-id"), "c1");
    EXPECT_EQ(got.Get("x-request-id"), "c1");
    EXPECT_EQ(got.Get("traceparent"), "t");
    EXPECT_EQ(got.Get("x-smg-routing-key"), "r");
    EXPECT_EQ(got.Get("x-request-id-extra"), "e");
    EXPECT_FALSE(got.Has("Cookie"));
    EXPECT_FALSE(got.Has("X-Forwarded-For"));
  }
}

TEST(Proxy, DecodeIsForwardedWhilePrefillStillWorks) {
  Fleet fleet;
  fleet.prefill[0]->Set(Hang());
  fleet.decode[0]->Set(AnswerStream({"1", "2"}));
  const http::Response response = fleet.Post("/generate", R"({"text":"a","stream":true})");
  EXPECT_EQ(Payloads(response.body).size(), 3u);
  fleet.decode[0]->Set(AnswerJson(200, R"({"ok":1})"));
  EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
}

TEST(Proxy, PrefillRefusalReachesTheClientAndCancelsDecode) {
  Fleet fleet;
  fleet.prefill[0]->Set(AnswerJson(400, R"({"object":"error","message":"prompt too long","type":"BadRequest","code":400})"));
  fleet.decode[0]->Set(Hang());
  for (const char* body : {R"({"messages":[]})", R"({"messages":[],"stream":true})"}) {
    const http::Response response = fleet.Post("/v1/chat/completions", body);
    EXPECT_EQ(response.status, 400);
    EXPECT_EQ(ErrorCode(response), "prefill_bad_request");
    EXPECT_EQ(response.headers.Get("X-SMG-Error-Code"), "prefill_bad_request");
    EXPECT_NE(response.body.find("prompt too long"), std::string::npos);
  }
  EXPECT_TRUE(Eventually([&] { return fleet.decode[0]->disconnects() == 2; }));
  EXPECT_EQ(fleet.prefill[0]->requests(), 2u) << "a 4xx is not retried";
}

TEST(Proxy, DecodeRefusalReachesTheClientAndCancelsPrefill) {
  Fleet fleet;
  fleet.prefill[0]->Set(Hang());
  fleet.decode[0]->Set(AnswerJson(422, R"({"error":{"message":"bad top_p","type":"x","code":"odd"}})"));
  const http::Response response = fleet.Post("/v1/completions", R"({"prompt":"a"})");
  EXPECT_EQ(response.status, 422);
  EXPECT_EQ(response.body, R"({"error":{"message":"bad top_p","type":"x","code":"odd"}})");
  EXPECT_TRUE(Eventually([&] { return fleet.prefill[0]->disconnects() == 1; }));
}

TEST(Proxy, ServerErrorsNameTheWorkerAndAreRetried) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.retry.max_attempts = 3; });
  fleet.prefill[0]->Set(Hang());
  fleet.decode[0]->Set(AnswerJson(500, R"({"error":{"message":"CUDA error"}})"));
  const http::Response response = fleet.Post("/generate", R"({"text":"a"})");
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(ErrorCode(response), "decode_internal_error");
  EXPECT_NE(response.body.find("CUDA error"), std::string::npos);
  EXPECT_NE(response.body.find(fleet.decode[0]->url()), std::string::npos);
  EXPECT_EQ(fleet.decode[0]->requests(), 3u);
  EXPECT_EQ(fleet.Metric("smg_worker_retries_total{worker_type=\"decode\",endpoint=\"generate\"}"), 2);
  EXPECT_EQ(fleet.Metric("smg_worker_retries_exhausted_total{worker_type=\"decode\",endpoint=\"generate\"}"), 1);
}

TEST(Proxy, RetryGoesToAnotherPairWithANewRoom) {
  Fleet fleet(1, 2);
  fleet.decode[0]->Set(AnswerJson(500, "{}"));
  fleet.decode[1]->Set(AnswerJson(500, "{}"));
  // Whichever comes first fails, the second attempt goes to the other one.
  fleet.Post("/generate", R"({"text":"a"})");
  EXPECT_GE(fleet.decode[0]->requests(), 1u);
  EXPECT_GE(fleet.decode[1]->requests(), 1u);
  EXPECT_NE(RoomOf(fleet.decode[0]->body(0)), RoomOf(fleet.decode[1]->body(0)));
}

TEST(Proxy, DeadDecodeIsReplacedWithoutTheClientNoticing) {
  Fleet fleet(1, 2);
  for (const auto& d : fleet.decode) d->Set(AnswerJson(200, R"({"ok":1})"));
  fleet.decode[0]->Kill();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_EQ(fleet.decode[1]->requests(), 20u);
}

TEST(Proxy, PrefillDyingUnderARequestIsRetriedOnAnother) {
  Fleet fleet(2, 1);
  fleet.prefill[0]->Set(Die());
  fleet.decode[0]->Set(After(100ms, AnswerJson(200, R"({"ok":1})")));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_GE(fleet.prefill[0]->requests(), 1u);
  EXPECT_GE(fleet.prefill[1]->requests(), 4u);
  // Decode was told to stop each time, and is not to blame.
  EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_cb_outcomes_total{{worker=\"{}\",outcome=\"failure\"}}", fleet.decode[0]->url())), 0);
  EXPECT_GE(fleet.Metric(fmt::format("smg_worker_cb_outcomes_total{{worker=\"{}\",outcome=\"failure\"}}", fleet.prefill[0]->url())), 1);
}

TEST(Proxy, DecodeReportingADeadPrefillIsNotToBlame) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.retry.max_attempts = 1; });
  fleet.prefill[0]->Set(After(30ms, Die()));
  fleet.decode[0]->Set(AnswerJson(500, R"({"error":{"message":"KV transfer failed"}})"));
  const http::Response response = fleet.Post("/generate", R"({"text":"a"})");
  EXPECT_EQ(response.status, 502);
  EXPECT_EQ(ErrorCode(response), "prefill_server_error");
  EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_cb_outcomes_total{{worker=\"{}\",outcome=\"failure\"}}", fleet.decode[0]->url())), 0);
}

TEST(Proxy, OverloadIsTriedElsewhereAndNeverOpensABreaker) {
  Fleet fleet(1, 2, [](RouterOptions& o) { o.breaker.failure_threshold = 1; });
  fleet.decode[0]->Set(AnswerJson(503, R"({"error":{"message":"draining"}})"));
  fleet.decode[1]->Set(AnswerJson(200, R"({"ok":1})"));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_GE(fleet.decode[0]->requests(), 5u);
  EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_cb_state{{worker=\"{}\"}}", fleet.decode[0]->url())), 0);
}

TEST(Proxy, BreakerTakesAGuiltyWorkerOut) {
  Fleet fleet(1, 2, [](RouterOptions& o) { o.breaker.failure_threshold = 2; });
  fleet.decode[0]->Set(AnswerJson(500, "{}"));
  fleet.decode[1]->Set(AnswerJson(200, R"({"ok":1})"));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_EQ(fleet.decode[0]->requests(), 2u);
  EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_cb_state{{worker=\"{}\"}}", fleet.decode[0]->url())), 1);
  EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_cb_state{{worker=\"{}\"}}", fleet.prefill[0]->url())), 0);
}

TEST(Proxy, ErrorInTheFirstEventIsARealError) {
  Fleet fleet(1, 2);
  fleet.decode[0]->Set(AnswerStream({R"({"error":{"message":"transfer failed","code":500}})"}));
  fleet.decode[1]->Set(AnswerStream({R"({"ok":1})"}));
  for (int i = 0; i < 4; ++i) {
    const http::Response response = fleet.Post("/v1/chat/completions", R"({"messages":[],"stream":true})");
    EXPECT_EQ(Payloads(response.body), (std::vector<std::string>{R"({"ok":1})", "[DONE]"}));
  }
  fleet.decode[1]->Set(AnswerStream({R"({"error":{"message":"too long","code":400}})"}));
  fleet.decode[0]->Set(AnswerStream({R"({"error":{"message":"too long","code":400}})"}));
  const http::Response refused = fleet.Post("/v1/chat/completions", R"({"messages":[],"stream":true})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(refused.body.find("too long"), std::string::npos);
}

TEST(Proxy, StreamThatDiesBeforeItsFirstEventIsRetried) {
  Fleet fleet(1, 2);
  fleet.decode[0]->Set(AnswerStream({}, Ending::kBroken));
  fleet.decode[1]->Set(AnswerStream({"1"}));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Payloads(fleet.Post("/generate", R"({"text":"a","stream":true})").body), (std::vector<std::string>{"1", "[DONE]"}));
  }
  fleet.decode[0]->Set(AnswerStream({}, Ending::kClean));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Payloads(fleet.Post("/generate", R"({"text":"a","stream":true})").body), (std::vector<std::string>{"1", "[DONE]"}));
  }
}

TEST(Proxy, DecodeDyingMidStreamEndsInAValidErrorEvent) {
  Fleet fleet;
  fleet.decode[0]->Set(AnswerPieces({"data: 1\n\n", "data: {\"half\":"}, Ending::kBroken));
  const http::Response response = fleet.Post("/generate", R"({"text":"a","stream":true})");
  EXPECT_EQ(response.status, 200);
  const auto payloads = Payloads(response.body);
  ASSERT_EQ(payloads.size(), 3u) << response.body;
  EXPECT_EQ(payloads[0], "1");
  EXPECT_EQ(json::Parse(payloads[1])->at("error").at("code").as_string(), "decode_server_error");
  EXPECT_EQ(payloads[2], "[DONE]");
  EXPECT_EQ(fleet.decode[0]->requests(), 1u) << "nothing is retried after the first byte";
  EXPECT_EQ(fleet.Metric("baton_router_stream_errors_total"), 1);
}

TEST(Proxy, StreamWithoutDoneGetsOne) {
  Fleet fleet;
  fleet.decode[0]->Set(AnswerStream({"1", R"({"error":{"message":"own"}})"}, Ending::kClean));
  EXPECT_EQ(Payloads(fleet.Post("/generate", R"({"text":"a","stream":true})").body),
            (std::vector<std::string>{"1", R"({"error":{"message":"own"}})", "[DONE]"}));
  fleet.decode[0]->Set(AnswerStream({"1"}, Ending::kClean));
  const auto payloads = Payloads(fleet.Post("/generate", R"({"text":"a","stream":true})").body);
  ASSERT_EQ(payloads.size(), 3u);
  EXPECT_NE(payloads[1].find("without [DONE]"), std::string::npos);
}

TEST(Proxy, PrefillFailingAfterDecodeSpokeDoesNotHurtTheStream) {
  Fleet fleet;
  fleet.prefill[0]->Set(After(30ms, Die()));
  std::vector<std::string> pieces;
  for (int i = 0; i < 60; ++i) pieces.push_back(http::SseEvent("1"));
  fleet.decode[0]->Set(AnswerPieces(pieces, Ending::kDone, 2ms));
  EXPECT_EQ(Payloads(fleet.Post("/generate", R"({"text":"a","stream":true})").body).size(), 61u);
}

TEST(Proxy, PrefillFailingUnderABatchEndsTheStream) {
  Fleet fleet;
  fleet.prefill[0]->Set(After(50ms, Die()));
  fleet.decode[0]->Set(AnswerStream({"1"}, Ending::kSilent));
  const auto payloads = Payloads(fleet.Post("/generate", R"({"text":["a","b"],"stream":true})").body);
  ASSERT_EQ(payloads.size(), 3u);
  EXPECT_NE(payloads[1].find("prefill_server_error"), std::string::npos);
  EXPECT_TRUE(Eventually([&] { return fleet.decode[0]->disconnects() == 1; }));
}

TEST(Proxy, SplitsAtEveryByteChangeNothing) {
  Fleet fleet;
  const std::string text = "data: {\"t\":\"data: [DONE]\"}\n\ndata: {\"é\":2}\r\n\r\ndata: [DONE]\n\n";
  for (size_t at = 1; at < text.size(); ++at) {
    fleet.decode[0]->Set(AnswerPieces({text.substr(0, at), text.substr(at)}, Ending::kClean));
    ASSERT_EQ(fleet.Post("/generate", R"({"text":"a","stream":true})").body, text) << at;
  }
}

TEST(Proxy, ClientDisconnectCancelsBothSidesAtOnce) {
  Fleet fleet;
  struct Case {
    const char* name;
    Script prefill, decode;
    const char* body;
    bool read_first;
  };
  const Case cases[] = {
      {"before any head", Hang(), Hang(), R"({"text":"a"})", false},
      {"before any head, stream", Hang(), Hang(), R"({"text":"a","stream":true})", false},
      {"stream under way", Hang(), AnswerStream({"1"}, Ending::kSilent), R"({"text":"a","stream":true})", true},
  };
  int round = 0;
  for (const Case& c : cases) {
    ++round;
    fleet.prefill[0]->Set(c.prefill);
    fleet.decode[0]->Set(c.decode);
    RawSocket client = fleet.Send("/generate", c.body);
    ASSERT_TRUE(Eventually([&] {
      return fleet.prefill[0]->requests() == static_cast<size_t>(round) && fleet.decode[0]->requests() == static_cast<size_t>(round);
    })) << c.name;
    if (c.read_first) client.ReadUntil("data: 1");
    const TimePoint closed = Now();
    client.Close();
    ASSERT_TRUE(Eventually([&] { return fleet.prefill[0]->disconnects() == round && fleet.decode[0]->disconnects() == round; })) << c.name;
    EXPECT_LT(Milliseconds(fleet.prefill[0]->last_disconnect() - closed), 1000) << c.name;
    EXPECT_LT(Milliseconds(fleet.decode[0]->last_disconnect() - closed), 1000) << c.name;
  }
  EXPECT_TRUE(Eventually([&] { return fleet.Metric("baton_router_cancelled_total") == 3; }));
  EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_cb_outcomes_total{{worker=\"{}\",outcome=\"failure\"}}", fleet.decode[0]->url())), 0);
  EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_requests_active{{worker=\"{}\"}}", fleet.decode[0]->url())), 0);
}

TEST(Proxy, DisconnectDuringBackoffEndsTheRequest) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.retry.initial_backoff = 15s; o.retry.max_backoff = 15s; });
  fleet.decode[0]->Set(AnswerJson(503, "{}"));
  RawSocket client = fleet.Send("/generate", R"({"text":"a"})");
  ASSERT_TRUE(Eventually([&] { return fleet.Metric("smg_worker_retries_total{worker_type=\"decode\",endpoint=\"generate\"}") == 1; }));
  client.Close();
  EXPECT_TRUE(Eventually([&] { return fleet.Metric("baton_router_cancelled_total") == 1; }));
}

TEST(Proxy, HangsEndByTheDeadlines) {
  Fleet fleet(1, 1, [](RouterOptions& o) {
    o.request_timeout = 150ms;
    o.first_byte_timeout = 150ms;
    o.stream_idle_timeout = 150ms;
  });
  fleet.prefill[0]->Set(Hang());
  fleet.decode[0]->Set(Hang());
  for (const char* body : {R"({"text":"a"})", R"({"text":"a","stream":true})"}) {
    const http::Response response = fleet.Post("/generate", body);
    EXPECT_EQ(response.status, 504);
    EXPECT_EQ(ErrorCode(response), "decode_timeout");
    EXPECT_NE(response.body.find(fleet.prefill[0]->url()), std::string::npos) << "names both sides";
  }
  EXPECT_TRUE(Eventually([&] { return fleet.prefill[0]->disconnects() == 2 && fleet.decode[0]->disconnects() == 2; }));
  fleet.decode[0]->Set(AnswerStream({"1"}, Ending::kSilent));
  const auto payloads = Payloads(fleet.Post("/generate", R"({"text":"a","stream":true})").body);
  ASSERT_EQ(payloads.size(), 3u);
  EXPECT_NE(payloads[1].find("decode_timeout"), std::string::npos);
}

TEST(Proxy, FrozenPrefillIsFoundByHealthChecksAndTheRequestRetried) {
  Fleet fleet(2, 1, [](RouterOptions& o) {
    o.health.interval = 100ms;
    o.health.timeout = 200ms;
  });
  for (const auto& p : fleet.prefill) p->Set(Hang());
  fleet.decode[0]->Set(Hang());
  RawSocket client = fleet.Send("/generate", R"({"text":"a"})");
  ASSERT_TRUE(Eventually([&] {
    return fleet.prefill[0]->requests() + fleet.prefill[1]->requests() == 1 && fleet.decode[0]->requests() == 1;
  }));
  const size_t frozen = fleet.prefill[0]->requests() == 1 ? 0 : 1;
  fleet.decode[0]->Set(AnswerJson(200, R"({"ok":1})"));
  fleet.prefill[frozen]->SetHealth(500);
  EXPECT_NE(client.ReadResponse().find(R"({"ok":1})"), std::string::npos);
  // Decode answers at once, so that prefill may get its half after the client has the answer.
  EXPECT_TRUE(Eventually([&] { return fleet.prefill[1 - frozen]->requests() == 1; }));
}

TEST(Proxy, FrozenDecodeEndsItsStreamWithAnError) {
  Fleet fleet(1, 1, [](RouterOptions& o) {
    o.health.interval = 100ms;
    o.health.timeout = 200ms;
  });
  fleet.decode[0]->Set(AnswerStream({"1"}, Ending::kSilent));
  RawSocket client = fleet.Send("/generate", R"({"text":"a","stream":true})");
  client.ReadUntil("data: 1");
  fleet.decode[0]->SetHealth(500);
  const std::string rest = client.ReadUntil("[DONE]");
  EXPECT_NE(rest.find("health checks"), std::string::npos) << rest;
}

TEST(Proxy, MergesLogprobsWhole) {
  Fleet fleet;
  fleet.prefill[0]->Set(After(50ms, AnswerJson(200, R"({"text":"t","meta_info":{"input_token_logprobs":[[null,1,null],[-0.5,2,null]],"input_top_logprobs":[null,[[-1,3,null]]]}})")));
  fleet.decode[0]->Set(AnswerJson(200, R"({"text":"td","meta_info":{"input_token_logprobs":[],"input_top_logprobs":[],"output_token_logprobs":[[-0.1,4,null]]}})"));
  const http::Response response = fleet.Post("/generate", R"({"text":"a","return_logprob":true,"logprob_start_len":0})");
  EXPECT_EQ(response.body, R"({"text":"td","meta_info":{"input_token_logprobs":[[null,1,null],[-0.5,2,null]],"input_top_logprobs":[null,[[-1,3,null]]],"output_token_logprobs":[[-0.1,4,null]]}})");
}

TEST(Proxy, MergesLogprobsOfBatches) {
  Fleet fleet;
  fleet.prefill[0]->Set(AnswerJson(200, R"([{"meta_info":{"input_token_logprobs":[1]}},{"meta_info":{"input_token_logprobs":[2]}}])"));
  fleet.decode[0]->Set(AnswerJson(200, R"([{"meta_info":{"input_token_logprobs":[]}},{"meta_info":{"input_token_logprobs":[]}}])"));
  EXPECT_EQ(fleet.Post("/generate", R"({"text":["a","b"],"return_logprob":true})").body,
            R"([{"meta_info":{"input_token_logprobs":[1]}},{"meta_info":{"input_token_logprobs":[2]}}])");
}

TEST(Proxy, MergesLogprobsIntoStreams) {
  Fleet fleet;
  fleet.prefill[0]->Set(After(50ms, AnswerStream({R"({"meta_info":{"input_token_logprobs":[1,2]}})"})));
  fleet.decode[0]->Set(AnswerStream({R"({"text":"a","meta_info":{"input_token_logprobs":[]}})", R"({"text":"ab","meta_info":{"input_token_logprobs":[]}})"}));
  EXPECT_EQ(Payloads(fleet.Post("/generate", R"({"text":"a","return_logprob":true,"stream":true})").body),
            (std::vector<std::string>{R"({"text":"a","meta_info":{"input_token_logprobs":[1,2]}})",
                                      R"({"text":"ab","meta_info":{"input_token_logprobs":[1,2]}})", "[DONE]"}));
}

TEST(Proxy, PrefillFailingUnderALogprobRequestFailsIt) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.retry.max_attempts = 1; });
  fleet.prefill[0]->Set(After(30ms, Die()));
  fleet.decode[0]->Set(AnswerJson(200, R"({"meta_info":{}})"));
  EXPECT_EQ(ErrorCode(fleet.Post("/generate", R"({"text":"a","return_logprob":true})")), "prefill_server_error");
}

TEST(Proxy, HugeBodiesPassUnchanged) {
  Fleet fleet;
  const std::string body = "{\"text\":\"" + std::string(24 << 20, 'x') + "\"}";
  fleet.decode[0]->Set([](http::Request& request, http::Responder& responder) -> asio::awaitable<void> {
    http::Response response;
    response.body = request.body;
    (void)co_await responder.Send(std::move(response));
  });
  const http::Response response = fleet.Post("/generate", body);
  EXPECT_EQ(response.status, 200);
  ASSERT_GT(response.body.size(), body.size());
  EXPECT_TRUE(response.body.ends_with(body.substr(1)));
}

TEST(Proxy, BodiesOverTheLimitGet413) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.max_payload_bytes = 1000; });
  const http::Response response = fleet.Post("/generate", "{\"text\":\"" + std::string(2000, 'x') + "\"}");
  EXPECT_EQ(response.status, 413);
  EXPECT_EQ(ErrorCode(response), "payload_too_large");
  EXPECT_FALSE(response.headers.Get("x-request-id").empty());
  EXPECT_EQ(fleet.decode[0]->requests(), 0u);
}

TEST(Proxy, BadBodiesGet400WithoutTouchingWorkers) {
  Fleet fleet;
  for (const char* body : {"[]", "{", "nonsense", "{\"n\":100000}"}) {
    const http::Response response = fleet.Post("/v1/chat/completions", body);
    EXPECT_EQ(response.status, 400) << body;
    EXPECT_EQ(ErrorCode(response), "invalid_request") << body;
  }
  EXPECT_EQ(fleet.decode[0]->requests() + fleet.prefill[0]->requests(), 0u);
}

TEST(Proxy, NoWorkerIsAQuick503) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.retry.max_attempts = 2; });
  fleet.decode[0]->SetHealth(503);
  ASSERT_TRUE(Eventually([&] { return !fleet.router->Ready(); }));
  const http::Response response = fleet.Post("/generate", R"({"text":"a"})");
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(ErrorCode(response), "server_selection_failed");
  EXPECT_EQ(response.headers.Get("Retry-After"), "1");
  EXPECT_NE(response.body.find("decode"), std::string::npos);
}

TEST(Proxy, RestartedWorkerIsUsedAgain) {
  Fleet fleet;
  fleet.decode[0]->Set(AnswerJson(200, R"({"ok":1})"));
  ASSERT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  const uint16_t port = fleet.decode[0]->port();
  fleet.decode[0]->Kill();
  EXPECT_NE(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  fleet.decode[0] = std::make_unique<FakeWorker>(fleet.loop(), port);
  ASSERT_TRUE(Eventually([&] { return fleet.router->Ready(); }));
  EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
}

TEST(Proxy, RegularModeSendsTheBodyAsItIs) {
  Loop loop(1);
  FakeWorker worker(loop);
  worker.Set(AnswerJson(200, R"({"ok":1})"));
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    o.pd_disaggregation = false;
    o.worker_urls = {worker.url()};
  }, false);
  ASSERT_TRUE(fleet.AllHealthy(1));
  EXPECT_EQ(fleet.Post("/generate", R"({"text":"a", "n":2})").body, R"({"ok":1})");
  EXPECT_EQ(worker.body(0), R"({"text":"a", "n":2})");
  worker.Set(Die());
  const http::Response response = fleet.Post("/generate", R"({"text":"a"})");
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(ErrorCode(response), "request_kills_workers") << response.body;
}

TEST(Proxy, ManyRequestsAtOnceLeaveNothingBehind) {
  Fleet fleet(2, 3);
  for (const auto& d : fleet.decode) d->Set(AnswerStream({"1", "2", "3"}));
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&] {
      for (int i = 0; i < 25; ++i) good += Payloads(fleet.Post("/generate", R"({"text":"a","stream":true})").body).size() == 4;
    });
  }
  for (auto& client : clients) client.join();
  EXPECT_EQ(good, 200);
  for (const auto& w : fleet.decode) {
    EXPECT_TRUE(Eventually([&] { return fleet.Metric(fmt::format("smg_worker_requests_active{{worker=\"{}\"}}", w->url())) == 0; }));
  }
}

TEST(Backoff, GrowsToItsCapWithJitter) {
  RetryRules rules;
  EXPECT_EQ(BackoffDelay(rules, 1, 0.5), 50ms);
  EXPECT_EQ(BackoffDelay(rules, 2, 0.5), 75ms);
  EXPECT_EQ(BackoffDelay(rules, 1, 0.0), 40ms);
  EXPECT_LE(BackoffDelay(rules, 100, 0.999), 36s);
  EXPECT_GE(BackoffDelay(rules, 100, 0.0), 24s);
}

}  // namespace
}  // namespace baton::router
