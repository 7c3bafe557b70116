#include "server/stop_matcher.h"

#include <random>

#include <gtest/gtest.h>

namespace baton::server {
namespace {

// What the whole text looks like when cut at the first stop string.
std::string Cut(const std::string& text, const std::vector<std::string>& stops, bool keep) {
  size_t first = std::string::npos, length = 0;
  for (const std::string& stop : stops) {
    const size_t at = text.find(stop);
    if (at < first) {
      first = at;
      length = stop.size();
    }
  }
  return first == std::string::npos ? text : text.substr(0, first + (keep ? length : 0));
}

TEST(StopMatcher, SameAsCuttingTheWholeText) {
  std::mt19937 random(7);
  const auto word = [&](int longest) {
    std::string out;
    for (size_t n = 1 + random() % longest; n > 0; --n) out += static_cast<char>('a' + random() % 3);
    return out;
  };
  int stopped = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (size_t n = random() % 4; n > 0; --n) stops.push_back(word(5));
    const bool keep = random() % 2;
    StopMatcher matcher(stops, keep);
    std::string text, out;
    bool ended = false;
    for (int piece = 0; piece < 8 && !ended; ++piece) {
      const std::string next = word(4);
      text += next;
      ended = matcher.Push(next, out);
      ASSERT_EQ(Cut(text, stops, keep).compare(0, out.size(), out), 0) << "showed what should have been held back";
    }
    if (!ended) matcher.Flush(out);
    stopped += ended;
    ASSERT_EQ(out, Cut(text, stops, keep));
    ASSERT_EQ(ended, out != text || !matcher.matched().empty());
  }
  EXPECT_GT(stopped, 5000);
}

}  // namespace
}  // namespace baton::server
