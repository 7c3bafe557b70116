// A router against an API server that speaks list + watch over HTTP, with its faults: refusals, 410 as
// a status and as an event, breaks in the middle of a line, slow pieces, silence, huge lists.
#include "router/discovery/kube_source.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "router/discovery/test_pods.h"
#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

std::string Query(const http::Request& request, std::string_view name) { return std::string(request.QueryValue(name)); }

class FakeApiServer {
 public:
  explicit FakeApiServer(Loop& loop) : state_(std::make_shared<State>()) {
    server_ = std::make_unique<http::Server>(loop.executor(), http::ServerOptions{});
    server_->Route("GET", "/api/v1/namespaces/llm/pods", [state = state_](http::Request& request, http::Responder& responder) {
      return Answer(state, request, responder);
    });
    const Status started = server_->Start();
    EXPECT_TRUE(started.ok()) << started.ToString();
  }
  ~FakeApiServer() { Stop(); }
  void Stop() {
    state_->stopped = true;
    server_->Stop();
  }
  std::string url() const { return fmt::format("http://127.0.0.1:{}", server_->port()); }

  void Put(PodSpec pod) {
    std::lock_guard lock(state_->mutex);
    pod.version = ++state_->version;
    const bool known = state_->pods.contains(pod.uid);
    state_->events.push_back({pod.version, EventJson(known ? "MODIFIED" : "ADDED", pod)});
    state_->pods.insert_or_assign(pod.uid, std::move(pod));
  }
  void Delete(const std::string& uid) {
    std::lock_guard lock(state_->mutex);
    PodSpec pod = state_->pods.at(uid);
    pod.version = ++state_->version;
    state_->events.push_back({pod.version, EventJson("DELETED", pod)});
    state_->pods.erase(uid);
  }
  // Forgets the history: watches from before get 410.
  void Compact(bool as_event) {
    std::lock_guard lock(state_->mutex);
    state_->events.clear();
    state_->oldest = ++state_->version;
    state_->gone_as_event = as_event;
    ++state_->cut;
  }
  // Every watch ends now; `inside_a_line` breaks it there.
  void CutWatches(bool inside_a_line) {
    std::lock_guard lock(state_->mutex);
    state_->cut_inside_line = inside_a_line;
    ++state_->cut;
  }
  void Bookmark() {
    std::lock_guard lock(state_->mutex);
    ++state_->version;
    state_->events.push_back({state_->version, BookmarkJson(state_->version)});
  }
  void Refuse(int status) { state_->refuse = status; }
  void WantToken(std::string token) {
    std::lock_guard lock(state_->mutex);
    state_->token = std::move(token);
  }
  void SetSlow(bool slow) { state_->slow = slow; }
  void SetPadding(size_t bytes) { state_->padding = bytes; }
  int lists() const { return state_->lists; }
  int watches() const { return state_->watches; }
  std::string last_selector() const {
    std::lock_guard lock(state_->mutex);
    return state_->selector;
  }

 private:
  struct State {
    mutable std::mutex mutex;
    std::map<std::string, PodSpec> pods;
    std::vector<std::pair<int64_t, std::string>> events;
    int64_t version = 100, oldest = 0;
    int cut = 0;
    bool cut_inside_line = false, gone_as_event = false;
    std::string token, selector;
    std::atomic<int> refuse{0}, lists{0}, watches{0};
    std::atomic<bool> slow{false}, stopped{false};
    std::atomic<size_t> padding{0};
  };
  using StatePtr = std::shared_ptr<State>;

  static http::Response Json(int status, std::string body) {
    http::Response response;
    response.status = status;
    response.headers.Set("Content-Type", "application/json");
    response.body = std::move(body);
    return response;
  }

  static asio::awaitable<void> Answer(StatePtr state, http::Request& request, http::Responder& responder) {
    int refuse = state->refuse;
    {
      std::lock_guard lock(state->mutex);
      state->selector = Query(request, "labelSelector");
      if (!state->token.empty() && request.headers.Get("Authorization") != "Bearer " + state->token) refuse = 401;
    }
    if (refuse) {
      (void)co_await responder.Send(Json(refuse, fmt::format(R"({{"kind":"Status","code":{},"message":"refused"}})", refuse)));
    } else if (request.QueryValue("watch") == "1") {
      ++state->watches;
      co_await Watch(state, std::stoll("0" + Query(request, "resourceVersion")), responder);
    } else {
      ++state->lists;
      (void)co_await responder.Send(Json(200, List(*state, std::stoul("0" + Query(request, "limit")), std::stoul("0" + Query(request, "continue")))));
    }
  }
  static std::string List(State& state, size_t limit, size_t from) {
    std::lock_guard lock(state.mutex);
    std::vector<PodSpec> page;
    size_t at = 0;
    for (const auto& [uid, pod] : state.pods) {
      if (at++ < from || (limit && page.size() == limit)) continue;
      page.push_back(pod);
      if (state.padding) page.back().annotations["filler"] = std::string(state.padding, 'x');
    }
    const bool more = from + page.size() < state.pods.size();
    return ListJson(page, state.version, more ? fmt::format("{}", from + page.size()) : "");
  }
  static asio::awaitable<void> Watch(StatePtr state, int64_t version, http::Responder& responder) {
    int cut = 0;
    bool gone = false, as_event = false;
    {
      std::lock_guard lock(state->mutex);
      cut = state->cut;
      gone = version < state->oldest;
      as_event = state->gone_as_event;
    }
    if (gone && !as_event) {
      (void)co_await responder.Send(Json(410, R"({"kind":"Status","code":410,"message":"too old"})"));
      co_return;
    }
    (void)co_await responder.BeginStream(200, {});
    if (gone) (void)co_await responder.Write(ErrorJson(410) + "\n");
    const TimePoint end = Now() + http::test::kPatience;
    while (!gone && !state->stopped && !responder.disconnected() && Now() < end) {
      std::string line;
      bool broken = false, ended = false;
      {
        std::lock_guard lock(state->mutex);
        ended = state->cut != cut;
        broken = state->cut_inside_line;
        for (const auto& [at, event] : state->events) {
          if (at <= version) continue;
          version = at;
          line = event + "\n";
          break;
        }
      }
      if (ended) {
        if (broken) (void)co_await responder.Write(R"({"type":"DELETED","object":{"metadata":{"uid":"a","resourceV)");
        if (broken) co_return responder.AbortStream();
        break;
      }
      if (line.empty()) {
        co_await Sleep(1ms);
        continue;
      }
      const size_t piece = state->slow ? 7 : line.size();
      for (size_t at = 0; at < line.size(); at += piece) {
        (void)co_await responder.Write(std::string_view(line).substr(at, piece));
        if (state->slow) co_await Sleep(1ms);
      }
    }
    (void)co_await responder.EndStream();
  }

  StatePtr state_;
  std::unique_ptr<http::Server> server_;
};

// Pods are told apart by their ports here, since they all live on this machine.
class KubeTest : public ::testing::Test {
 protected:
  KubeTest() : api_(loop_) {
    for (int i = 0; i < 4; ++i) workers_.push_back(std::make_unique<FakeWorker>(loop_));
  }
  PodSpec Pod(size_t worker, std::string uid, std::string role) {
    PodSpec pod;
    pod.uid = std::move(uid);
    pod.ip = "127.0.0.1";
    pod.role = std::move(role);
    pod.annotations = {{"baton/http-port", fmt::format("{}", workers_[worker]->port())}, {"sglang.ai/bootstrap-port", "8998"}};
    return pod;
  }
  void StartRouter(const std::function<void(RouterOptions&)>& change = {}) {
    fleet_ = std::make_unique<Fleet>(0, 0, [&](RouterOptions& o) {
      o.discovery.kube.enabled = true;
      o.discovery.kube.space = "llm";
      o.discovery.kube.api_url = api_.url();
      o.discovery.kube.prefill_selector = {{"role", "prefill"}};
      o.discovery.kube.decode_selector = {{"role", "decode"}};
      if (change) change(o);
    }, false);
  }
  // Name, role and drain state of each worker: "a prefill", "b decode draining".
  std::vector<std::string> Workers() {
    std::vector<std::string> names;
    const auto list = json::Parse(fleet_->Get("/workers").body);
    for (const json::value& w : list->at("workers").as_array()) {
      const json::value* uid = json::Find(w.at("metadata").as_object(), "pod_uid");
      names.push_back(fmt::format("{} {}{}", uid ? std::string_view(uid->as_string()) : "-", std::string_view(w.at("worker_type").as_string()),
                                  w.as_object().contains("draining") ? " draining" : ""));
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  bool Become(std::vector<std::string> names) {
    const bool same = Eventually([&] { return Workers() == names; });
    EXPECT_EQ(Workers(), names);
    return same;
  }

  Loop loop_{2};
  FakeApiServer api_;
  std::vector<std::unique_ptr<FakeWorker>> workers_;
  std::unique_ptr<Fleet> fleet_;
};
using Names = std::vector<std::string>;

TEST_F(KubeTest, PodsBecomeWorkersAndServe) {
  api_.Put(Pod(0, "a", "prefill"));
  api_.Put(Pod(1, "b", "decode"));
  PodSpec other = Pod(2, "c", "other");
  api_.Put(other);
  StartRouter();
  EXPECT_TRUE(Become({"a prefill", "b decode"}));
  EXPECT_EQ(api_.last_selector(), "role in (prefill,decode)");
  ASSERT_TRUE(fleet_->AllHealthy(2));
  EXPECT_EQ(fleet_->Post("/generate", R"({"text":"a"})").status, 200);
  ASSERT_TRUE(Eventually([&] { return workers_[0]->requests() > 0; }));  // decode may answer first
  EXPECT_NE(workers_[0]->body(0).find(R"("bootstrap_port":8998)"), std::string::npos) << workers_[0]->body(0);
  EXPECT_EQ(fleet_->Metric(R"(smg_discovery_registrations_total{source="kubernetes",result="success"})"), 2);
  EXPECT_EQ(fleet_->Metric(R"(smg_discovery_workers_discovered{source="kubernetes"})"), 2);
  // Events of the watch.
  api_.Put(Pod(3, "d", "decode"));
  EXPECT_TRUE(Become({"a prefill", "b decode", "d decode"}));
  PodSpec paused = Pod(3, "d", "decode");
  paused.ready = false;
  api_.Put(paused);
  EXPECT_TRUE(Become({"a prefill", "b decode", "d decode draining"}));
  api_.Delete("d");
  EXPECT_TRUE(Become({"a prefill", "b decode"}));
  EXPECT_EQ(fleet_->Metric(R"(smg_discovery_deregistrations_total{source="kubernetes"})"), 1);
  EXPECT_EQ(api_.lists(), 1);
}

TEST_F(KubeTest, NotReadyBeforeTheFirstList) {
  api_.Refuse(503);
  StartRouter([&](RouterOptions& o) {
    o.prefill = {{workers_[0]->url(), 1}};
    o.decode = {workers_[1]->url()};
  });
  ASSERT_TRUE(fleet_->AllHealthy(2));
  const http::Response waiting = fleet_->Get("/readiness");
  EXPECT_EQ(waiting.status, 503);
  EXPECT_NE(waiting.body.find("waiting for discovery"), std::string::npos) << waiting.body;
  EXPECT_EQ(fleet_->Post("/generate", R"({"text":"a"})").status, 200) << "requests are served all the same";
  api_.Refuse(0);
  EXPECT_TRUE(Eventually([&] { return fleet_->Get("/readiness").status == 200; }));
}

TEST_F(KubeTest, WorkersOfOthersAreLeftAlone) {
  StartRouter([&](RouterOptions& o) {
    o.prefill = {{workers_[0]->url(), 1}};
    o.decode = {workers_[1]->url()};
  });
  EXPECT_TRUE(Become({"- decode", "- prefill"}));
  api_.Put(Pod(0, "a", "prefill"));  // the flag has this URL
  api_.Put(Pod(2, "c", "decode"));
  EXPECT_TRUE(Become({"- decode", "- prefill", "c decode"}));
  EXPECT_EQ(fleet_->Metric(R"(smg_discovery_registrations_total{source="kubernetes",result="duplicate"})"), 1);
  api_.Delete("a");
  api_.Delete("c");
  EXPECT_TRUE(Become({"- decode", "- prefill"}));
}

TEST_F(KubeTest, EveryEndOfAWatchIsSurvived) {
  api_.Put(Pod(0, "a", "prefill"));
  api_.Put(Pod(1, "b", "decode"));
  StartRouter();
  EXPECT_TRUE(Become({"a prefill", "b decode"}));
  EXPECT_TRUE(Eventually([&] { return api_.watches() == 1; }));
  // In the middle of a line, whose half must not count.
  api_.CutWatches(true);
  EXPECT_TRUE(Eventually([&] { return api_.watches() >= 2; }));
  EXPECT_EQ(Workers(), (Names{"a prefill", "b decode"}));
  // What happens between two watches is told by the second.
  api_.CutWatches(false);
  api_.Put(Pod(2, "c", "decode"));
  EXPECT_TRUE(Become({"a prefill", "b decode", "c decode"}));
  EXPECT_EQ(api_.lists(), 1);
  // 410, with a deletion that no watch will tell.
  for (const bool as_event : {false, true}) {
    const int lists = api_.lists();
    api_.Delete("c");
    api_.Compact(as_event);
    EXPECT_TRUE(Become({"a prefill", "b decode"}));
    EXPECT_TRUE(Eventually([&] { return api_.lists() > lists; }));
    api_.Put(Pod(2, "c", "decode"));
    EXPECT_TRUE(Become({"a prefill", "b decode", "c decode"}));
  }
  // A bookmark alone carries the version over a compaction.
  api_.Bookmark();
  api_.SetSlow(true);
  api_.Put(Pod(3, "d", "decode"));
  EXPECT_TRUE(Become({"a prefill", "b decode", "c decode", "d decode"}));
}

TEST_F(KubeTest, TheWorkersStayWhileTheServerIsAway) {
  api_.Put(Pod(0, "a", "prefill"));
  api_.Put(Pod(1, "b", "decode"));
  StartRouter();
  EXPECT_TRUE(Become({"a prefill", "b decode"}));
  api_.Refuse(403);
  api_.CutWatches(false);
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(Workers(), (Names{"a prefill", "b decode"}));
  api_.Put(Pod(2, "c", "decode"));
  api_.Refuse(0);
  EXPECT_TRUE(Become({"a prefill", "b decode", "c decode"}));
}

TEST_F(KubeTest, TheTokenIsReadAnew) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("baton-token-{}", ::getpid());
  std::ofstream(path) << "first\n";
  api_.WantToken("first");
  api_.Put(Pod(0, "a", "prefill"));
  StartRouter([&](RouterOptions& o) { o.discovery.kube.token_file = path; });
  EXPECT_TRUE(Become({"a prefill"}));
  api_.WantToken("second");
  std::ofstream(path) << "second\n";
  api_.CutWatches(false);
  api_.Put(Pod(1, "b", "decode"));
  EXPECT_TRUE(Become({"a prefill", "b decode"}));
  std::filesystem::remove(path);
}

TEST_F(KubeTest, AnAddressThatPassesToAnotherPodIsANewWorker) {
  api_.Put(Pod(0, "a", "prefill"));
  StartRouter();
  EXPECT_TRUE(Become({"a prefill"}));
  // The next pod is seen before the end of the last one.
  PodSpec next = Pod(0, "a2", "prefill");
  next.created = "2026-01-01T00:10:00Z";
  api_.Put(next);
  EXPECT_TRUE(Become({"a2 prefill"}));
  api_.Delete("a");
  api_.Put(Pod(1, "b", "decode"));
  EXPECT_TRUE(Become({"a2 prefill", "b decode"}));
  EXPECT_EQ(fleet_->Metric(R"(smg_discovery_registrations_total{source="kubernetes",result="success"})"), 3);
}

// A pod that ends keeps its stream, gets nothing new, and its end is told to what still runs.
TEST_F(KubeTest, AnEndingPodDrains) {
  api_.Put(Pod(0, "a", "prefill"));
  api_.Put(Pod(1, "b", "decode"));
  StartRouter([](RouterOptions& o) { o.migration.worker_wait = 0ms; o.retry.max_attempts = 1; o.migration.max_migrations = 0; });
  ASSERT_TRUE(Become({"a prefill", "b decode"}));
  ASSERT_TRUE(fleet_->AllHealthy(2));
  workers_[1]->Set(AnswerStream({"1"}, Ending::kSilent));
  RawSocket client = fleet_->Send("/generate", R"({"text":"a","stream":true})");
  client.ReadUntil("data: 1");
  PodSpec ending = Pod(1, "b", "decode");
  ending.deleting = true;
  api_.Put(ending);
  ASSERT_TRUE(Become({"a prefill", "b decode draining"}));
  EXPECT_EQ(fleet_->Post("/generate", R"({"text":"b"})").status, 503);
  EXPECT_EQ(workers_[1]->disconnects(), 0) << "the stream goes on";
  api_.Delete("b");
  ASSERT_TRUE(Become({"a prefill"}));
  // Told by the API server, not by a time-out.
  const std::string rest = client.ReadUntil("decode_server_error");
  EXPECT_FALSE(rest.ends_with("!")) << rest;
  EXPECT_TRUE(Eventually([&] { return workers_[1]->disconnects() == 1; }));
}

TEST_F(KubeTest, HugeListsComeInPages) {
  for (int i = 0; i < 2'000; ++i) {
    PodSpec pod = Pod(0, fmt::format("u{:04}", i), "decode");
    pod.ip = fmt::format("127.1.{}.{}", i / 250, 1 + i % 250);
    pod.ready = false;
    api_.Put(pod);
  }
  api_.Put(Pod(0, "a", "prefill"));
  api_.SetPadding(8'000);  // 16 MB in all
  StartRouter();
  EXPECT_TRUE(Become({"a prefill"}));
  EXPECT_EQ(api_.lists(), 9);
}

TEST_F(KubeTest, EndsWhenTheRouterStops) {
  StartRouter();
  EXPECT_TRUE(Eventually([&] { return api_.watches() == 1; }));
  fleet_->router->Stop();
  // The watch's connection closes, so that the server sees the end too.
  const int watches = api_.watches();
  api_.CutWatches(false);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(api_.watches(), watches);
}

TEST(FindApiServer, TellsTheWayOutOutsideOfACluster) {
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  KubeOptions o;
  EXPECT_NE(FindApiServer(&o).message().find("--kube-api"), std::string::npos);
  ::setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
  ::setenv("KUBERNETES_SERVICE_PORT", "6443", 1);
  EXPECT_TRUE(FindApiServer(&o).ok());
  EXPECT_EQ(o.api_url, "https://[fd00::1]:6443");
  EXPECT_EQ(o.token_file, "/var/run/secrets/kubernetes.io/serviceaccount/token");
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  ::unsetenv("KUBERNETES_SERVICE_PORT");
}

}  // namespace
}  // namespace baton::router
