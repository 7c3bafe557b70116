#include "common/line_writer.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include <gtest/gtest.h>

namespace baton {
namespace {

class LineWriterTest : public ::testing::Test {
 protected:
  LineWriterTest() {
    std::string name = (std::filesystem::temp_directory_path() / "baton_lines_XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~LineWriterTest() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  std::string Text(const std::string& name) const {
    std::ifstream file(folder_ / name);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  bool Eventually(const std::function<bool()>& condition) const {
    for (int i = 0; i < 20'000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  std::filesystem::path folder_;
};

TEST_F(LineWriterTest, KeepsEveryLineOfManyThreads) {
  {
    auto writer = LineWriter::Open({.path = Path("a.log")});
    ASSERT_TRUE(writer.ok());
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 1000; ++i) (*writer)->Write(fmt::format("{} {}", t, i));
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ((*writer)->dropped(), 0u);
  }
  std::istringstream lines(Text("a.log"));
  int next[4] = {};
  int t = 0, i = 0;
  while (lines >> t >> i) EXPECT_EQ(i, next[t]++);
  for (int n : next) EXPECT_EQ(n, 1000);
}

TEST_F(LineWriterTest, RotatesBySize) {
  auto writer = LineWriter::Open({.path = Path("b.log"), .max_file_bytes = 10, .old_files = 2});
  ASSERT_TRUE(writer.ok());
  for (int i = 0; i < 4; ++i) {
    (*writer)->Write(fmt::format("0123456789 {}", i));
    // One file per line, so that the order is known.
    ASSERT_TRUE(Eventually([&] { return Text("b.log.1") == fmt::format("0123456789 {}\n", i); }));
  }
  EXPECT_EQ(Text("b.log.2"), "0123456789 2\n");
  EXPECT_FALSE(std::filesystem::exists(Path("b.log.3")));
}

TEST_F(LineWriterTest, OpensAgainWhenTold) {
  auto writer = LineWriter::Open({.path = Path("c.log")});
  ASSERT_TRUE(writer.ok());
  (*writer)->Write("before");
  ASSERT_TRUE(Eventually([&] { return Text("c.log") == "before\n"; }));
  std::filesystem::rename(Path("c.log"), Path("moved.log"));
  (*writer)->Reopen();
  ASSERT_TRUE(Eventually([&] { return std::filesystem::exists(Path("c.log")); }));
  (*writer)->Write("after");
  EXPECT_TRUE(Eventually([&] { return Text("c.log") == "after\n"; }));
  EXPECT_EQ(Text("moved.log"), "before\n");
}

TEST_F(LineWriterTest, CountsWhatItDrops) {
  auto writer = LineWriter::Open({.path = "/dev/full"});
  ASSERT_TRUE(writer.ok());
  (*writer)->Write("one");
  EXPECT_TRUE(Eventually([&] { return (*writer)->dropped() == 1; }));
  auto small = LineWriter::Open({.path = Path("d.log"), .max_waiting_bytes = 4});
  EXPECT_FALSE((*small)->Write("12345"));
  EXPECT_EQ((*small)->dropped(), 1u);
  EXPECT_EQ(LineWriter::Open({.path = Path("no/such.log")}).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace baton
