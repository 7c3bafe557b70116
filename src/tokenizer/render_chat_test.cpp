#include "tokenizer/render_chat.h"

#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

namespace baton::tokenizer {
namespace {

TEST(RenderRequest, ReadsEveryMember) {
  const auto input = ParseRenderRequest(
      R"({"messages": [{"role": "user", "content": "hi"}], "tools": [{"name": "f"}],
          "add_generation_prompt": false, "documents": [{"t": 1}],
          "chat_template_kwargs": {"enable_thinking": false}})",
      {.bos_token = "<s>", .eos_token = "</s>"});
  ASSERT_TRUE(input.ok()) << input.status().message();
  EXPECT_EQ(input->messages.as_array().size(), 1u);
  EXPECT_EQ(input->tools.as_array().size(), 1u);
  EXPECT_FALSE(input->add_generation_prompt);
  EXPECT_EQ(input->extra.at("enable_thinking"), json::value(false));
  EXPECT_EQ(input->extra.at("documents").as_array().size(), 1u);
  EXPECT_EQ(input->bos_token, "<s>");
  EXPECT_EQ(input->eos_token, "</s>");
}

TEST(RenderRequest, HasDefaults) {
  const auto input = ParseRenderRequest(R"({"messages": [], "tools": null})", {});
  ASSERT_TRUE(input.ok()) << input.status().message();
  EXPECT_TRUE(input->add_generation_prompt);
  EXPECT_TRUE(input->tools.is_null());
  EXPECT_TRUE(input->extra.empty());
}

TEST(RenderRequest, FloatsKeepTheirDigits) {
  const auto input = ParseRenderRequest(
      R"({"messages": [{"content": [1.6161129411764705, -0.0025, 1e22, 0.1, 1.0]}]})", {});
  ASSERT_TRUE(input.ok()) << input.status().message();
  const auto parsed = ChatTemplate::Parse("{{ messages[0].content|tojson }}");
  EXPECT_EQ(*parsed->Render(*input), "[1.6161129411764705, -0.0025, 1e+22, 0.1, 1.0]");
}

struct BadRequest {
  const char* json;
  const char* says;  // part of the message
};

// Content in parts, for both sorts of templates, against Jinja2 (tests/golden/jinja/make_jinja_golden.py).
TEST(RenderChat, PartsGoToTheTemplateAsItReadsThem) {
  std::ifstream file(BATON_SOURCE_DIR "/tests/golden/jinja/parts.json");
  const auto golden = json::Parse(std::string(std::istreambuf_iterator<char>(file), {}));
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const std::string request = json::serialize(json::object{{"messages", golden->at("messages")}});
  const json::array& cases = golden->at("cases").as_array();
  EXPECT_GE(cases.size(), 13u);
  for (const json::value& c : cases) {
    const std::string source(c.at("template").as_string());
    SCOPED_TRACE(source);
    const auto parsed = ChatTemplate::Parse(source);
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    EXPECT_EQ(parsed->reads_parts(), c.at("sort").as_string() == "parts");
    auto input = ParseRenderRequest(request, {.bos_token = "<s>", .eos_token = "</s>"});
    ASSERT_TRUE(input.ok());
    const auto text = RenderChat(*parsed, std::move(*input));
    ASSERT_TRUE(text.ok()) << text.status().message();
    EXPECT_EQ(*text, c.at("text").as_string());
  }
}

TEST(RenderChat, ContentThatIsNotTextStaysAsItIs) {
  const auto wants_string = ChatTemplate::Parse("{{ messages|tojson }}");
  for (const char* content : {"[]", R"([{"type": "text", "text": "a"}, {"type": "image"}])", R"([1, "a"])", "null", R"([{"type": "text"}])",
                              R"([{"text": "a"}])", R"([{"type": "image", "text": "a"}])"}) {
    const std::string messages = fmt::format(R"([{{"content": {}}}])", content);
    auto input = ParseRenderRequest(fmt::format(R"({{"messages": {}}})", messages), {});
    ASSERT_TRUE(input.ok());
    const bool empty = std::string_view(content) == "[]";
    EXPECT_EQ(*RenderChat(*wants_string, std::move(*input)), empty ? R"([{"content": ""}])" : messages);
  }
}

class BadRenderRequest : public testing::TestWithParam<BadRequest> {};

TEST_P(BadRenderRequest, NamesWhatIsWrong) {
  const auto input = ParseRenderRequest(GetParam().json, {});
  EXPECT_EQ(input.status().code(), Code::kInvalidArgument);
  EXPECT_NE(input.status().message().find(GetParam().says), std::string::npos)
      << input.status().message();
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadRenderRequest,
    testing::Values(BadRequest{"{", "invalid JSON"}, BadRequest{"[]", "the request"},
                    BadRequest{"{}", "messages is missing"},
                    BadRequest{R"({"messages": {}})", "messages must be an array"},
                    BadRequest{R"({"messages": [{}, 1]})", "messages[1] must be an object"},
                    BadRequest{R"({"messages": [], "tools": {}})", "tools must be an array"},
                    BadRequest{R"({"messages": [], "documents": 1})", "documents must be"},
                    BadRequest{R"({"messages": [], "add_generation_prompt": 1})",
                               "add_generation_prompt must be a boolean"},
                    BadRequest{R"({"messages": [], "chat_template_kwargs": []})",
                               "chat_template_kwargs must be an object"},
                    BadRequest{R"({"messages": [], "chat_template_kwargs": {"tools": 1}})",
                               "must not hold tools"}));

TEST(RenderTime, ReadsTimesAndDates) {
  const auto time = ParseRenderTime("2026-11-22T12:34:56");
  ASSERT_TRUE(time.ok()) << time.status().message();
  EXPECT_EQ(time->tm_year, 126);
  EXPECT_EQ(time->tm_mon, 10);
  EXPECT_EQ(time->tm_mday, 22);
  EXPECT_EQ(time->tm_hour, 12);
  EXPECT_EQ(time->tm_wday, 0);  // a Sunday
  EXPECT_TRUE(ParseRenderTime("2026-11-22").ok());
  for (const char* bad : {"", "today", "2026-13-01", "2026-02-30", "2026-11-22T12:00:00Z"}) {
    EXPECT_EQ(ParseRenderTime(bad).status().code(), Code::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace baton::tokenizer
