// What a client meets before any worker: TLS, keys, cross-origin rules, and what is written down
// about it afterwards.
#include <fstream>
#include <sstream>

#include "http/test_certificates.h"
#include "router/access_log.h"
#include "router/metrics.h"
#include "router/test_fleet.h"

namespace baton::router::test {
namespace {

using http::test::Files;
using http::test::Identity;
using http::test::MakeIdentity;

http::ClientRequest Request(std::string method, std::string target, std::string body = "") {
  http::ClientRequest request{std::move(method), std::move(target), {}, std::move(body)};
  if (!request.body.empty()) request.headers.Set("Content-Type", "application/json");
  return request;
}

class TlsFleet : public ::testing::Test {
 protected:
  http::ServerTlsOptions Server(const std::string& name, const Identity& identity) {
    http::ServerTlsOptions tls;
    tls.cert_file = files_.Certificate(name + ".crt", identity);
    tls.key_file = files_.Key(name + ".key", identity);
    return tls;
  }

  Files files_;
  Identity ca_ = MakeIdentity({.name = "authority", .hosts = ""});
  std::string ca_file_ = files_.Certificate("ca.crt", ca_);
  Loop workers_loop_;
};

TEST_F(TlsFleet, HttpsOnBothSidesWithClientCertificates) {
  http::ServerTlsOptions worker_tls = Server("worker", MakeIdentity({}, &ca_));
  worker_tls.client_ca_files = {ca_file_};
  FakeWorker prefill(workers_loop_, 0, worker_tls), decode(workers_loop_, 0, worker_tls);
  decode.Set(AnswerStream({R"({"text":"a"})", R"({"text":"ab"})"}));
  const Identity router_id = MakeIdentity({.name = "router"}, &ca_);
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    o.prefill.push_back({prefill.url(), 9000});
    o.decode.push_back(decode.url());
    o.tls = Server("router", router_id);
    o.worker_tls.ca_files = {ca_file_};
    o.worker_tls.cert_file = o.tls.cert_file;
    o.worker_tls.key_file = o.tls.key_file;
  }, false);
  http::ClientOptions options;
  options.tls.ca_files = {ca_file_};
  http::Client client(fleet.loop().executor(), options);
  const http::Origin origin{true, "127.0.0.1", fleet.router->port()};
  ASSERT_TRUE(Eventually([&] { return fleet.router->Ready(); }));
  const auto answer = fleet.loop().Run(client.Fetch(origin, Request("POST", "/generate", R"({"text":"x","stream":true})"), Now() + http::test::kPatience));
  ASSERT_TRUE(answer.ok()) << answer.status().ToString();
  EXPECT_EQ(Payloads(answer->body), (std::vector<std::string>{R"({"text":"a"})", R"({"text":"ab"})", "[DONE]"}));
  EXPECT_EQ(prefill.requests(), 1u);
  // A client that leaves is seen at the workers.
  prefill.Set(Hang());
  decode.Set(Hang());
  auto gone = fleet.loop().Run(client.Fetch(origin, Request("POST", "/generate", R"({"text":"x"})"), Now() + 300ms));
  EXPECT_EQ(gone.status().code(), Code::kDeadlineExceeded);
  EXPECT_TRUE(Eventually([&] { return prefill.disconnects() >= 1 && decode.disconnects() >= 1; }));
  client.CloseIdle();
}

TEST_F(TlsFleet, WorkersWithBadCertificatesStayOut) {
  FakeWorker expired(workers_loop_, 0, Server("expired", MakeIdentity({.begins_s = -7200, .ends_s = -3600}, &ca_)));
  FakeWorker stranger(workers_loop_, 0, Server("stranger", MakeIdentity({})));
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    o.prefill.push_back({expired.url(), 9000});
    o.decode.push_back(stranger.url());
    o.worker_tls.ca_files = {ca_file_};
  }, false);
  // A request says no more than that nobody can take it; the log says why for each worker.
  const http::Response answer = fleet.Post("/generate", R"({"text":"x"})");
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(expired.probes() + stranger.probes(), 0);
}

TEST_F(TlsFleet, BadFilesEndTheStart) {
  Loop loop;
  const auto why = [&](const std::function<void(RouterOptions&)>& change) {
    RouterOptions o;
    o.host = "127.0.0.1";
    o.port = 0;
    o.prometheus_port = -1;
    change(o);
    const auto started = Router::Start(loop.executor(), o);
    return started.ok() ? std::string("started") : started.status().message();
  };
  const http::ServerTlsOptions good = Server("good", MakeIdentity({}, &ca_));
  EXPECT_NE(why([&](RouterOptions& o) { o.tls.cert_file = good.cert_file; }).find("go together"), std::string::npos);
  EXPECT_NE(why([&](RouterOptions& o) { o.tls = good; o.tls.key_file = ca_file_; }).find(ca_file_), std::string::npos);
  EXPECT_NE(why([&](RouterOptions& o) { o.worker_tls.ca_files = {"/no/such.pem"}; }).find("/no/such.pem: No such file"), std::string::npos);
  EXPECT_NE(why([&](RouterOptions& o) { o.tls.client_ca_files = {ca_file_}; }).find("needs --tls-cert-path"), std::string::npos);
}

http::Headers With(std::initializer_list<std::pair<const char*, const char*>> fields) {
  http::Headers headers;
  for (const auto& [name, value] : fields) headers.Add(name, value);
  return headers;
}

TEST(Cors, EveryPageMayCallByDefault) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.api_key = "k"; });
  const http::Headers ask = With({{"Origin", "http://page.example"}, {"Access-Control-Request-Method", "POST"},
                                  {"Access-Control-Request-Headers", "authorization,content-type"}});
  const http::Response preflight = fleet.Fetch("OPTIONS", "/v1/chat/completions", "", ask);  // carries no key
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.Get("Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(preflight.headers.Get("Access-Control-Allow-Headers"), "authorization,content-type");
  EXPECT_NE(preflight.headers.Get("Access-Control-Allow-Methods").find("POST"), std::string::npos);

  // The worker's own rules do not get through; streams and errors carry the router's.
  fleet.decode[0]->Set([](http::Request&, http::Responder& responder) -> asio::awaitable<void> {
    http::Headers headers;
    headers.Set("Content-Type", "text/event-stream");
    headers.Set("access-control-allow-origin", "https://worker.example");
    (void)co_await responder.BeginStream(200, std::move(headers));
    (void)co_await responder.Write("data: {}\n\ndata: [DONE]\n\n");
    (void)co_await responder.EndStream();
  });
  const http::Headers page = With({{"Origin", "http://page.example"}, {"Authorization", "Bearer k"}});
  const http::Response stream = fleet.Fetch("POST", "/generate", R"({"text":"a","stream":true})", page);
  EXPECT_EQ(stream.status, 200);
  EXPECT_EQ(stream.headers.Get("Access-Control-Allow-Origin"), "*");
  EXPECT_NE(stream.headers.Get("Access-Control-Expose-Headers").find("x-request-id"), std::string::npos);
  const http::Response refused = fleet.Fetch("POST", "/generate", "{}", With({{"Origin", "http://page.example"}}));
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.headers.Get("Access-Control-Allow-Origin"), "*");
  // Nobody who is no page sees any of it.
  EXPECT_FALSE(fleet.Get("/health").headers.Has("Access-Control-Allow-Origin"));
}

TEST(Cors, ListedPagesOnly) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.cors_origins = {"https://chat.example/", "http://localhost:3000"}; });
  const http::Response listed = fleet.Fetch("GET", "/health", "", With({{"Origin", "https://chat.example"}}));
  EXPECT_EQ(listed.headers.Get("Access-Control-Allow-Origin"), "https://chat.example");
  EXPECT_EQ(listed.headers.Get("Vary"), "Origin");
  const http::Response other = fleet.Fetch("GET", "/health", "", With({{"Origin", "https://evil.example"}}));
  EXPECT_EQ(other.status, 200);
  EXPECT_FALSE(other.headers.Has("Access-Control-Allow-Origin"));
  EXPECT_EQ(other.headers.Get("Vary"), "Origin");
  EXPECT_EQ(fleet.Fetch("OPTIONS", "/health", "", With({{"Origin", "https://evil.example"}, {"Access-Control-Request-Method", "GET"}})).status, 403);
  EXPECT_EQ(fleet.Fetch("OPTIONS", "/health", "", With({{"Origin", "http://localhost:3000"}, {"Access-Control-Request-Method", "GET"}})).status, 204);
}

const char* const kControlCalls[] = {"POST /workers", "GET /workers", "PUT /workers/x", "DELETE /workers/x", "POST /add_worker?url=http://127.0.0.1:1",
                                     "POST /remove_worker?url=http://127.0.0.1:1", "GET /list_workers", "GET /flush_cache", "POST /flush_cache",
                                     "GET /get_loads", "GET /metrics", "GET /server_info", "GET /engine_metrics", "POST /nowhere"};

http::Response Call(Fleet& fleet, std::string_view call, http::Headers headers) {
  const size_t space = call.find(' ');
  headers.Set("Content-Type", "text/plain");  // needs no preflight
  const bool body = call.starts_with("POST") || call.starts_with("PUT");
  return fleet.Fetch(std::string(call.substr(0, space)), std::string(call.substr(space + 1)), body ? R"({"url":"http://127.0.0.1:1","worker_type":"decode"})" : "",
                     std::move(headers));
}

TEST(ControlRoutes, AreClosedToPagesOfOtherOrigins) {
  for (const std::vector<std::string>& origins : {std::vector<std::string>{}, {"*"}, {"https://ops.example", "*"}, {"https://ops.example"}}) {
    Fleet fleet(1, 1, [&](RouterOptions& o) { o.cors_origins = origins; });
    const std::string before = fleet.Get("/list_workers").body;
    for (const char* origin : {"http://page.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "https://ops.example.evil"}) {
      for (const char* call : kControlCalls) {
        const http::Response refused = Call(fleet, call, With({{"Origin", origin}}));
        EXPECT_EQ(refused.status, 403) << call << " " << origin;
        EXPECT_EQ(ErrorCode(refused), "foreign_origin");
        EXPECT_NE(refused.body.find("--cors-allowed-origins"), std::string::npos) << refused.body;
        EXPECT_FALSE(refused.headers.Has("Access-Control-Allow-Origin")) << call;
        EXPECT_NE(refused.headers.Get("x-request-id"), "");
      }
      const http::Response preflight = fleet.Fetch("OPTIONS", "/workers/x", "", With({{"Origin", origin}, {"Access-Control-Request-Method", "DELETE"}}));
      EXPECT_EQ(preflight.status, 403);
      EXPECT_FALSE(preflight.headers.Has("Access-Control-Allow-Methods"));
    }
    EXPECT_EQ(fleet.Get("/list_workers").body, before);
    EXPECT_EQ(fleet.decode[0]->flushes(), 0);
  }
}

TEST(ControlRoutes, ImagesAndFormsOfOtherSitesChangeNothing) {
  Fleet fleet;
  for (const char* site : {"cross-site", "same-site"}) {
    const http::Headers from = With({{"Sec-Fetch-Site", site}});
    EXPECT_EQ(Call(fleet, "GET /flush_cache", from).status, 403) << site;
    EXPECT_EQ(Call(fleet, "POST /workers", from).status, 403) << site;
    EXPECT_EQ(Call(fleet, "GET /metrics", from).status, 200) << site;  // a link to it
    EXPECT_EQ(Call(fleet, "GET /v1/models", from).status, 200) << site;
  }
  EXPECT_EQ(fleet.decode[0]->flushes(), 0);
  EXPECT_EQ(Call(fleet, "GET /flush_cache", With({{"Sec-Fetch-Site", "none"}})).status, 200);
  EXPECT_EQ(Call(fleet, "GET /flush_cache", With({{"Sec-Fetch-Site", "same-origin"}})).status, 200);
}

TEST(ControlRoutes, AreOpenToToolsOwnPagesAndListedOnes) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.cors_origins = {"https://ops.example"}; });
  const std::string own = fmt::format("http://127.0.0.1:{}", fleet.router->port());
  for (const http::Headers& from : {http::Headers(), With({{"Origin", own.c_str()}, {"Sec-Fetch-Site", "same-origin"}}),
                                    With({{"Origin", "https://ops.example"}, {"Sec-Fetch-Site", "cross-site"}})}) {
    const int flushes = fleet.decode[0]->flushes();
    EXPECT_EQ(Call(fleet, "GET /workers", from).status, 200);
    const http::Response flushed = Call(fleet, "POST /flush_cache", from);
    EXPECT_EQ(flushed.status, 200);
    EXPECT_EQ(fleet.decode[0]->flushes(), flushes + 1);
    EXPECT_FALSE(flushed.headers.Has("Access-Control-Allow-Origin"));
    EXPECT_FALSE(flushed.headers.Has("Access-Control-Expose-Headers"));
  }
  // ... but nothing that needs a preflight.
  const http::Response preflight = fleet.Fetch("OPTIONS", "/workers/x", "", With({{"Origin", "https://ops.example"}, {"Access-Control-Request-Method", "DELETE"}}));
  EXPECT_EQ(preflight.status, 405);
  EXPECT_FALSE(preflight.headers.Has("Access-Control-Allow-Methods"));
  EXPECT_FALSE(preflight.headers.Has("Access-Control-Allow-Origin"));
}

TEST(Bodies, AllTogetherAreBounded) {
  Fleet fleet(1, 1, [](RouterOptions& o) {
    o.max_payload_bytes = 100'000;
    o.max_total_payload_bytes = 150'000;
  });
  fleet.decode[0]->Set(Hang());
  const std::string large = fmt::format(R"({{"text":"{}"}})", std::string(90'000, 'a'));
  RawSocket first = fleet.Send("/generate", large);
  ASSERT_TRUE(Eventually([&] { return fleet.Metric("baton_router_request_body_bytes") == static_cast<double>(large.size()); }));
  const http::Response refused = fleet.Post("/generate", large);
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.Get("Retry-After"), "1");
  EXPECT_EQ(ErrorCode(refused), "overloaded");
  EXPECT_EQ(fleet.decode[0]->requests(), 1u);
  first.Close();
  EXPECT_TRUE(Eventually([&] { return fleet.Metric("baton_router_request_body_bytes") == 0; }));
  fleet.decode[0]->Set(AnswerJson(200, "{}"));
  EXPECT_EQ(fleet.Post("/generate", large).status, 200);
}

TEST(Keys, AdminRoutesWantTheirOwn) {
  Fleet fleet(1, 1, [](RouterOptions& o) {
    o.api_key = "data";
    for (const char* text : {"1:ann:admin:root:with:colons", "2:bob:user:plain"}) {
      auto key = ParseControlKey(text);
      ASSERT_TRUE(key.ok()) << key.status().message();
      o.control_keys.push_back(*key);
    }
  });
  const auto status = [&](const char* target, const char* key) {
    return fleet.Fetch("GET", target, "", With({{"Authorization", key}})).status;
  };
  EXPECT_EQ(status("/workers", "Bearer root:with:colons"), 200);
  EXPECT_EQ(status("/workers", "bearer root:with:colons"), 200);
  EXPECT_EQ(status("/workers", "Bearer plain"), 403);
  EXPECT_EQ(status("/workers", "Bearer data"), 401);
  EXPECT_EQ(status("/workers/x", "Bearer data"), 401);
  EXPECT_EQ(status("/get_loads", "Bearer root:with:colon"), 401);
  EXPECT_EQ(status("/get_loads", ""), 401);
  EXPECT_EQ(fleet.Fetch("POST", "/generate", R"({"text":"a"})", With({{"Authorization", "Bearer data"}})).status, 200);
  EXPECT_EQ(fleet.Fetch("POST", "/generate", R"({"text":"a"})", With({{"Authorization", "Bearer root:with:colons"}})).status, 401);
  // Workers get the router's key, not the client's.
  EXPECT_EQ(fleet.decode[0]->headers(0).Get("Authorization"), "Bearer data");
  for (const char* bad : {"", "a", "a:b", "a:b:admin", "a:b:admin:", ":b:admin:k", "a:b:root:k"}) {
    EXPECT_FALSE(ParseControlKey(bad).ok()) << bad;
  }
  EXPECT_EQ(ParseControlKey("a:b:root:hush").status().message().find("hush"), std::string::npos);
}

class AccessLogTest : public ::testing::Test {
 protected:
  // The `count` lines there will be, parsed.
  std::vector<json::object> Lines(size_t count) {
    std::vector<json::object> lines;
    EXPECT_TRUE(Eventually([&] {
      lines.clear();
      std::ifstream file(path_);
      for (std::string line; std::getline(file, line);) {
        auto parsed = json::Parse(line);
        if (!parsed.ok() || !parsed->is_object()) return false;
        // The fleet polls it until all are ready; only what went well is left out.
        if (parsed->at("path").as_string() != "/readiness") lines.push_back(parsed->as_object());
      }
      return lines.size() >= count;
    })) << lines.size();
    return lines;
  }
  Files files_;
  std::string path_ = files_.Path("access.log");
};

TEST_F(AccessLogTest, TellsWhatHappened) {
  Fleet fleet(1, 1, [&](RouterOptions& o) { o.access_log = path_; o.retry.max_attempts = 2; });
  fleet.decode[0]->Set(AnswerStream({R"({"text":"a"})"}));
  fleet.Fetch("POST", "/generate", R"({"model":"m\"\u00e9","text":"a","stream":true})", With({{"x-request-id", "id-1"}}));
  auto lines = Lines(1);
  EXPECT_EQ(lines[0]["request_id"].as_string(), "id-1");
  EXPECT_EQ(lines[0]["method"].as_string(), "POST");
  EXPECT_EQ(lines[0]["path"].as_string(), "/generate");
  EXPECT_EQ(lines[0]["status"].to_number<int>(), 200);
  EXPECT_EQ(lines[0]["bytes"].to_number<size_t>(), std::string_view("data: {\"text\":\"a\"}\n\ndata: [DONE]\n\n").size());
  EXPECT_GE(lines[0]["duration_ms"].to_number<double>(), lines[0]["ttft_ms"].to_number<double>());
  EXPECT_EQ(lines[0]["prefill"].as_string(), fleet.prefill[0]->url());
  EXPECT_EQ(lines[0]["decode"].as_string(), fleet.decode[0]->url());
  EXPECT_EQ(lines[0]["attempts"].to_number<int>(), 1);
  EXPECT_EQ(lines[0]["stream"].as_bool(), true);
  EXPECT_TRUE(std::string_view(lines[0]["time"].as_string()).ends_with("Z"));

  fleet.decode[0]->Set(AnswerJson(500, R"({"error":{"message":"boom"}})"));
  fleet.Post("/generate", R"({"text":"a"})");
  fleet.Fetch("GET", "/nowhere?api_key=secret", "", With({{"x-request-id", "id-3"}}));
  RawSocket bad = RawSocket::Connect(fleet.router->port());
  bad.Send("GET / HTTP/9.9\r\n\r\n");
  const std::string bad_answer = bad.ReadToEnd();
  lines = Lines(4);
  EXPECT_EQ(lines[1]["status"].to_number<int>(), 500);
  EXPECT_EQ(lines[1]["attempts"].to_number<int>(), 2);
  EXPECT_EQ(lines[1]["error_code"].as_string(), "decode_internal_error");
  EXPECT_EQ(lines[2]["status"].to_number<int>(), 404);
  EXPECT_EQ(lines[2]["path"].as_string(), "/nowhere");
  EXPECT_EQ(lines[2]["request_id"].as_string(), "id-3");
  EXPECT_EQ(lines[3]["status"].to_number<int>(), 505);
  EXPECT_NE(bad_answer.find(fmt::format("x-request-id: {}\r\n", std::string_view(lines[3]["request_id"].as_string()))), std::string::npos);

  fleet.decode[0]->Set(Hang());
  RawSocket gone = fleet.Send("/generate", R"({"text":"a"})");
  ASSERT_TRUE(Eventually([&] { return fleet.decode[0]->requests() == 4; }));
  gone.Close();
  lines = Lines(5);
  EXPECT_EQ(lines[4]["error_code"].as_string(), "client_gone");
  EXPECT_EQ(lines[4]["status"].to_number<int>(), 0);
}

TEST(AccessLine, LeavesOutProbesThatWentWell) {
  http::Request request;
  request.path = "/readiness";
  EXPECT_FALSE(IsLogged(request, {.status = 200}));
  EXPECT_TRUE(IsLogged(request, {.status = 503}));
  request.path = "/workers";
  EXPECT_TRUE(IsLogged(request, {.status = 200}));
}

TEST(AccessLine, EscapesWhatClientsSend) {
  http::Request request;
  request.method = "GET";
  request.path = "/\"\\\n\xff\u00e9\x1b";
  request.id = "a\"b";
  const std::string line = AccessLine(request, {.status = 404, .received = Now()}, 1'700'000'000.5);
  const auto parsed = json::Parse(line);
  ASSERT_TRUE(parsed.ok()) << line;
  EXPECT_EQ(parsed->at("time").as_string(), "2023-11-14T22:13:20.500Z");
  EXPECT_EQ(parsed->at("request_id").as_string(), "a\"b");
  EXPECT_EQ(parsed->at("path").as_string(), "/\"\\\n\xc3\xbf\u00e9\x1b");
  EXPECT_NE(line.find("\u00e9\\u001b\""), std::string::npos) << line;  // UTF-8 stays readable
}

TEST(MetricsOfRequests, ModelsAreTheWorkersOnly) {
  Fleet fleet;
  fleet.Post("/generate", R"({"model":"tiny","text":"a"})");
  for (int i = 0; i < 20; ++i) fleet.Post("/generate", fmt::format(R"({{"model":"junk{}","text":"a"}})", i));
  const auto requests = [&](const char* model) {
    return fleet.Metric(fmt::format("smg_router_requests_total{{router_type=\"http\",backend_type=\"pd\",connection_mode=\"http\","
                                    "model=\"{}\",endpoint=\"generate\",streaming=\"false\"}}", model));
  };
  EXPECT_EQ(requests("tiny"), 1);
  EXPECT_EQ(requests("unknown"), 20);
  EXPECT_EQ(fleet.Get("/metrics").body.find("junk"), std::string::npos);
  EXPECT_EQ(fleet.Metric(R"(smg_router_upstream_responses_total{router_type="http",worker_type="decode",status_code="200",error_code=""})"), 21);
  EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_cb_consecutive_successes{{worker=\"{}\"}}", fleet.decode[0]->url())), 21);
}

TEST(MetricsOfRequests, AgesAndConnections) {
  Fleet fleet;
  fleet.decode[0]->Set(Hang());
  RawSocket waiting = fleet.Send("/generate", R"({"text":"a"})");
  ASSERT_TRUE(Eventually([&] { return fleet.Metric(R"(smg_http_inflight_request_age_count{gt="0",le="30"})") == 1; }));
  EXPECT_GE(fleet.Metric("smg_http_connections_active"), 2);
  waiting.Close();
  EXPECT_TRUE(Eventually([&] { return fleet.Metric(R"(smg_http_inflight_request_age_count{gt="0",le="30"})") == 0; }));
  InflightAges ages;
  const TimePoint now = Now();
  const size_t old = ages.Begin(now - std::chrono::seconds(45));
  ages.Begin(now - std::chrono::seconds(30));
  ages.Begin(now);
  EXPECT_EQ(ages.Count(0, 30, now), 2u);
  EXPECT_EQ(ages.Count(30, 60, now), 1u);
  ages.End(old);
  EXPECT_EQ(ages.Count(30, 60, now), 0u);
}

// Every route of sglang-router 0.3.2 is known here (specs/sglang-pd-protocol.md 3.1, and 3.9 for the
// worker routes of all three generations).
TEST(FurtherRoutes, AllOfSglangRoutersAreThere) {
  Fleet fleet;
  const std::string chat = R"({"messages":[{"role":"user","content":"a"}]})";
  const std::string worker = R"({"url":"http://127.0.0.1:9","worker_type":"decode"})";
  const struct { const char* method; const char* path; std::string body; int status; } cases[] = {
      {"POST", "/generate", R"({"text":"a"})", 200},
      {"POST", "/v1/chat/completions", chat, 200},
      {"POST", "/v1/completions", R"({"prompt":"a"})", 200},
      {"POST", "/rerank", R"({"query":"q","documents":["a"]})", 200},
      {"POST", "/v1/rerank", R"({"query":"q","documents":["a"]})", 200},
      {"POST", "/v1/embeddings", R"({"input":"a"})", 501},
      {"POST", "/v1/classify", R"({"input":"a"})", 501},
      {"POST", "/v1/responses", R"({"input":"a"})", 501},
      {"GET", "/v1/responses/1", "", 501},
      {"POST", "/v1/tokenize", R"({"prompt":"a"})", 200},
      {"GET", "/liveness", "", 200},
      {"GET", "/health", "", 200},
      {"GET", "/readiness", "", 200},
      {"GET", "/health_generate", "", 200},
      {"GET", "/engine_metrics", "", 200},
      {"GET", "/v1/models", "", 200},
      {"GET", "/get_model_info", "", 200},
      {"GET", "/get_server_info", "", 200},
      {"POST", "/flush_cache", "", 200},
      {"GET", "/get_loads", "", 200},
      {"POST", "/workers", worker, 202},
      {"GET", "/workers", "", 200},
      {"GET", "/workers/http%3A%2F%2F127.0.0.1%3A9", "", 200},
      {"PUT", "/workers/http%3A%2F%2F127.0.0.1%3A9", R"({"priority":3})", 202},
      {"DELETE", "/workers/http%3A%2F%2F127.0.0.1%3A9", "", 202},
      {"POST", "/add_worker?worker_type=decode&url=http://127.0.0.1:9", "", 200},
      {"GET", "/list_workers", "", 200},
      {"POST", "/remove_worker?url=http://127.0.0.1:9", "", 200},
      {"GET", "/v1/tokenizers", "", 501},
      {"POST", "/v1/tokenizers", R"({"name":"m","source":"m"})", 501},
      {"GET", "/v1/tokenizers/m", "", 501},
      {"GET", "/v1/tokenizers/m/status", "", 501},
      {"DELETE", "/v1/tokenizers/m", "", 501},
      {"POST", "/parse/function_call", "{}", 501},
      {"POST", "/parse/reasoning", "{}", 501},
      {"GET", "/nothing", "", 404},
  };
  for (const auto& c : cases) {
    const http::Response answer = fleet.Fetch(c.method, c.path, c.body);
    EXPECT_EQ(answer.status, c.status) << c.method << " " << c.path << ": " << answer.body;
    EXPECT_EQ(ErrorCode(answer) == "not_implemented", c.status == 501) << c.path;
    const bool tokenizers = std::string_view(c.path).starts_with("/v1/tokenizers");
    EXPECT_EQ(answer.body.find("POST /v1/tokenize") != std::string::npos, tokenizers) << c.path;
    EXPECT_TRUE(answer.headers.Has("x-request-id")) << c.path;
  }
}

TEST(FurtherRoutes, RerankTokenizeAndWhatIsNotServed) {
  Fleet fleet;
  fleet.decode[0]->Set(AnswerJson(200, R"([{"index":0,"score":0.5}])"));
  for (const char* path : {"/rerank", "/v1/rerank"}) {
    const http::Response answer = fleet.Post(path, R"({"query":"q","documents":["a","b"]})");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, R"([{"index":0,"score":0.5}])");
  }
  EXPECT_NE(fleet.prefill[0]->body(0).find("\"bootstrap_room\":"), std::string::npos);
  EXPECT_EQ(fleet.Post("/v1/tokenize", R"({"prompt":"a"})").body, R"({"tokens":[1],"count":1})");
  EXPECT_EQ(fleet.Post("/tokenize", R"({"prompt":"a"})").status, 404);  // as the worker says
  for (const char* path : {"/v1/embeddings", "/v1/classify", "/v1/responses", "/v1/responses/x/cancel"}) {
    const http::Response answer = fleet.Post(path, R"({"input":"a"})");
    EXPECT_EQ(answer.status, 501) << path;
    EXPECT_EQ(ErrorCode(answer), "not_implemented");
  }
}

}  // namespace
}  // namespace baton::router::test
