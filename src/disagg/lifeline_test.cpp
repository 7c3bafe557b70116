// The open answer to a registration: it is kept from idling, and either end sees the other's.
#include "disagg/lifeline.h"

#include <future>

#include "http/test_support.h"

namespace baton::disagg {
namespace {

class LifelineTest : public testing::Test {
 protected:
  LifelineTest() {
    server_->Route("POST", "/line", [this](http::Request&, http::Responder& responder) -> asio::awaitable<void> {
      const auto line = std::make_shared<Lifeline>(co_await asio::this_coro::executor, 5ms);
      begun_.set_value(line);
      co_await line->Run(responder, "hello");
      over_.set_value();
    });
    server_.Start();
    client_ = server_.Connect();
    EXPECT_TRUE(client_.Send("POST /line HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
    EXPECT_NE(client_.ReadUntil("hello\r\n").find("200 OK"), std::string::npos);
    line_ = begun_.get_future().get();
  }
  bool IsOver() { return over_.get_future().wait_for(http::test::kPatience) == std::future_status::ready; }

  std::promise<std::shared_ptr<Lifeline>> begun_;
  std::promise<void> over_;
  http::test::TestServer server_;
  http::test::RawSocket client_;
  std::shared_ptr<Lifeline> line_;
};

TEST_F(LifelineTest, PulsesUntilItEndsAndThenBreaksOff) {
  const std::string pulse("1\r\n\0\r\n", 6);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client_.ReadUntil(pulse), pulse);
  line_->End();
  EXPECT_TRUE(IsOver());
  EXPECT_EQ(client_.ReadToEnd().find("0\r\n\r\n"), std::string::npos) << "a pairing has no good end";
}

TEST_F(LifelineTest, EndsWithTheOtherSide) {
  client_.Close();
  EXPECT_TRUE(IsOver());
}

}  // namespace
}  // namespace baton::disagg
