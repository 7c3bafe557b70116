// --dp-aware: the data-parallel ranks of a worker as workers of their own, with workers that have the
// routes and rank members of SGLang 0.5.9 or 0.5.23 (specs/sglang-pd-protocol.md 2).
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "router/bootstrap.h"
#include "router/dp_rank.h"
#include "router/registry.h"
#include "router/test_fleet.h"

namespace baton::router {
namespace {

using namespace test;  // NOLINT

constexpr const char* kOld = "0.5.9";
constexpr const char* kNew = "0.5.23";

struct Shape {
  const char* version;
  int64_t prefill_ranks;
  int64_t decode_ranks;
};

// Where one request was sent, as a worker of the version reads its body. -1: it is free to choose.
struct Seen {
  int64_t routed = -1;
  int64_t prefill = -1;  // on decode: the rank that the KV is fetched from
  int64_t room = 0;
  size_t rank_members = 0;
};

class DpServer {
 public:
  DpServer(Loop& loop, std::string version, int64_t dp_size, std::string mode)
      : version_(std::move(version)), mode_(std::move(mode)), dp_size_(dp_size) {
    server_ = std::make_unique<http::Server>(loop.executor(), http::ServerOptions{});
    Serve("/health", [this] { return std::pair(health_.load(), std::string()); });
    Serve("/server_info", [this] { return std::pair(200, Info()); });
    Serve("/flush_cache", [this] { ++flushes_; return std::pair(200, std::string("ok")); });
    Serve("/metrics", [] { return std::pair(200, std::string("up 1\n")); });
    if (version_ == kOld) Serve("/get_load", [this] { return std::pair(200, Loads("", "num_tokens", "")); });
    else Serve("/v1/loads", [this] { return std::pair(200, Loads(R"({"loads":)", "num_used_tokens", "}")); });
    for (const char* path : {"/generate", "/v1/chat/completions"}) {
      server_->Route("POST", path, [this](http::Request& request, http::Responder& responder) -> asio::awaitable<void> {
        Note(request.body);
        const Script script = AnswerJson(fail_, R"({"text":"a"})");
        co_await script(request, responder);
      });
    }
    EXPECT_TRUE(server_->Start().ok());
    port_ = server_->port();
  }
  ~DpServer() { Stop(); }
  void Stop() {
    if (server_) server_->Stop();
    server_.reset();
  }
  std::string url() const { return fmt::format("http://127.0.0.1:{}", port_); }
  std::string url(int64_t rank) const { return fmt::format("{}@{}", url(), rank); }
  void SetHealth(int status) { health_ = status; }
  void SetSize(int64_t dp_size) { dp_size_ = dp_size; }
  void FailWith(int status) { fail_ = status; }
  int flushes() const { return flushes_; }
  std::vector<Seen> seen() const {
    std::lock_guard lock(mutex_);
    return seen_;
  }
  std::map<int64_t, size_t> CountByRank() const {
    std::map<int64_t, size_t> counts;
    for (const Seen& s : seen()) ++counts[s.routed];
    return counts;
  }

 private:
  void Serve(const char* path, std::function<std::pair<int, std::string>()> make) {
    server_->Route("*", path, [make](http::Request&, http::Responder& responder) -> asio::awaitable<void> {
      const std::pair<int, std::string> answer = make();
      http::Response response;
      response.status = answer.first;
      response.body = answer.second;
      (void)co_await responder.Send(std::move(response));
    });
  }
  std::string Info() const {
    return fmt::format(R"({{"model_path":"/m","served_model_name":"served","tp_size":1,"dp_size":{},"disaggregation_mode":"{}",)"
                       R"("disaggregation_bootstrap_port":8998,"max_total_num_tokens":1000,"version":"{}"}})",
                       dp_size_.load(), mode_, version_);
  }
  // Rank r holds 10 * (r + 1) tokens.
  std::string Loads(const char* before, const char* key, const char* after) const {
    std::string text = before;
    for (int64_t r = dp_size_ - 1; r >= 0; --r) {
      text += fmt::format(R"({}{{"dp_rank":{},"{}":{}}})", text.ends_with('}') ? "," : "[", r, key, 10 * (r + 1));
    }
    return text + "]" + after;
  }
  void Note(const std::string& text) {
    const json::value parsed = *json::Parse(text);
    const json::object& body = parsed.get_object();
    const auto number = [&](const char* key, int64_t otherwise) {
      const json::value* found = json::Find(body, key);
      return found && found->is_int64() ? found->get_int64() : otherwise;
    };
    Seen s;
    const bool old = version_ == kOld;
    s.routed = number(old ? "data_parallel_rank" : "routed_dp_rank", -1);
    s.prefill = number(old ? "data_parallel_rank" : "disagg_prefill_dp_rank", -1);
    s.room = number("bootstrap_room", 0);
    for (std::string_view name : kRankMembers) {
      for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) ++s.rank_members;
    }
    std::lock_guard lock(mutex_);
    seen_.push_back(s);
  }

  const std::string version_, mode_;
  std::atomic<int64_t> dp_size_;
  std::atomic<int> health_{200}, fail_{200}, flushes_{0};
  mutable std::mutex mutex_;
  std::vector<Seen> seen_;
  std::unique_ptr<http::Server> server_;
  uint16_t port_ = 0;
};

std::string UrlOf(const http::Response& response, size_t index) {
  const json::value parsed = *json::Parse(response.body);
  const auto& workers = parsed.at("workers").get_array();
  return index < workers.size() ? std::string(workers[index].at("url").get_string()) : std::string();
}

size_t Healthy(Fleet& fleet) {
  const json::value parsed = *json::Parse(fleet.Get("/readiness").body);
  const json::value* count = json::Find(parsed.get_object(), "healthy_workers");
  return count ? static_cast<size_t>(count->get_int64()) : 0;
}

// `count` healthy workers, ranks included.
bool AwaitHealthy(Fleet& fleet, size_t count) {
  return Eventually([&] { return Healthy(fleet) == count; });
}

void DpAware(RouterOptions& o) {
  o.dp_aware = true;
  o.load_poll_interval = 20ms;
}

class RegularDp : public ::testing::TestWithParam<Shape> {};

TEST_P(RegularDp, EveryRankGetsItsShare) {
  Loop loop(2);
  DpServer one(loop, GetParam().version, GetParam().prefill_ranks, "null");
  DpServer two(loop, GetParam().version, GetParam().decode_ranks, "null");
  const auto ranks = static_cast<size_t>(GetParam().prefill_ranks + GetParam().decode_ranks);
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    DpAware(o);
    o.pd_disaggregation = false;
    o.worker_urls = {one.url(), two.url()};
  }, false);
  ASSERT_TRUE(AwaitHealthy(fleet, ranks));
  // The client's own wish is not sent on beside the router's.
  for (size_t i = 0; i < 3 * ranks; ++i) {
    EXPECT_EQ(fleet.Post("/generate", R"({"data_parallel_rank":99,"text":"a","routed_dp_rank":98})").status, 200);
  }
  for (const DpServer* server : {&one, &two}) {
    const auto counts = server->CountByRank();
    const int64_t size = server == &one ? GetParam().prefill_ranks : GetParam().decode_ranks;
    EXPECT_EQ(counts.size(), static_cast<size_t>(size));
    for (int64_t rank = 0; rank < size; ++rank) EXPECT_EQ(counts.contains(rank) ? counts.at(rank) : 0, 3u) << rank;
    for (const Seen& s : server->seen()) EXPECT_EQ(s.rank_members, 1u);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RegularDp,
                         ::testing::Values(Shape{kOld, 2, 3}, Shape{kNew, 2, 3}, Shape{kOld, 8, 4}, Shape{kNew, 5, 8}));

class PdDp : public ::testing::TestWithParam<Shape> {};

TEST_P(PdDp, BothSidesAgreeOnThePrefillRank) {
  const auto [version, prefill_ranks, decode_ranks] = GetParam();
  Loop loop(2);
  DpServer prefill(loop, version, prefill_ranks, "prefill"), decode(loop, version, decode_ranks, "decode");
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    DpAware(o);
    o.prefill = {{prefill.url(), std::nullopt}};
    o.decode = {decode.url()};
    o.decode_policy = PolicyKind::kRandom;  // so that ranks meet in every combination
  }, false);
  ASSERT_TRUE(AwaitHealthy(fleet, static_cast<size_t>(prefill_ranks + decode_ranks)));
  const size_t requests = static_cast<size_t>(4 * prefill_ranks);
  std::map<int64_t, int64_t> prefill_of_room;
  for (size_t i = 0; i < requests; ++i) {
    ASSERT_EQ(fleet.Post("/generate", R"({"text":"a","disagg_prefill_dp_rank":77})").status, 200);
    ASSERT_TRUE(Eventually([&] { return prefill.seen().size() == i + 1; }));
  }
  for (const Seen& s : prefill.seen()) {
    const int64_t rank = prefill_ranks > 1 ? s.routed : 0;
    prefill_of_room[s.room] = rank;
    EXPECT_EQ(s.room % prefill_ranks, rank);
    EXPECT_GT(s.room, 0);
    EXPECT_LE(s.rank_members, 1u);
  }
  ASSERT_EQ(decode.seen().size(), requests);
  const bool old = std::string_view(version) == kOld;
  std::map<int64_t, size_t> both;
  for (const Seen& s : decode.seen()) {
    ASSERT_TRUE(prefill_of_room.contains(s.room));
    // As the worker finds it: told, or by the room.
    EXPECT_EQ(s.prefill >= 0 ? s.prefill : s.room % prefill_ranks, prefill_of_room[s.room]);
    EXPECT_LT(s.routed, decode_ranks);
    if (!old) {
      EXPECT_EQ(s.routed >= 0, decode_ranks > 1);
    }
    ++both[s.routed];
  }
  if (prefill_ranks > 1) {
    for (const auto& [rank, count] : prefill.CountByRank()) EXPECT_EQ(count, 4u) << rank;
  }
  // The old member binds decode to the prefill rank, as far as decode has it.
  if (old && prefill_ranks > 1 && decode_ranks >= prefill_ranks) {
    EXPECT_EQ(both.size(), static_cast<size_t>(prefill_ranks));
    EXPECT_FALSE(both.contains(-1));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, PdDp,
                         ::testing::Values(Shape{kOld, 2, 2}, Shape{kNew, 2, 2}, Shape{kOld, 2, 8}, Shape{kNew, 2, 8},
                                           Shape{kOld, 4, 2}, Shape{kNew, 4, 2}, Shape{kOld, 1, 3}, Shape{kNew, 1, 3},
                                           Shape{kOld, 3, 1}, Shape{kNew, 3, 1}));

TEST(DpAware, WithoutTheFlagNothingIsSaid) {
  Loop loop(2);
  DpServer server(loop, kNew, 4, "null");
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    o.pd_disaggregation = false;
    o.worker_urls = {server.url()};
  }, false);
  ASSERT_TRUE(AwaitHealthy(fleet, 1));
  fleet.Post("/generate", R"({"text":"a","routed_dp_rank":3})");
  ASSERT_EQ(server.seen().size(), 1u);
  EXPECT_EQ(server.seen()[0].routed, 3);
  EXPECT_EQ(server.seen()[0].rank_members, 1u);
  EXPECT_EQ(UrlOf(fleet.Get("/workers"), 0), server.url());
}

// Regular mode, one worker of four ranks.
class FourRanks : public ::testing::TestWithParam<const char*> {
 protected:
  FourRanks() {
    fleet_ = std::make_unique<Fleet>(0, 0, [this](RouterOptions& o) {
      DpAware(o);
      o.pd_disaggregation = false;
      o.worker_urls = {server_.url()};
      o.retry.max_attempts = 1;
      o.breaker.failure_threshold = 2;
      o.breaker.open_time = 60s;
      o.health.interval = 50ms;
      o.health.failure_threshold = 1;
      o.health.success_threshold = 1;
    }, false);
    EXPECT_TRUE(AwaitHealthy(*fleet_, 4));
  }
  http::Response To(std::string target) {
    http::Headers headers;
    headers.Set("x-smg-target-worker", std::move(target));
    return fleet_->Fetch("POST", "/generate", R"({"text":"a"})", headers);
  }
  Loop loop_{2};
  DpServer server_{loop_, GetParam(), 4, "null"};
  std::unique_ptr<Fleet> fleet_;
};

TEST_P(FourRanks, TargetNamesOneOrTheWholeWorker) {
  EXPECT_EQ(To(server_.url(2)).status, 200);
  EXPECT_EQ(server_.seen().back().routed, 2);
  EXPECT_EQ(To("3").status, 200);
  EXPECT_EQ(server_.seen().back().routed, 3);
  EXPECT_EQ(To(server_.url(4)).status, 400);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(To(server_.url()).status, 200);
  for (const auto& [rank, count] : server_.CountByRank()) EXPECT_GE(count, 2u) << rank;
}

TEST_P(FourRanks, LoadsAndMetricsAreOfEachRank) {
  const auto tokens = [&](int64_t rank) {
    return fleet_->Metric(fmt::format(R"(baton_router_worker_reported_tokens{{worker="{}"}})", server_.url(rank)));
  };
  EXPECT_TRUE(Eventually([&] { return tokens(0) == 10 && tokens(3) == 40; }));
  EXPECT_EQ(fleet_->Metric(fmt::format(R"(smg_worker_health{{worker="{}"}})", server_.url(1))), 1);
  const json::value loads = *json::Parse(fleet_->Get("/get_loads").body);
  ASSERT_EQ(loads.at("workers").get_array().size(), 4u);
  for (int64_t r = 0; r < 4; ++r) {
    const json::value& row = loads.at("workers").at(static_cast<size_t>(r));
    EXPECT_EQ(row.at("worker").get_string(), server_.url(r));
    EXPECT_EQ(row.at("load").get_int64(), 10 * (r + 1));
  }
  // Each process is asked once.
  EXPECT_EQ(fleet_->Post("/flush_cache", "").status, 200);
  EXPECT_EQ(server_.flushes(), 1);
}

TEST_P(FourRanks, BreakerIsOfARank) {
  server_.FailWith(500);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(To(server_.url(1)).status, 500);
  server_.FailWith(200);
  EXPECT_EQ(To(server_.url(1)).status, 503);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(fleet_->Post("/generate", R"({"text":"a"})").status, 200);
  const auto counts = server_.CountByRank();
  EXPECT_EQ(counts.at(1), 2u);
  for (int64_t rank : {0, 2, 3}) EXPECT_EQ(counts.at(rank), 2u) << rank;
}

TEST_P(FourRanks, DeathTakesAllRanksOut) {
  server_.Stop();
  (void)To(server_.url(1));
  EXPECT_EQ(Healthy(*fleet_), 0u);
  EXPECT_EQ(To(server_.url(3)).status, 503);
}

TEST_P(FourRanks, ComesBackWithAnotherNumber) {
  for (int64_t size : {2, 8, 1, 3}) {
    server_.SetHealth(503);
    ASSERT_TRUE(AwaitHealthy(*fleet_, 0)) << size;
    server_.SetSize(size);
    server_.SetHealth(200);
    ASSERT_TRUE(AwaitHealthy(*fleet_, static_cast<size_t>(size))) << size;
    const size_t before = server_.seen().size();
    for (int64_t i = 0; i < 2 * size; ++i) EXPECT_EQ(fleet_->Post("/generate", R"({"text":"a"})").status, 200);
    std::map<int64_t, int> counts;
    const auto seen = server_.seen();
    for (size_t i = before; i < seen.size(); ++i) ++counts[seen[i].routed];
    for (int64_t rank = 0; rank < size; ++rank) EXPECT_EQ(counts[size == 1 ? -1 : rank], 2) << size << " " << rank;
  }
  EXPECT_EQ(UrlOf(fleet_->Get("/workers"), 3), "");
}

TEST_P(FourRanks, AnotherNumberIsNoticedByTheLoads) {
  server_.SetSize(6);
  EXPECT_TRUE(AwaitHealthy(*fleet_, 6));
}

TEST_P(FourRanks, WorkerApiHasAllRanksOfAUrl) {
  const http::Response list = fleet_->Get("/workers");
  for (int64_t r = 0; r < 4; ++r) EXPECT_EQ(UrlOf(list, static_cast<size_t>(r)), server_.url(r));
  const json::value workers = *json::Parse(list.body);
  const json::value& second = workers.at("workers").at(1);
  EXPECT_EQ(second.at("dp_rank").get_int64(), 1);
  const std::string process(second.at("process_id").get_string());
  const std::string rank_id(second.at("id").get_string());
  EXPECT_EQ(fleet_->Get("/workers/" + process).status, 200);
  EXPECT_EQ(fleet_->Get("/workers/" + rank_id).status, 200);
  EXPECT_EQ(fleet_->Fetch("DELETE", "/workers/" + rank_id).status, 400);

  DpServer more(loop_, GetParam(), 2, "null");
  EXPECT_EQ(fleet_->Post("/workers", fmt::format(R"({{"url":"{}"}})", server_.url())).status, 409);
  EXPECT_EQ(fleet_->Post("/workers", fmt::format(R"({{"url":"{}"}})", more.url())).status, 202);
  EXPECT_TRUE(AwaitHealthy(*fleet_, 6));
  EXPECT_EQ(fleet_->Fetch("DELETE", "/workers/" + process).status, 202);
  EXPECT_EQ(Healthy(*fleet_), 2u);
  EXPECT_EQ(UrlOf(fleet_->Get("/workers"), 0), more.url(0));
  // Listed workers are owned, as discovered ones are: a new list takes all ranks along.
  EXPECT_EQ(fleet_->Post("/remove_worker?url=" + more.url(), "").status, 200);
  EXPECT_EQ(Healthy(*fleet_), 0u);
}

TEST_P(FourRanks, ListsAndDiscoveryAddAndRemoveAllRanks) {
  DpServer more(loop_, GetParam(), 3, "null");
  RouterOptions fresh;
  fresh.worker_urls = {more.url()};
  ASSERT_TRUE(fleet_->router->ReplaceListed(fresh).ok());
  EXPECT_TRUE(AwaitHealthy(*fleet_, 3));
  EXPECT_EQ(UrlOf(fleet_->Get("/workers"), 2), more.url(2));
  EXPECT_EQ(UrlOf(fleet_->Get("/workers"), 3), "");
}

TEST(DpAware, RanksAreFoundWithoutHealthChecks) {
  Loop loop(2);
  DpServer server(loop, kNew, 2, "null");
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    DpAware(o);
    o.pd_disaggregation = false;
    o.worker_urls = {server.url()};
    o.health.enabled = false;
  }, false);
  EXPECT_TRUE(AwaitHealthy(fleet, 2));
}

INSTANTIATE_TEST_SUITE_P(Versions, FourRanks, ::testing::Values(kOld, kNew));

// Whatever comes and goes: under round_robin all ranks differ by one at most.
TEST(DpAware, RoundRobinIsFairOverAnyRanks) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 50; ++round) {
    RouterOptions options;
    options.dp_aware = true;
    options.health.enabled = false;  // healthy from the start
    options.prefill_policy = options.decode_policy = PolicyKind::kRoundRobin;
    RouterMetrics metrics(false, {});
    const auto registry = std::make_shared<Registry>(options, metrics);
    size_t ranks = 0;
    for (uint64_t p = 0, processes = 1 + random() % 4; p < processes; ++p) {
      const auto worker = registry->Add({.url = fmt::format("http://10.0.0.{}:1", p)});
      ASSERT_TRUE(worker.ok());
      int64_t size = 1;
      for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
        size = static_cast<int64_t>(1 + random() % 8);
        WorkerMetadata metadata;
        metadata.dp_size = size;
        registry->SetMetadata(*worker, metadata);
      }
      ranks += static_cast<size_t>(size);
    }
    ASSERT_EQ(registry->List().size(), ranks);
    std::map<std::string, size_t> counts;
    const uint64_t requests = ranks + random() % 100;
    for (uint64_t i = 0; i < requests; ++i) {
      const auto lease = registry->Acquire(Role::kRegular, {}, Now(), {});
      ASSERT_TRUE(lease.ok());
      ++counts[lease->worker().url()];
    }
    ASSERT_EQ(counts.size(), ranks);
    for (const auto& [url, count] : counts) {
      EXPECT_GE(count, requests / ranks) << url;
      EXPECT_LE(count, requests / ranks + 1) << url;
    }
  }
}

TEST(DpRanks, MembersFollowTheVersion) {
  for (const char* old : {"0.5.9", "0.5.9.post1", "0.4.10", "0.5.0rc1"}) EXPECT_TRUE(HasOldRankMember(old)) << old;
  for (const char* fresh : {"0.5.10", "0.5.23", "1.0.0", "", "main", "0.5", "0.0.0.dev1+g12"}) EXPECT_FALSE(HasOldRankMember(fresh)) << fresh;
  const DpRank old_one{1, 4, true}, old_two{2, 4, true}, new_one{1, 4, false}, new_two{2, 4, false}, none;
  EXPECT_EQ(RankMembers(old_one), R"("data_parallel_rank":1)");
  EXPECT_EQ(RankMembers(new_one), R"("routed_dp_rank":1)");
  EXPECT_EQ(RankMembers(none), "");
  EXPECT_EQ(DecodeRankMembers(new_one, new_two), R"("routed_dp_rank":2,"disagg_prefill_dp_rank":1)");
  EXPECT_EQ(DecodeRankMembers(new_one, none), R"("disagg_prefill_dp_rank":1)");
  EXPECT_EQ(DecodeRankMembers(none, new_two), R"("routed_dp_rank":2)");
  EXPECT_EQ(DecodeRankMembers(old_one, old_one), R"("data_parallel_rank":1)");
  EXPECT_EQ(DecodeRankMembers(old_one, old_two), "");
  EXPECT_EQ(DecodeRankMembers(none, old_one), "");
}

TEST(DpRanks, UrlIsTakenApart) {
  const auto split = SplitRankedUrl("http://h:1@12");
  ASSERT_TRUE(split);
  EXPECT_EQ(split->url, "http://h:1");
  EXPECT_EQ(split->rank, 12);
  for (const char* text : {"http://h:1", "http://h:1@", "http://h:1@-1", "http://h:1@1x", "http://me@h:1", ""}) {
    EXPECT_FALSE(SplitRankedUrl(text)) << text;
  }
}

TEST(DpRanks, RoomsHaveTheRemainderAsked) {
  for (int64_t modulus = 1; modulus <= 8; ++modulus) {
    for (int64_t rest = 0; rest < modulus; ++rest) {
      const auto rooms = DrawRooms(50, modulus, rest);
      ASSERT_EQ(rooms.size(), 50u);
      EXPECT_EQ(std::set<int64_t>(rooms.begin(), rooms.end()).size(), 50u);
      for (int64_t room : rooms) {
        EXPECT_GT(room, 0);
        EXPECT_EQ(room % modulus, rest);
      }
    }
  }
}

TEST(DpRanks, LoadsAreReadByRank) {
  RankReports ranks;
  const auto sum = ReadLoadReport(R"({"loads":[{"dp_rank":2,"num_used_tokens":7},{"dp_rank":0,"num_used_tokens":5},
      {"dp_rank":99999999,"num_used_tokens":1},{"dp_rank":-3,"num_used_tokens":1}]})", &ranks);
  ASSERT_TRUE(sum);
  EXPECT_EQ(sum->tokens, 14);
  ASSERT_EQ(ranks.size(), 3u);
  EXPECT_EQ(ranks[0]->tokens, 5);
  EXPECT_FALSE(ranks[1]);
  EXPECT_EQ(ranks[2]->tokens, 7);
  ASSERT_TRUE(ReadLoadReport(R"([{"num_tokens":1},{"num_tokens":2}])", &ranks));
  ASSERT_EQ(ranks.size(), 2u);
  EXPECT_EQ(ranks[1]->tokens, 2);
}

}  // namespace
}  // namespace baton::router
