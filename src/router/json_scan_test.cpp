#include "router/json_scan.h"

#include <gtest/gtest.h>

#include "common/json.h"

namespace baton::router {
namespace {

bool ScansAsObject(std::string_view text) {
  return ScanObject(text, [](const JsonMember&) {}).ok();
}

TEST(JsonScan, AgreesWithTheJsonLibraryOnValidity) {
  const char* cases[] = {
      "{}", " { } ", "{\"a\":1}", "{\"a\":1,}", "{\"a\" : [1,2,{}] , \"b\":null}", "{\"a\":01}",
      "{\"a\":-}", "{\"a\":-0}", "{\"a\":1.}", "{\"a\":1.5e+3}", "{\"a\":1e}", "{\"a\":.5}",
      "{\"a\":tru}", "{\"a\":true}", "{\"a\":nul}", "{\"a\"}", "{a:1}", "{'a':1}", "{\"a\":1}x",
      "{\"a\":\"\\u00e9\"}", "{\"a\":\"\\u00g9\"}", "{\"a\":\"\\x\"}", "{\"a\":\"\x01\"}",
      "{\"a\":\"\\", "{\"a\":\"", "{", "{\"", "{\"a\":[1,]}", "{\"a\":[,1]}", "{\"a\":[[[]]]}",
      "{\"a\":[}", "{\"a\":{\"b\":{}}}", "{\"a\":1 \"b\":2}", "{,}", "", " ", "[]", "1",
      "{\"a\":\"caf\xC3\xA9\"}", "{\"a\":\"\xC3\"}", "{\"a\":\"\xFF\"}", "{\"a\":+1}",
      "{\"a\":Infinity}", "\xEF\xBB\xBF{}", "{\"a\":\"0123456789abcdef\"}", "{\"a\":1//c\n}",
      "{\"a\":\"tab\there\"}", "{\"a\":12345678901234567890123}",
  };
  for (const char* text : cases) {
    const auto parsed = json::Parse(text);
    EXPECT_EQ(ScansAsObject(text), parsed.ok() && parsed->is_object()) << text;
  }
}

TEST(JsonScan, EveryPrefixOfAnObjectIsRefused) {
  const std::string text = R"({"a\n":[1,-2.5e3,{"x":null}],"b":"q\"\\\u0041","c":true,"d":{}})";
  ASSERT_TRUE(ScansAsObject(text));
  for (size_t n = 0; n < text.size(); ++n) EXPECT_FALSE(ScansAsObject(text.substr(0, n))) << n;
}

TEST(JsonScan, ReportsPlacesOfMembers) {
  const std::string text = R"( {"a" : 1 , "b":[2, 3] })";
  std::vector<std::string> seen;
  ASSERT_TRUE(ScanObject(text, [&](const JsonMember& m) {
                seen.push_back(std::string(m.raw_key) + "=" + text.substr(m.begin, m.end - m.begin) +
                               "@" + text[m.separator]);
              }).ok());
  EXPECT_EQ(seen, (std::vector<std::string>{"a=1@\"", "b=[2, 3]@,"}));
}

TEST(JsonScan, EscapedKeysAreTheSameKeys) {
  int hits = 0;
  ASSERT_TRUE(ScanObject(R"({"stre\u0061m":true,"stream":false,"streams":1})",
                         [&](const JsonMember& m) { hits += m.KeyIs("stream"); }).ok());
  EXPECT_EQ(hits, 2);
}

TEST(JsonScan, StringsOfEveryLengthAndStopPosition) {
  for (int length = 0; length < 40; ++length) {
    for (int at = 0; at <= length; ++at) {
      std::string body(static_cast<size_t>(length), 'x');
      const std::string good = "{\"k\":\"" + body.insert(static_cast<size_t>(at), "\\\"") + "\",\"z\":1}";
      EXPECT_TRUE(ScansAsObject(good)) << good;
      std::string bad = good;
      bad[6 + static_cast<size_t>(at)] = '\n';
      EXPECT_FALSE(ScansAsObject(bad)) << bad;
    }
  }
}

TEST(JsonScan, DepthIsBounded) {
  const auto nested = [](int depth) {
    return "{\"a\":" + std::string(static_cast<size_t>(depth), '[') + std::string(static_cast<size_t>(depth), ']') + "}";
  };
  EXPECT_TRUE(ScansAsObject(nested(kMaxJsonDepth - 1)));
  EXPECT_FALSE(ScansAsObject(nested(kMaxJsonDepth + 1)));
  EXPECT_FALSE(ScansAsObject("{\"a\":" + std::string(1'000'000, '[')));
}

TEST(JsonScan, ErrorsNameTheByte) {
  const Status s = ScanObject(R"({"a":1,"b":x})", [](const JsonMember&) {});
  EXPECT_EQ(s.code(), Code::kInvalidArgument);
  EXPECT_NE(s.message().find("byte 11"), std::string::npos) << s.message();
}

TEST(JsonScan, Literals) {
  EXPECT_EQ(JsonInteger("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(JsonInteger("9223372036854775808"), std::nullopt);
  EXPECT_EQ(JsonInteger("1.0"), std::nullopt);
  EXPECT_EQ(JsonString(R"("a\u00e9")"), "a\xC3\xA9");
}

// Long strings are skipped in steps of 16 and 64 bytes: what stops the skip must be seen wherever it is.
TEST(JsonScan, SeesWhatIsInLongStringsAtEveryPlace) {
  for (size_t n = 0; n < 300; ++n) {
    const std::string before = "{\"a\":\"" + std::string(n, 'x');
    size_t end = 0;
    const Status scanned = ScanObject(before + "\",\"b\":1}", [&](const JsonMember& m) {
      if (m.raw_key == "a") end = m.end;
    });
    EXPECT_TRUE(scanned.ok()) << n;
    EXPECT_EQ(end, before.size() + 1);
    for (const size_t after : {0, 7, 40, 200}) {
      const std::string rest = std::string(after, 'y') + "\"}";
      EXPECT_TRUE(ScansAsObject(before + "\\\"" + rest)) << n;
      EXPECT_TRUE(ScansAsObject(before + "\xC3\xA9" + rest)) << n;
      EXPECT_TRUE(ScansAsObject(before + "\x7f" + rest)) << n;
      EXPECT_FALSE(ScansAsObject(before + "\xFF" + rest)) << n;
      EXPECT_FALSE(ScansAsObject(before + "\\q" + rest)) << n;
      const Status control = ScanObject(before + "\x1f" + rest, [](const JsonMember&) {});
      EXPECT_NE(control.message().find(fmt::format("byte {}:", before.size())), std::string::npos) << control.message();
    }
  }
}

}  // namespace
}  // namespace baton::router
