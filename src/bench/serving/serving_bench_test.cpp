// The whole load generator against a scripted server: counts, order and kinds, never exact times.
#include "bench/serving/serving_bench.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <map>
#include <mutex>
#include <set>

#include "bench/serving/report_html.h"
#include "bench/serving/report_json.h"
#include "bench/serving/report_text.h"
#include "bench/serving/svg_plot.h"
#include "http/sse.h"
#include "http/test_support.h"

namespace baton::bench::serving {
namespace {

// What the server does with a request of the run.
enum class Act {
  kAnswer,
  kNoUsage,
  kStatus,
  kBreak,
  kWrongJson,
  kErrorEvent,
  kNoTokens,
  kNoDone,
  kHang,
  kInterrupt
};

asio::awaitable<void> SendBody(http::Responder& responder, int status, std::string body) {
  http::Response response;
  response.status = status;
  response.body = std::move(body);
  (void)co_await responder.Send(std::move(response));
}

asio::awaitable<void> SendEvent(http::Responder& responder, std::string payload) {
  const std::string event = http::SseEvent(payload);
  (void)co_await responder.Write(event);
}

class ScriptedServer {
 public:
  ScriptedServer() {
    server_ = std::make_unique<http::Server>(loop_.executor(), http::ServerOptions{});
    server_->Route("POST", "/v1/chat/completions", [this](auto& q, auto& r) { return Chat(q, r); });
    server_->Route("POST", "/generate", [this](auto& q, auto& r) { return Generate(q, r); });
    server_->Route("GET", "/v1/models", [](auto&, auto& r) -> asio::awaitable<void> {
      co_await SendBody(r, 200, R"({"object":"list","data":[{"id":"scripted"}]})");
    });
    EXPECT_TRUE(server_->Start().ok());
  }
  ~ScriptedServer() { server_->Stop(); }

  // For the requests behind the calibration (which does not stream), in order of arrival.
  void Script(std::vector<Act> acts) { script_ = std::move(acts); }
  void set_delay(Duration delay) { delay_ = delay; }
  void set_token_delay(Duration delay) { token_delay_ = delay; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_->port()); }
  std::vector<json::object> bodies() {
    const std::lock_guard lock(mutex_);
    return bodies_;
  }
  std::map<std::string, std::string> last_headers() {
    const std::lock_guard lock(mutex_);
    return headers_;
  }
  int max_open() const { return max_open_; }
  int calibrations() const { return calibrations_; }

 private:
  asio::awaitable<void> Chat(http::Request& request, http::Responder& responder) {
    json::object body = json::Parse(request.body)->as_object();
    const std::string content(body.at("messages").as_array().back().at("content").as_string());
    const int words = static_cast<int>(std::count(content.begin(), content.end(), ' ')) + 1;
    if (!body.at("stream").as_bool()) {
      ++calibrations_;  // three tokens for two words, and a template of 10
      co_await SendBody(
          responder, 200,
          fmt::format(
              R"({{"choices":[{{"message":{{"content":"x"}},"finish_reason":"length"}}],"usage":{{"prompt_tokens":{},"completion_tokens":1}}}})",
              10 + words * 3 / 2));
      co_return;
    }
    const Act act = Note(request, body);
    max_open_ = std::max(max_open_.load(), ++open_);
    if (delay_ > Duration::zero()) co_await http::test::Sleep(delay_);
    co_await Play(act, static_cast<int>(body.at("max_tokens").as_int64()), responder);
    --open_;
  }

  Act Note(http::Request& request, const json::object& body) {
    const std::lock_guard lock(mutex_);
    const size_t at = bodies_.size();
    bodies_.push_back(body);
    for (const auto& [name, value] : request.headers) headers_[name] = value;
    return at < script_.size() ? script_[at] : Act::kAnswer;
  }

  asio::awaitable<void> Play(Act act, int tokens, http::Responder& responder) {
    if (act == Act::kStatus) {
      co_await SendBody(responder, 503, R"({"error":{"message":"overloaded"}})");
      co_return;
    }
    if (act == Act::kInterrupt) ::kill(::getpid(), SIGINT);
    if (act == Act::kHang || act == Act::kInterrupt) {
      for (int i = 0; i < 2000 && !responder.disconnected(); ++i) co_await http::test::Sleep(10ms);
      co_return;
    }
    http::Headers headers;
    headers.Add("Content-Type", "text/event-stream");
    (void)co_await responder.BeginStream(200, headers);
    const auto send = [&responder](std::string payload) {
      return SendEvent(responder, std::move(payload));
    };
    co_await send(
        R"({"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]})");
    for (int i = 0; i < tokens && act != Act::kNoTokens; ++i) {
      if (i == 1 && act == Act::kBreak) co_return responder.AbortStream();
      if (i == 1 && act == Act::kWrongJson) co_await send("{\"choices\": [oops");
      if (i == 1 && act == Act::kErrorEvent)
        co_await send(R"({"error":{"message":"worker died"}})");
      if (token_delay_ > Duration::zero()) co_await http::test::Sleep(token_delay_);
      co_await send(fmt::format(
          R"({{"choices":[{{"delta":{{"content":"t{} "}},"finish_reason":null}}]}})", i));
    }
    co_await send(R"({"choices":[{"delta":{},"finish_reason":"length"}]})");
    if (act != Act::kNoUsage && act != Act::kNoTokens) {
      co_await send(fmt::format(
          R"({{"choices":[],"usage":{{"prompt_tokens":20,"completion_tokens":{},"prompt_tokens_details":{{"cached_tokens":5}}}}}})",
          tokens));
    }
    if (act != Act::kNoDone) (void)co_await responder.Write(http::kSseDone);
    (void)co_await responder.EndStream();
  }

  // Three tokens an event, counted as SGLang does.
  asio::awaitable<void> Generate(http::Request& request, http::Responder& responder) {
    const json::object body = json::Parse(request.body)->as_object();
    if (!body.at("stream").as_bool()) {
      ++calibrations_;
      co_await SendBody(
          responder, 200,
          R"({"text":"x","meta_info":{"prompt_tokens":9,"completion_tokens":1,"finish_reason":null}})");
      co_return;
    }
    Note(request, body);
    const int64_t tokens = body.at("sampling_params").at("max_new_tokens").as_int64();
    http::Headers none;
    (void)co_await responder.BeginStream(200, none);
    for (int64_t done = 3; done <= tokens; done += 3) {
      co_await SendEvent(
          responder,
          fmt::format(
              R"({{"text":"{}","meta_info":{{"prompt_tokens":4,"completion_tokens":{},"cached_tokens":0,"finish_reason":{}}}}})",
              std::string(static_cast<size_t>(done), 'x'), done,
              done == tokens ? R"({"type":"length"})" : "null"));
    }
    (void)co_await responder.Write(http::kSseDone);
    (void)co_await responder.EndStream();
  }

  http::test::Loop loop_;
  std::unique_ptr<http::Server> server_;
  std::mutex mutex_;
  std::vector<Act> script_;
  std::vector<json::object> bodies_;
  std::map<std::string, std::string> headers_;
  Duration delay_{}, token_delay_{};
  std::atomic<int> open_{0}, max_open_{0}, calibrations_{0};
};

ServingOptions OptionsFor(const ScriptedServer& server, uint64_t prompts, size_t users) {
  ServingOptions options;
  options.base_url = server.url();
  options.workload.input = LengthDistribution::Fixed(30);
  options.workload.output = LengthDistribution::Fixed(5);
  options.num_prompts = prompts;
  options.concurrencies = {users};
  options.warmup_requests = 0;
  options.request_timeout = 20s;
  options.handle_signals = false;
  return options;
}

ServingReport MustRun(const ServingOptions& options, const ServingHooks& hooks = {}) {
  auto report = RunServingBench(options, hooks);
  EXPECT_TRUE(report.ok()) << report.status().message();
  return report.ok() ? std::move(*report) : ServingReport{};
}

TEST(ServingBenchTest, ClosedLoopCountsEverything) {
  ScriptedServer server;
  server.set_delay(2ms);
  ServingOptions options = OptionsFor(server, 40, 4);
  options.api_key = "sesame";
  options.headers = {{"x-tenant", "blue"}};
  options.warmup_requests = 3;
  const ServingReport report = MustRun(options);
  const Tally& t = report.points.at(0).result.tally;
  EXPECT_EQ(t.completed, 40u);
  EXPECT_EQ(t.failed, 0u);
  EXPECT_EQ(t.output_tokens, 200u);
  EXPECT_EQ(t.prompt_tokens, 800u);
  EXPECT_EQ(t.cached_tokens, 200u);
  EXPECT_EQ(t.by_usage, 40u);
  EXPECT_EQ(t.itl.count(), 160u);
  EXPECT_EQ(t.tpot.count(), 40u);
  EXPECT_EQ(t.max_in_flight, 4u);
  EXPECT_LE(server.max_open(), 4);
  EXPECT_GE(t.ttft.min(), 2.0);  // the server waits that long before it speaks
  EXPECT_LE(t.ttft.max(), t.e2e.max());
  const auto bodies = server.bodies();
  EXPECT_EQ(bodies.size(), 43u);  // the warm-up was sent and is not counted
  EXPECT_EQ(server.calibrations(), 2);
  EXPECT_EQ(bodies.back().at("model"), "scripted");
  EXPECT_EQ(bodies.back().at("max_tokens"), 5);
  const std::string prompt(bodies.back().at("messages").at(0).at("content").as_string());
  EXPECT_EQ(std::count(prompt.begin(), prompt.end(), ' ') + 1, 20);  // 30 tokens at 1.5 a word
  EXPECT_NE(report.lengths_by.find("1.500"), std::string::npos) << report.lengths_by;
  EXPECT_EQ(server.last_headers()["Authorization"], "Bearer sesame");
  EXPECT_EQ(server.last_headers()["x-tenant"], "blue");
  EXPECT_EQ(ExitCodeOf(report), 0);
}

TEST(ServingBenchTest, PromptsDifferAndTheSeedRepeatsThem) {
  const auto prompts_of = [](uint64_t seed) {
    ScriptedServer server;
    ServingOptions options = OptionsFor(server, 10, 1);
    options.seed = seed;
    MustRun(options);
    std::vector<std::string> prompts;
    for (const auto& body : server.bodies())
      prompts.emplace_back(body.at("messages").at(0).at("content").as_string());
    return prompts;
  };
  const auto first = prompts_of(1);
  EXPECT_EQ(std::set(first.begin(), first.end()).size(), 10u);
  EXPECT_EQ(first, prompts_of(1));
  EXPECT_NE(first, prompts_of(2));
}

TEST(ServingBenchTest, EveryKindOfFailureHasItsRow) {
  ScriptedServer server;
  server.Script({Act::kStatus, Act::kBreak, Act::kWrongJson, Act::kErrorEvent, Act::kNoTokens,
                 Act::kNoDone, Act::kHang, Act::kStatus, Act::kAnswer, Act::kNoUsage});
  ServingOptions options = OptionsFor(server, 10, 1);
  options.request_timeout = 1500ms;
  const ServingReport report = MustRun(options);
  const Tally& t = report.points.at(0).result.tally;
  EXPECT_EQ(t.failed, 8u);
  EXPECT_EQ(t.completed, 2u);
  EXPECT_EQ(t.by_usage, 1u);  // the other one is counted by its pieces
  EXPECT_EQ(t.output_tokens, 10u);
  std::map<std::string, uint64_t> counts;
  std::map<std::string, std::string> messages;
  for (const ErrorRow& row : t.errors) {
    counts[std::string(FailureName(row.kind))] = row.count;
    messages[std::string(FailureName(row.kind))] = row.first_message;
  }
  const std::map<std::string, uint64_t> expected{{"status", 2},     {"broken_stream", 2},
                                                 {"wrong_json", 1}, {"server_error", 1},
                                                 {"no_tokens", 1},  {"timeout", 1}};
  EXPECT_EQ(counts, expected);
  EXPECT_EQ(messages["status"], "HTTP 503: overloaded");
  EXPECT_EQ(messages["server_error"], "worker died");
  EXPECT_EQ(ReportToJson(report, options).at("token_count_source"), "mixed");
  EXPECT_EQ(ExitCodeOf(report), 0);
}

TEST(ServingBenchTest, AllFailedIsItsOwnExitCodeAndNoServerAnError) {
  {
    ScriptedServer server;
    server.Script(std::vector<Act>(5, Act::kStatus));
    EXPECT_EQ(ExitCodeOf(MustRun(OptionsFor(server, 5, 2))), 4);
  }
  ServingOptions options;
  {
    ScriptedServer gone;
    options = OptionsFor(gone, 5, 2);
  }
  EXPECT_EQ(RunServingBench(options, {}).status().code(), Code::kUnavailable);
  options.body.model = "given";  // no look at /v1/models: the requests themselves find nobody
  const ServingReport report = MustRun(options);
  EXPECT_EQ(report.points.at(0).result.tally.errors.at(0).kind, Failure::kConnect);
  options.warmup_requests = 2;
  EXPECT_EQ(RunServingBench(options, {}).status().code(), Code::kUnavailable);
}

TEST(ServingBenchTest, OpenLoopDoesNotWaitForAnswers) {
  ScriptedServer server;
  server.Script(std::vector<Act>(12, Act::kHang));
  ServingOptions options = OptionsFor(server, 12, 0);
  options.concurrencies = {0};
  options.rates = {400.0};
  options.arrival = ArrivalKind::kConstant;
  options.request_timeout = 2500ms;
  const ServingReport report = MustRun(options);
  const Tally& t = report.points.at(0).result.tally;
  EXPECT_EQ(t.sent, 12u);
  EXPECT_EQ(t.max_in_flight, 12u);  // none had an answer when the last one left
  EXPECT_EQ(t.failed, 12u);
}

TEST(ServingBenchTest, ACapMakesRequestsLateAndTheLatenessCounts) {
  ScriptedServer server;
  server.set_delay(20ms);
  ServingOptions options = OptionsFor(server, 10, 1);
  options.rates = {1000.0};
  options.arrival = ArrivalKind::kConstant;
  const ServingReport report = MustRun(options);
  const Tally& t = report.points.at(0).result.tally;
  EXPECT_EQ(t.completed, 10u);
  EXPECT_EQ(t.max_in_flight, 1u);
  // The last one was meant for 9 ms and left when nine others of 20 ms were done.
  EXPECT_GE(t.send_lag.max(), 9 * 20 - 9 - 1);
  EXPECT_GE(t.ttft.max(), t.service_ttft.min() + 150);
  EXPECT_FALSE(report.warnings.empty());
}

TEST(ServingBenchTest, TraceTimesKeepTheirOrder) {
  const std::string path = testing::TempDir() + "baton_trace_" + std::to_string(::getpid());
  std::FILE* file = std::fopen(path.c_str(), "w");
  for (int i = 0; i < 8; ++i) {
    fmt::print(
        file,
        "{{\"timestamp\": {}, \"input_length\": {}, \"output_length\": {}, \"hash_ids\": [{}]}}\n",
        i * 10'000, 30 + 3 * i, 2 + i, i);
  }
  std::fclose(file);
  ScriptedServer server;
  ServingOptions options = OptionsFor(server, 8, 0);
  options.num_prompts.reset();
  options.workload.kind = DatasetKind::kMooncake;
  options.workload.path = path;
  options.trace_times = true;
  options.trace_scale = 0.001;  // 10 s become 10 ms
  const ServingReport report = MustRun(options);
  ::unlink(path.c_str());
  EXPECT_EQ(report.points.at(0).result.tally.completed, 8u);
  const auto bodies = server.bodies();
  ASSERT_EQ(bodies.size(), 8u);
  int64_t sum = 0;
  for (const auto& body : bodies) sum += body.at("max_tokens").as_int64();
  EXPECT_EQ(sum, 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9);
  EXPECT_GE(report.points.at(0).seconds(), 0.07);  // never ahead of their time
}

TEST(ServingBenchTest, PointsOfASweepShareNoPrompt) {
  const std::string path = testing::TempDir() + "baton_talk_" + std::to_string(::getpid());
  std::FILE* file = std::fopen(path.c_str(), "w");
  for (int i = 0; i < 50; ++i) {
    fmt::print(file,
               "{{\"conversations\":[{{\"from\":\"human\",\"value\":\"question "
               "{}\"}},{{\"from\":\"gpt\",\"value\":\"a b c\"}}]}}\n",
               i);
  }
  std::fclose(file);
  for (const auto kind :
       {DatasetKind::kShareGpt, DatasetKind::kRandom, DatasetKind::kSharedPrefix}) {
    ScriptedServer server;
    ServingOptions options = OptionsFor(server, 12, 1);
    options.concurrencies = {1, 2, 3};
    options.warmup_requests = 4;
    options.workload.kind = kind;
    options.workload.path = path;
    MustRun(options);
    std::set<std::string> prompts;
    for (const auto& body : server.bodies())
      prompts.emplace(body.at("messages").at(0).at("content").as_string());
    EXPECT_EQ(prompts.size(), 40u) << DatasetKindName(kind);
  }
  ::unlink(path.c_str());
}

TEST(ServingBenchTest, ConversationsCarryTheirHistory) {
  ScriptedServer server;
  ServingOptions options = OptionsFor(server, 2, 1);
  options.workload.turns = 3;
  const ServingReport report = MustRun(options);
  EXPECT_EQ(report.points.at(0).result.tally.completed, 6u);
  const auto bodies = server.bodies();
  ASSERT_EQ(bodies.size(), 6u);
  EXPECT_EQ(bodies[2].at("messages").as_array().size(), 5u);
  EXPECT_EQ(bodies[2].at("messages").at(1).at("content"), "t0 t1 t2 t3 t4 ");
  EXPECT_EQ(bodies[2].at("messages").at(0), bodies[0].at("messages").at(0));
  EXPECT_EQ(bodies[3].at("messages").as_array().size(), 1u);
}

TEST(ServingBenchTest, NativeApiCountsTheTokensOfAnEvent) {
  ScriptedServer server;
  ServingOptions options = OptionsFor(server, 4, 2);
  options.body.api = Api::kGenerate;
  options.workload.output = LengthDistribution::Fixed(12);
  const ServingReport report = MustRun(options);
  const Tally& t = report.points.at(0).result.tally;
  EXPECT_EQ(t.completed, 4u);
  EXPECT_EQ(t.output_tokens, 48u);
  EXPECT_EQ(t.chunks, 16u);
  EXPECT_EQ(t.itl.count(), 4u * 9);  // the first event's three tokens have no gap
}

TEST(ServingBenchTest, WholeAnswersHaveNoGaps) {
  ScriptedServer server;
  ServingOptions options = OptionsFor(server, 3, 1);
  options.body.stream = false;
  const ServingReport report = MustRun(options);
  const Tally& t = report.points.at(0).result.tally;
  EXPECT_EQ(t.completed, 3u);
  EXPECT_EQ(t.itl.count(), 0u);
  EXPECT_EQ(t.tpot.count(), 0u);
}

TEST(ServingBenchTest, DurationEndsAClosedLoop) {
  ScriptedServer server;
  server.set_delay(5ms);
  ServingOptions options = OptionsFor(server, 1, 2);
  options.num_prompts.reset();
  options.duration = 150ms;
  const ServingReport report = MustRun(options);
  const Tally& t = report.points.at(0).result.tally;
  EXPECT_GT(t.completed, 0u);
  EXPECT_EQ(t.completed, t.sent);  // what was in the air was waited for
  EXPECT_LE(t.completed, 62u);     // two users, 5 ms each at least
}

TEST(ServingBenchTest, CtrlCEndsWithTheReportOfWhatWasDone) {
  ScriptedServer server;
  server.Script(
      {Act::kAnswer, Act::kAnswer, Act::kAnswer, Act::kHang, Act::kHang, Act::kInterrupt});
  ServingOptions options = OptionsFor(server, 1000, 3);
  options.handle_signals = true;
  const TimePoint begin = Now();
  const ServingReport report = MustRun(options);
  EXPECT_LT(Now() - begin, 15s);  // far below the request timeout
  const Tally& t = report.points.at(0).result.tally;
  EXPECT_TRUE(report.interrupted);
  EXPECT_EQ(t.completed, 3u);
  EXPECT_EQ(t.cancelled, 3u);
  EXPECT_EQ(t.failed, 0u);
  EXPECT_EQ(ExitCodeOf(report), 5);
}

TEST(ServingBenchTest, CtrlCWhileTheServerIsLookedAtEndsAtOnce) {
  http::test::RawListener silent;
  ServingOptions options;
  options.base_url = "http://127.0.0.1:" + std::to_string(silent.port());
  std::thread user([&] {
    http::test::RawSocket asked = silent.Accept();
    asked.ReadUntil("\r\n\r\n");
    ::kill(::getpid(), SIGINT);
    asked.ReadToEnd();  // until the load generator gives up
  });
  EXPECT_EQ(RunServingBench(options, {}).status().code(), Code::kCancelled);
  user.join();
}

TEST(ServingBenchTest, SweepHasPointsAndTheBestOnTop) {
  ScriptedServer server;
  server.set_delay(10ms);
  ServingOptions options = OptionsFor(server, 24, 1);
  options.concurrencies = {1, 8};
  options.slo = *Slo::Parse("e2e=20s");
  int progress_calls = 0;
  const ServingReport report =
      MustRun(options, {.progress = [&](const Tally&, double) { ++progress_calls; }});
  ASSERT_EQ(report.points.size(), 2u);
  EXPECT_EQ(report.best, 1u);  // eight at once against a server that only waits
  const json::object o = ReportToJson(report, options);
  EXPECT_EQ(o.at("points").as_array().size(), 2u);
  EXPECT_EQ(o.at("best_point"), 1);
  EXPECT_EQ(o.at("max_concurrency"), 8);
  EXPECT_EQ(o.at("goodput").at("good"), 24);
  EXPECT_EQ(o.at("slo_met"), true);
  EXPECT_EQ(ExitCodeOf(report), 0);
}

TEST(ServingBenchTest, MissedObjectiveIsAnExitCode) {
  ScriptedServer server;
  server.set_delay(5ms);
  ServingOptions options = OptionsFor(server, 4, 1);
  options.slo = *Slo::Parse("ttft=1ms");
  const ServingReport report = MustRun(options);
  EXPECT_EQ(report.points.at(0).result.tally.good, 0u);
  EXPECT_EQ(ExitCodeOf(report), 6);
  EXPECT_NE(ReportToText(report, options).find("SLO missed"), std::string::npos);
}

TEST(ServingBenchTest, ReportsHaveWhatTheyPromise) {
  ScriptedServer server;
  server.Script({Act::kWrongJson});
  const ServingOptions options = OptionsFor(server, 12, 2);
  const ServingReport report = MustRun(options);
  const json::object o =
      *json::Find(json::Parse(json::serialize(json::object{{"r", ReportToJson(report, options)}}))
                      ->as_object(),
                  "r")
           ->if_object();
  for (const char* key :
       {"completed", "failed", "req_s", "output_tok_s", "errors", "tool", "config", "duration_s"}) {
    EXPECT_TRUE(o.contains(key)) << key;
  }
  for (const char* key : {"ttft_ms", "itl_ms", "tpot_ms", "e2e_ms"}) {
    for (const char* part : {"mean", "p50", "p90", "p95", "p99", "max"})
      EXPECT_TRUE(o.at(key).at(part).is_number()) << key << part;
  }
  EXPECT_FALSE(o.contains("points"));
  const std::string html = ReportToHtml(report, options);
  EXPECT_NE(html.find("<svg"), std::string::npos);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_EQ(html.find("src="), std::string::npos);
  EXPECT_EQ(html.find("href="), std::string::npos);
  EXPECT_NE(html.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_NE(html.find("oops"), std::string::npos);  // the first message of the failure
  EXPECT_EQ(html.find("nan"), std::string::npos);
  EXPECT_EQ(html.find("inf "), std::string::npos);
}

TEST(ServingBenchTest, BadOptionsAreRefusedBeforeAnythingIsSent) {
  const auto code = [](auto change) {
    ServingOptions options;
    options.base_url = "http://127.0.0.1:1";
    change(options);
    return RunServingBench(options, {}).status().code();
  };
  EXPECT_EQ(code([](auto& o) { o.base_url = "ftp://x"; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto& o) { o.rates = {-1.0}; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto& o) { o.burstiness = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto& o) { o.num_prompts = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto& o) { o.duration = 1s; }),
            Code::kInvalidArgument);  // all at once for ever
  EXPECT_EQ(code([](auto& o) { o.workload.turns = 0; }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto& o) { o.slo_attainment = 2; }), Code::kInvalidArgument);
}

TEST(SvgTest, TicksAreRoundAndCoverTheData) {
  for (const auto& [low, high] : std::vector<std::pair<double, double>>{
           {0, 1}, {3, 97}, {0, 1234567}, {0.002, 0.0031}, {-5, 5}}) {
    const auto ticks = RoundTicks(low, high, 6);
    ASSERT_GE(ticks.size(), 2u);
    EXPECT_LE(ticks.size(), 14u);
    EXPECT_LE(ticks.front(), low + 1e-12);
    EXPECT_GE(ticks.back(), high - 1e-9 * (high - low));
  }
}

TEST(SvgTest, NothingToDrawIsNothing) {
  EXPECT_EQ(ToSvg({"t", "x", "y", {}}), "");
  EXPECT_EQ(ToSvg({"t", "x", "y", {{"s", {{1, std::nan("")}, {0, 1}}, false}}, true}), "");
  const std::string one = ToSvg({"a<b", "x", "y", {{"s", {{5, 5}}, false}}, true, true});
  EXPECT_NE(one.find("a&lt;b"), std::string::npos);
  EXPECT_EQ(one.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace baton::bench::serving
