// Policies, target header and admission through a whole router on real sockets.
#include "router/exchange.h"

#include <gtest/gtest.h>

#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

std::string ChatBody(std::string_view text, std::string_view more = "") {
  return json::serialize(json::object{
      {"messages", json::array{json::object{{"role", "system"}, {"content", "you are a helpful assistant"}},
                               json::object{{"role", "user"}, {"content", text}},
                               json::object{{"role", "user"}, {"content", more}}}}});
}

http::Response ChatWith(Fleet& fleet, std::string_view name, std::string value, std::string body = "{}") {
  http::Headers headers;
  headers.Set(name, std::move(value));
  return fleet.Fetch("POST", "/v1/chat/completions", std::move(body), headers);
}

TEST(Routing, CacheAwareKeepsConversationsOnOnePair) {
  Fleet fleet(2, 3, [](RouterOptions& o) { o.prefill_policy = o.decode_policy = PolicyKind::kCacheAware; });
  for (int user = 0; user < 4; ++user) {
    const std::string text(3000, static_cast<char>('a' + user));
    std::vector<size_t> before, after;
    fleet.Post("/v1/chat/completions", ChatBody(text));
    for (const auto& d : fleet.decode) before.push_back(d->requests());
    for (int turn = 0; turn < 4; ++turn) fleet.Post("/v1/chat/completions", ChatBody(text, std::string(100 + turn, 'z')));
    for (const auto& d : fleet.decode) after.push_back(d->requests());
    int grown = 0;
    for (size_t i = 0; i < before.size(); ++i) grown += after[i] == before[i] + 4;
    EXPECT_EQ(grown, 1) << user;
  }
  EXPECT_GT(fleet.Metric(R"(smg_worker_selection_total{worker_type="decode",connection_mode="http",model="tiny",policy="cache_aware"})"), 19);
}

TEST(Routing, FlushForgetsPrefixes) {
  Fleet fleet(1, 2, [](RouterOptions& o) { o.decode_policy = PolicyKind::kCacheAware; });
  const std::string body = ChatBody(std::string(500, 'x'));
  for (int i = 0; i < 4; ++i) fleet.Post("/v1/chat/completions", body);
  EXPECT_TRUE(fleet.decode[0]->requests() == 4 || fleet.decode[1]->requests() == 4);
  EXPECT_EQ(fleet.Post("/flush_cache", "").status, 200);
  fleet.Post("/v1/chat/completions", body);
  EXPECT_EQ(fleet.decode[0]->requests() * fleet.decode[1]->requests(), 4u);  // the other one's turn
}

TEST(Routing, RoutingKeySticks) {
  Fleet fleet(1, 3, [](RouterOptions& o) { o.decode_policy = PolicyKind::kManual; });
  for (int i = 0; i < 6; ++i) ChatWith(fleet, "x-smg-routing-key", "session-1");
  size_t used = 0;
  for (const auto& d : fleet.decode) used += d->requests() > 0;
  EXPECT_EQ(used, 1u);
  // An answer does not wait for prefill.
  EXPECT_TRUE(Eventually([&] { return fleet.prefill[0]->requests() == 6; }));
  EXPECT_EQ(fleet.prefill[0]->headers(0).Get("x-smg-routing-key"), "session-1");
}

TEST(Routing, TargetWorkerIsObeyed) {
  Fleet fleet(2, 2);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ChatWith(fleet, "x-smg-target-worker", "1").status, 200);
  EXPECT_TRUE(Eventually([&] { return fleet.prefill[1]->requests() == 3; }));
  EXPECT_EQ(fleet.decode[1]->requests(), 3u);
  EXPECT_EQ(ChatWith(fleet, "x-smg-target-worker", "0,1").status, 200);
  EXPECT_TRUE(Eventually([&] { return fleet.prefill[0]->requests() == 1; }));
  EXPECT_EQ(fleet.decode[1]->requests(), 4u);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(ChatWith(fleet, "x-smg-target-worker", fleet.decode[0]->url()).status, 200);
  EXPECT_EQ(fleet.decode[0]->requests(), 2u);
}

TEST(Routing, UnknownOrAbsentTargetsAreErrors) {
  Fleet fleet(1, 2);
  for (const char* unknown : {"7", "0,2", "http://127.0.0.1:1", "no-such-id"}) {
    const http::Response response = ChatWith(fleet, "x-smg-target-worker", unknown);
    EXPECT_EQ(response.status, 400) << unknown;
    EXPECT_EQ(ErrorCode(response), "unknown_target_worker") << unknown;
  }
  EXPECT_EQ(ErrorCode(ChatWith(fleet, "x-smg-target-worker", "-1")), "invalid_request");
  fleet.decode[1]->SetHealth(503);
  ASSERT_TRUE(fleet.AllHealthy(2));
  const http::Response gone = ChatWith(fleet, "x-smg-target-worker", "0,1");
  EXPECT_EQ(gone.status, 503);
  EXPECT_NE(gone.body.find("unhealthy"), std::string::npos) << gone.body;
  EXPECT_EQ(fleet.decode[0]->requests(), 0u);  // no fallback
}

TEST(Routing, PolledLoadsReachPolicyAndPages) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.load_poll_interval = 10ms; });
  EXPECT_TRUE(Eventually([&] {
    return fleet.Metric(fmt::format("baton_router_worker_reported_tokens{{worker=\"{}\"}}", fleet.decode[0]->url())) == 11;
  }));
}

// --- Admission -----------------------------------------------------------------------------------

std::function<void(RouterOptions&)> Cap(int64_t most, size_t queue, Duration timeout = 60s) {
  return [=](RouterOptions& o) {
    o.admission.max_concurrent = most;
    o.admission.queue_size = queue;
    o.admission.queue_timeout = timeout;
  };
}

TEST(AdmissionGate, CapHoldsUntilTheStreamEnds) {
  Fleet fleet(1, 1, Cap(1, 10));
  fleet.decode[0]->Set(AnswerStream({"{\"a\":1}"}, Ending::kSilent));
  RawSocket first = fleet.Send("/generate", R"({"text":"a","stream":true})");
  ASSERT_TRUE(Eventually([&] { return fleet.decode[0]->requests() == 1; }));
  RawSocket second = fleet.Send("/generate", R"({"text":"b"})");
  ASSERT_TRUE(Eventually([&] { return fleet.Metric("baton_router_queued_requests") == 1; }));
  EXPECT_EQ(fleet.decode[0]->requests(), 1u);
  fleet.decode[0]->Set(AnswerJson(200, R"({"ok":2})"));
  first.Close();  // the client of the stream leaves
  EXPECT_NE(second.ReadResponse().find(R"({"ok":2})"), std::string::npos);
  EXPECT_TRUE(Eventually([&] { return fleet.Metric("baton_router_admitted_requests") == 0; }));
}

TEST(AdmissionGate, FullIs429AndLateIs408) {
  Fleet fleet(1, 1, Cap(1, 1, 100ms));
  fleet.decode[0]->Set(Hang());
  RawSocket first = fleet.Send("/generate", R"({"text":"a"})");
  ASSERT_TRUE(Eventually([&] { return fleet.decode[0]->requests() == 1; }));
  RawSocket second = fleet.Send("/generate", R"({"text":"b"})");
  const std::string late = second.ReadResponse();
  EXPECT_NE(late.find("408"), std::string::npos) << late;
  EXPECT_NE(late.find("queue_timeout"), std::string::npos);
  RawSocket third = fleet.Send("/generate", R"({"text":"c"})");
  ASSERT_TRUE(Eventually([&] { return fleet.Metric("baton_router_queued_requests") == 1; }));
  const http::Response full = fleet.Post("/generate", R"({"text":"d"})");
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(ErrorCode(full), "queue_full");
  EXPECT_FALSE(full.headers.Get("Retry-After").empty());
  EXPECT_GE(fleet.Metric(R"(smg_http_rate_limit_total{result="rejected"})"), 2);
}

TEST(AdmissionGate, AClientThatLeavesFreesItsPlaceInTheQueue) {
  Fleet fleet(1, 1, Cap(1, 1));
  fleet.decode[0]->Set(Hang());
  RawSocket first = fleet.Send("/generate", R"({"text":"a"})");
  ASSERT_TRUE(Eventually([&] { return fleet.decode[0]->requests() == 1; }));
  {
    RawSocket second = fleet.Send("/generate", R"({"text":"b"})");
    ASSERT_TRUE(Eventually([&] { return fleet.Metric("baton_router_queued_requests") == 1; }));
  }
  EXPECT_TRUE(Eventually([&] { return fleet.Metric("baton_router_queued_requests") == 0; }));
  fleet.decode[0]->Set(AnswerJson(200, R"({"ok":3})"));
  RawSocket third = fleet.Send("/generate", R"({"text":"c"})");
  ASSERT_TRUE(Eventually([&] { return fleet.Metric("baton_router_queued_requests") == 1; }));
  first.Close();
  EXPECT_NE(third.ReadResponse().find(R"({"ok":3})"), std::string::npos);
  EXPECT_EQ(fleet.decode[0]->requests(), 2u);  // b never ran
}

TEST(AdmissionGate, DrainRefusesThoseWhoWait) {
  Fleet fleet(1, 1, Cap(1, 5));
  fleet.decode[0]->Set(Hang());
  RawSocket first = fleet.Send("/generate", R"({"text":"a"})");
  ASSERT_TRUE(Eventually([&] { return fleet.decode[0]->requests() == 1; }));
  RawSocket second = fleet.Send("/generate", R"({"text":"b"})");
  ASSERT_TRUE(Eventually([&] { return fleet.Metric("baton_router_queued_requests") == 1; }));
  fleet.router->Drain();
  const std::string refused = second.ReadResponse();
  EXPECT_NE(refused.find("503"), std::string::npos) << refused;
  EXPECT_NE(refused.find("shutting_down"), std::string::npos);
  EXPECT_NE(refused.find("Retry-After"), std::string::npos);
}

// FakeWorker's /get_load reports 11 tokens and, with capacity unknown, no waiting requests.
TEST(AdmissionGate, FullWorkersMakeRequestsWaitOrFail) {
  Fleet fleet(1, 1, [](RouterOptions& o) {
    Cap(-1, 0)(o);
    o.worker_queue_limit = 2;
    o.load_poll_interval = 20ms;
  });
  fleet.decode[0]->Set(Hang());
  fleet.prefill[0]->SetLoad(R"([{"num_reqs":9,"num_waiting_reqs":7,"num_tokens":5}])");
  ASSERT_TRUE(Eventually([&] {
    return fleet.Metric(fmt::format("baton_router_worker_reported_waiting{{worker=\"{}\"}}", fleet.prefill[0]->url())) == 7;
  }));
  const http::Response refused = fleet.Post("/generate", R"({"text":"a"})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(ErrorCode(refused), "workers_full");
  EXPECT_FALSE(refused.headers.Get("Retry-After").empty());
  EXPECT_EQ(fleet.decode[0]->requests(), 0u);
  fleet.prefill[0]->SetLoad(R"([{"num_reqs":0,"num_waiting_reqs":0,"num_tokens":5}])");
  fleet.decode[0]->Set(AnswerJson(200, "{}"));
  EXPECT_TRUE(Eventually([&] { return fleet.Post("/generate", R"({"text":"a"})").status == 200; }));
}

// Many clients at once: never more on the worker than the cap, and everyone is served.
TEST(AdmissionGate, ManyClientsNeverPassTheCap) {
  Fleet fleet(1, 1, Cap(3, 1000));
  const auto inside = std::make_shared<std::atomic<int>>(0);
  const auto most = std::make_shared<std::atomic<int>>(0);
  fleet.decode[0]->Set([=](http::Request&, http::Responder& responder) -> asio::awaitable<void> {
    const int now = ++*inside;
    if (now > *most) *most = now;
    co_await Sleep(2ms);
    --*inside;
    http::Response response;
    (void)co_await responder.Send(std::move(response));
  });
  std::vector<RawSocket> clients;
  for (int i = 0; i < 60; ++i) clients.push_back(fleet.Send("/generate", R"({"text":"a"})"));
  for (RawSocket& client : clients) EXPECT_NE(client.ReadResponse().find("200 OK"), std::string::npos);
  EXPECT_LE(*most, 3);
  EXPECT_EQ(fleet.Metric("baton_router_queued_requests"), 0);
}

}  // namespace
}  // namespace baton::router
