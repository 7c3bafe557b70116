// The router in front of workers that have the routes and fields of SGLang 0.5.9 or 0.5.23 and
// nothing else, made from specs/sglang-pd-protocol.md section 2: no Baton field is needed, and none
// that it sends does harm.
#include <gtest/gtest.h>

#include "router/proxy.h"
#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

struct Generation {
  const char* version;
  bool has_get_load;   // gone in 0.5.23
  bool has_v1_loads;
};

// A worker of one role. POST bodies are checked as SGLang checks them.
class SglangServer {
 public:
  SglangServer(Loop& loop, const Generation& generation, bool prefill) {
    http::ServerOptions options;
    server_ = std::make_unique<http::Server>(loop.executor(), options);
    // /health runs a one-token generation: never quick (here: quicker than the real one's second).
    server_->Route("GET", "/health", After(120ms, AnswerJson(200, "")));
    const std::string info = fmt::format(
        R"({{"model_path":"/m","tokenizer_path":"/m","served_model_name":"served","tp_size":1,"dp_size":1,"disaggregation_mode":"{}","disaggregation_bootstrap_port":8998,"max_total_num_tokens":1000,"internal_states":[{{"last_gen_throughput":1.5}}],"version":"{}"}})",
        prefill ? "prefill" : "decode", generation.version);
    const std::string model = R"({"model_path":"/m","tokenizer_path":"/m","is_generation":true,"preferred_sampling_params":null,"weight_version":"default"})";
    for (const char* path : {"/server_info", "/get_server_info"}) server_->Route("GET", path, AnswerJson(200, info));
    for (const char* path : {"/model_info", "/get_model_info"}) server_->Route("GET", path, AnswerJson(200, model));
    server_->Route("GET", "/v1/models", AnswerJson(200, R"({"object":"list","data":[{"id":"served","object":"model","owned_by":"sglang","max_model_len":100}]})"));
    if (generation.has_get_load) server_->Route("GET", "/get_load", AnswerJson(200, R"([{"dp_rank":0,"num_reqs":1,"num_waiting_reqs":0,"num_tokens":10}])"));
    if (generation.has_v1_loads) server_->Route("GET", "/v1/loads", AnswerJson(200, R"({"loads":[{"dp_rank":0,"num_total_reqs":1,"num_used_tokens":10}]})"));
    for (const char* path : {"/generate", "/v1/chat/completions", "/v1/completions"}) {
      server_->Route("POST", path, [this](http::Request& request, http::Responder& responder) { return Answer(request, responder); });
    }
    EXPECT_TRUE(server_->Start().ok());
  }
  ~SglangServer() { server_->Stop(); }
  std::string url() const { return fmt::format("http://127.0.0.1:{}", server_->port()); }
  // What the next requests get instead of an answer.
  void FailWith(int status, std::string body) {
    std::lock_guard lock(mutex_);
    fail_status_ = status;
    fail_body_ = std::move(body);
  }
  std::string problems() const {
    std::lock_guard lock(mutex_);
    return problems_;
  }

 private:
  asio::awaitable<void> Answer(http::Request& request, http::Responder& responder) {
    const json::value body = *json::Parse(request.body);
    Check(request, body.get_object());
    int status = 0;
    std::string text;
    {
      std::lock_guard lock(mutex_);
      status = fail_status_;
      text = fail_body_;
    }
    const json::value* stream = json::Find(body.get_object(), "stream");
    const bool native = request.path == "/generate";
    Script script = AnswerJson(status ? status : 200, status ? text : native ? kNative : kChat);
    if (!status && stream && stream->get_bool()) script = AnswerStream({native ? kNative : kChunk});
    co_await script(request, responder);
  }
  void Check(const http::Request& request, const json::object& body) {
    std::lock_guard lock(mutex_);
    const auto expect = [&](bool good, const char* what) {
      if (!good) problems_ += fmt::format("{}: {}; ", request.path, what);
    };
    const json::value* room = json::Find(body, "bootstrap_room");
    const json::value* host = json::Find(body, "bootstrap_host");
    const json::value* port = json::Find(body, "bootstrap_port");
    expect(host && host->is_string() && host->get_string() == "127.0.0.1", "bootstrap_host");
    expect(room && room->is_int64() && room->get_int64() > 0, "bootstrap_room");
    expect(port && port->is_int64() && port->get_int64() == 8998, "bootstrap_port from /server_info");
    for (const auto& member : body) expect(!std::string_view(member.key()).starts_with("baton"), "a field of ours");
    expect(request.headers.Get("Content-Type") == "application/json", "media type");
  }

  static constexpr const char* kNative =
      R"({"text":"a","output_ids":[1],"meta_info":{"id":"r","finish_reason":{"type":"length","length":1},"prompt_tokens":1,"completion_tokens":1,"cached_tokens":0,"weight_version":"default","e2e_latency":0.1}})";
  static constexpr const char* kChat = R"({"id":"c","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1}})";
  static constexpr const char* kChunk = R"({"id":"c","object":"chat.completion.chunk","choices":[]})";

  std::unique_ptr<http::Server> server_;
  mutable std::mutex mutex_;
  std::string problems_, fail_body_;
  int fail_status_ = 0;
};

class SglangWorkers : public ::testing::TestWithParam<Generation> {
 protected:
  SglangWorkers() {
    fleet_ = std::make_unique<Fleet>(0, 0, [this](RouterOptions& o) {
      o.prefill = {{prefill_.url(), std::nullopt}};
      o.decode = {decode_.url()};
      o.retry.max_attempts = 1;
    }, false);
    EXPECT_TRUE(fleet_->AllHealthy(2));
  }
  Loop loop_{2};
  SglangServer prefill_{loop_, GetParam(), true}, decode_{loop_, GetParam(), false};
  std::unique_ptr<Fleet> fleet_;
};

TEST_P(SglangWorkers, ServeEveryRoute) {
  for (const char* stream : {"", R"(,"stream":true)"}) {
    EXPECT_EQ(fleet_->Post("/generate", fmt::format(R"({{"text":"a"{}}})", stream)).status, 200);
    EXPECT_EQ(fleet_->Post("/v1/completions", fmt::format(R"({{"prompt":"a"{}}})", stream)).status, 200);
    const http::Response chat = fleet_->Post("/v1/chat/completions", fmt::format(R"({{"messages":[]{}}})", stream));
    EXPECT_EQ(chat.status, 200);
    EXPECT_EQ(chat.body.find("\n: "), std::string::npos);
  }
  EXPECT_TRUE(Eventually([&] { return fleet_->Metric("smg_router_requests_active") == 0; }));
  EXPECT_EQ(prefill_.problems() + decode_.problems(), "");
  EXPECT_NE(fleet_->Get("/v1/models").body.find("served"), std::string::npos);
  EXPECT_EQ(fleet_->Get("/get_server_info").status, 200);
  EXPECT_EQ(fleet_->Get("/get_model_info").status, 200);
  EXPECT_EQ(fleet_->Get("/get_loads").status, 200);
}

TEST_P(SglangWorkers, ErrorsOfEveryShapeAreUnderstood) {
  const struct { int status; std::string body; const char* code; } cases[] = {
      {400, R"({"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400})", "decode_bad_request"},
      {404, R"({"object":"error","message":"no such model","type":"404","param":null,"code":404})", "decode_not_found"},
      {400, R"({"error":{"message":"bad value"}})", "decode_bad_request"},
      {401, R"({"error":"Unauthorized"})", "decode_error"},
      {503, R"({"object":"error","message":"retracted","type":"503","param":null,"code":503})", "decode_unavailable"},
      {500, R"({"object":"error","message":"KVTransferError(bootstrap_room=1): x","type":"500","param":null,"code":500})", "decode_internal_error"},
      {500, "Internal Server Error", "decode_internal_error"},
  };
  for (const auto& c : cases) {
    decode_.FailWith(c.status, c.body);
    const http::Response response = fleet_->Post("/generate", R"({"text":"a"})");
    EXPECT_EQ(response.status, c.status) << c.body;
    EXPECT_EQ(response.headers.Get("X-SMG-Error-Code"), c.code) << c.body;
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, SglangWorkers,
                         ::testing::Values(Generation{"0.5.9", true, true}, Generation{"0.5.23", false, true}),
                         [](const auto& info) { return info.index ? "V0_5_23" : "V0_5_9"; });

}  // namespace
}  // namespace baton::router
