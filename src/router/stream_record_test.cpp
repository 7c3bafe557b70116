#include "router/stream_record.h"

#include <gtest/gtest.h>

#include "common/json.h"

namespace baton::router {
namespace {

std::string TakeAll(StreamRecord& record, std::string_view events) { return std::string(record.Take(events)); }

json::value Member(const StreamRecord& record) { return *json::Parse("{" + record.ResumeMember(2) + "}"); }

TEST(StreamRecord, StripsCommentsAndRemembersThem) {
  StreamRecord record(2);
  record.Begin(true);
  EXPECT_EQ(TakeAll(record, ": id 0 0123 \"a\\\"b\"\n: ids 0 \ndata: 1\n\n: ids 1 4,5\n: end 1\ndata: 2\n\n"), "data: 1\n\ndata: 2\n\n");
  EXPECT_EQ(TakeAll(record, ": ids 0 6\r\ndata: 3\r\n\r\ndata: [DONE]\n\n"), "data: 3\r\n\r\ndata: [DONE]\n\n");
  EXPECT_TRUE(record.resumable());
  EXPECT_FALSE(record.complete());
  const json::value resume = Member(record).at("baton_resume");
  EXPECT_EQ(resume.at("id").as_string(), "a\"b");
  EXPECT_EQ(resume.at("created").as_int64(), 123);
  EXPECT_EQ(resume.at("migrations").as_int64(), 2);
  EXPECT_EQ(json::serialize(resume.at("choices").at(0).at("ids")), "[6]");
  EXPECT_EQ(json::serialize(resume.at("choices").at(1).at("ids")), "[4,5]");
  EXPECT_FALSE(resume.at("choices").at(0).at("ended").as_bool());
  EXPECT_TRUE(resume.at("choices").at(1).at("ended").as_bool());
}

TEST(StreamRecord, WithoutCommentsBytesPassAndNothingResumes) {
  StreamRecord record(1);
  record.Begin(false);
  const std::string text = ": ids 0 1\ndata: 1\n\n: anything\n\n";
  EXPECT_EQ(TakeAll(record, text), text);
  EXPECT_FALSE(record.resumable());
}

TEST(StreamRecord, StopsBeforeAnEventThatNobodyAnnounced) {
  StreamRecord record(1);
  record.Begin(true);
  const std::string text = ": ids 0 1\ndata: 1\n\ndata: {\"error\":1}\n\n: ids 0 2\ndata: 2\n\n";
  std::string_view left = text;
  EXPECT_EQ(record.Take(left), "data: 1\n\n");
  EXPECT_EQ(StreamRecord::Skip(left), "data: {\"error\":1}\n\n");
  EXPECT_EQ(record.Take(left), "data: 2\n\n");
  EXPECT_TRUE(left.empty());
}

TEST(StreamRecord, CommentsAloneAreNoEvent) {
  StreamRecord record(1);
  record.Begin(true);
  EXPECT_EQ(TakeAll(record, ": ids 0 1\n\n: ids 0 2\r\n\r\n: ids 0 3\ndata: 1\n\n"), "data: 1\n\n");
  EXPECT_NE(record.ResumeMember(1).find("\"ids\":[1,2,3]"), std::string::npos);
}

TEST(StreamRecord, DistrustsWhatMakesNoSense) {
  for (const char* bad : {": ids 1 2\n", ": ids x 2\n", ": ids 0 2;3\n", ": ids 0 -1\n", ": ids 0 99999999999\n", ": nonsense\n",
                          ": id 0 1 unquoted\n", ": id 0 1 \"a\",\"b\"\n", ": end\n", ": \n", ": ids 0 1,,2\n"}) {
    StreamRecord record(1);
    record.Begin(true);
    EXPECT_EQ(TakeAll(record, std::string(bad) + "data: 1\n\n"), "data: 1\n\n") << bad;
    EXPECT_FALSE(record.resumable()) << bad;
    EXPECT_TRUE(json::Parse("{" + record.ResumeMember(1) + "}").ok()) << bad;
  }
}

TEST(StreamRecord, TooManyIdsAreNotKept) {
  StreamRecord record(1);
  record.Begin(true);
  std::string event = ": ids 0 1";
  for (int i = 1; i < 4096; ++i) event += ",1";
  event += "\ndata: 1\n\n";
  for (size_t i = 0; i < StreamRecord::kMaxIds / 4096; ++i) TakeAll(record, event);
  EXPECT_TRUE(record.resumable());
  EXPECT_EQ(TakeAll(record, event), "data: 1\n\n");
  EXPECT_FALSE(record.resumable());
}

}  // namespace
}  // namespace baton::router
