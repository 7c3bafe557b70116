// Chat templates against Jinja2's own renders: a table of small templates made for this project
// (tests/golden/jinja) and the real ones of ../shared, which are skipped where they are not.
#include "tokenizer/chat_template.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "common/json.h"

namespace baton::tokenizer {
namespace {

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::tm Noon() { return {.tm_hour = 12, .tm_mday = 22, .tm_mon = 10, .tm_year = 126}; }

Result<std::string> Render(std::string_view source, const ChatRenderInput& input) {
  Result<ChatTemplate> parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(input);
}

Result<std::string> Render(std::string_view source, json::object variables = {}) {
  ChatRenderInput input;
  input.now = Noon();
  input.extra = std::move(variables);
  return Render(source, input);
}

class JinjaGolden : public testing::TestWithParam<std::string> {};

TEST_P(JinjaGolden, RendersAsJinja2) {
  const auto path =
      std::filesystem::path(BATON_SOURCE_DIR) / "tests/golden/jinja" / (GetParam() + ".json");
  const auto golden = json::Parse(ReadFile(path));
  ASSERT_TRUE(golden.ok()) << path << ": " << golden.status().message();
  const json::object& variables = golden->at("variables").as_object();
  for (const json::value& c : golden->at("cases").as_array()) {
    const std::string source(c.at("template").as_string());
    SCOPED_TRACE(source);
    const auto text = Render(source, variables);
    if (const json::value* want = json::Find(c.as_object(), "text")) {
      ASSERT_TRUE(text.ok()) << text.status().message();
      EXPECT_EQ(*text, std::string(want->as_string()));
    } else {
      EXPECT_FALSE(text.ok()) << "gave " << *text << " where Jinja2 says "
                              << c.at("error").as_string();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Subjects, JinjaGolden,
                         testing::Values("whitespace", "literals", "operators", "access", "strings",
                                         "filters", "json", "tests", "statements", "macros"),
                         [](const auto& info) { return info.param; });

ChatRenderInput FromCase(const json::object& c) {
  ChatRenderInput input;
  input.messages = c.at("messages");
  if (const json::value* tools = json::Find(c, "tools")) input.tools = *tools;
  input.add_generation_prompt = c.at("add_generation_prompt").as_bool();
  if (const json::value* extra = json::Find(c, "kwargs")) input.extra = extra->as_object();
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.now = Noon();
  return input;
}

TEST(ChatTemplateFixture, RealTemplatesRenderAsTransformersRendersThem) {
  const auto folder =
      std::filesystem::path(BATON_SOURCE_DIR "/../shared/fixtures/templates");
  if (!std::filesystem::exists(folder / "golden.json")) {
    GTEST_SKIP() << "no " << folder << ": the models' own templates are not part of this project";
  }
  const auto golden = json::Parse(ReadFile(folder / "golden.json"));
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const json::object& cases = golden->at("cases").as_object();
  int renders = 0;
  for (const auto& [file, results] : golden->at("renders").as_object()) {
    const std::string source = ReadFile(folder / std::string(file));
    for (const auto& [name, want] : results.as_object()) {
      SCOPED_TRACE(std::string(file) + " / " + std::string(name));
      const auto text = Render(source, FromCase(cases.at(name).as_object()));
      ++renders;
      if (const json::value* want_text = json::Find(want.as_object(), "text")) {
        ASSERT_TRUE(text.ok()) << text.status().message();
        EXPECT_EQ(*text, std::string(want_text->as_string()));
        continue;
      }
      EXPECT_FALSE(text.ok());
      constexpr std::string_view kRaised = "TemplateError: ";
      const std::string error(want.at("error").as_string());
      if (error.starts_with(kRaised)) {
        EXPECT_EQ(text.status().message(), error.substr(kRaised.size()));
      }
    }
  }
  EXPECT_EQ(renders, 264);
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  const auto parsed = ChatTemplate::Parse("a\nb\n{% if x %}\n");
  EXPECT_EQ(parsed.status().code(), Code::kInvalidArgument);
  EXPECT_NE(parsed.status().message().find("line 3"), std::string::npos)
      << parsed.status().message();
  const auto text = Render("a\n{{ nope.x }}");
  EXPECT_EQ(text.status().code(), Code::kInvalidArgument);
  EXPECT_EQ(text.status().message(), "chat template, line 2: 'nope' is undefined");
}

TEST(ChatTemplate, RaisedMessagesAreKeptWordForWord) {
  EXPECT_EQ(Render("{{ raise_exception('Only user roles!') }}").status().message(),
            "Only user roles!");
}

TEST(ChatTemplate, PassesWhatTransformersPasses) {
  ChatRenderInput input;
  input.messages = json::array{};
  input.bos_token = "<s>";
  EXPECT_EQ(*Render("{{ messages }}{{ tools }}{{ documents }}{{ add_generation_prompt }}"
                    "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}",
                    input),
            "[]NoneNoneTrue<s>False");
}

TEST(ChatTemplate, RefusesInvalidUtf8) {
  EXPECT_EQ(ChatTemplate::Parse("a\xff").status().code(), Code::kInvalidArgument);
}

// Each would run for hours or take all memory without the bounds.
class HostileTemplate : public testing::TestWithParam<const char*> {};

TEST_P(HostileTemplate, EndsWithAnError) {
  const auto text = Render(GetParam());
  EXPECT_EQ(text.status().code(), Code::kInvalidArgument) << GetParam();
}

INSTANTIATE_TEST_SUITE_P(
    Bounds, HostileTemplate,
    testing::Values(
        "{{ range(10**9) }}", "{{ 'x' * 10**12 }}", "{{ [0] * 10**12 }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'xxxxxxxxxxxxxxxx' * 1000 }}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}"
        "{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}"
        "{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}"
        "{% endfor %}{{ ns.x == ns.x }}{{ ns.x }}",
        "{% set ns = namespace(x=(1,)) %}{% for i in range(99) %}{% set ns.x = (ns.x, ns.x) %}"
        "{% endfor %}{{ {ns.x: 1} }}",
        "{% set ns = namespace(x='a') %}{% for i in range(99999) %}"
        "{% set ns.x = ns.x|map('upper') %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ 'a'.center(10**11) }}", "{{ 'a'|indent(10**11, true) }}", "{{ '%99999999999d' % 1 }}",
        "{{ '{:99999999999}'.format(1) }}", "{{ ('a' * 60000000).replace('', 'xxxxxxxx') }}",
        "{{ 'ab' ~ 2 ** 63 }}", "{{ 9223372036854775807 + 1 }}", "{{ range(99999)|list * 99 }}",
        "{{ [1]|tojson(indent=10**11) }}", "{{ [1]|batch(10**12, 0)|list }}"));

TEST(ChatTemplate, DeepNestingIsAnError) {
  const auto repeat = [](std::string_view text, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += text;
    return out;
  };
  EXPECT_FALSE(ChatTemplate::Parse("{{ " + repeat("(", 50000)).ok());
  EXPECT_FALSE(ChatTemplate::Parse("{{ " + repeat("[", 50000)).ok());
  EXPECT_FALSE(ChatTemplate::Parse("{{ " + repeat("not ", 50000) + "1 }}").ok());
  EXPECT_FALSE(ChatTemplate::Parse("{{ " + repeat("-", 50000) + "1 }}").ok());
  EXPECT_FALSE(ChatTemplate::Parse("{{ 1" + repeat(" + 1", 50000) + " }}").ok());
  EXPECT_FALSE(ChatTemplate::Parse("{{ 1" + repeat("|abs", 50000) + " }}").ok());
  EXPECT_FALSE(ChatTemplate::Parse("{{ a" + repeat(".a", 50000) + " }}").ok());
  EXPECT_FALSE(ChatTemplate::Parse("{{ 1" + repeat(" if 1 else 1", 50000) + " }}").ok());
  EXPECT_FALSE(ChatTemplate::Parse(repeat("{% if 1 %}", 50000)).ok());
  EXPECT_TRUE(ChatTemplate::Parse("{{ 1" + repeat(" + 1", 200) + " }}").ok());
}

TEST(ChatTemplate, OneTemplateServesManyThreads) {
  const auto parsed = ChatTemplate::Parse(
      "{% macro f(x) %}<{{ x }}>{% endmacro %}{% for m in messages %}{{ f(m.content) }}{% endfor "
      "%}");
  ASSERT_TRUE(parsed.ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&parsed, t] {
      ChatRenderInput input;
      input.messages = json::array{json::object{{"content", t}}};
      for (int i = 0; i < 200; ++i) {
        EXPECT_EQ(*parsed->Render(input), "<" + std::to_string(t) + ">");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace baton::tokenizer
