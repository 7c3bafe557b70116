#include "router/routes.h"

#include <gtest/gtest.h>

#include "router/fan_out.h"
#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

http::Headers Bearer(const std::string& key) {
  http::Headers headers;
  headers.Set("Authorization", "Bearer " + key);
  return headers;
}

TEST(Routes, ReadinessFollowsTheWorkers) {
  Fleet fleet;
  EXPECT_EQ(fleet.Get("/readiness").status, 200);
  EXPECT_EQ(fleet.Get("/health").status, 200);
  const auto ready = json::Parse(fleet.Get("/readiness").body);
  EXPECT_EQ(ready->at("status").as_string(), "ready");
  EXPECT_EQ(ready->at("healthy_workers").as_int64(), 2);
  fleet.prefill[0]->SetHealth(503);
  EXPECT_TRUE(Eventually([&] { return fleet.Get("/readiness").status == 503; }));
  EXPECT_EQ(fleet.Get("/health").status, 503);
  EXPECT_EQ(fleet.Get("/liveness").status, 200);
  fleet.prefill[0]->SetHealth(200);
  EXPECT_TRUE(Eventually([&] { return fleet.Get("/readiness").status == 200; }));
}

TEST(Routes, KeyIsWantedWhereItShouldBe) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.api_key = "secret"; });
  for (const char* path : {"/health", "/liveness", "/readiness", "/metrics", "/v1/models", "/get_model_info"}) {
    EXPECT_EQ(fleet.Get(path).status, 200) << path;
  }
  for (const char* path : {"/generate", "/v1/chat/completions", "/flush_cache", "/workers"}) {
    const http::Response refused = fleet.Post(path, "{}");
    EXPECT_EQ(refused.status, 401) << path;
    EXPECT_EQ(ErrorCode(refused), "unauthorized");
    EXPECT_FALSE(refused.headers.Get("x-request-id").empty());
    EXPECT_EQ(fleet.Fetch("POST", path, "{}", Bearer("secreT")).status, 401) << path;
    EXPECT_EQ(fleet.Fetch("POST", path, "{}", Bearer("")).status, 401) << path;
  }
  EXPECT_EQ(fleet.decode[0]->requests(), 0u);
  EXPECT_EQ(fleet.Fetch("POST", "/generate", R"({"text":"a"})", Bearer("secret")).status, 200);
  EXPECT_EQ(fleet.decode[0]->headers(0).Get("Authorization"), "Bearer secret");
  EXPECT_EQ(fleet.Fetch("GET", "/workers", "", Bearer("secret")).status, 200);
}

TEST(Routes, RequestIdIsTakenFromTheFirstHeaderOrMade) {
  Fleet fleet;
  http::Headers headers;
  headers.Set("x-trace-id", "t-1");
  EXPECT_EQ(fleet.Fetch("GET", "/health", "", headers).headers.Get("x-request-id"), "t-1");
  headers.Set("x-request-id", "r-1");
  EXPECT_EQ(fleet.Fetch("GET", "/health", "", headers).headers.Get("x-request-id"), "r-1");
  const std::string made(fleet.Post("/v1/chat/completions", "{}").headers.Get("x-request-id"));
  EXPECT_EQ(made.substr(0, 9), "chatcmpl-");
  EXPECT_EQ(made.size(), 9u + 24u);
  EXPECT_NE(fleet.Get("/nothing").headers.Get("x-request-id"), "");
}

TEST(Routes, EveryAnswerCarriesTheRequestsId) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.max_payload_bytes = 1000; });
  const auto id_of = [&](const std::string& bytes, int status) {
    RawSocket socket = RawSocket::Connect(fleet.router->port());
    EXPECT_TRUE(socket.Send(bytes));
    const std::string answer = socket.ReadResponse();
    EXPECT_EQ(http::test::StatusOf(answer), status) << bytes;
    const size_t at = answer.find("\r\nx-request-id: ");
    return at == std::string::npos ? "(none)" : answer.substr(at + 16, answer.find("\r\n", at + 16) - at - 16);
  };
  const std::string named = " HTTP/1.1\r\nHost: x\r\nx-request-id: mine\r\n";
  EXPECT_EQ(id_of("GET /nothing" + named + "\r\n", 404), "mine");
  EXPECT_EQ(id_of("GET /generate" + named + "\r\n", 405), "mine");
  EXPECT_EQ(id_of("POST /generate" + named + "Content-Length: 5000\r\n\r\n", 413), "mine");
  EXPECT_EQ(id_of("POST /generate" + named + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400), "mine");
  EXPECT_EQ(id_of("POST /generate" + named + "Expect: tea\r\n\r\n", 417), "mine");
  EXPECT_EQ(id_of("BREW /generate" + named + "\r\n", 501), "mine");
  EXPECT_EQ(id_of("POST /generate" + named + "Transfer-Encoding: chunked\r\n\r\nX", 400), "mine");
  // Where there is none to be had, one is made.
  for (const char* bytes : {"GET /nothing HTTP/1.1\r\nHost: x\r\nx-request-id: a b\r\n\r\n", "GET /generate HTTP/1.1\r\nHost: x\r\n\r\n"}) {
    EXPECT_TRUE(id_of(bytes, std::string_view(bytes).starts_with("GET /n") ? 404 : 405).size() > 24) << bytes;
  }
  EXPECT_TRUE(id_of("GET / HTTP/9.9\r\n\r\n", 505).starts_with("req-"));
  EXPECT_TRUE(id_of("GET  nonsense\n", 400).starts_with("req-"));
}

TEST(Routes, UnknownPathsAndMethods) {
  Fleet fleet;
  EXPECT_EQ(fleet.Get("/nothing").status, 404);
  EXPECT_EQ(fleet.Get("/generate").status, 405);
  EXPECT_EQ(fleet.Get("/").status, 404);
}

TEST(Routes, IndexPage) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.index_html = "<p>hello</p>"; });
  const http::Response page = fleet.Get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.body, "<p>hello</p>");
  EXPECT_EQ(page.headers.Get("Content-Type"), "text/html; charset=utf-8");
}

TEST(Routes, InformationComesFromWorkers) {
  Fleet fleet;
  EXPECT_NE(fleet.Get("/v1/models").body.find("tiny"), std::string::npos);
  for (const char* path : {"/get_model_info", "/model_info"}) {
    EXPECT_EQ(fleet.Get(path).body, R"({"model_path":"tiny"})") << path;
  }
  for (const char* path : {"/get_server_info", "/server_info"}) {
    EXPECT_NE(fleet.Get(path).body.find("served_model_name"), std::string::npos) << path;
  }
  EXPECT_EQ(fleet.Get("/health_generate").status, 200);
  EXPECT_EQ(fleet.Post("/flush_cache", "").status, 200);
  EXPECT_NE(fleet.Get("/engine_metrics").body.find("up{worker_addr=\"" + fleet.decode[0]->url() + "\"} 1"), std::string::npos);
  const auto loads = json::Parse(fleet.Get("/get_loads").body);
  EXPECT_EQ(loads->at("workers").as_array().size(), 2u);
  EXPECT_EQ(loads->at("workers").as_array()[0].at("load").as_int64(), 11);
}

TEST(Routes, ServerInfoShowsNoSecrets) {
  const auto masked = WithoutSecrets(
      R"({"api_key":"s1","admin_api_key":"s2","ssl_keyfile_password":"s3","ssl_keyfile":"/k.pem","max_total_tokens":7,)"
      R"("tokenizer_path":"tiny","api_key_file":null,"internal_states":[{"hf_token":"s4","keys":{"Client_Secret":["s5"]},"n":1}]})");
  ASSERT_TRUE(masked.ok());
  EXPECT_EQ(*masked,
            R"({"api_key":"***","admin_api_key":"***","ssl_keyfile_password":"***","ssl_keyfile":"/k.pem","max_total_tokens":7,)"
            R"("tokenizer_path":"tiny","api_key_file":null,"internal_states":[{"hf_token":"***","keys":{"Client_Secret":["***"]},"n":1}]})");
  EXPECT_FALSE(WithoutSecrets("api_key=s1").ok());
}

TEST(Routes, WorkersCanBeAddedAndRemoved) {
  Fleet fleet(1, 1);
  FakeWorker more(fleet.loop());
  const http::Response added = fleet.Post("/workers", fmt::format(R"({{"url":"{}","worker_type":"decode","priority":3,"labels":{{"zone":"a"}}}})", more.url()));
  ASSERT_EQ(added.status, 202) << added.body;
  const auto accepted = json::Parse(added.body);
  const std::string location(accepted->at("location").as_string());
  EXPECT_EQ(added.headers.Get("Location"), location);
  ASSERT_TRUE(fleet.AllHealthy(3));
  const auto shown = json::Parse(fleet.Get(location).body);
  EXPECT_EQ(shown->at("url").as_string(), more.url());
  EXPECT_EQ(shown->at("worker_type").as_string(), "decode");
  EXPECT_EQ(shown->at("priority").as_int64(), 3);
  EXPECT_EQ(shown->at("model_id").as_string(), "tiny");
  const auto list = json::Parse(fleet.Get("/workers").body);
  EXPECT_EQ(list->at("total").as_int64(), 3);
  EXPECT_EQ(list->at("stats").at("decode_count").as_int64(), 2);
  EXPECT_EQ(fleet.Fetch("PUT", location, R"({"priority":9})").status, 202);
  EXPECT_EQ(json::Parse(fleet.Get(location).body)->at("priority").as_int64(), 9);
  for (const char* refused : {R"({"bootstrap_port":1})", R"({"disable_health_check":true})", R"({"priorty":1})"}) {
    EXPECT_EQ(fleet.Fetch("PUT", location, refused).status, 400) << refused;
  }
  EXPECT_EQ(fleet.Post("/workers", R"({"url":"http://127.0.0.1:9","worker_type":"decode","zone":"a"})").status, 400);

  fleet.decode[0]->Set(Hang());
  more.Set(AnswerJson(200, R"({"ok":1})"));
  EXPECT_EQ(fleet.Fetch("DELETE", "/workers/" + std::string("http%3A%2F%2F127.0.0.1%3A") + std::to_string(fleet.decode[0]->port())).status, 202);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").body, R"({"ok":1})");
  EXPECT_EQ(fleet.Fetch("DELETE", location).status, 202);
  EXPECT_EQ(fleet.Get(location).status, 404);
  EXPECT_EQ(fleet.Get("/readiness").status, 503);
}

TEST(Routes, OldestWorkerApi) {
  Fleet fleet(1, 1);
  FakeWorker more(fleet.loop());
  EXPECT_EQ(fleet.Post("/add_worker?worker_type=prefill&bootstrap_port=9123&url=" + more.url(), "").status, 200);
  ASSERT_TRUE(fleet.AllHealthy(3));
  EXPECT_NE(fleet.Get("/list_workers").body.find(more.url()), std::string::npos);
  EXPECT_EQ(fleet.Post("/remove_worker?url=" + more.url(), "").status, 200);
  EXPECT_EQ(fleet.Get("/list_workers").body.find(more.url()), std::string::npos);
  EXPECT_EQ(fleet.Post("/remove_worker?url=" + more.url(), "").status, 404);
}

TEST(Routes, BadWorkerRequests) {
  Fleet fleet;
  for (const char* body : {"", "[]", "{}", R"({"url":""})", R"({"url":5})", R"({"url":"http://h:1"})",
                           R"({"url":"http://h:1","worker_type":"regular"})", R"({"url":"ftp://h","worker_type":"decode"})",
                           R"({"url":"http://h:1","worker_type":"prefill","bootstrap_port":0})",
                           R"({"url":"http://h:1","worker_type":"prefill","bootstrap_port":"x"})",
                           R"({"url":"http://h:1","worker_type":"decode","priority":"high"})"}) {
    const http::Response response = fleet.Post("/workers", body);
    EXPECT_EQ(response.status, 400) << body << " " << response.body;
    EXPECT_EQ(json::Parse(response.body)->at("code").as_string(), "BAD_REQUEST") << body;
  }
  const http::Response twice = fleet.Post("/workers", fmt::format(R"({{"url":"{}/","worker_type":"decode"}})", fleet.decode[0]->url()));
  EXPECT_EQ(twice.status, 409);
  for (const char* method : {"GET", "DELETE"}) {
    for (const char* id : {"no-such-id", "00000000-0000-4000-8000-00000000000", "00000000-0000-4000-8000-0000000000000",
                           "00000000-0000-4000-8000-00000000000g", "00000000_0000_4000_8000_000000000000"}) {
      const http::Response no_id = fleet.Fetch(method, std::string("/workers/") + id);
      EXPECT_EQ(no_id.status, 400) << method << " " << id;
      EXPECT_EQ(json::Parse(no_id.body)->at("code").as_string(), "BAD_REQUEST");
      EXPECT_NE(no_id.body.find(id), std::string::npos) << no_id.body;
    }
  }
  EXPECT_EQ(fleet.Fetch("PUT", "/workers/no-such-id", R"({"priority":1})").status, 400);
  for (const char* unknown : {"/workers/00000000-0000-4000-8000-000000000000", "/workers/00000000-0000-4000-8000-000000000000@1",
                              "/workers/http%3A%2F%2F127.0.0.1%3A9", "/workers/127.0.0.1:9"}) {
    const http::Response none = fleet.Get(unknown);
    EXPECT_EQ(none.status, 404) << unknown;
    EXPECT_EQ(json::Parse(none.body)->at("code").as_string(), "WORKER_NOT_FOUND");
  }
  EXPECT_EQ(json::Parse(fleet.Get("/workers").body)->at("total").as_int64(), 2);
}

TEST(Routes, MetricsOnBothListeners) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.prometheus_host = "127.0.0.1"; o.prometheus_port = 0; });
  fleet.Post("/generate", R"({"text":"a"})");
  const std::string main = fleet.Get("/metrics").body;
  for (const char* name : {"smg_router_requests_total", "smg_worker_health{", "smg_worker_cb_state{", "baton_router_time_to_first_byte_seconds"}) {
    EXPECT_NE(main.find(name), std::string::npos) << name;
  }
  ASSERT_NE(fleet.router->prometheus_port(), 0);
  http::Client client(fleet.loop().executor(), {});
  http::ClientRequest request;
  request.target = "/metrics";
  const auto other = fleet.loop().Run(client.Fetch({false, "127.0.0.1", fleet.router->prometheus_port()}, request, Now() + 10s));
  ASSERT_TRUE(other.ok());
  EXPECT_NE(other->body.find("smg_router_requests_total"), std::string::npos);
}

TEST(Routes, SeriesOfAWorkerLeaveWithIt) {
  Fleet fleet(1, 2);
  const std::string url = fleet.decode[1]->url();
  const auto series = [&] {
    const std::string text = fleet.Get("/metrics").body;
    size_t count = 0;
    for (size_t at = 0; (at = text.find("worker=\"" + url + "\"", at)) != std::string::npos; ++at) ++count;
    return count;
  };
  for (int i = 0; i < 3; ++i) EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  const size_t before = series();
  EXPECT_GE(before, 10u);
  // A request that runs there still has them.
  fleet.decode[1]->Set(AnswerStream({R"({"text":"a"})"}, Ending::kSilent));
  fleet.decode[0]->Set(AnswerStream({R"({"text":"a"})"}, Ending::kSilent));
  {
    std::vector<RawSocket> clients;
    for (int i = 0; i < 2; ++i) {
      clients.push_back(fleet.Send("/generate", R"({"text":"a","stream":true})"));
      EXPECT_NE(clients.back().ReadUntil("data: "), "");
    }
    EXPECT_EQ(fleet.Fetch("POST", "/remove_worker?url=" + url).status, 200);
    EXPECT_EQ(series(), before);
    EXPECT_EQ(fleet.Metric("smg_worker_requests_active{worker=\"" + url + "\"}"), 1);
    EXPECT_EQ(fleet.Metric("smg_worker_health{worker=\"" + url + "\"}"), -1);
  }
  EXPECT_TRUE(Eventually([&] { return series() == 0; }));
  // Who comes back begins anew, whatever the order of leaving and coming.
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(fleet.Fetch("POST", "/workers", fmt::format(R"({{"url":"{}","worker_type":"decode"}})", url)).status, 202);
    EXPECT_EQ(series(), before);
    EXPECT_EQ(fleet.Fetch("POST", "/remove_worker?url=" + url).status, 200);
  }
  EXPECT_TRUE(Eventually([&] { return series() == 0; }));
}

TEST(Router, BusyPortsAreErrors) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.prometheus_host = "127.0.0.1"; o.prometheus_port = 0; });
  RouterOptions options = fleet.options();
  options.port = fleet.router->port();
  auto main = Router::Start(fleet.loop().executor(), options);
  EXPECT_EQ(main.status().code(), Code::kUnavailable);
  EXPECT_NE(main.status().message().find("--port"), std::string::npos);
  options.port = 0;
  options.prometheus_port = fleet.router->prometheus_port();
  auto metrics = Router::Start(fleet.loop().executor(), options);
  EXPECT_EQ(metrics.status().code(), Code::kUnavailable);
  EXPECT_NE(metrics.status().message().find("--prometheus-port"), std::string::npos);
}

TEST(Router, WithdrawnItServesOn) {
  Fleet fleet;
  fleet.router->Withdraw();
  EXPECT_EQ(fleet.Get("/readiness").status, 503);
  EXPECT_EQ(fleet.Get("/health").status, 503);
  EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
}

TEST(Router, DrainLetsRunningRequestsFinish) {
  Fleet fleet;
  fleet.decode[0]->Set(After(200ms, AnswerJson(200, R"({"ok":1})")));
  RawSocket client = fleet.Send("/generate", R"({"text":"a"})");
  ASSERT_TRUE(Eventually([&] { return fleet.decode[0]->requests() == 1; }));
  fleet.router->Drain();
  EXPECT_FALSE(fleet.router->Ready());
  EXPECT_EQ(fleet.router->OpenRequests(), 1u);
  EXPECT_NE(client.ReadResponse().find(R"({"ok":1})"), std::string::npos);
  EXPECT_TRUE(Eventually([&] { return fleet.router->OpenRequests() == 0; }));
}

TEST(Options, ContradictionsAreNamed) {
  const auto message = [](const std::function<void(RouterOptions&)>& change) {
    RouterOptions o;
    o.pd_disaggregation = true;
    o.prefill = {{"http://p:1", 8998}};
    o.decode = {"http://d:1"};
    change(o);
    return Validate(o).message();
  };
  EXPECT_EQ(message([](RouterOptions&) {}), "");
  const auto contains = [&](const char* text, const std::function<void(RouterOptions&)>& change) {
    EXPECT_NE(message(change).find(text), std::string::npos) << message(change);
  };
  contains("--pd-disaggregation", [](RouterOptions& o) { o.pd_disaggregation = false; });
  contains("twice", [](RouterOptions& o) { o.decode.push_back("http://d:1/"); });
  contains("--prefill and as --decode", [](RouterOptions& o) { o.decode.push_back("http://p:1"); });
  contains("bootstrap port 0", [](RouterOptions& o) { o.prefill[0].bootstrap_port = 0; });
  contains("--worker-urls", [](RouterOptions& o) { o.worker_urls = {"http://w:1"}; });
  contains("--decode nonsense://x", [](RouterOptions& o) { o.decode = {"nonsense://x"}; });
  contains("--retry-max-retries", [](RouterOptions& o) { o.retry.max_attempts = 0; });
  contains("--retry-jitter-factor", [](RouterOptions& o) { o.retry.jitter = 2; });
  contains("--max-total-payload-size", [](RouterOptions& o) { o.max_total_payload_bytes = o.max_payload_bytes - 1; });
  contains("--prometheus-port", [](RouterOptions& o) { o.prometheus_port = 70'000; });
  contains("--health-check-endpoint", [](RouterOptions& o) { o.health.endpoint = "health"; });
}

}  // namespace
}  // namespace baton::router
