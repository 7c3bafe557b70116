// Traces, conversations, generated prompts: lengths, sharing of prefixes, seeds, hostile files.
#include "bench/serving/workload.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "bench/serving/trace.h"
#include "bench/serving/wire.h"

namespace baton::bench::serving {
namespace {

// One id per word and one per single space: a tokenizer of the tests.
Result<std::vector<int32_t>> WordIds(std::string_view text) {
  static std::map<std::string, int32_t> known;
  std::vector<int32_t> ids;
  while (!text.empty()) {
    const size_t begin = text.find_first_not_of(' ');
    if (begin == std::string_view::npos) break;
    const size_t end = std::min(text.find(' ', begin), text.size());
    ids.push_back(known
                      .emplace(std::string(text.substr(begin, end - begin)),
                               static_cast<int32_t>(known.size()))
                      .first->second);
    text.remove_prefix(end);
  }
  return ids;
}

size_t CommonPrefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  size_t n = 0;
  while (n < a.size() && n < b.size() && a[n] == b[n]) ++n;
  return n;
}

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text)
      : path_(
            std::filesystem::temp_directory_path() /
            ("baton_serving_test_" + std::to_string(::getpid()) + "_" + std::to_string(++count_))) {
    std::ofstream(path_) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_; }

 private:
  static inline int count_ = 0;
  std::filesystem::path path_;
};

TEST(TextTest, LengthsAreExactWithATokenizerAndScaledWithout) {
  auto exact = TextMaker::WithEncoder(WordIds);
  ASSERT_TRUE(exact.ok());
  for (const int tokens : {1, 2, 17, 1000}) {
    std::string text;
    exact->Append(4, tokens, &text);
    EXPECT_EQ(WordIds(text)->size(), static_cast<size_t>(tokens));
  }
  const TextMaker scaled = TextMaker::WithRate(2);
  std::string text;
  scaled.Append(4, 100, &text);
  EXPECT_EQ(WordIds(text)->size(), 50u);
  EXPECT_EQ(*scaled.Count(text), 100);
  EXPECT_EQ(*scaled.Count("  two\twords\n"), 4);
}

TEST(TextTest, TokenizerWithoutTheWordsIsRefused) {
  const auto maker =
      TextMaker::WithEncoder([](std::string_view text) -> Result<std::vector<int32_t>> {
        return std::vector<int32_t>(text.size());
      });
  EXPECT_EQ(maker.status().code(), Code::kUnsupported);
}

TEST(TextTest, SameSeedSameTextAndAShorterOneIsItsBeginning) {
  const TextMaker maker = TextMaker::WithRate(1);
  std::string a, b, c, d;
  maker.Append(7, 50, &a);
  maker.Append(7, 50, &b);
  maker.Append(7, 20, &c);
  maker.Append(8, 50, &d);
  EXPECT_EQ(a, b);
  EXPECT_TRUE(a.starts_with(c));
  EXPECT_NE(a, d);
}

TEST(WorkloadTest, RandomIsAPureFunctionOfIndexAndSeed) {
  const TextMaker maker = TextMaker::WithRate(1);
  WorkloadOptions options;
  options.input = *LengthDistribution::Parse("uniform:20,40");
  options.turns = 3;
  auto workload = Workload::Make(options, maker);
  ASSERT_TRUE(workload.ok());
  std::set<std::string> seen;
  for (uint64_t i = 0; i < 200; ++i) {
    const auto plan = workload->Get(i, 5);
    ASSERT_EQ(plan.turns.size(), 3u);
    const std::string text = TextOf(plan.turns[0], maker);
    EXPECT_EQ(text, TextOf(workload->Get(i, 5).turns[0], maker));
    EXPECT_TRUE(seen.insert(text).second);
    EXPECT_TRUE(seen.insert(TextOf(workload->Get(i, 6).turns[0], maker)).second);
    const size_t words = WordIds(text)->size();
    EXPECT_TRUE(words >= 20 && words <= 40) << words;
  }
}

TEST(WorkloadTest, SharedPrefixesAreSharedByTheirGroupOnly) {
  const TextMaker maker = TextMaker::WithRate(1);
  WorkloadOptions options;
  options.kind = DatasetKind::kSharedPrefix;
  options.prefix_groups = 4;
  options.prompts_per_group = 5;
  options.prefix_tokens = 64;
  options.input = LengthDistribution::Fixed(32);
  auto workload = Workload::Make(options, maker);
  ASSERT_TRUE(workload.ok());
  ASSERT_EQ(workload->size(), 20u);
  std::vector<std::vector<int32_t>> ids;
  for (uint64_t i = 0; i < 20; ++i)
    ids.push_back(*WordIds(TextOf(workload->Get(i, 1).turns[0], maker)));
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(ids[i].size(), 96u);
    for (size_t j = 0; j < i; ++j) {
      const size_t common = CommonPrefix(ids[i], ids[j]);
      if (i % 4 == j % 4) {
        EXPECT_GE(common, 64u);
        EXPECT_LT(common, 72u);
      } else {
        EXPECT_LT(common, 8u);
      }
    }
  }
}

constexpr const char* kTrace =
    "{\"timestamp\": 5000, \"input_length\": 1100, \"output_length\": 7, \"hash_ids\": [1, 2, "
    "3]}\n\n"
    "{\"timestamp\": 7500, \"input_length\": 1024, \"output_length\": 9, \"hash_ids\": [1, 2]}\r\n"
    "{\"timestamp\": 6000, \"input_length\": 700, \"output_length\": 3, \"hash_ids\": [1]}\n";

TEST(TraceTest, ReadsSortsAndStartsAtZero) {
  auto trace = ParseMooncakeTrace(kTrace);
  ASSERT_TRUE(trace.ok()) << trace.status().message();
  ASSERT_EQ(trace->requests.size(), 3u);
  EXPECT_EQ(trace->requests[1].at_ms, 1000);
  EXPECT_EQ(trace->requests[2].at_ms, 2500);
  EXPECT_EQ(trace->requests[2].output_tokens, 9);
  EXPECT_EQ(trace->HashesOf(trace->requests[1]).size(), 1u);
  EXPECT_EQ(ParseMooncakeTrace(kTrace, 2)->requests.size(), 2u);
}

TEST(TraceTest, ErrorsNameTheLine) {
  const std::string good =
      "{\"timestamp\":0,\"input_length\":1,\"output_length\":1,\"hash_ids\":[]}\n";
  for (const char* bad :
       {"nonsense", "[]", "{}", "{\"timestamp\":-1,\"input_length\":1,\"output_length\":1}",
        "{\"timestamp\":0,\"input_length\":\"x\",\"output_length\":1}",
        "{\"timestamp\":0,\"input_length\":1e99,\"output_length\":1}",
        "{\"timestamp\":0,\"input_length\":1,\"output_length\":1,\"hash_ids\":[1.5]}",
        "{\"timestamp\":0,\"input_length\":1,\"output_length\":1,\"hash_ids\":7}"}) {
    const auto trace = ParseMooncakeTrace(good + bad);
    EXPECT_EQ(trace.status().code(), Code::kDataCorrupt) << bad;
    EXPECT_TRUE(trace.status().message().starts_with("line 2: ")) << trace.status().message();
  }
  EXPECT_EQ(ParseMooncakeTrace("\n\n").status().code(), Code::kDataCorrupt);
}

TEST(WorkloadTest, TraceBlocksBecomeSharedText) {
  const TemporaryFile file(kTrace);
  const TextMaker maker = TextMaker::WithRate(1);
  WorkloadOptions options;
  options.kind = DatasetKind::kMooncake;
  options.path = file.path();
  auto workload = Workload::Make(options, maker);
  ASSERT_TRUE(workload.ok()) << workload.status().message();
  EXPECT_TRUE(workload->has_times());
  EXPECT_EQ(workload->TimeOf(2), 2.5);
  EXPECT_EQ(workload->TimeOf(4), 2.5 + 1);  // the second round follows the first
  std::vector<std::vector<int32_t>> ids;
  for (uint64_t i = 0; i < 3; ++i)
    ids.push_back(*WordIds(TextOf(workload->Get(i, 1).turns[0], maker)));
  EXPECT_EQ(ids[0].size(), 1100u);
  EXPECT_EQ(ids[1].size(), 700u);
  EXPECT_EQ(ids[2].size(), 1024u);
  EXPECT_EQ(CommonPrefix(ids[0], ids[2]), 1024u);
  EXPECT_GE(CommonPrefix(ids[0], ids[1]), 512u);
  EXPECT_LT(CommonPrefix(ids[0], ids[1]), 520u);

  options.length_scale = 0.25;
  options.max_input_tokens = 200;
  options.max_output_tokens = 2;
  auto scaled = Workload::Make(options, maker);
  const auto plan = scaled->Get(0, 1).turns[0];
  EXPECT_EQ(WordIds(TextOf(plan, maker))->size(), 200u);  // 275 cut
  EXPECT_EQ(plan.segments[0].tokens, 128);
  EXPECT_EQ(plan.output_tokens, 2);
}

TEST(WorkloadTest, PublicTraceIsReadWhole) {
  WorkloadOptions options;
  options.kind = DatasetKind::kMooncake;
  options.path = BATON_SOURCE_DIR "/../shared/fixtures/traces/mooncake-conversation-3000.jsonl";
  if (!std::filesystem::exists(options.path)) GTEST_SKIP() << "no " << options.path;
  const TextMaker maker = TextMaker::WithRate(1);
  auto workload = Workload::Make(options, maker);
  ASSERT_TRUE(workload.ok()) << workload.status().message();
  EXPECT_EQ(workload->size(), 3000u);
  // The two first lines of the file: 6758 and 7322 tokens, block 0 in common.
  const auto a = *WordIds(TextOf(workload->Get(0, 1).turns[0], maker)),
             b = *WordIds(TextOf(workload->Get(1, 1).turns[0], maker));
  EXPECT_EQ(a.size(), 6758u);
  EXPECT_EQ(b.size(), 7322u);
  EXPECT_GE(CommonPrefix(a, b), 512u);
  EXPECT_LT(CommonPrefix(a, b), 520u);
}

TEST(TraceTest, ConversationsOfEveryKnownShape) {
  for (
      const char* text : {
          R"({"conversations":[{"from":"system","value":"x"},{"from":"human","value":"q1"},{"from":"gpt","value":"a1"},
              {"from":"human","value":"q2"},{"from":"gpt","value":"a2"},{"from":"human","value":"open"}]})",
          R"({"messages":[{"role":"user","content":"q1"},{"role":"assistant","content":"a1"},{"role":"user","content":"q2"},
              {"role":"assistant","content":"a2"}]})",
          R"({"conversation":[{"role":"user","value":"q1"},{"role":"assistant","value":"a1"},{"from":"human","value":"q2"},
              {"from":"gpt","value":"a2"}]})"}) {
    const auto exchanges = ParseConversation(text);
    ASSERT_TRUE(exchanges.ok()) << exchanges.status().message();
    ASSERT_EQ(exchanges->size(), 2u) << text;
    EXPECT_EQ((*exchanges)[1].user, "q2");
    EXPECT_EQ((*exchanges)[1].assistant, "a2");
  }
  EXPECT_TRUE(ParseConversation(R"({"conversations":[{"from":"gpt","value":"a"}]})")->empty());
  for (const char* bad : {"{}", "[]", "{", R"({"conversations":3})", R"({"conversations":[3]})"}) {
    EXPECT_EQ(ParseConversation(bad).status().code(), Code::kDataCorrupt) << bad;
  }
}

TEST(TraceTest, SplitsArraysAndLinesWithoutParsing) {
  const auto split = SplitObjects(" [ {\"a\":\"}]{\\\"\"} ,\n{\"b\":{\"c\":[{}]}} ] ");
  ASSERT_TRUE(split.ok()) << split.status().message();
  ASSERT_EQ(split->size(), 2u);
  EXPECT_EQ((*split)[0], "{\"a\":\"}]{\\\"\"}");
  EXPECT_EQ((*split)[1], "{\"b\":{\"c\":[{}]}}");
  EXPECT_EQ(SplitObjects("{}\n{}\n")->size(), 2u);
  for (const char* bad : {"", "[]", "[{}", "[1]", "{\"a\":\"", "[{},", "x"}) {
    EXPECT_EQ(SplitObjects(bad).status().code(), Code::kDataCorrupt) << bad;
  }
}

TEST(WorkloadTest, ShareGptTakesTurnsAndLengthsFromTheFile) {
  const TemporaryFile file(
      R"([{"conversations":[{"from":"human","value":"one two three"},{"from":"gpt","value":"a b c d"},
         {"from":"human","value":"again"},{"from":"gpt","value":"e f"}]},
         {"conversations":[{"from":"human","value":"far too long a question for the limit"},{"from":"gpt","value":"x"}]},
         {"conversations":[]},{"no":"conversation"},{"conversations":[{"from":"human","value":"\ud83d"}]}])");
  const TextMaker maker = TextMaker::WithRate(1);
  WorkloadOptions options;
  options.kind = DatasetKind::kShareGpt;
  options.path = file.path();
  options.turns = 2;
  options.max_input_tokens = 5;
  auto workload = Workload::Make(options, maker);
  ASSERT_TRUE(workload.ok()) << workload.status().message();
  ASSERT_EQ(workload->size(), 1u);
  const auto plan = workload->Get(3, 9);
  ASSERT_EQ(plan.turns.size(), 2u);
  EXPECT_EQ(TextOf(plan.turns[0], maker), "one two three");
  EXPECT_EQ(plan.turns[0].output_tokens, 4);
  EXPECT_EQ(plan.turns[1].output_tokens, 2);
  const TemporaryFile nothing(R"([{"no":"conversation"}])");
  options.path = nothing.path();
  EXPECT_NE(Workload::Make(options, maker).status().message().find("element 0"), std::string::npos);
  options.path = "/nonexistent";
  EXPECT_EQ(Workload::Make(options, maker).status().code(), Code::kNotFound);
  options.path = "";
  EXPECT_EQ(Workload::Make(options, maker).status().code(), Code::kInvalidArgument);
}

TEST(WireTest, BodiesOfEachApi) {
  BodyOptions options;
  options.model = "m";
  options.ignore_eos = true;
  options.extra = {{"top_p", 0.5}, {"temperature", 1}};
  const std::vector<Message> talk{{true, "hi"}, {false, "yes"}, {true, "more"}};
  auto body = json::Parse(*MakeBody(options, talk, 9, {}))->as_object();
  EXPECT_EQ(body.at("max_tokens"), 9);
  EXPECT_EQ(body.at("messages").as_array().size(), 3u);
  EXPECT_EQ(body.at("messages").at(1).at("role"), "assistant");
  EXPECT_EQ(body.at("stream_options").at("include_usage"), true);
  EXPECT_EQ(body.at("temperature"), 1);
  EXPECT_EQ(body.at("ignore_eos"), true);
  options.api = Api::kCompletions;
  options.send_ids = true;
  body = json::Parse(*MakeBody(options, talk, 9, WordIds))->as_object();
  EXPECT_EQ(body.at("prompt").as_array().size(), 3u);
  options.api = Api::kGenerate;
  body = json::Parse(*MakeBody(options, talk, 9, WordIds))->as_object();
  EXPECT_EQ(body.at("input_ids").as_array().size(), 3u);
  EXPECT_EQ(body.at("sampling_params").at("max_new_tokens"), 9);
  options.send_ids = false;
  body = json::Parse(*MakeBody(options, talk, 9, {}))->as_object();
  EXPECT_EQ(body.at("text"), "hi yes more");
}

TEST(WireTest, EventsOfEachApi) {
  EventReader chat(Api::kChat);
  EXPECT_FALSE(
      chat.Read(
              R"({"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null})")
          ->has_output);
  auto facts = chat.Read(R"({"choices":[{"delta":{"content":"ab"},"finish_reason":null}]})");
  EXPECT_TRUE(facts->has_output);
  EXPECT_EQ(facts->text, "ab");
  EXPECT_TRUE(chat.Read(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})")->has_output);
  EXPECT_TRUE(chat.Read(R"({"choices":[{"delta":{"tool_calls":[{"index":0}]}}]})")->has_output);
  EXPECT_TRUE(chat.Read(R"({"choices":[{"delta":{},"finish_reason":"length"}]})")->finished);
  facts = chat.Read(
      R"({"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4}}})");
  EXPECT_EQ(facts->prompt_tokens, 5);
  EXPECT_EQ(facts->output_tokens, 7);
  EXPECT_EQ(facts->cached_tokens, 4);
  EXPECT_EQ(*chat.Read(R"({"error":{"message":"broken"}})")->error, "broken");
  EXPECT_EQ(chat.Read("{\"choices\":").status().code(), Code::kDataCorrupt);
  EXPECT_EQ(chat.Read("[1]").status().code(), Code::kDataCorrupt);
  EXPECT_EQ(chat.Read("{\"hello\":1}").status().code(), Code::kDataCorrupt);
  EXPECT_EQ(chat.Read(R"({"choices":[1]})").status().code(), Code::kDataCorrupt);
  EXPECT_TRUE(chat.Read(R"({"choices":[{"delta":{"content":"after errors"}}]})")->has_output);

  EventReader completions(Api::kCompletions);
  EXPECT_EQ(completions.Read(R"({"choices":[{"text":"xy","finish_reason":null}]})")->text, "xy");
  EventReader native(Api::kGenerate);
  facts = native.Read(
      R"({"text":"so far","output_ids":[1],"meta_info":{"prompt_tokens":3,"completion_tokens":2,"cached_tokens":1,
      "finish_reason":{"type":"stop"}}})");
  EXPECT_TRUE(facts->has_output && facts->finished && facts->text_is_whole);
  EXPECT_EQ(facts->output_tokens, 2);
  EXPECT_EQ(native.Read(R"({"text":"x"})").status().code(), Code::kDataCorrupt);
  EXPECT_EQ(ErrorText(R"({"detail":"no"})"), "no");
  EXPECT_EQ(ErrorText("<html>"), "<html>");
}

}  // namespace
}  // namespace baton::bench::serving
