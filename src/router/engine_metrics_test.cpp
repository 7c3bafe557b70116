#include "router/engine_metrics.h"

#include <gtest/gtest.h>

namespace baton::router {
namespace {

TEST(EngineMetrics, FamiliesStayTogetherAndSamplesAreLabelled) {
  const std::string a =
      "# HELP t Time\n# TYPE t histogram\nt_bucket{le=\"1\"} 2\nt_sum 3\n# TYPE u gauge\nu{} 4\n";
  const std::string b = "# HELP t Time\n# TYPE t histogram\r\nt_sum 5\r\nplain 6 1700000000\ngarbage\n# note\n";
  EXPECT_EQ(MergeMetrics({{"http://a", a}, {"http://b", b}}),
            "# HELP t Time\n# TYPE t histogram\n"
            "t_bucket{worker_addr=\"http://a\",le=\"1\"} 2\n"
            "t_sum{worker_addr=\"http://a\"} 3\n"
            "t_sum{worker_addr=\"http://b\"} 5\n"
            "# TYPE u gauge\nu{worker_addr=\"http://a\"} 4\n"
            "plain{worker_addr=\"http://b\"} 6 1700000000\n");
}

TEST(EngineMetrics, EmptyInput) {
  EXPECT_EQ(MergeMetrics({}), "");
  EXPECT_EQ(MergeMetrics({{"http://a", ""}}), "");
}

}  // namespace
}  // namespace baton::router
