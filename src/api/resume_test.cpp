#include "api/resume.h"

#include <gtest/gtest.h>

#include "api/generate.h"

namespace baton::api {
namespace {

TEST(Resume, ReadsWhatARouterWrites) {
  const json::value body = *json::Parse(
      R"({"prompt":["a","b"],"n":2,"stream":true,"rid":"mine","baton_resume":{"id":"x","created":5,"migrations":3,"choices":[
          {"ids":[1,2],"opened":true,"ended":true},{"ids":[]},{},{"opened":true,"id":"y"}]}})");
  CompletionRequest request;
  const auto error = ParseCompletion(body, {}, request);
  ASSERT_FALSE(error) << error->status.ToString();
  ASSERT_TRUE(request.resume);
  EXPECT_EQ(request.rid, "x");
  EXPECT_EQ(request.resume->created, 5);
  EXPECT_EQ(request.resume->migrations, 3);
  ASSERT_EQ(request.resume->choices.size(), 4u);
  EXPECT_EQ(request.resume->choices[0].ids, (std::vector<int32_t>{1, 2}));
  EXPECT_TRUE(request.resume->choices[0].ended);
  EXPECT_FALSE(request.resume->choices[1].opened);
  EXPECT_EQ(request.resume->choices[3].id, "y");
}

TEST(Resume, NativeChoicesKeepTheirIds) {
  const json::value body = *json::Parse(
      R"({"input_ids":[[1],[2]],"stream":true,"baton_resume":{"choices":[{"ids":[9],"id":"p"},{}]}})");
  GenerateRequest request;
  ASSERT_FALSE(ParseGenerate(body, {}, request));
  EXPECT_EQ(request.items[0].rid, "p");
  EXPECT_NE(request.items[1].rid, "p");
}

TEST(Resume, RefusesTheRest) {
  for (const char* resume : {"1", "[]", "{}", R"({"choices":[]})", R"({"choices":[{},{}]})", R"({"choices":[1]})", R"({"choices":[{"ids":"a"}]})",
                             R"({"choices":[{"ids":[-1]}]})", R"({"choices":[{"ids":[1.5]}]})", R"({"choices":[{"ids":[4294967296]}]})",
                             R"({"choices":[{"opened":1}]})", R"({"choices":[{"id":1}]})", R"({"choices":[{}],"created":"x"})",
                             R"({"choices":[{}],"id":1})", R"({"choices":[{}],"migrations":-1})"}) {
    CompletionRequest request;
    const auto error = ParseCompletion(*json::Parse(fmt::format(R"({{"prompt":"a","stream":true,"baton_resume":{}}})", resume)), {}, request);
    ASSERT_TRUE(error) << resume;
    EXPECT_EQ(error->status.code(), Code::kInvalidArgument) << resume;
    EXPECT_EQ(error->param, "baton_resume") << resume;
  }
  ChatRequest whole;
  EXPECT_TRUE(ParseChat(*json::Parse(R"({"messages":[{"role":"user","content":"a"}],"baton_resume":{"choices":[{}]}})"), {}, whole)) << "not streamed";
}

}  // namespace
}  // namespace baton::api
