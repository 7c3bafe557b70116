// Streams that lose their worker go on at another one: scripted workers that speak Baton's comments
// (api/resume.h) and die where a test or a seed says; the client must not notice.
#include <algorithm>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "router/proxy.h"
#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

struct Plan {
  int tokens = 20;         // of each choice
  int die_after = -1;      // events of this answer; -1: never
  bool comments = true;
  bool resumes = true;     // says so in its answer's head
  std::string error;       // sent instead of dying
  Duration gap = 0ms;
};

std::string Token(int choice, int k) { return fmt::format("{}.{} ", choice, k); }

// What one choice has when the request arrives.
struct Have {
  bool opened = false, ended = false;
  int ids = 0;
};

std::vector<Have> ReadHave(const json::object& body, int choices) {
  std::vector<Have> have(static_cast<size_t>(choices));
  const json::value* resume = json::Find(body, "baton_resume");
  if (!resume) return have;
  const json::array& list = resume->at("choices").as_array();
  EXPECT_EQ(list.size(), have.size());
  for (size_t c = 0; c < list.size(); ++c) {
    const json::array& ids = list[c].at("ids").as_array();
    for (size_t k = 0; k < ids.size(); ++k) EXPECT_EQ(ids[k].as_int64(), static_cast<int64_t>(1000 * c + k));
    have[c] = {list[c].at("opened").as_bool(), list[c].at("ended").as_bool(), static_cast<int>(ids.size())};
  }
  EXPECT_EQ(resume->at("id").as_string(), "the \"id\"");
  EXPECT_EQ(resume->at("created").as_int64(), 77);
  return have;
}

std::string Event(int choice, std::string_view text, std::string_view finish = "null") {
  return http::SseEvent(fmt::format(R"({{"id":"the \"id\"","created":77,"choices":[{{"index":{},"text":"{}","finish_reason":{}}}]}})",
                                    choice, text, finish));
}

// All events that are still missing, each with its comments in front.
std::vector<std::string> EventsOf(const Plan& plan, std::vector<Have> have) {
  std::vector<std::string> out;
  bool identity = plan.comments;
  const auto add = [&](std::string comments, const std::string& event) {
    if (identity) comments.insert(0, ": id 0 77 \"the \\\"id\\\"\"\n");
    identity = false;
    out.push_back((plan.comments ? comments : "") + event);
  };
  for (int k = 0; k <= plan.tokens; ++k) {
    for (int c = 0; c < static_cast<int>(have.size()); ++c) {
      Have& h = have[static_cast<size_t>(c)];
      if (h.ended) continue;
      if (!h.opened && k == 0) add(fmt::format(": ids {} \n", c), Event(c, ""));
      if (k < plan.tokens && k >= h.ids) add(fmt::format(": ids {} {}\n", c, 1000 * c + k), Event(c, Token(c, k)));
      if (k == plan.tokens) add(fmt::format(": end {}\n", c), Event(c, "", "\"length\""));
    }
  }
  add(": last\n", http::SseEvent(R"({"choices":[],"usage":1})"));
  return out;
}

Script BatonWorker(std::function<Plan()> next) {
  return [next](http::Request& request, http::Responder& responder) -> asio::awaitable<void> {
    const Plan plan = next();
    const auto body = json::Parse(request.body);
    const json::value* n = json::Find(body->get_object(), "n");
    const int choices = n ? static_cast<int>(n->as_int64()) : 1;
    http::Headers headers;
    headers.Set("Content-Type", "text/event-stream");
    const bool asked = request.headers.Get("x-baton-stream-ids") == "1";
    if (plan.comments && asked) headers.Set("x-baton-stream-ids", "1");
    const bool resumed = json::Find(body->get_object(), "baton_resume") != nullptr;
    if (resumed && plan.resumes) headers.Set("x-baton-resumed", "1");
    (void)co_await responder.BeginStream(200, headers);
    Plan real = plan;
    real.comments &= asked;
    int sent = 0;
    for (const std::string& event : EventsOf(real, ReadHave(body->get_object(), choices))) {
      if (sent++ == plan.die_after) {
        if (plan.error.empty()) {
          co_await Sleep(2ms);  // so that what was written is read before the reset
          responder.AbortStream();
          co_return;
        }
        (void)co_await responder.Write(http::SseEvent(plan.error));
        break;
      }
      (void)co_await responder.Write(event);
      if (plan.gap > Duration{}) co_await Sleep(plan.gap);
    }
    (void)co_await responder.Write(http::kSseDone);
    (void)co_await responder.EndStream();
  };
}
Script BatonWorker(Plan plan) {
  return BatonWorker([plan] { return plan; });
}

std::vector<std::string> Undisturbed(int choices, int tokens) {
  std::string all;
  for (const std::string& event : EventsOf({.tokens = tokens, .comments = false}, std::vector<Have>(static_cast<size_t>(choices)))) all += event;
  return Payloads(all + std::string(http::kSseDone));
}

// Events of no choice (usage, [DONE]) come last.
int ChoiceOf(const std::string& payload) {
  const size_t at = payload.find("\"index\":");
  return at == std::string::npos ? 99 : payload[at + 8] - '0';
}

void ExpectUndisturbed(const http::Response& response, int choices, int tokens) {
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(("\n" + response.body).find("\n: "), std::string::npos) << "comments are for the router";
  EXPECT_FALSE(response.headers.Has("x-baton-stream-ids"));
  EXPECT_FALSE(response.headers.Has("x-baton-resumed"));
  auto got = Payloads(response.body);
  auto want = Undisturbed(choices, tokens);
  ASSERT_FALSE(got.empty());
  EXPECT_EQ(got.back(), "[DONE]");
  // Choices may interleave otherwise after a break; each must be whole and in order.
  const auto by_choice = [](const std::string& a, const std::string& b) { return ChoiceOf(a) < ChoiceOf(b); };
  std::stable_sort(got.begin(), got.end(), by_choice);
  std::stable_sort(want.begin(), want.end(), by_choice);
  EXPECT_EQ(got, want);
}

TEST(Migration, CommentsAreAskedForAndNeverReachTheClient) {
  Fleet fleet;
  fleet.decode[0]->Set(BatonWorker(Plan{}));
  ExpectUndisturbed(fleet.Post("/v1/completions", R"({"stream":true})"), 1, 20);
  EXPECT_EQ(fleet.decode[0]->headers(0).Get("x-baton-stream-ids"), "1");
  fleet.Post("/v1/completions", R"({"prompt":"not a stream"})");
  EXPECT_FALSE(fleet.decode[0]->headers(1).Has("x-baton-stream-ids"));
  EXPECT_EQ(fleet.Metric("baton_router_migrations_total"), 0);
}

TEST(Migration, DeathAtEveryEventIsNotNoticed) {
  Fleet fleet(1, 2, [](RouterOptions& o) { o.breaker.enabled = false; });
  for (int choices : {1, 2}) {
    const int events = static_cast<int>(EventsOf({.tokens = 4}, std::vector<Have>(static_cast<size_t>(choices))).size());
    for (int at = 1; at <= events; ++at) {
      std::atomic<int> answers{0};
      for (const auto& d : fleet.decode) {
        d->Set(BatonWorker([&answers, at] { return Plan{.tokens = 4, .die_after = answers++ == 0 ? at : -1}; }));
      }
      ASSERT_TRUE(fleet.AllHealthy(3));
      ExpectUndisturbed(fleet.Post("/v1/chat/completions", fmt::format(R"({{"stream":true,"n":{}}})", choices)), choices, 4);
      EXPECT_LE(answers, 2);
    }
  }
  EXPECT_EQ(fleet.Metric("baton_router_stream_errors_total"), 0);
}

TEST(Migration, NewRoomsAndAllElseUnchanged) {
  Fleet fleet(2, 2);
  std::atomic<int> answers{0};
  for (const auto& d : fleet.decode) {
    d->Set(BatonWorker([&answers] { return Plan{.die_after = answers++ == 0 ? 3 : -1}; }));
  }
  const std::string body = R"({"stream" : true, "x":[1.50]})";
  ExpectUndisturbed(fleet.Post("/v1/completions", body), 1, 20);
  std::map<std::string, int> rooms;
  for (const auto& d : fleet.decode) {
    ASSERT_EQ(d->requests(), 1u) << "the worker that failed is avoided";
    const std::string sent = d->body(0);
    EXPECT_NE(sent.find(R"("stream" : true, "x":[1.50]})"), std::string::npos);
    ++rooms[fmt::format("{}", json::Parse(sent)->at("bootstrap_room").as_int64())];
  }
  EXPECT_EQ(rooms.size(), 2u);
  // Prefill gets the same continuation.
  std::string resumed;
  for (const auto& p : fleet.prefill) {
    for (size_t i = 0; i < p->requests(); ++i) {
      if (p->body(i).find("baton_resume") != std::string::npos) resumed = p->body(i);
    }
  }
  EXPECT_NE(resumed.find(R"("ids":[0,1])"), std::string::npos) << resumed;
  EXPECT_NE(resumed.find(R"("migrations":1)"), std::string::npos);
}

TEST(Migration, EndsInAnErrorEventWhenTheLimitIsReached) {
  Fleet fleet(1, 2, [](RouterOptions& o) {
    o.migration.max_migrations = 2;
    o.migration.max_worker_kills = 100;
  });
  for (const auto& d : fleet.decode) d->Set(BatonWorker(Plan{.die_after = 2}));
  const auto payloads = Payloads(fleet.Post("/v1/completions", R"({"stream":true})").body);
  ASSERT_GE(payloads.size(), 2u);
  EXPECT_EQ(payloads.back(), "[DONE]");
  const std::string& error = payloads[payloads.size() - 2];
  EXPECT_NE(error.find("decode_server_error"), std::string::npos) << error;
  EXPECT_NE(error.find("after 2 migrations"), std::string::npos) << error;
  EXPECT_EQ(fleet.Metric("baton_router_migrations_total"), 2);
  EXPECT_EQ(fleet.Metric("baton_router_migrations_exhausted_total"), 1);
}

TEST(Migration, ARequestThatKillsWorkersIsStopped) {
  Fleet fleet(1, 3, [](RouterOptions& o) {
    o.migration.max_migrations = 100;
    o.migration.max_worker_kills = 2;
  });
  for (const auto& d : fleet.decode) d->Set(BatonWorker(Plan{.die_after = 2}));
  const std::string stream = fleet.Post("/v1/completions", R"({"stream":true})").body;
  EXPECT_NE(stream.find("request_kills_workers"), std::string::npos) << stream;
  EXPECT_EQ(Payloads(stream).back(), "[DONE]");
  // The same before the first byte, with a proper status.
  for (const auto& d : fleet.decode) d->Set(Die());
  ASSERT_TRUE(fleet.AllHealthy(4));
  const http::Response whole = fleet.Post("/generate", R"({"text":"a"})");
  EXPECT_EQ(whole.status, 500);
  EXPECT_EQ(ErrorCode(whole), "request_kills_workers");
  EXPECT_EQ(fleet.Metric("baton_router_poisoned_requests_total"), 2);
}

TEST(Migration, OffMeansAnErrorEvent) {
  Fleet fleet(1, 2, [](RouterOptions& o) { o.migration.max_migrations = 0; });
  for (const auto& d : fleet.decode) d->Set(BatonWorker(Plan{.die_after = 2}));
  const auto payloads = Payloads(fleet.Post("/v1/completions", R"({"stream":true})").body);
  EXPECT_EQ(payloads.size(), 4u);
  EXPECT_FALSE(fleet.decode[0]->headers(0).Has("x-baton-stream-ids"));
}

TEST(Migration, AnErrorEventOfTheWorkerIsMendedWhenItIsTheServersFault) {
  Fleet fleet(1, 2);
  std::atomic<int> answers{0};
  const auto set = [&](std::string error) {
    answers = 0;
    for (const auto& d : fleet.decode) {
      d->Set(BatonWorker([&answers, error] { return Plan{.die_after = answers++ == 0 ? 5 : -1, .error = error}; }));
    }
  };
  set(R"({"error":{"message":"out of pages","code":503}})");
  ExpectUndisturbed(fleet.Post("/v1/completions", R"({"stream":true})"), 1, 20);
  set(R"({"error":{"message":"your own doing","code":400}})");
  const auto payloads = Payloads(fleet.Post("/v1/completions", R"({"stream":true})").body);
  ASSERT_GE(payloads.size(), 2u);
  EXPECT_NE(payloads[payloads.size() - 2].find("your own doing"), std::string::npos);
  EXPECT_EQ(answers, 1);
}

TEST(Migration, WorkersThatCannotResumeAreNotUsedForIt) {
  Fleet fleet(1, 3);
  fleet.decode[0]->Set(BatonWorker(Plan{.die_after = 3}));
  fleet.decode[1]->Set(BatonWorker(Plan{.comments = false, .resumes = false}));
  fleet.decode[2]->Set(BatonWorker(Plan{}));
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(fleet.AllHealthy(4));
    ExpectUndisturbed(fleet.Post("/v1/completions", R"({"stream":true})"), 1, 20);
  }
  EXPECT_EQ(fleet.Metric(fmt::format("smg_worker_cb_outcomes_total{{worker=\"{}\",outcome=\"failure\"}}", fleet.decode[1]->url())), 0)
      << "nobody is charged for being another product";
}

TEST(Migration, AClientsOwnContinuationIsPassedOnAndNotTracked) {
  Fleet fleet(1, 1);
  fleet.decode[0]->Set(AnswerStream({"1"}));
  fleet.Post("/v1/completions", R"({"stream":true,"baton_resume":{"choices":[{"ids":[1]}]}})");
  EXPECT_FALSE(fleet.decode[0]->headers(0).Has("x-baton-stream-ids"));
  EXPECT_NE(fleet.decode[0]->body(0).find("baton_resume"), std::string::npos);
}

TEST(Migration, AStreamWaitsForAWorkerToComeBack) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.health.interval = 50ms; });
  fleet.decode[0]->Set(BatonWorker(Plan{.die_after = 5, .gap = 5ms}));
  std::thread restart([&] {
    EXPECT_TRUE(Eventually([&] { return fleet.decode[0]->requests() == 1; }));
    const uint16_t port = fleet.decode[0]->port();
    std::this_thread::sleep_for(20ms);
    fleet.decode[0]->Kill();
    std::this_thread::sleep_for(300ms);
    fleet.decode[0] = std::make_unique<FakeWorker>(fleet.loop(), port);
    fleet.decode[0]->Set(BatonWorker(Plan{}));
  });
  ExpectUndisturbed(fleet.Post("/v1/completions", R"({"stream":true})"), 1, 20);
  restart.join();
}

TEST(Migration, RegularModeGoesOnToo) {
  Loop loop(1);
  FakeWorker a(loop), b(loop);
  std::atomic<int> answers{0};
  for (FakeWorker* w : {&a, &b}) w->Set(BatonWorker([&answers] { return Plan{.die_after = answers++ == 0 ? 7 : -1}; }));
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    o.pd_disaggregation = false;
    o.worker_urls = {a.url(), b.url()};
  }, false);
  ASSERT_TRUE(fleet.AllHealthy(2));
  ExpectUndisturbed(fleet.Post("/v1/completions", R"({"stream":true})"), 1, 20);
}

TEST(Migration, RandomDeathsUnderManyStreams) {
  Fleet fleet(2, 3, [](RouterOptions& o) {
    o.migration.max_migrations = 1000;
    o.migration.max_worker_kills = 1000;
    o.breaker.enabled = false;
  });
  std::mutex mutex;
  std::mt19937 random(20261122);
  const auto next = [&] {
    std::lock_guard lock(mutex);
    Plan plan{.tokens = 30};
    if (random() % 3 != 0) plan.die_after = static_cast<int>(random() % 60);
    if (random() % 8 == 0) plan.error = R"({"error":{"message":"x","code":500}})";
    return plan;
  };
  for (const auto& d : fleet.decode) d->Set(BatonWorker(next));
  std::vector<std::thread> clients;
  for (int t = 0; t < 8; ++t) {
    clients.emplace_back([&, t] {
      for (int i = 0; i < 12; ++i) {
        const int choices = 1 + (t + i) % 3;
        ExpectUndisturbed(fleet.Post("/v1/chat/completions", fmt::format(R"({{"stream":true,"n":{}}})", choices)), choices, 30);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_GT(fleet.Metric("baton_router_migrations_total"), 20);
  EXPECT_EQ(fleet.Metric("baton_router_stream_errors_total"), 0);
  EXPECT_TRUE(Eventually([&] { return fleet.Metric("smg_router_requests_active") == 0; }));
}

}  // namespace
}  // namespace baton::router
