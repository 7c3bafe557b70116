// Requests that two servers in a row could read differently, or that are no requests: each is
// refused with a status and the connection is closed, so that nothing after it is ever taken for a
// request. The smuggled part asks for /evil, which must never run.
#include "http/test_support.h"

namespace baton::http::test {
namespace {

using std::string_literals::operator""s;

const std::string kEvil = "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n";

struct Case {
  const char* name;
  std::string bytes;
  int status = 400;
};

std::string Post(const std::string& fields, const std::string& body) {
  return "POST /echo HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n" + body;
}

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"CL and TE", Post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"TE and CL", Post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n")},
      {"two lengths", Post("Content-Length: 0\r\nContent-Length: 4\r\n", "abcd")},
      {"two equal lengths", Post("Content-Length: 4\r\nContent-Length: 4\r\n", "abcd")},
      {"list of lengths", Post("Content-Length: 4, 4\r\n", "abcd")},
      {"negative length", Post("Content-Length: -1\r\n", "")},
      {"signed length", Post("Content-Length: +4\r\n", "abcd")},
      {"hex length", Post("Content-Length: 0x4\r\n", "abcd")},
      {"length with text", Post("Content-Length: 4x\r\n", "abcd")},
      {"empty length", Post("Content-Length:\r\n", "")},
      {"length over 64 bits", Post("Content-Length: 18446744073709551620\r\n", "abcd")},
      {"gzip, chunked", Post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")},
      {"chunked twice", Post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")},
      {"two TE fields",
       Post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"TE identity", Post("Transfer-Encoding: identity\r\nContent-Length: 4\r\n", "abcd")},
      {"xchunked", Post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")},
      {"chunked after vertical tab", Post("Transfer-Encoding: \x0b" "chunked\r\n", "0\r\n\r\n")},
      {"quoted chunked", Post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")},
      {"TE hidden in a fold", Post("X: y\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"folded TE", Post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n")},
      {"space before colon", Post("Content-Length : 4\r\n", "abcd")},
      {"tab before colon", Post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n")},
      {"space before the first field",
       "GET /hello HTTP/1.1\r\n Host: x\r\n\r\n"},
      {"bare LF in the start line", "GET /hello HTTP/1.1\nHost: x\r\n\r\n"},
      {"bare LF after a field", "GET /hello HTTP/1.1\r\nHost: x\nX: y\r\n\r\n"},
      {"bare LF at the end", "GET /hello HTTP/1.1\r\nHost: x\r\n\n"},
      {"bare CR in a value", Post("X: a\rContent-Length: 4\r\n", "abcd")},
      {"NUL in a value", Post("X: a\0b\r\n"s, "")},
      {"NUL in a name", Post("X\0: b\r\n"s, "")},
      {"escape in a value", Post("X: \x1b[0m\r\n", "")},
      {"no name", Post(": value\r\n", "")},
      {"no colon", Post("Content-Length 4\r\n", "abcd")},
      {"bad name", Post("Content(Length: 4\r\n", "abcd")},
      {"no Host", "GET /hello HTTP/1.1\r\n\r\n"},
      {"two Hosts", "GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
      {"Host with a path", "GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n"},
      {"Host with a user", "GET /hello HTTP/1.1\r\nHost: a@b\r\n\r\n"},
      {"two spaces in the start line", "GET  /hello HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"trailing space in the start line", "GET /hello HTTP/1.1 \r\nHost: x\r\n\r\n", 505},
      {"tab in the start line", "GET\t/hello HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"no version", "GET /hello\r\nHost: x\r\n\r\n"},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"HTTP/1.2", "GET /hello HTTP/1.2\r\nHost: x\r\n\r\n", 505},
      {"HTTP/0.9 version", "GET /hello HTTP/0.9\r\nHost: x\r\n\r\n", 505},
      {"lower-case http", "GET /hello http/1.1\r\nHost: x\r\n\r\n", 505},
      {"TLS hello", "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"s},
      {"TE in HTTP/1.0", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {"authority form", "GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 501},
      {"absolute form with user", "GET http://u@x/hello HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"fragment in the target", "GET /hello#a HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"raw UTF-8 in the target", "GET /hell\xc3\xb6 HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"escaped NUL in the target", "GET /hello%00 HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"star for GET", "GET * HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"unknown expectation", Post("Expect: tea\r\nContent-Length: 4\r\n", "abcd"), 417},
      {"unknown method", "BREW /hello HTTP/1.1\r\nHost: x\r\n\r\n", 501},
      {"chunk size with a sign", Post("Transfer-Encoding: chunked\r\n", "+4\r\nabcd\r\n0\r\n\r\n")},
      {"chunk size with 0x", Post("Transfer-Encoding: chunked\r\n", "0x4\r\nabcd\r\n0\r\n\r\n")},
      {"chunk size of no digits", Post("Transfer-Encoding: chunked\r\n", "\r\nabcd\r\n0\r\n\r\n")},
      {"chunk size over 64 bits",
       Post("Transfer-Encoding: chunked\r\n", "10000000000000004\r\nabcd\r\n0\r\n\r\n")},
      {"bare LF after a chunk size",
       Post("Transfer-Encoding: chunked\r\n", "4\nabcd\r\n0\r\n\r\n")},
      {"bare LF in a chunk extension",
       Post("Transfer-Encoding: chunked\r\n", "4;a\nb\r\nabcd\r\n0\r\n\r\n")},
      {"chunk longer than its size",
       Post("Transfer-Encoding: chunked\r\n", "4\r\nabcde\r\n0\r\n\r\n")},
      {"chunk without its CRLF", Post("Transfer-Encoding: chunked\r\n", "4\r\nabcd0\r\n\r\n")},
      {"length in a trailer",
       Post("Transfer-Encoding: chunked\r\n", "0\r\nContent-Length: 4\r\n\r\n")},
      {"TE in a trailer",
       Post("Transfer-Encoding: chunked\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n")},
  };
  return cases;
}

class Smuggling : public ::testing::Test {
 protected:
  void SetUp() override {
    server_->Route("*", "/evil", [this](Request&, Responder& responder) -> asio::awaitable<void> {
      evil_ = true;
      (void)co_await responder.Send(Response());
    });
    server_.Start();
  }
  TestServer server_;
  std::atomic<bool> evil_{false};
};

TEST_F(Smuggling, IsRefusedAndTheConnectionCloses) {
  for (const Case& c : Cases()) {
    RawSocket socket = server_.Connect();
    ASSERT_TRUE(socket.Send(c.bytes + kEvil)) << c.name;
    const std::string answer = socket.ReadToEnd();
    EXPECT_EQ(StatusOf(answer), c.status) << c.name << ":\n" << answer;
    EXPECT_NE(answer.find("\r\nConnection: close\r\n"), std::string::npos) << c.name;
    EXPECT_EQ(answer.find("\r\nDate: "), answer.rfind("\r\nDate: ")) << c.name << ": two answers";
  }
  EXPECT_FALSE(evil_);
  RawSocket socket = server_.Connect();
  ASSERT_TRUE(socket.Send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_EQ(StatusOf(socket.ReadResponse()), 200);
}

// The same bytes one at a time: where the pieces break must not matter.
TEST_F(Smuggling, IsRefusedByteByByteToo) {
  for (const Case& c : Cases()) {
    RawSocket socket = server_.Connect();
    for (char byte : c.bytes + kEvil) {
      if (!socket.Send(std::string_view(&byte, 1))) break;
    }
    const std::string answer = socket.ReadToEnd();
    EXPECT_EQ(StatusOf(answer), c.status) << c.name << ":\n" << answer;
  }
  EXPECT_FALSE(evil_);
}

TEST_F(Smuggling, NeighboursOfTheRefusedAreServed) {
  const Case good[] = {
      {"blank lines before", "\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n", 200},
      {"absolute form", "GET http://x:1/hello?name=z HTTP/1.1\r\nHost: y\r\n\r\n", 200},
      {"empty Host", "GET /hello HTTP/1.1\r\nHost:\r\n\r\n", 200},
      {"UTF-8 value", "GET /hello HTTP/1.1\r\nHost: x\r\nX: \xc3\xa9\r\n\r\n", 200},
      {"padded length", Post("Content-Length: \t4 \r\n", "abcd"), 200},
      {"leading zeros", Post("Content-Length: 0004\r\n", "abcd"), 200},
      {"CHUNKED", Post("transfer-ENCODING: CHUNKED\r\n", "4\r\nabcd\r\n0\r\n\r\n"), 200},
      {"extension and trailer",
       Post("Transfer-Encoding: chunked\r\n", "4;a=\"b\"\r\nabcd\r\n0;c\r\nX: y\r\n\r\n"), 200},
  };
  for (const Case& c : good) {
    RawSocket socket = server_.Connect();
    ASSERT_TRUE(socket.Send(c.bytes));
    EXPECT_EQ(StatusOf(socket.ReadResponse()), c.status) << c.name;
    ASSERT_TRUE(socket.Send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")) << c.name;
    EXPECT_EQ(StatusOf(socket.ReadResponse()), 200) << c.name << ": the request after it";
  }
}

}  // namespace
}  // namespace baton::http::test
