// The router in front of workers that have the routes and fields of SGLang 0.5.9 or 0.5.23 (and of
// those before, which know the old names only) and nothing else, made from
// specs/sglang-pd-protocol.md section 2: no Baton field is needed, and none that it sends does harm.
// Ranks (data_parallel_rank, routed_dp_rank) have dp_aware_test.cpp.
#include <map>

#include <gtest/gtest.h>

#include "router/proxy.h"
#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

struct Generation {
  const char* version;
  bool new_names;     // /server_info and /model_info beside /get_server_info and /get_model_info
  bool has_get_load;  // gone in 0.5.23
  bool has_v1_loads;
};

constexpr const char* kKey = "Bearer the-key";
// The whole answer of one sample, as decode streams it: one token an event, each event with all so far.
constexpr size_t kTokens = 4;

// Prefill answers a room when decode has asked for it, and the other way round.
class Rooms {
 public:
  asio::awaitable<void> Meet(std::vector<int64_t> rooms, bool prefill) {
    {
      const std::lock_guard lock(mutex_);
      for (int64_t room : rooms) seen_[room][prefill] = true;
    }
    const TimePoint end = Now() + http::test::kPatience;
    while (!Met(rooms) && Now() < end) co_await Sleep(1ms);
  }
  size_t count() const {
    const std::lock_guard lock(mutex_);
    return seen_.size();
  }
  bool AllMet() const {
    const std::lock_guard lock(mutex_);
    return std::all_of(seen_.begin(), seen_.end(), [](const auto& room) { return room.second[0] && room.second[1]; });
  }

 private:
  bool Met(const std::vector<int64_t>& rooms) const {
    const std::lock_guard lock(mutex_);
    return std::all_of(rooms.begin(), rooms.end(), [&](int64_t room) { return seen_.at(room)[0] && seen_.at(room)[1]; });
  }
  mutable std::mutex mutex_;
  std::map<int64_t, std::array<bool, 2>> seen_;
};

// A worker of one role. What comes is checked as SGLang checks it.
class SglangServer {
 public:
  SglangServer(Loop& loop, const Generation& generation, bool prefill, Rooms& rooms) : prefill_(prefill), rooms_(rooms) {
    server_ = std::make_unique<http::Server>(loop.executor(), http::ServerOptions{});
    const std::string info = fmt::format(
        R"({{"model_path":"/m","tokenizer_path":"/m","served_model_name":"served","tp_size":1,"dp_size":1,"disaggregation_mode":"{}","disaggregation_bootstrap_port":8998,"max_total_num_tokens":1000,"internal_states":[{{"last_gen_throughput":1.5}}],"version":"{}"}})",
        prefill ? "prefill" : "decode", generation.version);
    const std::string model = R"({"model_path":"/m","tokenizer_path":"/m","is_generation":true,"preferred_sampling_params":null,"weight_version":"default"})";
    // /health runs a one-token generation: never quick (here: quicker than the real one's second).
    server_->Route("GET", "/health", After(120ms, AnswerJson(200, "")));
    Serve("GET", "/health_generate", "");
    for (const char* name : {"/server_info", "/get_server_info"}) {
      if (generation.new_names || std::string_view(name).starts_with("/get_")) Serve("GET", name, info);
    }
    for (const char* name : {"/model_info", "/get_model_info"}) {
      if (generation.new_names || std::string_view(name).starts_with("/get_")) Serve("GET", name, model);
    }
    Serve("GET", "/v1/models", R"({"object":"list","data":[{"id":"served","object":"model","owned_by":"sglang","max_model_len":100}]})");
    if (generation.has_get_load) Serve("GET", "/get_load", R"([{"dp_rank":0,"num_reqs":1,"num_waiting_reqs":2,"num_tokens":10,"ts_tic":1.5}])");
    if (generation.has_v1_loads) {
      Serve("GET", "/v1/loads", R"({"timestamp":"t","version":"v","dp_rank_count":1,"loads":[{"dp_rank":0,"num_running_reqs":1,"num_waiting_reqs":2,"num_total_reqs":3,"num_used_tokens":10,"max_total_num_tokens":1000,"token_usage":0.01}],"aggregate":{}})");
    }
    Serve("POST", "/flush_cache", "Cache flushed.\n");
    Serve("POST", "/v1/tokenize", R"({"tokens":[1],"count":1,"max_model_len":100})");
    Serve("GET", "/metrics", "# TYPE sglang:num_running_reqs gauge\nsglang:num_running_reqs{model_name=\"m\"} 1\n");
    for (const char* path : {"/generate", "/v1/chat/completions", "/v1/completions"}) {
      server_->Route("POST", path, [this](http::Request& request, http::Responder& responder) { return Answer(request, responder); });
    }
    server_->Route("*", "/baton/*", [this](http::Request& request, http::Responder&) -> asio::awaitable<void> {
      Expect(request, false, "a route of ours");
      co_return;
    });
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
  // Streams stop after this many events: broken off, or silent until the client goes.
  void StopAfter(int events, Ending how) {
    stop_after_ = events;
    ending_ = how;
  }
  int disconnects() const { return disconnects_; }
  int posts() const { return posts_; }
  std::string problems() const {
    std::lock_guard lock(mutex_);
    return problems_;
  }

 private:
  // Everything but /health and /metrics wants the key.
  void Serve(const char* method, const char* path, std::string body) {
    server_->Route(method, path, [this, body](http::Request& request, http::Responder& responder) -> asio::awaitable<void> {
      if (request.path != "/metrics") Expect(request, request.headers.Get("Authorization") == kKey, "key");
      const Script script = AnswerJson(200, body);
      co_await script(request, responder);
    });
  }
  void Expect(const http::Request& request, bool good, const char* what) {
    if (good) return;
    std::lock_guard lock(mutex_);
    problems_ += fmt::format("{}: {}; ", request.path, what);
  }

  asio::awaitable<void> Answer(http::Request& request, http::Responder& responder) {
    ++posts_;
    responder.OnDisconnect([this] { ++disconnects_; });
    const json::value parsed = *json::Parse(request.body);
    const json::object& body = parsed.get_object();
    const std::vector<int64_t> rooms = Check(request, body);
    int status = 0;
    std::string text;
    {
      std::lock_guard lock(mutex_);
      status = fail_status_;
      text = fail_body_;
    }
    Script script = AnswerJson(status, text);
    if (status == 0) {
      co_await rooms_.Meet(rooms, prefill_);
      script = json::Find(body, "stream") ? Stream(request.path, body, rooms.size()) : Whole(request.path, body, rooms.size());
    }
    co_await script(request, responder);
  }

  // The rooms of the request, one for each sample.
  std::vector<int64_t> Check(const http::Request& request, const json::object& body) {
    for (const auto& member : body) Expect(request, !std::string_view(member.key()).starts_with("baton"), "a field of ours");
    Expect(request, request.headers.Get("Content-Type") == "application/json", "media type");
    Expect(request, request.headers.Get("Authorization") == kKey, "key");
    std::array<std::vector<json::value>, 3> lists;
    const std::array names = {"bootstrap_host", "bootstrap_port", "bootstrap_room"};
    for (size_t i = 0; i < names.size(); ++i) {
      const json::value* found = json::Find(body, names[i]);
      if (found && found->is_array()) lists[i].assign(found->get_array().begin(), found->get_array().end());
      else if (found) lists[i].push_back(*found);
      Expect(request, lists[i].size() == lists[0].size() && !lists[i].empty(), "bootstrap fields in one shape");
    }
    std::vector<int64_t> rooms;
    for (const json::value& host : lists[0]) Expect(request, host == "127.0.0.1", "bootstrap_host");
    for (const json::value& port : lists[1]) Expect(request, port == 8998, "bootstrap_port from /server_info");
    for (const json::value& room : lists[2]) {
      Expect(request, room.is_int64() && room.get_int64() > 0, "bootstrap_room");
      rooms.push_back(room.is_int64() ? room.get_int64() : 0);
    }
    return rooms;
  }

  // `tokens` of one sample of /generate. Prefill tells the first token, and alone knows the prompt's logprobs.
  std::string Native(const json::object& body, size_t tokens, size_t index, bool with_index, bool ended) const {
    std::string ids, text, logprobs;
    for (size_t k = 0; k < tokens; ++k) {
      ids += fmt::format("{}{}", k ? "," : "", 100 + k);
      text += fmt::format("t{}", k);
    }
    if (json::Find(body, "return_logprob")) {
      logprobs = fmt::format(R"("input_token_logprobs":{0},"input_top_logprobs":{0},"output_token_logprobs":[[-0.1,100,null]],)",
                             prefill_ ? fmt::format("[[null,{},null],[-0.5,2,null]]", index) : "[]");
    }
    return fmt::format(R"({{{}"text":"{}","output_ids":[{}],"meta_info":{{"id":"r","finish_reason":{},{}"prompt_tokens":2,"completion_tokens":{},"cached_tokens":0,"weight_version":"default"}}}})",
                       with_index ? fmt::format("\"index\":{},", index) : "", text, ids,
                       prefill_ ? R"({"type":"length","length":0})" : ended ? R"({"type":"length","length":4})" : "null", logprobs, tokens);
  }
  Script Whole(std::string_view path, const json::object& body, size_t samples) const {
    if (path != "/generate") return AnswerJson(200, R"({"id":"c","object":"chat.completion","choices":[],"usage":{"prompt_tokens":1}})");
    std::string all;
    for (size_t i = 0; i < samples; ++i) all += (i ? "," : "") + Native(body, prefill_ ? 1 : kTokens, i, false, true);
    return AnswerJson(200, samples > 1 ? "[" + all + "]" : all);
  }
  Script Stream(std::string_view path, const json::object& body, size_t samples) const {
    std::vector<std::string> events;
    for (size_t k = 1; k <= (prefill_ ? 1 : kTokens); ++k) {
      for (size_t i = 0; i < samples; ++i) {
        events.push_back(path == "/generate" ? Native(body, k, i, samples > 1, k == kTokens)
                                             : fmt::format(R"({{"id":"c","object":"chat.completion.chunk","choices":[{{"index":{},"delta":{{"content":"t{}"}}}}]}})", i, k - 1));
      }
    }
    const bool stops = !prefill_ && stop_after_ >= 0;
    if (stops) events.resize(std::min(events.size(), static_cast<size_t>(stop_after_.load())));
    return AnswerStream(events, stops ? ending_ : Ending::kDone);
  }

  const bool prefill_;
  Rooms& rooms_;
  std::unique_ptr<http::Server> server_;
  mutable std::mutex mutex_;
  std::string problems_, fail_body_;
  int fail_status_ = 0;
  std::atomic<int> stop_after_{-1}, disconnects_{0}, posts_{0};
  Ending ending_ = Ending::kDone;
};

class SglangWorkers : public ::testing::TestWithParam<Generation> {
 protected:
  SglangWorkers() {
    fleet_ = std::make_unique<Fleet>(0, 0, [this](RouterOptions& o) {
      o.prefill = {{prefill_.url(), std::nullopt}};
      o.decode = {decode_.url(), spare_.url()};
      o.api_key = "the-key";
      o.retry.max_attempts = 1;
      o.migration.worker_wait = 100ms;
      o.load_poll_interval = 20ms;
    }, false);
    EXPECT_TRUE(fleet_->AllHealthy(3));
  }
  http::Response Post(std::string path, std::string body) {
    http::Headers headers;
    headers.Set("Authorization", kKey);
    return fleet_->Fetch("POST", std::move(path), std::move(body), headers);
  }
  std::string problems() const { return prefill_.problems() + decode_.problems() + spare_.problems(); }

  Rooms rooms_;
  Loop loop_{2};
  SglangServer prefill_{loop_, GetParam(), true, rooms_}, decode_{loop_, GetParam(), false, rooms_},
      spare_{loop_, GetParam(), false, rooms_};
  std::unique_ptr<Fleet> fleet_;
};

TEST_P(SglangWorkers, ServeEveryRoute) {
  for (const char* stream : {"", R"(,"stream":true)"}) {
    EXPECT_EQ(Post("/generate", fmt::format(R"({{"text":"a"{}}})", stream)).status, 200);
    EXPECT_EQ(Post("/v1/completions", fmt::format(R"({{"prompt":"a"{}}})", stream)).status, 200);
    const http::Response chat = Post("/v1/chat/completions", fmt::format(R"({{"messages":[]{}}})", stream));
    EXPECT_EQ(chat.status, 200);
    EXPECT_EQ(chat.body.find("\n: "), std::string::npos);
  }
  EXPECT_TRUE(Eventually([&] { return fleet_->Metric("smg_router_requests_active") == 0; }));
  EXPECT_EQ(rooms_.count(), 6u);
  EXPECT_TRUE(rooms_.AllMet());
  EXPECT_NE(fleet_->Get("/v1/models").body.find("served"), std::string::npos);
  EXPECT_NE(fleet_->Get("/get_server_info").body.find(GetParam().version), std::string::npos);
  EXPECT_NE(fleet_->Get("/get_model_info").body.find("is_generation"), std::string::npos);
  EXPECT_EQ(fleet_->Get("/health_generate").status, 200);
  EXPECT_NE(fleet_->Get("/engine_metrics").body.find("sglang:num_running_reqs"), std::string::npos);
  EXPECT_EQ(Post("/flush_cache", "{}").status, 200);
  EXPECT_EQ(Post("/v1/tokenize", R"({"prompt":"a"})").status, 200);
  EXPECT_EQ(problems(), "");
}

TEST_P(SglangWorkers, BatchesHaveARoomForEachSample) {
  const http::Response ids = Post("/generate", R"({"input_ids":[[1,2],[3,4],[5]]})");
  EXPECT_EQ(json::Parse(ids.body)->get_array().size(), 3u);
  EXPECT_EQ(rooms_.count(), 3u);
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":["a","b"]})").status, 200);
  EXPECT_EQ(rooms_.count(), 5u);
  EXPECT_EQ(Post("/v1/chat/completions", R"({"messages":[],"n":4})").status, 200);
  EXPECT_EQ(rooms_.count(), 9u);
  EXPECT_EQ(Payloads(Post("/generate", R"({"text":["a","b"],"stream":true})").body).size(), 2 * kTokens + 1);
  EXPECT_TRUE(rooms_.AllMet());
  EXPECT_EQ(problems(), "");
}

TEST_P(SglangWorkers, LogprobsOfThePromptComeFromPrefill) {
  const std::string wanted = R"("input_token_logprobs":[[null,0,null],[-0.5,2,null]],"input_top_logprobs":[[null,0,null],[-0.5,2,null]])";
  const http::Response whole = Post("/generate", R"({"text":"a","return_logprob":true})");
  EXPECT_NE(whole.body.find(wanted), std::string::npos) << whole.body;
  const http::Response list = Post("/generate", R"({"text":["a","b"],"return_logprob":true})");
  EXPECT_NE(list.body.find("[[null,0,null],[-0.5,2,null]]"), std::string::npos);
  EXPECT_NE(list.body.find("[[null,1,null],[-0.5,2,null]]"), std::string::npos) << list.body;
  const auto events = Payloads(Post("/generate", R"({"text":"a","return_logprob":true,"stream":true})").body);
  ASSERT_EQ(events.size(), kTokens + 1);
  for (size_t i = 0; i < kTokens; ++i) EXPECT_NE(events[i].find(wanted), std::string::npos) << events[i];
  EXPECT_EQ(problems(), "");
}

TEST_P(SglangWorkers, LoadIsReadFromTheRouteThatTheyHave) {
  for (const SglangServer* worker : {&prefill_, &decode_}) {
    const std::string label = fmt::format("{{worker=\"{}\"}}", worker->url());
    EXPECT_TRUE(Eventually([&] { return fleet_->Metric("baton_router_worker_reported_tokens" + label) == 10; }));
    EXPECT_EQ(fleet_->Metric("baton_router_worker_reported_waiting" + label), 2);
  }
  http::Headers headers;
  headers.Set("Authorization", kKey);
  const auto loads = json::Parse(fleet_->Fetch("GET", "/get_loads", "", headers).body);
  for (const json::value& row : loads->at("workers").get_array()) EXPECT_EQ(row.at("load"), 10);
  EXPECT_EQ(problems(), "");
}

// Chats cannot go on without Baton's comments; /generate of ids can, by a longer prompt.
TEST_P(SglangWorkers, ABrokenStreamGoesOnOrEndsInAnErrorEvent) {
  decode_.StopAfter(2, Ending::kBroken);
  for (int i = 0; i < 2; ++i) {  // round robin: one of the two meets the broken one
    const auto chat = Payloads(Post("/v1/chat/completions", R"({"messages":[],"stream":true})").body);
    ASSERT_GE(chat.size(), 4u);
    EXPECT_EQ(chat.back(), "[DONE]");
    const bool whole = chat.size() == kTokens + 1;
    EXPECT_EQ(chat[chat.size() - 2].find(R"("error")") == std::string::npos, whole);
  }
  for (int i = 0; i < 2; ++i) {
    const auto native = Payloads(Post("/generate", R"({"input_ids":[1,2],"stream":true,"sampling_params":{"temperature":0,"max_new_tokens":4}})").body);
    ASSERT_GE(native.size(), kTokens + 1);
    EXPECT_EQ(native.back(), "[DONE]");
    EXPECT_EQ(native[native.size() - 2].find(R"("error")"), std::string::npos) << native[native.size() - 2];
  }
  EXPECT_EQ(problems(), "");
}

TEST_P(SglangWorkers, AClientThatLeavesIsToldToBothByTheirConnections) {
  for (SglangServer* worker : {&decode_, &spare_}) worker->StopAfter(1, Ending::kSilent);
  {
    RawSocket client = RawSocket::Connect(fleet_->router->port());
    const std::string body = R"({"text":"a","stream":true})";
    ASSERT_TRUE(client.Send(fmt::format("POST /generate HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}", kKey, body.size(), body)));
    EXPECT_NE(client.ReadUntil("data: "), "");
  }
  EXPECT_TRUE(Eventually([&] { return decode_.disconnects() + spare_.disconnects() == 1; }));
  EXPECT_TRUE(Eventually([&] { return fleet_->Metric("smg_router_requests_active") == 0; }));
  EXPECT_EQ(problems(), "");
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
    for (SglangServer* worker : {&decode_, &spare_}) worker->FailWith(c.status, c.body);
    const http::Response response = Post("/generate", R"({"text":"a"})");
    EXPECT_EQ(response.status, c.status) << c.body;
    EXPECT_EQ(response.headers.Get("X-SMG-Error-Code"), c.code) << c.body;
  }
  for (SglangServer* worker : {&decode_, &spare_}) worker->FailWith(0, "");
  prefill_.FailWith(400, R"({"error":{"message":"The input is longer than the model's context length"}})");
  for (const char* stream : {"", R"(,"stream":true)"}) {
    const http::Response refused = Post("/generate", fmt::format(R"({{"text":"a"{}}})", stream));
    EXPECT_EQ(refused.status, 400);
    EXPECT_EQ(refused.headers.Get("X-SMG-Error-Code"), "prefill_bad_request");
    EXPECT_NE(refused.body.find("context length"), std::string::npos);
  }
  EXPECT_EQ(problems(), "");
}

INSTANTIATE_TEST_SUITE_P(Versions, SglangWorkers,
                         ::testing::Values(Generation{"0.5.6", false, true, false}, Generation{"0.5.9", true, true, true},
                                           Generation{"0.5.23", true, false, true}),
                         [](const auto& info) {
                           std::string name = std::string("V") + info.param.version;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace baton::router
