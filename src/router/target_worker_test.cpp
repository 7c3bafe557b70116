#include "router/target_worker.h"

#include <gtest/gtest.h>

namespace baton::router {
namespace {

TEST(TargetWorker, Forms) {
  EXPECT_FALSE(ParseTargetWorker("")->given());
  EXPECT_FALSE(ParseTargetWorker("  ")->given());
  const auto one = ParseTargetWorker(" 2 ");
  EXPECT_EQ(one->prefill, 2u);
  EXPECT_EQ(one->other, 2u);
  const auto pair = ParseTargetWorker("1, 0");
  EXPECT_EQ(pair->prefill, 1u);
  EXPECT_EQ(pair->other, 0u);
  EXPECT_EQ(ParseTargetWorker("http://h:1")->name, "http://h:1");
  for (const char* bad : {"-1", "1,2,3", "1,", ",", "a,b", "1,x"}) {
    EXPECT_EQ(ParseTargetWorker(bad).status().code(), Code::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace baton::router
