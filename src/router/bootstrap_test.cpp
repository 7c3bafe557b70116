#include "router/bootstrap.h"

#include <random>
#include <set>

#include <gtest/gtest.h>

#include "common/json.h"

namespace baton::router {
namespace {

BodyFacts Inspect(Api api, std::string_view body) {
  auto facts = InspectBody(api, body);
  EXPECT_TRUE(facts.ok()) << facts.status().ToString() << " for " << body;
  return facts.ok() ? *facts : BodyFacts{};
}

std::string Inject(Api api, std::string_view body, std::vector<int64_t> rooms = {7}) {
  const BodyFacts facts = Inspect(api, body);
  rooms.resize(facts.samples, 9);
  return InjectBootstrap(body, facts, {"10.0.0.1", 8998, rooms}).Whole(body);
}

TEST(Bootstrap, GoesInFrontAndLeavesTheRestByteForByte) {
  EXPECT_EQ(Inject(Api::kChat, R"({"model":"m" , "x":[1.50, 1e2],"é":null})"),
            R"({"bootstrap_host":"10.0.0.1","bootstrap_port":8998,"bootstrap_room":7,"model":"m" , "x":[1.50, 1e2],"é":null})");
  EXPECT_EQ(Inject(Api::kChat, " {} "),
            R"( {"bootstrap_host":"10.0.0.1","bootstrap_port":8998,"bootstrap_room":7} )");
}

TEST(Bootstrap, CutsWhatTheClientSent) {
  const std::string inject = R"("bootstrap_host":"10.0.0.1","bootstrap_port":8998,"bootstrap_room":7)";
  EXPECT_EQ(Inject(Api::kChat, R"({"bootstrap_room":1})"), "{" + inject + "}");
  EXPECT_EQ(Inject(Api::kChat, R"({"bootstrap_room":1,"a":2})"), "{" + inject + R"(,"a":2})");
  EXPECT_EQ(Inject(Api::kChat, R"({"a":2,"bootstrap_room":1})"), "{" + inject + R"(,"a":2})");
  EXPECT_EQ(Inject(Api::kChat, R"({"bootstrap_host":"x","bootstrap_room":[1],"a":2,"bootstrap_port":null,"b":3})"),
            "{" + inject + R"(,"a":2,"b":3})");
  EXPECT_EQ(Inject(Api::kChat, R"({"bootstrap\u005froom":5,"a":1})"), "{" + inject + R"(,"a":1})");
}

TEST(Bootstrap, NullPort) {
  const std::string body = "{}";
  const std::string out = InjectBootstrap(body, Inspect(Api::kGenerate, body), {"[::1]", std::nullopt, {3}}).Whole(body);
  EXPECT_EQ(out, R"({"bootstrap_host":"[::1]","bootstrap_port":null,"bootstrap_room":3})");
}

struct SampleCase {
  Api api;
  const char* body;
  bool batch;
  size_t samples;
};

TEST(Bootstrap, CountsSamples) {
  const SampleCase cases[] = {
      {Api::kChat, R"({"messages":[1,2,3]})", false, 1},
      {Api::kChat, R"({"n":1})", false, 1},
      {Api::kChat, R"({"n":3})", true, 3},
      {Api::kChat, R"({"n":0})", false, 1},
      {Api::kChat, R"({"n":-4})", false, 1},
      {Api::kChat, R"({"n":"2"})", false, 1},
      {Api::kChat, R"({"n":2.0})", false, 1},
      {Api::kChat, R"({"n":4,"n":2})", true, 2},
      {Api::kCompletions, R"({"prompt":"a"})", false, 1},
      {Api::kCompletions, R"({"prompt":["a"]})", true, 1},
      {Api::kCompletions, R"({"prompt":["a","b"],"n":2})", true, 4},
      {Api::kCompletions, R"({"prompt":[1,2,3]})", false, 1},
      {Api::kCompletions, R"({"prompt":[[1,2],[3]]})", true, 2},
      {Api::kCompletions, R"({"prompt":[]})", false, 1},
      {Api::kCompletions, R"({"prompt":"a","n":5})", true, 5},
      {Api::kGenerate, R"({"text":"a"})", false, 1},
      {Api::kGenerate, R"({"text":["a","b","c"]})", true, 3},
      {Api::kGenerate, R"({"text":["a"]})", true, 1},
      {Api::kGenerate, R"({"input_ids":[1,2]})", false, 1},
      {Api::kGenerate, R"({"input_ids":[[1,2],[3]]})", true, 2},
      {Api::kGenerate, R"({"input_ids":[ [ 1 ] ]})", true, 1},
      {Api::kGenerate, R"({"input_embeds":[[1.0]]})", false, 1},
      {Api::kGenerate, R"({"input_embeds":[[[1.0]],[[2.0]]]})", true, 2},
      {Api::kGenerate, R"({"text":"a","sampling_params":{"n":3}})", true, 3},
      {Api::kGenerate, R"({"text":["a","b"],"sampling_params":{"n":3}})", true, 6},
      {Api::kGenerate, R"({"text":["a","b"],"sampling_params":[{"n":2},{"n":2}]})", true, 4},
      {Api::kGenerate, R"({"text":"a","n":3})", false, 1},
  };
  for (const SampleCase& c : cases) {
    const BodyFacts facts = Inspect(c.api, c.body);
    EXPECT_EQ(facts.batch, c.batch) << c.body;
    EXPECT_EQ(facts.samples, c.samples) << c.body;
  }
}

TEST(Bootstrap, BatchesGetListsOfDistinctRooms) {
  const std::string body = R"({"text":["a","b"],"sampling_params":{"n":2}})";
  const BodyFacts facts = Inspect(Api::kGenerate, body);
  const auto out = json::Parse(InjectBootstrap(body, facts, {"h", std::nullopt, DrawRooms(facts.samples)}).Whole(body));
  ASSERT_TRUE(out.ok());
  const auto& o = out->get_object();
  EXPECT_EQ(o.at("bootstrap_host").get_array().size(), 4u);
  EXPECT_EQ(o.at("bootstrap_port").get_array().size(), 4u);
  std::set<int64_t> rooms;
  for (const auto& room : o.at("bootstrap_room").get_array()) rooms.insert(room.get_int64());
  EXPECT_EQ(rooms.size(), 4u);
  EXPECT_GE(*rooms.begin(), 1);
}

TEST(Bootstrap, RoomsArePositiveAndDistinct) {
  std::set<int64_t> seen;
  for (int i = 0; i < 200; ++i) {
    for (int64_t room : DrawRooms(50)) {
      EXPECT_GE(room, 1);
      EXPECT_TRUE(seen.insert(room).second);
    }
  }
  // Above 2^53, so that nobody may read them through a double.
  EXPECT_GT(*seen.rbegin(), int64_t{1} << 53);
}

TEST(Bootstrap, Facts) {
  EXPECT_TRUE(Inspect(Api::kChat, R"({"stream":true})").stream);
  EXPECT_FALSE(Inspect(Api::kChat, R"({"stream":false})").stream);
  EXPECT_FALSE(Inspect(Api::kChat, R"({"stream":null})").stream);
  EXPECT_FALSE(Inspect(Api::kChat, R"({"x":{"stream":true}})").stream);
  EXPECT_FALSE(Inspect(Api::kChat, R"({"stream":true,"stream":false})").stream);
  EXPECT_TRUE(Inspect(Api::kGenerate, R"({"return_logprob":true})").return_logprob);
  EXPECT_TRUE(Inspect(Api::kGenerate, R"({"return_logprob":[false,true]})").return_logprob);
  EXPECT_FALSE(Inspect(Api::kGenerate, R"({"return_logprob":[false]})").return_logprob);
  EXPECT_EQ(Inspect(Api::kChat, R"({"model":"a\"b"})").model, "a\"b");
}

TEST(Bootstrap, BadBodies) {
  for (const char* body : {"", "[]", "null", "{", "{\"a\":1}}", "\"x\"", "{\"a\":\"\xFF\"}"}) {
    const auto facts = InspectBody(Api::kChat, body);
    ASSERT_FALSE(facts.ok()) << body;
    EXPECT_EQ(facts.status().code(), Code::kInvalidArgument);
  }
  EXPECT_FALSE(InspectBody(Api::kChat, R"({"n":9000})").ok());
  EXPECT_FALSE(InspectBody(Api::kChat, R"({"n":9223372036854775807})").ok());
  EXPECT_FALSE(InspectBody(Api::kCompletions, R"({"prompt":["a","b"],"n":5000})").ok());
}

// Random objects with the fields that matter sprinkled in: what comes out is what went in, without
// the client's bootstrap fields and with ours.
TEST(Bootstrap, RandomObjectsKeepTheirMembers) {
  std::mt19937_64 random(20261122);
  const std::vector<std::string> keys = {"a", "bootstrap_room", "stream", "n", "text", "bootstrap_host",
                                         "input_ids", "\\u0062ootstrap_port", "sampling_params", "é"};
  const std::vector<std::string> values = {"1", "\"s\"", "[1,2]", "[[1],[2]]", "{\"n\":2}", "null", "true",
                                           "[\"a\",\"b\"]", "-1.5e3", "\"a\\\"},{\""};
  const auto pick = [&](const std::vector<std::string>& from) { return from[random() % from.size()]; };
  const auto space = [&] { return std::string(random() % 3, ' '); };
  for (int round = 0; round < 3000; ++round) {
    std::string body = space() + "{";
    const size_t members = random() % 6;
    for (size_t i = 0; i < members; ++i) {
      if (i) body += ",";
      body += space() + "\"" + pick(keys) + "\"" + space() + ":" + pick(values) + space();
    }
    body += "}" + space();
    for (Api api : {Api::kGenerate, Api::kChat, Api::kCompletions}) {
      const BodyFacts facts = Inspect(api, body);
      const Bootstrap bootstrap{"h", 1, DrawRooms(facts.samples)};
      const auto in = json::Parse(body);
      const auto out = json::Parse(InjectBootstrap(body, facts, bootstrap).Whole(body));
      ASSERT_TRUE(in.ok() && out.ok()) << body << " -> " << InjectBootstrap(body, facts, bootstrap).Whole(body);
      json::object expected = in->get_object();
      json::object rest = out->get_object();
      for (const char* key : {"bootstrap_host", "bootstrap_port", "bootstrap_room"}) {
        ASSERT_TRUE(rest.contains(key));
        expected.erase(key);
        rest.erase(key);
      }
      EXPECT_EQ(expected, rest) << body;
    }
  }
}

}  // namespace
}  // namespace baton::router
