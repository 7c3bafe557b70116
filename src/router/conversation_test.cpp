#include "router/conversation.h"

#include <algorithm>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "common/json.h"

namespace baton::router {
namespace {

PrefixDigest Of(Api api, std::string_view body) {
  const auto facts = InspectBody(api, body);
  EXPECT_TRUE(facts.ok()) << body << ": " << facts.status().message();
  return facts.ok() ? DigestPrompt(api, body, *facts) : PrefixDigest();
}

bool Same(const PrefixDigest& a, const PrefixDigest& b) {
  return std::ranges::equal(a.keys(), b.keys()) && a.bytes() == b.bytes();
}

size_t Common(const PrefixDigest& a, const PrefixDigest& b) {
  size_t same = 0;
  while (same < std::min(a.keys().size(), b.keys().size()) && a.keys()[same] == b.keys()[same]) ++same;
  return same;
}

std::string Chat(const json::array& messages) {
  return json::serialize(json::object{{"model", "m"}, {"messages", messages}});
}

json::object Message(std::string_view role, std::string_view content) {
  return {{"role", role}, {"content", content}};
}

TEST(Conversation, EveryMessageCounts) {
  const std::string system(300, 's');
  const auto first = Of(Api::kChat, Chat({Message("system", system), Message("user", "one")}));
  const auto other = Of(Api::kChat, Chat({Message("system", system), Message("user", "two")}));
  EXPECT_FALSE(Same(first, other));
  EXPECT_GE(first.BytesUpTo(Common(first, other)), 256u);
  EXPECT_FALSE(Same(first, Of(Api::kChat, Chat({Message("system", system), Message("assistant", "one")}))));
}

// The next turn of a conversation begins with this one.
TEST(Conversation, TurnsExtendOneAnother) {
  std::mt19937_64 random(1);
  json::array messages = {Message("system", "be \"brief\"\n")};
  PrefixDigest last = Of(Api::kChat, Chat(messages));
  for (int turn = 0; turn < 20; ++turn) {
    messages.push_back(Message("user", std::string(200 + random() % 500, static_cast<char>('a' + turn))));
    messages.push_back(Message("assistant", "\\ \" \xC3\xA9 " + std::string(100, 'x')));
    const PrefixDigest now = Of(Api::kChat, Chat(messages));
    const double shared = static_cast<double>(last.BytesUpTo(Common(last, now)));
    EXPECT_GE(shared, 0.87 * static_cast<double>(last.bytes()) - 64);
    last = now;
  }
}

TEST(Conversation, OrderOfMembersAndOtherFieldsDoNotMatter) {
  const auto a = Of(Api::kChat, R"({"messages":[{"role":"user","content":"hi"}],"temperature":1})");
  EXPECT_TRUE(Same(a, Of(Api::kChat, R"({ "n" : 2, "messages" : [ { "content" : "hi" , "role" : "user" } ] })")));
  EXPECT_FALSE(Same(a, Of(Api::kChat, R"({"messages":[{"role":"user","content":"hi","name":"x"}]})")));
  EXPECT_FALSE(Same(a, Of(Api::kChat, R"({"messages":[{"role":"user","content":"hi"}],"tools":[{"a":1}]})")));
}

TEST(Conversation, PartsAndToolCallsAreText) {
  const auto a = Of(Api::kChat, R"({"messages":[{"role":"user","content":[{"type":"text","text":"]}\"x"}]}]})");
  const auto b = Of(Api::kChat, R"({"messages":[{"role":"user","content":[{"type":"text","text":"]}\"y"}]}]})");
  EXPECT_FALSE(a.empty());
  EXPECT_FALSE(Same(a, b));
  const auto call = Of(Api::kChat, R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}]})");
  EXPECT_FALSE(Same(call, Of(Api::kChat, R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"2"}]}]})")));
}

TEST(Conversation, GenerateAndCompletions) {
  EXPECT_TRUE(Same(Of(Api::kGenerate, R"({"text":"hello"})"), Of(Api::kCompletions, R"({"prompt":"hello","n":3})")));
  const std::string first = "11,22,33,44,55,66,77,88,99,11,22,33,44,55,66,77,88,99,11,22,33,44,55,66,77";
  const auto ids = Of(Api::kGenerate, "{\"input_ids\":[" + first + "]}");
  const auto more = Of(Api::kGenerate, "{\"input_ids\":[" + first + ",1,2,3]}");
  EXPECT_GE(Common(ids, more), 1u);
  EXPECT_TRUE(Of(Api::kGenerate, R"({"sampling_params":{}})").empty());
  EXPECT_TRUE(Of(Api::kChat, R"({"messages":[]})").empty());
}

TEST(Conversation, OddShapesDoNotHurt) {
  for (const char* value : {"null", "7", "\"x\"", "{}", "[1,2]", "[[]]", "[{}]", "[{\"role\":{}},3]", "[{\"content\":[[[]]]}]", "[\"]\",{}]"}) {
    const std::string body = fmt::format("{{\"messages\":{0},\"tools\":{0}}}", value);
    Of(Api::kChat, body);
    Of(Api::kCompletions, fmt::format("{{\"prompt\":{}}}", value));
  }
}

// Mutated bodies: whatever passes inspection is digested within its bounds (sanitizers look on).
TEST(Conversation, MutatedBodiesStayInBounds) {
  std::mt19937_64 random(3);
  const std::string body = R"({"messages":[{"role":"user","content":"a\\\"b"},{"content":[{"text":"x\\"}],"role":"t"}],"tools":["\\"]})";
  for (int i = 0; i < 20'000; ++i) {
    std::string mutated = body;
    for (size_t n = 1 + random() % 3; n > 0; --n) mutated[random() % mutated.size()] = "{}[]\",:\\ax1"[random() % 11];
    const auto facts = InspectBody(Api::kChat, mutated);
    if (facts.ok()) DigestPrompt(Api::kChat, mutated, *facts);
    // Not inspected at all: the walker must still end.
    BodyFacts raw;
    raw.prompt = {random() % mutated.size(), mutated.size()};
    DigestPrompt(Api::kChat, mutated, raw);
  }
}

}  // namespace
}  // namespace baton::router
