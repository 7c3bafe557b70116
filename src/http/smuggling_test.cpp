// Requests that two servers in a row could read differently, or that are no requests: each is
// refused with a status and the connection is closed, so that nothing after it is ever taken for a
// request. The smuggled part asks for /evil, which must never run. The ideas are those of the public
// tests of llhttp and nginx and of the papers on request smuggling, the bytes our own.
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
      {"lengths in two spellings", Post("Content-Length: 4\r\ncontent-length: 5\r\n", "abcd")},
      {"list of unequal lengths", Post("Content-Length: 4, 5\r\n", "abcd")},
      {"two numbers in a length", Post("Content-Length: 4 4\r\n", "abcd")},
      {"length with a parameter", Post("Content-Length: 4;a\r\n", "abcd")},
      {"length with a fraction", Post("Content-Length: 4.0\r\n", "abcd")},
      {"length with an exponent", Post("Content-Length: 4e0\r\n", "abcd")},
      {"quoted length", Post("Content-Length: \"4\"\r\n", "abcd")},
      {"length after a vertical tab", Post("Content-Length: \x0b" "4\r\n", "abcd")},
      {"length before a form feed", Post("Content-Length: 4\x0c\r\n", "abcd")},
      {"length with a NUL", Post("Content-Length: 4\0\r\n"s, "abcd")},
      {"length in wide digits", Post("Content-Length: \xef\xbc\x94\r\n", "abcd")},
      {"length of very many zeros", Post("Content-Length: " + std::string(40, '0') + "4\r\n", "abcd")},
      {"folded length", Post("Content-Length:\r\n 4\r\n", "abcd")},
      {"empty TE and CL", Post("Transfer-Encoding:\r\nContent-Length: 4\r\n", "abcd")},
      {"three empty TEs and CL",
       Post("Content-Length: 10\r\nTransfer-Encoding:\r\nTransfer-Encoding:\r\nTransfer-Encoding:\r\n", "2\r\nAA\r\n0\r\n")},
      {"identity, then chunked", Post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"chunked, then identity", Post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n")},
      {"chunked, identity in a list", Post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")},
      {"chunked, deflate in a list", Post("Transfer-Encoding: chunked, deflate\r\n", "0\r\n\r\n")},
      {"list with an empty first coding", Post("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n")},
      {"list with an empty last coding", Post("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n")},
      {"chunked with a parameter", Post("Transfer-Encoding: chunked;a=b\r\n", "0\r\n\r\n")},
      {"chunked with a NUL", Post("Transfer-Encoding: chunked\0\r\n"s, "0\r\n\r\n")},
      {"chunked after a wide space", Post("Transfer-Encoding: \xc2\xa0" "chunked\r\n", "0\r\n\r\n")},
      {"chunke", Post("Transfer-Encoding: chunke\r\n", "0\r\n\r\n")},
      {"chunkedd", Post("Transfer-Encoding: chunkedd\r\n", "0\r\n\r\n")},
      {"chunked in two words", Post("Transfer-Encoding: chun ked\r\n", "0\r\n\r\n")},
      {"pigeons", Post("Transfer-Encoding: pigeons\r\n", "")},
      {"TE behind a CR", Post("X: a\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"TE behind the CR of an empty field", Post("X:\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"TE behind a LF", Post("X: a\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"TE behind the LF of an empty field", Post("X:\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"TE behind an escaped line end", Post("X: a\\\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n")},
      {"a blank that is not one", "GET /hello HTTP/1.1\r\nHost: x\r\n\rZ" + kEvil},
      {"line of one space", "GET /hello HTTP/1.1\r\nHost: x\r\n \r\n\r\n"},
      {"line of one tab", "GET /hello HTTP/1.1\r\nHost: x\r\n\t\r\n\r\n"},
      {"colon on the next line", "GET /hello HTTP/1.1\r\nHost: x\r\nname\r\n : value\r\n\r\n"},
      {"broken Connection", "GET /hello HTTP/1.1\r\nHost: x\r\nConnection\r\x1b\x35\xd5" "eep-Alive\r\n\r\n"},
      {"at sign in a name", Post("Fo@: b\r\n", "")},
      {"backslash in a name", Post("Fo\\o: b\r\n", "")},
      {"slash in a name", Post("Content/Length: 4\r\n", "abcd")},
      {"quote in a name", Post("\"Content-Length\": 4\r\n", "abcd")},
      {"UTF-8 in a name", Post("\xc3\xa9: b\r\n", "")},
      {"DEL in a value", Post("X: a\x7f\r\n", "")},
      {"backspaces in a value", Post("X: a\b\b\r\n", "")},
      {"LFs only", "POST /echo HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n0\n\n"},
      {"CRs only", "GET /hello HTTP/1.1\rHost: x\r\r"},
      {"LF, CR", "GET /hello HTTP/1.1\n\rHost: x\n\r\n\r"},
      {"two equal Hosts", "GET /hello HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n"},
      {"Host with a space", "GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n"},
      {"Host with a query", "GET /hello HTTP/1.1\r\nHost: a?b\r\n\r\n"},
      {"Host with a fragment", "GET /hello HTTP/1.1\r\nHost: a#b\r\n\r\n"},
      {"Host of two names", "GET /hello HTTP/1.1\r\nHost: a, b\r\n\r\n"},
      {"space before the colon of Host", "GET /hello HTTP/1.1\r\nHost : x\r\n\r\n"},
      {"absolute form and no Host", "GET http://x/hello HTTP/1.1\r\n\r\n"},
      {"absolute form, two Hosts", "GET http://x/hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},
      {"absolute form without authority", "GET http:///hello HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"absolute form of another scheme", "GET ftp://x/hello HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"HTTP/0.9", "GET /hello\r\n\r\n"},
      {"HTTP/5.6", "GET /hello HTTP/5.6\r\nHost: x\r\n\r\n", 505},
      {"version of one number", "GET /hello HTTP/1\r\nHost: x\r\n\r\n", 505},
      {"version of three numbers", "GET /hello HTTP/1.1.1\r\nHost: x\r\n\r\n", 505},
      {"version of two digits", "GET /hello HTTP/1.11\r\nHost: x\r\n\r\n", 505},
      {"space in the version", "GET /hello HTTP/1. 1\r\nHost: x\r\n\r\n", 505},
      {"ICE", "GET /hello ICE/1.0\r\nHost: x\r\n\r\n", 505},
      {"IHTTP", "GET /hello IHTTP/1.0\r\nHost: x\r\n\r\n", 505},
      {"RTSP", "PUT /hello RTSP/1.0\r\nHost: x\r\n\r\n", 505},
      {"space in the target", "GET /hello /evil HTTP/1.1\r\nHost: x\r\n\r\n", 505},
      {"tab in the target", "GET /hello\t/evil HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"DEL in the target", "GET /hello\x7f HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"backslash and NUL in the target", "GET /hello\\\0 HTTP/1.1\r\nHost: x\r\n\r\n"s},
      {"target without a slash", "GET hello HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"broken escape in the target", "GET /hello%0g HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"MKCOLA", "MKCOLA /hello HTTP/1.1\r\nHost: x\r\n\r\n", 501},
      {"lower-case method", "get /hello HTTP/1.1\r\nHost: x\r\n\r\n", 501},
      {"no method", " /hello HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"bracket in the method", "G(T /hello HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"TRACE", "TRACE /hello HTTP/1.1\r\nHost: x\r\n\r\n", 501},
      {"HTTP/2 preface with blanks before", "\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"two expectations", Post("Expect: 100-continue, tea\r\nContent-Length: 4\r\n", "abcd"), 417},
      {"negative chunk size", Post("Transfer-Encoding: chunked\r\n", "-4\r\nabcd\r\n0\r\n\r\n")},
      {"space before a chunk size", Post("Transfer-Encoding: chunked\r\n", " 4\r\nabcd\r\n0\r\n\r\n")},
      {"space after a chunk size", Post("Transfer-Encoding: chunked\r\n", "4 \r\nabcd\r\n0\r\n\r\n")},
      {"tab after a chunk size", Post("Transfer-Encoding: chunked\r\n", "4\t\r\nabcd\r\n0\r\n\r\n")},
      {"text after a chunk size", Post("Transfer-Encoding: chunked\r\n", "4 abcd\r\nabcd\r\n0 rrrr\r\n\r\n")},
      {"underscore in a chunk size", Post("Transfer-Encoding: chunked\r\n", "0_4\r\nabcd\r\n0\r\n\r\n")},
      {"chunk size with h", Post("Transfer-Encoding: chunked\r\n", "4h\r\nabcd\r\n0\r\n\r\n")},
      {"NUL after a chunk size", Post("Transfer-Encoding: chunked\r\n", "4\0\r\nabcd\r\n0\r\n\r\n"s)},
      {"bare CR after a chunk size", Post("Transfer-Encoding: chunked\r\n", "4\rabcd\r\n0\r\n\r\n")},
      {"two CRs after a chunk size", Post("Transfer-Encoding: chunked\r\n", "4\r\r\nabcd\r\n0\r\n\r\n")},
      {"chunk size of 64 bits, all ones", Post("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\nabcd\r\n0\r\n\r\n"), 413},
      {"chunk size that is negative in 64 bits", Post("Transfer-Encoding: chunked\r\n", "fffffffffffffffc\r\nabcd\r\n0\r\n\r\n"), 413},
      {"chunk size over 32 bits", Post("Transfer-Encoding: chunked\r\n", "100000004\r\nabcd\r\n0\r\n\r\n"), 413},
      {"CR in a chunk extension", Post("Transfer-Encoding: chunked\r\n", "4;a\rb\r\nabcd\r\n0\r\n\r\n")},
      {"NUL in a chunk extension", Post("Transfer-Encoding: chunked\r\n", "4;a\0\r\nabcd\r\n0\r\n\r\n"s)},
      {"LF in a quoted extension", Post("Transfer-Encoding: chunked\r\n", "4;a=\"b\nc\"\r\nabcd\r\n0\r\n\r\n")},
      {"line end in a quoted extension", Post("Transfer-Encoding: chunked\r\n", "4;a=\"b\r\nabcd\r\n0\r\n\r\n")},
      {"bare LF after a chunk", Post("Transfer-Encoding: chunked\r\n", "4\r\nabcd\n0\r\n\r\n")},
      {"bare CR after a chunk", Post("Transfer-Encoding: chunked\r\n", "4\r\nabcd\r0\r\n\r\n")},
      {"two other bytes after a chunk", Post("Transfer-Encoding: chunked\r\n", "4\r\nabcdXX0\r\n\r\n")},
      {"bare LF after the last chunk size", Post("Transfer-Encoding: chunked\r\n", "0\n\r\n")},
      {"bare LF at the end of a chunked body", Post("Transfer-Encoding: chunked\r\n", "0\r\n\n")},
      {"bare CR at the end of a chunked body", Post("Transfer-Encoding: chunked\r\n", "0\r\n\rX")},
      {"trailer without a colon", Post("Transfer-Encoding: chunked\r\n", "0\r\nabc\r\n\r\n")},
      {"folded trailer", Post("Transfer-Encoding: chunked\r\n", "0\r\nX: a\r\n b\r\n\r\n")},
      {"trailer with a space before the colon", Post("Transfer-Encoding: chunked\r\n", "0\r\nX : a\r\n\r\n")},
      {"trailer that ends in LF", Post("Transfer-Encoding: chunked\r\n", "0\r\nX: a\nContent-Length: 4\r\n\r\n")},
      {"NUL in a trailer", Post("Transfer-Encoding: chunked\r\n", "0\r\nX: \0\r\n\r\n"s)},
      {"Connection in a trailer", Post("Transfer-Encoding: chunked\r\n", "0\r\nConnection: keep-alive\r\n\r\n")},
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
      {"zero-padded chunk sizes", Post("Transfer-Encoding: chunked\r\n", "00000000000000000004\r\nabcd\r\n000\r\n\r\n"), 200},
      {"upper-case chunk size", Post("Transfer-Encoding: chunked\r\n", "A\r\n0123456789\r\n0\r\n\r\n"), 200},
      {"extension of nothing", Post("Transfer-Encoding: chunked\r\n", "4;\r\nabcd\r\n0\r\n\r\n"), 200},
      {"quotes and semicolons in an extension",
       Post("Transfer-Encoding: chunked\r\n", "4;a=\"I \\\"b\\\"; \\\\c\\\\\";d\r\nabcd\r\n0\r\n\r\n"), 200},
      {"chunked and blanks", Post("Transfer-Encoding: \t chunked \t\r\n", "0\r\n\r\n"), 200},
      {"a name that only looks like TE", Post("Transfer_Encoding: chunked\r\nContent-Length: 4\r\n", "abcd"), 200},
      {"a name that begins like a length", Post("Content-LengthX: 7\r\nContent-Length: 4\r\n", "abcd"), 200},
      {"body of a GET", "GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kEvil.size()) + "\r\n\r\n" + kEvil, 200},
      {"length named by Connection", Post("Connection: content-length\r\nContent-Length: 4\r\n", "abcd"), 200},
      {"upgrade to h2c", "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n", 200},
      {"absolute form, other Host", "GET http://a/hello HTTP/1.1\r\nHost: b\r\n\r\n", 200},
      {"CHUNKED", Post("transfer-ENCODING: CHUNKED\r\n", "4\r\nabcd\r\n0\r\n\r\n"), 200},
      {"extension and trailer",
       Post("Transfer-Encoding: chunked\r\n", "4;a=\"b\"\r\nabcd\r\n0;c\r\nX: y\r\n\r\n"), 200},
  };
  for (const bool byte_by_byte : {false, true}) {
    for (const Case& c : good) {
      RawSocket socket = server_.Connect();
      const size_t piece = byte_by_byte ? 1 : c.bytes.size();
      for (size_t at = 0; at < c.bytes.size(); at += piece) ASSERT_TRUE(socket.Send(std::string_view(c.bytes).substr(at, piece)));
      EXPECT_EQ(StatusOf(socket.ReadResponse()), c.status) << c.name;
      ASSERT_TRUE(socket.Send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")) << c.name;
      EXPECT_EQ(StatusOf(socket.ReadResponse()), 200) << c.name << ": the request after it";
    }
  }
  EXPECT_FALSE(evil_);
}

// What follows a request that closes is nothing, however it was cut.
TEST_F(Smuggling, NothingRunsBehindAClose) {
  for (const char* fields : {"HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", "HTTP/1.1\r\nHost: x\r\nconnection: foo, CLOSE\r\n", "HTTP/1.0\r\n"}) {
    RawSocket socket = server_.Connect();
    ASSERT_TRUE(socket.Send(std::string("GET /hello ") + fields + "\r\n" + kEvil));
    const std::string answer = socket.ReadToEnd();
    EXPECT_EQ(StatusOf(answer), 200) << answer;
    EXPECT_EQ(answer.find("\r\nDate: "), answer.rfind("\r\nDate: ")) << fields << ": two answers";
  }
  EXPECT_FALSE(evil_);
}

}  // namespace
}  // namespace baton::http::test
