// What reaches a log from outside: printable.h, and that every sink of log.h goes through it.
#include "common/log.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "common/json.h"
#include "common/log_file.h"
#include "common/log_lines.h"
#include "common/printable.h"

namespace baton {
namespace {

std::string Printable(std::string_view text) {
  std::string out;
  AppendPrintable(out, text);
  return out;
}

std::string JsonString(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

TEST(Printable, ControlsAreEscapedAndTextIsNot) {
  using std::string_literals::operator""s;
  const std::pair<std::string, std::string> cases[] = {
      {"plain \\ \"text\"", "plain \\ \"text\""},
      {"Zürich 日本 🎉\u00a0", "Zürich 日本 🎉\u00a0"},
      {"a\nb\r\tc", "a\\nb\\r\\tc"},
      {"\0\x01\x1b[31m\x7f"s, "\\x00\\x01\\x1b[31m\\x7f"},
      {"\u0080\u0085\u009b2J\u009f", "\\x80\\x85\\x9b2J\\x9f"},
      {"\x9b" "2J\xff\xc3", "\\x9b2J\\xff\\xc3"},
      {"\xc3\xc3\xa9\xe2\x82", "\\xc3é\\xe2\\x82"},
      {"\xf0\x9f\x8e", "\\xf0\\x9f\\x8e"},
      {"", ""},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(Printable(text), expected);
}

TEST(Printable, JsonStringsAreJsonWhateverTheBytes) {
  EXPECT_EQ(JsonString("m\"é\\日\x1b\n"), "\"m\\\"é\\\\日\\u001b\\n\"");
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string text{static_cast<char>(first), static_cast<char>(second), '"'};
      const auto parsed = json::Parse(JsonString(text));
      ASSERT_TRUE(parsed.ok()) << first << " " << second << " " << JsonString(text);
      if (json::IsValidUtf8(text)) {
        ASSERT_EQ(parsed->as_string(), text);
      }
    }
  }
}

// One message is one line, on stderr and in the file.
TEST(Log, WhatClientsSendStaysInItsLine) {
  const std::string path = (std::filesystem::temp_directory_path() / ("baton_log_test_" + std::to_string(::getpid()))).string();
  testing::internal::CaptureStderr();
  log::Init("info", "TP0");
  ASSERT_TRUE(log::AddFile(path).ok());
  log::warn("path={} model={}", "/a\n[2026-01-01 00:00:00 TP0] forged\x1b]0;title\x07", "é");
  spdlog::default_logger()->flush();
  const std::string on_stderr = testing::internal::GetCapturedStderr();
  std::stringstream in_file;
  in_file << std::ifstream(path).rdbuf();
  std::filesystem::remove(path);
  log::Init("info", "");
  const std::string text = "path=/a\\n[2026-01-01 00:00:00 TP0] forged\\x1b]0;title\\x07 model=é\n";
  EXPECT_TRUE(on_stderr.starts_with("[20") && on_stderr.ends_with(" TP0] " + text)) << on_stderr;
  EXPECT_TRUE(in_file.str().ends_with(" warning " + text)) << in_file.str();
  for (const std::string& all : {on_stderr, in_file.str()}) EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 1);
}

// The texts that come through, by a level given at the start or later.
TEST(Log, LevelsLetThroughWhatTheySay) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"debug", "debug info warning error"}, {"info", "info warning error"}, {"warning", "warning error"}, {"warn", "warning error"},
      {"error", "error"}, {"critical", "error"}, {"", "info warning error"}, {"verbose", "info warning error"}};
  for (const bool later : {false, true}) {
    for (const auto& [level, expected] : cases) {
      testing::internal::CaptureStderr();
      log::Init(later ? (level == "info" ? "error" : "info") : level, "");
      if (later) log::SetLevel(level);
      log::debug("debug");
      log::info("info");
      log::warn("warning");
      log::error("error");
      spdlog::default_logger()->flush();
      std::istringstream lines(testing::internal::GetCapturedStderr());
      std::string seen;
      for (std::string line; std::getline(lines, line);) seen += (seen.empty() ? "" : " ") + line.substr(line.find("] ") + 2);
      EXPECT_EQ(seen, expected) << level << (later ? ", set later" : "");
    }
  }
  log::Init("info", "");
}

TEST(Log, AFileThatCannotBeWrittenIsAnErrorThatNamesIt) {
  const Status status = log::AddFile("/proc/no such folder/baton.log");
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("/proc/no such folder/baton.log"), std::string::npos) << status.message();
}

TEST(Log, LinesOfATextAreMessages) {
  testing::internal::CaptureStderr();
  log::WarnLines("one\ntwo\n");
  const std::string lines = testing::internal::GetCapturedStderr();
  EXPECT_NE(lines.find("] one\n"), std::string::npos) << lines;
  EXPECT_NE(lines.find("] two\n"), std::string::npos) << lines;
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 2);
}

}  // namespace
}  // namespace baton
