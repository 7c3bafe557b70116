#include "router/sse_frame.h"

#include <vector>

#include <gtest/gtest.h>

namespace baton::router {
namespace {

bool EndsWithBlankLine(std::string_view s) {
  return s.empty() || s.ends_with("\n\n") || s.ends_with("\n\r\n");
}

TEST(SseFramer, AnySplitGivesTheSameBytesAndOnlyWholeEvents) {
  for (const std::string text : {"data: {\"a\":1}\n\n: note\n\ndata: x\ndata: y\n\ndata: [DONE]\n\n",
                                 "data: {\"a\":1}\r\n\r\ndata: 2\r\n\r\ndata: [DONE]\r\n\r\n"}) {
    for (size_t a = 0; a <= text.size(); ++a) {
      for (size_t b = a; b <= text.size(); ++b) {
        SseFramer framer;
        std::string out;
        for (const std::string& piece : {text.substr(0, a), text.substr(a, b - a), text.substr(b)}) {
          const std::string_view part = framer.Feed(piece);
          ASSERT_TRUE(EndsWithBlankLine(part)) << a << " " << b;
          out += part;
        }
        ASSERT_EQ(out, text) << a << " " << b;
        ASSERT_TRUE(framer.done());
        ASSERT_FALSE(framer.unfinished());
      }
    }
  }
}

TEST(SseFramer, OneByteAtATime) {
  const std::string text = "data: 1\n\ndata: 2\r\n\r\ndata: [DONE]\n\n";
  SseFramer framer;
  std::string out;
  for (char c : text) out += framer.Feed(std::string_view(&c, 1));
  EXPECT_EQ(out, text);
  EXPECT_TRUE(framer.done());
}

TEST(SseFramer, HalfAnEventIsHeld) {
  SseFramer framer;
  EXPECT_EQ(framer.Feed("data: 1\n\ndata: {\"half\""), "data: 1\n\n");
  EXPECT_TRUE(framer.unfinished());
  EXPECT_EQ(framer.Feed(":1}\n"), "");
  EXPECT_EQ(framer.Feed("\n"), "data: {\"half\":1}\n\n");
  EXPECT_FALSE(framer.unfinished());
}

TEST(SseFramer, DoneIsTheWholePayloadNotPartOfOne) {
  for (const char* not_done : {"data: {\"text\":\"data: [DONE]\"}\n\n", "data: [DONE] \n\n", "data: x[DONE]\n\n",
                               "data: {\"text\":\"\\n\\ndata: [DONE]\\n\\n\"}\n\n", ": [DONE]\n\n"}) {
    SseFramer framer;
    framer.Feed(not_done);
    EXPECT_FALSE(framer.done()) << not_done;
  }
  for (const char* done : {"data: [DONE]\n\n", "data:[DONE]\n\n", "data: 1\n\ndata: [DONE]\r\n\r\n"}) {
    SseFramer framer;
    framer.Feed(done);
    EXPECT_TRUE(framer.done()) << done;
  }
}

TEST(SseFramer, NothingComesBehindDone) {
  for (const std::string done : {"data: 1\n\ndata: [DONE]\n\n", "data: 1\n\ndata: [DONE]\r\nid: 1\r\n\r\n"}) {
    for (const std::string tail : {": bye\n\n", "data: 2\n\n", "data: [DONE]\n\n", ": half", "\n\n"}) {
      const std::string text = done + tail;
      for (size_t a = 0; a <= text.size(); ++a) {
        SseFramer framer;
        std::string out(framer.Feed(text.substr(0, a)));
        out += framer.Feed(text.substr(a));
        out += framer.Feed("data: 3\n\n");
        ASSERT_EQ(out, done) << a << " " << tail;
        ASSERT_TRUE(framer.done());
        ASSERT_FALSE(framer.unfinished());
      }
    }
  }
}

TEST(SseFramer, RemembersAnErrorEvent) {
  SseFramer framer;
  framer.Feed("data: {\"error\":{\"message\":\"x\"}}\n\n");
  EXPECT_TRUE(framer.last_was_error());
  framer.Feed(": bye\n\n");
  EXPECT_TRUE(framer.last_was_error());
  framer.Feed("data: {\"id\":\"error\"}\n\n");
  EXPECT_FALSE(framer.last_was_error());
}

TEST(SseFramer, FirstPayload) {
  EXPECT_EQ(SseFramer::FirstPayload("data: {\"a\":1}\n\ndata: 2\n\n"), "{\"a\":1}");
  EXPECT_EQ(SseFramer::FirstPayload(": hi\n\ndata:x\r\n\r\n"), "x");
  EXPECT_EQ(SseFramer::FirstPayload(": hi\n\n"), "");
}

}  // namespace
}  // namespace baton::router
