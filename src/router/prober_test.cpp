// What the router learns of its workers, and when it asks.
#include "router/prober.h"

#include "router/test_fleet.h"

namespace baton::router::test {
namespace {

constexpr const char* kPrefillInfo =
    R"({"served_model_name":"late","disaggregation_mode":"prefill","disaggregation_bootstrap_port":4321,"baton_version":"1"})";
constexpr const char* kDecodeInfo = R"({"served_model_name":"late","disaggregation_mode":"decode","baton_version":"1"})";

// A prefill and a decode server which do not say yet who they are.
class LateMetadata : public ::testing::Test {
 protected:
  LateMetadata() {
    prefill_.SetInfo("");
    decode_.SetInfo("");
  }
  std::unique_ptr<Fleet> Start(const std::function<void(RouterOptions&)>& change) {
    return std::make_unique<Fleet>(0, 0, [&](RouterOptions& o) {
      o.prefill = {{prefill_.url(), std::nullopt}};
      o.decode = {decode_.url()};
      change(o);
    }, false);
  }
  void ExpectLearned(Fleet& fleet) {
    EXPECT_TRUE(Eventually([&] { return prefill_.questions() > 0 && decode_.questions() > 0; }));
    EXPECT_EQ(fleet.Get("/workers").body.find("late"), std::string::npos);
    prefill_.SetInfo(kPrefillInfo);
    decode_.SetInfo(kDecodeInfo);
    EXPECT_TRUE(Eventually([&] { return fleet.Get("/workers").body.find("\"bootstrap_port\":4321") != std::string::npos; }));
    EXPECT_TRUE(Eventually([&] { return decode_.pairs() > 0; })) << "introduced once both are known";
    EXPECT_TRUE(fleet.AllHealthy(2));
  }

  Loop workers_loop_;
  FakeWorker prefill_{workers_loop_}, decode_{workers_loop_};
};

TEST_F(LateMetadata, IsAskedForUntilToldThoughTheWorkerIsHealthy) {
  const auto fleet = Start([](RouterOptions& o) { o.health.interval = 50ms; });
  EXPECT_TRUE(fleet->AllHealthy(2)) << "metadata are not needed for readiness";
  ExpectLearned(*fleet);
  const int asked = prefill_.questions(), probes = prefill_.probes();
  EXPECT_TRUE(Eventually([&] { return prefill_.probes() > probes + 5; }));
  EXPECT_EQ(prefill_.questions(), asked) << "told once is enough";
}

TEST_F(LateMetadata, IsAskedForWithoutHealthChecks) {
  const auto fleet = Start([](RouterOptions& o) { o.health.enabled = false; });
  ExpectLearned(*fleet);
}

}  // namespace
}  // namespace baton::router::test
