// What a well-behaved client sees: keep-alive, pipelining, methods, routes, chunked both ways,
// drain and stop.
#include "http/test_support.h"

namespace baton::http::test {
namespace {

constexpr std::string_view kGetHello = "GET /hello?name=a+b%21 HTTP/1.1\r\nHost: x\r\n\r\n";

TEST(Server, AnswersAndKeepsAlive) {
  TestServer server;
  server.Start();
  RawSocket socket = server.Connect();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(socket.Send(kGetHello));
    const std::string response = socket.ReadResponse();
    EXPECT_EQ(StatusOf(response), 200);
    EXPECT_EQ(BodyOf(response), "hello a b!");
    EXPECT_NE(response.find("\r\nDate: "), std::string::npos);
    EXPECT_EQ(response.find("Connection:"), std::string::npos);
  }
}

TEST(Server, EchoesThroughOwnClient) {
  TestServer server({}, 2);
  server.Start();
  Client client(server.loop().executor(), {});
  for (const size_t size : {size_t{0}, size_t{1}, size_t{2048}, size_t{8191}, size_t{70'000},
                            size_t{5'000'000}}) {
    std::string body(size, '\0');
    for (size_t i = 0; i < size; ++i) body[i] = static_cast<char>(i * 31);
    auto result = server.loop().Run(
        client.Fetch(server.origin(), {"POST", "/echo", {}, body}, Now() + kPatience));
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    EXPECT_EQ(result->status, 200);
    EXPECT_EQ(result->body, body);
  }
}

}  // namespace
}  // namespace baton::http::test
