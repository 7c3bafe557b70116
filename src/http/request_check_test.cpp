// The pure checks, against tables and against Beast's own parser as a second opinion.
#include "http/request_check.h"

#include <boost/beast/http.hpp>
#include <gtest/gtest.h>

#include "http/parser.h"

namespace baton::http {
namespace {

TEST(FindHeadEnd, IsTheSameForEverySplit) {
  const std::string text = "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\nrest\nrest";
  const size_t want = text.find("rest");
  for (size_t split = 0; split <= text.size(); ++split) {
    size_t scanned = 0;
    size_t end = 0;
    HeadScan scan = FindHeadEnd(std::string_view(text).substr(0, split), scanned, end);
    EXPECT_EQ(scan, split < want ? HeadScan::kNeedMore : HeadScan::kComplete) << split;
    if (scan == HeadScan::kNeedMore) scan = FindHeadEnd(text, scanned, end);
    EXPECT_EQ(scan, HeadScan::kComplete);
    EXPECT_EQ(end, want);
  }
  size_t scanned = 0;
  size_t end = 0;
  EXPECT_EQ(FindHeadEnd("GET / HTTP/1.1\nHost", scanned, end), HeadScan::kBareLineFeed);
}

TEST(CheckHeadBytes, NamesWhatIsWrong) {
  const auto check = [](std::string_view fields) {
    return CheckHeadBytes("GET / HTTP/1.1\r\n" + std::string(fields) + "\r\n");
  };
  EXPECT_EQ(check(""), nullptr);
  EXPECT_EQ(check("A:\r\nB: \t x \r\nC-1!#$%&'*+.^_`|~: \xc3\xa9\r\n"), nullptr);
  using std::string_literals::operator""s;
  for (const std::string& bad :
       {" A: b\r\n"s, "A: b\r\n c\r\n"s, "A: b\r\n\tc\r\n"s, "A : b\r\n"s, "A\t: b\r\n"s,
        ": b\r\n"s, "A\r\n"s, "A b: c\r\n"s, "A: b\rc\r\n"s, "A: \0\r\n"s, "A: \x7f\r\n"s,
        "A\x01: b\r\n"s, "\xc3\xa9: b\r\n"s, "A(b): c\r\n"s, "A: b\x1b\r\n"s, "\r\nA: b\r\n"s}) {
    EXPECT_NE(check(bad), nullptr) << bad;
  }
  EXPECT_NE(CheckHeadBytes("GET / HTTP/1.1\r\nA: b"), nullptr);
  EXPECT_NE(CheckHeadBytes("\r\n\r\n"), nullptr);
  EXPECT_NE(CheckHeadBytes("GET /\x01 HTTP/1.1\r\n\r\n"), nullptr);
}

// What passes the check must parse alike in Beast, field for field.
TEST(CheckHeadBytes, AgreesWithBeastOnEveryByteInEveryPlace) {
  const std::string base = "GET /a HTTP/1.1\r\nAb: cd\r\nEf:g\r\n\r\n";
  int accepted = 0;
  for (size_t at = 0; at < base.size(); ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string head = base;
      head[at] = static_cast<char>(byte);
      size_t scanned = 0;
      size_t end = 0;
      if (FindHeadEnd(head, scanned, end) != HeadScan::kComplete || end != head.size() ||
          CheckHeadBytes(head))
        continue;
      boost::beast::http::request_parser<boost::beast::http::empty_body> oracle;
      boost::system::error_code oracle_error;
      oracle.put(boost::asio::buffer(head), oracle_error);
      Headers headers;
      std::string body;
      RequestParser parser(&headers, &body, 0);
      boost::system::error_code ec;
      parser.put(boost::asio::buffer(head), ec);
      EXPECT_EQ(ec, oracle_error) << head;
      if (ec) continue;
      ++accepted;
      EXPECT_EQ(std::distance(oracle.get().begin(), oracle.get().end()),
                static_cast<ptrdiff_t>(headers.size()));
      for (const auto& [name, value] : headers) EXPECT_EQ(oracle.get()[name], value) << head;
    }
  }
  EXPECT_GT(accepted, 1000);
}

TEST(CheckFraming, AllowsOneLengthOrOneChunked) {
  const auto check = [](std::vector<std::pair<std::string, std::string>> fields, int version = 11) {
    Headers headers;
    for (auto& [name, value] : fields) headers.Add(name, value);
    Framing framing;
    return CheckFraming(headers, version, framing);
  };
  EXPECT_EQ(check({{"content-length", "0"}}), nullptr);
  EXPECT_EQ(check({{"Transfer-Encoding", "Chunked"}}), nullptr);
  EXPECT_NE(check({{"Transfer-Encoding", "chunked"}}, 10), nullptr);
  for (const char* length : {"", "-1", "+1", "0x10", "1,1", "1, 1", "1 1", "1.0", "1e3",
                             "9999999999999999999", "18446744073709551617"})
    EXPECT_NE(check({{"Content-Length", length}}), nullptr) << length;
  for (const char* coding : {"", "gzip", "gzip, chunked", "chunked, chunked", "xchunked",
                             "chunked;q=1", "chunked, identity", "identity"})
    EXPECT_NE(check({{"Transfer-Encoding", coding}}), nullptr) << coding;
  EXPECT_NE(check({{"Content-Length", "1"}, {"Content-Length", "1"}}), nullptr);
  EXPECT_NE(check({{"Transfer-Encoding", "chunked"}, {"Content-Length", "1"}}), nullptr);
  EXPECT_NE(check({{"Transfer-Encoding", "chunked"}, {"transfer-encoding", "chunked"}}), nullptr);
}

TEST(ParseTarget, TakesPathAndQueryApart) {
  const auto parse = [](std::string target, std::string method = "GET") {
    Request request;
    request.method = std::move(method);
    request.target = std::move(target);
    request.headers.Add("Host", "old");
    EXPECT_EQ(ParseTarget(request), nullptr) << request.target;
    return request;
  };
  Request request = parse("/a%20b/%C3%A9?x=1&y=%26+z&&flag&x=2");
  EXPECT_EQ(request.path, "/a b/\xc3\xa9");
  EXPECT_EQ(request.QueryValue("x"), "1");
  EXPECT_EQ(request.QueryValue("y"), "& z");
  EXPECT_EQ(request.query.size(), 4u);
  EXPECT_EQ(request.headers.Get("Host"), "old");
  request = parse("HTTP://new:8/p?q=1");
  EXPECT_EQ(request.target, "/p?q=1");
  EXPECT_EQ(request.path, "/p");
  EXPECT_EQ(request.headers.Get("Host"), "new:8");
  EXPECT_EQ(parse("http://h?q").target, "/?q");
  EXPECT_EQ(parse("http://h").path, "/");
  EXPECT_EQ(parse("*", "OPTIONS").path, "*");

  using std::string_literals::operator""s;
  for (const std::string& bad :
       {""s, "x"s, "*"s, "/%"s, "/%1"s, "/%zz"s, "/%00"s, "/a?b=%"s, "/#f"s, "/\x80"s, "/a b"s,
        "//"s.substr(0, 0), "http://"s, "http:///p"s, "http://u@h/"s, "ftp://h/"s, "h:443"s}) {
    Request broken;
    broken.method = "GET";
    broken.target = bad;
    EXPECT_NE(ParseTarget(broken), nullptr) << bad;
  }
}

}  // namespace
}  // namespace baton::http
