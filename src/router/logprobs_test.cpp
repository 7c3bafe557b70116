#include "router/logprobs.h"

#include <gtest/gtest.h>

#include "common/json.h"

namespace baton::router {
namespace {

InputLogprobs ReadOk(std::string_view body, bool stream = false) {
  auto read = InputLogprobs::Read(body, stream);
  EXPECT_TRUE(read.ok()) << read.status().ToString();
  return std::move(*read);
}

constexpr std::string_view kPrefill =
    R"({"text":"x","meta_info":{"input_token_logprobs":[[null,1,null],[-0.10,2,null]],"input_top_logprobs":[null,[[-0.1,2,null]]],"input_token_ids_logprobs":[[1e-07]],"id":"p"}})";

TEST(Logprobs, OneObject) {
  const auto merged = ReadOk(kPrefill).MergeBody(
      R"({"text":"hi","meta_info":{"id":"d","input_token_logprobs":[],"input_top_logprobs":[ [] ],"input_token_ids_logprobs":[],"output_token_logprobs":[[-1.0,9,null]]}})");
  ASSERT_TRUE(merged.ok());
  EXPECT_EQ(*merged,
            R"({"text":"hi","meta_info":{"id":"d","input_token_logprobs":[[null,1,null],[-0.10,2,null]],"input_top_logprobs":[null,[[-0.1,2,null]], [] ],"input_token_ids_logprobs":[[1e-07]],"output_token_logprobs":[[-1.0,9,null]]}})");
}

TEST(Logprobs, PrefillFirstThenDecode) {
  const auto merged = ReadOk(R"({"meta_info":{"input_token_logprobs":[1,2]}})")
                          .MergeBody(R"({"meta_info":{"input_token_logprobs":[3]}})");
  EXPECT_EQ(*merged, R"({"meta_info":{"input_token_logprobs":[1,2,3]}})");
}

TEST(Logprobs, ListsThatDecodeLacksAreAdded) {
  const InputLogprobs prefill = ReadOk(R"({"meta_info":{"input_token_logprobs":[1],"input_top_logprobs":null}})");
  EXPECT_EQ(*prefill.MergeBody(R"({"meta_info":{"id":1}})"), R"({"meta_info":{"input_token_logprobs":[1],"id":1}})");
  EXPECT_EQ(*prefill.MergeBody(R"({"meta_info":{ }})"), R"({"meta_info":{"input_token_logprobs":[1] }})");
  EXPECT_EQ(*prefill.MergeBody(R"({"meta_info":{"input_token_logprobs":null}})"),
            R"({"meta_info":{"input_token_logprobs":[1]}})");
}

TEST(Logprobs, NothingToMergeChangesNothing) {
  const std::string decode = R"( {"meta_info":{"input_token_logprobs":[] ,"x":1}} )";
  EXPECT_EQ(*ReadOk(R"({"meta_info":{}})").MergeBody(decode), decode);
  EXPECT_EQ(*ReadOk(R"({"meta_info":{"input_token_logprobs":[ ]}})").MergeBody(decode), decode);
}

TEST(Logprobs, ListByPosition) {
  const auto merged = ReadOk(R"([{"meta_info":{"input_token_logprobs":[1]}},{"meta_info":{"input_token_logprobs":[2]}}])")
                          .MergeBody(R"([{"meta_info":{"input_token_logprobs":[]}} , {"meta_info":{"input_token_logprobs":[]}},{"meta_info":{}}])");
  EXPECT_EQ(*merged, R"([{"meta_info":{"input_token_logprobs":[1]}} , {"meta_info":{"input_token_logprobs":[2]}},{"meta_info":{}}])");
}

TEST(Logprobs, StreamMergesEveryCumulativeEvent) {
  InputLogprobs prefill = ReadOk("data: {\"meta_info\":{\"input_token_logprobs\":[1,2]}}\n\ndata: [DONE]\n\n", true);
  const std::string event = R"({"text":"a","meta_info":{"input_token_logprobs":[]}})";
  const std::string expected = R"({"text":"a","meta_info":{"input_token_logprobs":[1,2]}})";
  EXPECT_EQ(prefill.MergeEvent(event), expected);
  EXPECT_EQ(prefill.MergeEvent(event), expected);
}

TEST(Logprobs, StreamAddsAMissingListToTheFirstEventOnly) {
  InputLogprobs prefill = ReadOk("data: {\"meta_info\":{\"input_token_logprobs\":[1]}}\n\n", true);
  EXPECT_EQ(prefill.MergeEvent(R"({"meta_info":{"id":1}})"), R"({"meta_info":{"input_token_logprobs":[1],"id":1}})");
  EXPECT_EQ(prefill.MergeEvent(R"({"meta_info":{"id":1}})"), R"({"meta_info":{"id":1}})");
}

TEST(Logprobs, StreamOfABatchGoesByIndex) {
  InputLogprobs prefill = ReadOk(
      "data: {\"index\":1,\"meta_info\":{\"input_token_logprobs\":[11]}}\n\n"
      "data: {\"index\":0,\"meta_info\":{\"input_token_logprobs\":[10]}}\n\ndata: [DONE]\n\n", true);
  EXPECT_EQ(prefill.MergeEvent(R"({"meta_info":{"input_token_logprobs":[]},"index":0})"),
            R"({"meta_info":{"input_token_logprobs":[10]},"index":0})");
  EXPECT_EQ(prefill.MergeEvent(R"({"meta_info":{"input_token_logprobs":[]},"index":1})"),
            R"({"meta_info":{"input_token_logprobs":[11]},"index":1})");
  EXPECT_EQ(prefill.MergeEvent(R"({"meta_info":{"input_token_logprobs":[]},"index":2})"),
            R"({"meta_info":{"input_token_logprobs":[]},"index":2})");
}

TEST(Logprobs, OtherPayloadsStayAsTheyAre) {
  InputLogprobs prefill = ReadOk(kPrefill);
  for (const char* payload : {"[DONE]", R"({"error":{"message":"x"}})", "not json", ""}) {
    EXPECT_EQ(prefill.MergeEvent(payload), payload);
  }
}

TEST(Logprobs, BrokenBodiesAreErrors) {
  EXPECT_EQ(InputLogprobs::Read("nonsense", false).status().code(), Code::kDataCorrupt);
  EXPECT_EQ(ReadOk(kPrefill).MergeBody("nonsense").status().code(), Code::kDataCorrupt);
  EXPECT_EQ(ReadOk(kPrefill).MergeBody("{}").status().code(), Code::kDataCorrupt);
}

}  // namespace
}  // namespace baton::router
