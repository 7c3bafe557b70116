// What counts as a restart, as a death, as a mere miss, and as nothing at all.
#include "disagg/heartbeat.h"

#include <gtest/gtest.h>

#include "common/bytes.h"
#include "http/test_support.h"

namespace baton::disagg {
namespace {

std::string InstanceBody(uint64_t instance) {
  ByteWriter writer;
  writer.Put(instance);
  return std::move(writer).bytes();
}

Beat JudgeAnswer(int status, std::string body) {
  http::Response response;
  response.status = status;
  response.body = std::move(body);
  return JudgeBeat(response, 7);
}

TEST(Heartbeat, OnlyAnUnknownOrAnotherInstanceIsARestart) {
  EXPECT_EQ(JudgeAnswer(200, InstanceBody(7)), Beat::kAlive);
  EXPECT_EQ(JudgeAnswer(200, InstanceBody(8)), Beat::kRestarted);
  EXPECT_EQ(JudgeAnswer(409, InstanceBody(7)), Beat::kRestarted);
  for (const int status : {400, 404, 408, 429, 500, 502, 503}) {
    EXPECT_EQ(JudgeAnswer(status, InstanceBody(7)), Beat::kMissed) << status;
    EXPECT_EQ(JudgeAnswer(status, ""), Beat::kMissed) << status;
  }
  EXPECT_EQ(JudgeAnswer(200, "short"), Beat::kMissed);
}

TEST(Heartbeat, OnlyARefusalIsADeath) {
  EXPECT_EQ(JudgeBeat(Status(Code::kRefused, ""), 7), Beat::kGone);
  EXPECT_EQ(JudgeBeat(Status(Code::kResourceExhausted, ""), 7), Beat::kNotAsked);
  for (const Code code : {Code::kUnreachable, Code::kUnavailable, Code::kDeadlineExceeded, Code::kDataCorrupt}) {
    EXPECT_EQ(JudgeBeat(Status(code, ""), 7), Beat::kMissed) << CodeName(code);
  }
}

// A peer that ends between two heartbeats leaves a connection that looks fine until it is used.
TEST(Heartbeat, APeerThatEndedIsGoneAtTheNextOne) {
  http::test::Loop loop;
  http::Client client(loop.executor(), {});
  auto server = std::make_unique<http::Server>(loop.executor(), http::ServerOptions{});
  server->Route("POST", "/beat", [](http::Request&, http::Responder& responder) -> boost::asio::awaitable<void> {
    http::Response response;
    response.body = InstanceBody(7);
    (void)co_await responder.Send(std::move(response));
  });
  ASSERT_TRUE(server->Start().ok());
  const http::Origin origin{false, "127.0.0.1", server->port()};
  const auto beat = [&] {
    return JudgeBeat(loop.Run(client.Fetch(origin, {"POST", "/beat", {}, ""}, Now() + http::test::kPatience)), 7);
  };
  EXPECT_EQ(beat(), Beat::kAlive);
  server->Stop();
  EXPECT_EQ(beat(), Beat::kGone);
}

}  // namespace
}  // namespace baton::disagg
