// What counts as a restart, as a death, and as a mere miss.
#include "disagg/heartbeat.h"

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "http/test_support.h"

namespace baton::disagg {
namespace {

using boost::asio::ip::tcp;

std::string InstanceBody(uint64_t instance) {
  ByteWriter writer;
  writer.Put(instance);
  return std::move(writer).bytes();
}

TEST(Heartbeat, OnlyAnUnknownOrAnotherInstanceIsARestart) {
  EXPECT_EQ(JudgeBeat(200, InstanceBody(7), 7), Beat::kAlive);
  EXPECT_EQ(JudgeBeat(200, InstanceBody(8), 7), Beat::kRestarted);
  EXPECT_EQ(JudgeBeat(409, InstanceBody(7), 7), Beat::kRestarted);
  for (const int status : {400, 404, 408, 429, 500, 502, 503}) {
    EXPECT_EQ(JudgeBeat(status, InstanceBody(7), 7), Beat::kMissed) << status;
    EXPECT_EQ(JudgeBeat(status, "", 7), Beat::kMissed) << status;
  }
  EXPECT_EQ(JudgeBeat(200, "short", 7), Beat::kMissed);
}

TEST(Heartbeat, RefusedMeansThatNobodyListens) {
  http::test::Loop loop;
  boost::asio::io_context context;
  tcp::acceptor acceptor(context, {boost::asio::ip::make_address("127.0.0.1"), 0});
  const http::Origin origin{false, "127.0.0.1", acceptor.local_endpoint().port()};
  EXPECT_FALSE(loop.Run(IsRefused(origin, Now() + http::test::kPatience)));
  acceptor.close();
  EXPECT_TRUE(loop.Run(IsRefused(origin, Now() + http::test::kPatience)));
  EXPECT_FALSE(loop.Run(IsRefused({false, "nobody.invalid", origin.port}, Now() + http::test::kPatience)));
}

// A host that swallows the connection: a full backlog drops SYNs.
TEST(Heartbeat, SilenceIsNotRefusal) {
  http::test::Loop loop;
  boost::asio::io_context context;
  tcp::acceptor acceptor(context, tcp::v4());
  acceptor.bind({boost::asio::ip::make_address("127.0.0.1"), 0});
  acceptor.listen(0);
  std::vector<tcp::socket> filling;
  for (int i = 0; i < 8; ++i) {
    filling.emplace_back(context, tcp::v4()).native_non_blocking(true);
    // Asio's own connect would wait.
    const auto to = acceptor.local_endpoint();
    (void)::connect(filling.back().native_handle(), to.data(), static_cast<socklen_t>(to.size()));
  }
  const http::Origin origin{false, "127.0.0.1", acceptor.local_endpoint().port()};
  EXPECT_FALSE(loop.Run(IsRefused(origin, Now() + 300ms)));
}

}  // namespace
}  // namespace baton::disagg
