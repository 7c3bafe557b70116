#include "router/verdict.h"

#include <gtest/gtest.h>

#include "common/json.h"

namespace baton::router {
namespace {

SideFailure Http(int status, std::string guilty = "") {
  SideFailure f;
  f.kind = FailureKind::kHttp;
  f.status = status;
  f.guilty = std::move(guilty);
  return f;
}
SideFailure Of(FailureKind kind) {
  SideFailure f;
  f.kind = kind;
  return f;
}

TEST(Verdict, WhoIsGuilty) {
  const SideFailure none, broken = Of(FailureKind::kBroken), timeout = Of(FailureKind::kTimeout);
  EXPECT_TRUE(IsGuilty(Side::kDecode, broken, none));
  EXPECT_TRUE(IsGuilty(Side::kDecode, broken, broken));
  EXPECT_FALSE(IsGuilty(Side::kDecode, timeout, none));
  EXPECT_TRUE(IsGuilty(Side::kDecode, Http(500), none));
  EXPECT_TRUE(IsGuilty(Side::kPrefill, Http(502), Http(400)));
  EXPECT_FALSE(IsGuilty(Side::kDecode, Http(500), broken)) << "decode only reports its dead peer";
  EXPECT_FALSE(IsGuilty(Side::kDecode, Http(500, "prefill"), none));
  EXPECT_TRUE(IsGuilty(Side::kDecode, Http(500, "decode"), broken));
  for (int status : {400, 401, 404, 408, 413, 429, 503}) {
    EXPECT_FALSE(IsGuilty(Side::kDecode, Http(status), none)) << status;
  }
}

TEST(Verdict, WhatIsRetried) {
  for (int status : {408, 429, 500, 502, 503, 504}) EXPECT_TRUE(IsRetryable(Http(status))) << status;
  for (int status : {400, 401, 404, 413, 422, 501}) EXPECT_FALSE(IsRetryable(Http(status))) << status;
  for (const FailureKind kind : {FailureKind::kLocal, FailureKind::kRefused, FailureKind::kUnreachable, FailureKind::kBroken}) {
    EXPECT_TRUE(IsRetryable(Of(kind)));
  }
  EXPECT_TRUE(IsRetryable(Of(FailureKind::kProtocol)));
  EXPECT_FALSE(IsRetryable(Of(FailureKind::kTimeout)));
}

TEST(Verdict, Codes) {
  const std::pair<int, const char*> cases[] = {{400, "decode_bad_request"}, {404, "decode_not_found"},
                                               {500, "decode_internal_error"}, {502, "decode_bad_gateway"},
                                               {503, "decode_unavailable"}, {413, "decode_error"}};
  for (const auto& [status, code] : cases) {
    const RouterError error = Explain(Side::kDecode, "http://d", Http(status));
    EXPECT_EQ(error.status, status);
    EXPECT_EQ(error.code, code);
  }
  EXPECT_EQ(Explain(Side::kPrefill, "u", Of(FailureKind::kRefused)).code, "prefill_server_error");
  EXPECT_EQ(Explain(Side::kPrefill, "u", Of(FailureKind::kRefused)).status, 502);
  EXPECT_EQ(Explain(Side::kDecode, "u", Of(FailureKind::kTimeout)).status, 504);
}

TEST(Verdict, TheClientsCodesSayHowFarARequestCame) {
  const std::pair<Code, FailureKind> cases[] = {
      {Code::kRefused, FailureKind::kRefused},          {Code::kUnreachable, FailureKind::kUnreachable},
      {Code::kUnavailable, FailureKind::kBroken},       {Code::kResourceExhausted, FailureKind::kLocal},
      {Code::kInvalidArgument, FailureKind::kLocal},    {Code::kDeadlineExceeded, FailureKind::kTimeout},
      {Code::kDataCorrupt, FailureKind::kProtocol},     {Code::kTooLarge, FailureKind::kProtocol}};
  for (const auto& [code, kind] : cases) {
    // Words decide nothing.
    const SideFailure failure = FailureOf(Status(code, "connection refused, unreachable, cannot resolve"));
    EXPECT_EQ(failure.kind, kind) << CodeName(code);
    EXPECT_EQ(failure.of_connection(), code == Code::kRefused || code == Code::kUnreachable || code == Code::kUnavailable);
  }
}

TEST(Verdict, TheRoutersOwnLackIsNobodysFault) {
  SideFailure local = Of(FailureKind::kLocal);
  local.message = "no descriptor: raise its limit";
  EXPECT_FALSE(IsGuilty(Side::kDecode, local, {}));
  EXPECT_FALSE(IsGuilty(Side::kDecode, local, Of(FailureKind::kBroken)));
  EXPECT_FALSE(IsGuilty(Side::kDecode, Http(500), local)) << "decode misses a prefill that was never asked";
  EXPECT_FALSE(NeedsEvidence(Side::kDecode, local));
  const RouterError error = Explain(Side::kWorker, "http://w", local);
  EXPECT_EQ(error.status, 503);
  EXPECT_EQ(error.code, "router_cannot_connect");
  EXPECT_EQ(error.retry_after, "1");
  EXPECT_EQ(error.message, "the router cannot connect to worker http://w: no descriptor: raise its limit");
}

TEST(Verdict, NamesTheWorkerOnce) {
  EXPECT_TRUE(Explain(Side::kWorker, "http://w", Of(FailureKind::kBroken)).message.starts_with("worker http://w failed"));
  EXPECT_TRUE(Explain(Side::kDecode, "http://d", Of(FailureKind::kBroken)).message.starts_with("decode worker http://d failed"));
  EXPECT_TRUE(Explain(Side::kWorker, "http://w", Http(500)).message.starts_with("worker http://w answered 500"));
  EXPECT_TRUE(Explain(Side::kWorker, "http://w", Of(FailureKind::kTimeout)).message.starts_with("worker http://w did not"));
}

TEST(Verdict, WorkersWordsReachTheClient) {
  const std::string shapes[] = {
      R"({"object":"error","message":"too long","type":"BadRequest","param":null,"code":400})",
      R"({"error":{"message":"too long"}})", R"({"error":"too long"})", R"({"detail":"too long"})", "too long"};
  for (const std::string& body : shapes) {
    const RouterError error = Explain(Side::kPrefill, "u", FailureOf(400, {}, body));
    const auto sent = json::Parse(ToResponse(error).body);
    ASSERT_TRUE(sent.ok());
    EXPECT_EQ(sent->at("error").at("message").get_string(), "too long") << body;
  }
}

TEST(Verdict, WorkersOwnOpenAiErrorIsPassedOnWhole) {
  const std::string body = R"({"error":{"message":"m","code":"context_length_exceeded"}})";
  const http::Response response = ToResponse(Explain(Side::kDecode, "u", FailureOf(400, {}, body)));
  EXPECT_EQ(response.body, body);
  EXPECT_EQ(response.headers.Get("X-SMG-Error-Code"), "decode_bad_request");
}

TEST(Verdict, FirstEventErrors) {
  const SideFailure openai = FailureOfFirstEvent(R"({"error":{"object":"error","message":"no","code":400}})");
  EXPECT_EQ(openai.status, 400);
  EXPECT_EQ(openai.message, "no");
  const SideFailure unnamed = FailureOfFirstEvent(R"({"error": {"message":"no"}})");
  EXPECT_EQ(unnamed.status, 500);
  const SideFailure abort = FailureOfFirstEvent(
      R"({"text":"","meta_info":{"finish_reason":{"type":"abort","message":"peer","status_code":503,"guilty":"prefill"}}})");
  EXPECT_EQ(abort.status, 503);
  EXPECT_EQ(abort.message, "peer");
  EXPECT_EQ(abort.guilty, "prefill");
}

TEST(Verdict, OrdinaryFirstEventsAreNoErrors) {
  for (const char* payload : {R"({"id":"1","choices":[{"delta":{"content":"\"error\""}}]})",
                              R"({"text":"\"abort\"","meta_info":{"finish_reason":null}})",
                              R"({"text":"x","meta_info":{"finish_reason":{"type":"abort"}}})",
                              R"({"error":null,"id":1})", "[DONE]", "", "{\"error\""}) {
    EXPECT_FALSE(FailureOfFirstEvent(payload)) << payload;
  }
}

TEST(Verdict, LongAndBinaryErrorBodies) {
  std::string text;
  while (text.size() < 5000) text += "é";
  const WorkerErrorText cut = ReadWorkerError(text);
  EXPECT_TRUE(json::IsValidUtf8(cut.message));
  EXPECT_LE(cut.message.size(), 2000u);
  EXPECT_EQ(ReadWorkerError("\xFF\xFE").message, "");
}

}  // namespace
}  // namespace baton::router
