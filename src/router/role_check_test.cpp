// A server of another role than it was added as takes no request, and says why.
#include "router/role_check.h"

#include "router/test_fleet.h"

namespace baton::router::test {
namespace {

TEST(RoleConflict, ComparesWhatTheServerSaysWithWhatItWasAddedAs) {
  const auto conflict = [](Role role, std::string_view mode) { return RoleConflict(role, "http://w:1", mode); };
  const Role roles[] = {Role::kRegular, Role::kPrefill, Role::kDecode};
  const std::string_view modes[] = {"null", "prefill", "decode"};
  for (size_t role = 0; role < 3; ++role) {
    for (size_t mode = 0; mode < 3; ++mode) {
      const std::string text = conflict(roles[role], modes[mode]);
      EXPECT_EQ(text.empty(), role == mode) << text;
      if (role == mode) continue;
      for (std::string_view named : {std::string_view("http://w:1"), RoleName(roles[role]), std::string_view("--disaggregation-mode")}) {
        EXPECT_NE(text.find(named), std::string::npos) << text;
      }
    }
    for (const char* unknown : {"", "both"}) EXPECT_EQ(conflict(roles[role], unknown), "");
  }
  EXPECT_EQ(conflict(Role::kDecode, "prefill"),
            "http://w:1 was added as a decode worker, but says that it is a prefill server: add it as prefill (--prefill URL, "
            "worker_type \"prefill\"), or restart it with --disaggregation-mode decode");
}

// The row of `url` in /workers, or null.
json::value RowOf(Fleet& fleet, const std::string& url) {
  const json::value listed = *json::Parse(fleet.Get("/workers").body);
  for (const json::value& row : listed.at("workers").as_array()) {
    if (row.at("url").as_string() == url) return row;
  }
  return nullptr;
}

std::string ReasonOf(Fleet& fleet, const std::string& url) {
  const json::value row = RowOf(fleet, url);
  if (!row.is_object() || !row.as_object().contains("reason")) return "";
  return std::string(row.at("reason").as_string());
}

bool BecomesWrong(Fleet& fleet, const std::string& url) {
  return Eventually([&] { return !ReasonOf(fleet, url).empty(); });
}

std::string Add(Fleet& fleet, const FakeWorker& worker, const char* role) {
  const http::Response added = fleet.Post("/workers", fmt::format(R"({{"url":"{}","worker_type":"{}"}})", worker.url(), role));
  EXPECT_EQ(added.status, 202) << added.body;
  return std::string(json::Parse(added.body)->at("location").as_string());
}

TEST(WrongRole, APrefillAddedAsDecodeStaysOutAndComesInWhenRestartedAsOne) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.health.interval = 50ms; });
  FakeWorker other(fleet.loop());
  other.TellRole("prefill", true);
  const std::string location = Add(fleet, other, "decode");
  ASSERT_TRUE(BecomesWrong(fleet, other.url()));
  const int probes = other.probes();
  ASSERT_TRUE(Eventually([&] { return other.probes() > probes + 3; }));
  for (int i = 0; i < 6; ++i) EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_EQ(other.requests(), 0u);
  EXPECT_FALSE(RowOf(fleet, other.url()).at("is_healthy").as_bool());
  EXPECT_NE(fleet.Get("/readiness").body.find(R"("healthy_decode":1,"total_decode":2)"), std::string::npos);
  const std::string series = fmt::format("smg_worker_health{{worker=\"{}\"}}", other.url());
  EXPECT_EQ(fleet.Metric(series), 0);
  const json::value job = json::Parse(fleet.Get(location).body)->at("job_status");
  EXPECT_EQ(job.at("status").as_string(), "failed");
  EXPECT_EQ(job.at("message").as_string(), ReasonOf(fleet, other.url()));

  other.TellRole("decode", true);
  ASSERT_TRUE(fleet.AllHealthy(3));
  EXPECT_EQ(ReasonOf(fleet, other.url()), "");
  EXPECT_FALSE(json::Parse(fleet.Get(location).body)->as_object().contains("job_status"));
  EXPECT_EQ(fleet.Metric(series), 1);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_GE(other.requests(), 1u);
}

// Nobody answers there yet, which is no reason to give up.
TEST(WrongRole, AWorkerThatIsNotThereYetIsBeingAdded) {
  Fleet fleet;
  const http::Response added = fleet.Post("/workers", R"({"url":"http://127.0.0.1:1","worker_type":"decode"})");
  ASSERT_EQ(added.status, 202) << added.body;
  const std::string location(json::Parse(added.body)->at("location").as_string());
  EXPECT_EQ(json::Parse(fleet.Get(location).body)->at("job_status").at("status").as_string(), "processing");
}

TEST(WrongRole, ADecodeAddedAsPrefillStaysOut) {
  Fleet fleet;
  FakeWorker other(fleet.loop());
  other.TellRole("decode", true);
  Add(fleet, other, "prefill");
  EXPECT_TRUE(BecomesWrong(fleet, other.url()));
}

TEST(WrongRole, NobodyElseMeansNotReadyAndA503ThatSaysIt) {
  Fleet fleet(1, 0, [](RouterOptions& o) { o.decode = {"http://127.0.0.1:1"}; }, false);
  FakeWorker mono(fleet.loop());
  mono.TellRole("null", true);
  Add(fleet, mono, "decode");
  ASSERT_TRUE(BecomesWrong(fleet, mono.url()));
  EXPECT_EQ(fleet.Get("/readiness").status, 503);
  const http::Response response = fleet.Post("/generate", R"({"text":"a"})");
  EXPECT_EQ(response.status, 503);
  EXPECT_NE(response.body.find("1 of another role"), std::string::npos) << response.body;
}

TEST(WrongRole, RegularModeTakesNoHalfOfAPair) {
  Loop loop;
  FakeWorker half(loop), whole(loop);
  half.TellRole("prefill", true);
  whole.TellRole("null", true);
  Fleet fleet(0, 0, [&](RouterOptions& o) {
    o.pd_disaggregation = false;
    o.worker_urls = {half.url(), whole.url()};
  }, false);
  ASSERT_TRUE(BecomesWrong(fleet, half.url()));
  ASSERT_TRUE(fleet.AllHealthy(1));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_EQ(half.requests(), 0u);
}

TEST(WrongRole, IsFoundWithoutHealthChecks) {
  Fleet fleet(1, 1, [](RouterOptions& o) { o.health.enabled = false; });
  FakeWorker other(fleet.loop());
  other.TellRole("prefill", true);
  Add(fleet, other, "decode");
  ASSERT_TRUE(BecomesWrong(fleet, other.url()));
  other.TellRole("decode", true);
  EXPECT_TRUE(fleet.AllHealthy(3));
}

// Stand-ins and other engines may say one mode whatever they are.
TEST(WrongRole, OnlyABatonServerIsTakenAtItsWord) {
  Fleet fleet(1, 0, [](RouterOptions& o) { o.decode = {"http://127.0.0.1:1"}; }, false);
  FakeWorker other(fleet.loop());
  other.TellRole("prefill");
  Add(fleet, other, "decode");
  ASSERT_TRUE(fleet.AllHealthy(2));
  EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_EQ(other.requests(), 1u);
  EXPECT_EQ(ReasonOf(fleet, other.url()), "");
}

// The address is taken over by a server of another role while nobody looks.
TEST(WrongRole, ARestartAsAnotherRoleIsNoticed) {
  Fleet fleet(1, 2, [](RouterOptions& o) { o.health.interval = 50ms; });
  const uint16_t port = fleet.decode[1]->port();
  fleet.decode[1]->Kill();
  ASSERT_TRUE(Eventually([&] { return fleet.Get("/readiness").body.find("\"healthy_decode\":1") != std::string::npos; }));
  fleet.decode[1] = std::make_unique<FakeWorker>(fleet.loop(), port, http::ServerTlsOptions{}, "prefill", true);
  EXPECT_TRUE(BecomesWrong(fleet, fleet.decode[1]->url()));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(fleet.Post("/generate", R"({"text":"a"})").status, 200);
  EXPECT_EQ(fleet.decode[1]->requests(), 0u);
}

}  // namespace
}  // namespace baton::router::test
