// Headers, origins, SSE: everything of this module that is a plain value.
#include <gtest/gtest.h>

#include "http/client.h"
#include "http/message.h"
#include "http/sse.h"

namespace baton::http {
namespace {

TEST(Headers, ListsOfSeveralFieldsAreOne) {
  Headers headers;
  headers.Add("Connection", "keep-alive");
  headers.Add("Vary", "X-Bar");
  headers.Add("connection", " ,close\t, X-Foo");
  for (const char* item : {"keep-alive", "Close", "x-foo"}) EXPECT_TRUE(headers.Lists("Connection", item)) << item;
  for (const char* item : {"x-bar", "x-fo", "keep", "x-foo,"}) EXPECT_FALSE(headers.Lists("Connection", item)) << item;
}

TEST(Headers, CompareWithoutCaseAndKeepOrder) {
  Headers headers;
  headers.Add("X-A", "1");
  headers.Add("B", "2");
  headers.Add("x-a", "3");
  EXPECT_EQ(headers.Get("x-A"), "1");
  EXPECT_EQ(headers.Get("none"), "");
  headers.Set("X-a", "4");
  EXPECT_EQ(headers.size(), 2u);
  EXPECT_EQ(headers.begin()->second, "4");
  headers.Remove("x-A");
  EXPECT_FALSE(headers.Has("X-A"));
  headers.Set("New", "5");
  EXPECT_EQ(headers.Get("new"), "5");
  EXPECT_FALSE(EqualsIgnoreCase("@", "`"));  // bytes that differ in 0x20 but are no letters
}

TEST(Origin, AcceptsTheUsualForms) {
  const struct {
    const char* url;
    Origin want;
    const char* text;
  } cases[] = {
      {"http://127.0.0.1:30000", {false, "127.0.0.1", 30000}, "http://127.0.0.1:30000"},
      {"HTTP://node-1.local:1/", {false, "node-1.local", 1}, "http://node-1.local:1"},
      {"localhost:8000", {false, "localhost", 8000}, "http://localhost:8000"},
      {"http://h", {false, "h", 80}, "http://h:80"},
      {"https://h", {true, "h", 443}, "https://h:443"},
      {"http://[::1]:30000", {false, "::1", 30000}, "http://[::1]:30000"},
      {"[fe80::1%eth0]:65535", {false, "fe80::1%eth0", 65535}, "http://[fe80::1%eth0]:65535"},
  };
  for (const auto& c : cases) {
    const auto origin = ParseOrigin(c.url);
    ASSERT_TRUE(origin.ok()) << c.url << ": " << origin.status().ToString();
    EXPECT_EQ(*origin, c.want) << c.url;
    EXPECT_EQ(origin->ToString(), c.text);
  }
}

TEST(Origin, RefusesTheRest) {
  for (const char* url :
       {"", "http://", "ftp://h:1", "http://h:0", "http://h:65536", "http://h:", "http://h:1x",
        "http://h:-1", "http://u:p@h:1", "http://h:1/path", "http://h?q", "http://[::1", "[::1]x",
        "http://[]:1", "h h:1", "http://h:1//", "h:1\r\nX: y", "http://[::1]:99999"}) {
    const auto origin = ParseOrigin(url);
    EXPECT_FALSE(origin.ok()) << url << " gave " << (origin.ok() ? origin->ToString() : "");
    EXPECT_EQ(origin.status().code(), Code::kInvalidArgument);
  }
}

std::vector<std::string> Parse(std::string_view bytes, size_t piece) {
  SseParser parser;
  std::vector<std::string> events;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    parser.Feed(bytes.substr(at, piece));
    while (auto event = parser.Next()) events.push_back(*event);
  }
  EXPECT_FALSE(parser.failed());
  return events;
}

TEST(Sse, ParsesTheSameWhateverThePieces) {
  const std::string stream =
      "\xEF\xBB\xBF"
      "data: {\"a\":1}\n\n"
      ": comment\n\n"
      "event: x\r\nid: 7\r\ndata: one\r\ndata:two\r\ndata:  three\r\n\r\n"
      "\n\n"
      "data\n\n"
      "data: \n\n"
      "datum: no\n\n" +
      SseEvent("last") + std::string(kSseDone) + "data: unfinished";
  const std::vector<std::string> want = {"{\"a\":1}", "one\ntwo\n three", "", "", "last", "[DONE]"};
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    EXPECT_EQ(Parse(stream, piece), want) << "pieces of " << piece;
  }
}

TEST(Sse, BoundsAnEvent) {
  SseParser lines(100);
  std::string line = "data: " + std::string(40, 'x') + "\n";
  lines.Feed(line + line);
  EXPECT_FALSE(lines.Next());
  EXPECT_FALSE(lines.failed());
  lines.Feed(line);
  EXPECT_FALSE(lines.Next());
  EXPECT_TRUE(lines.failed());

  SseParser endless(100);
  endless.Feed(std::string(101, 'y'));
  EXPECT_FALSE(endless.Next());
  EXPECT_TRUE(endless.failed());
  endless.Feed("\n\ndata: z\n\n");
  EXPECT_FALSE(endless.Next());
}

TEST(Sse, LongStreamsKeepNoHistory) {
  SseParser parser(1000);
  for (int i = 0; i < 20'000; ++i) {
    parser.Feed(SseEvent(std::to_string(i)));
    if (i % 3 == 0) continue;
    for (int k = i % 3 == 1 ? 2 : 1; k > 0; --k) {
      const auto event = parser.Next();
      ASSERT_TRUE(event);
      ASSERT_EQ(*event, std::to_string(i - k + 1));
    }
  }
}

}  // namespace
}  // namespace baton::http
