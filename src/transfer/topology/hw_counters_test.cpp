#include "transfer/topology/hw_counters.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace baton::transfer {
namespace {

namespace fs = std::filesystem;

class HwCountersTest : public testing::Test {
 protected:
  HwCountersTest() : root_(fs::temp_directory_path() / fmt::format("baton_hw_counters_{}", ::getpid())) {}
  ~HwCountersTest() override { fs::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const fs::path file = root_ / "sys/class/infiniband" / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  const fs::path root_;
};

TEST_F(HwCountersTest, CountersOfPortsAndDevicesAreReadAtEachScrape) {
  Write("rdmap79s0/ports/1/hw_counters/rdma_write_bytes", "18446744073709551615\n");
  Write("rdmap79s0/ports/1/hw_counters/lifespan", "10\n");
  Write("rdmap79s0/hw_counters/cmds_err", "2\n");
  Write("rdmap80s0/ports/1/hw_counters/rdma_write_bytes", "5\n");
  Write("rdmap80s0/ports/1/hw_counters/odd-name", "6\n");
  Write("rdmap80s0/ports/1/hw_counters/text", "n/a\n");
  metrics::Registry registry(metrics::Labels{{"engine_type", "decode"}});
  EXPECT_EQ(ExportHwCounters(registry, root_.string()), 5u);
  std::string text = registry.Render();
  for (const char* line :
       {"baton_rdma_hw_rdma_write_bytes{engine_type=\"decode\",device=\"rdmap79s0\",port=\"1\"} 1.8446744073709552e+19\n",
        "baton_rdma_hw_cmds_err{engine_type=\"decode\",device=\"rdmap79s0\",port=\"\"} 2\n",
        "baton_rdma_hw_rdma_write_bytes{engine_type=\"decode\",device=\"rdmap80s0\",port=\"1\"} 5\n",
        "baton_rdma_hw_odd_name{engine_type=\"decode\",device=\"rdmap80s0\",port=\"1\"} 6\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  EXPECT_EQ(text.find("lifespan"), std::string::npos);
  EXPECT_EQ(text.find("nan"), std::string::npos) << text;

  // One grows, one device goes away.
  Write("rdmap80s0/ports/1/hw_counters/rdma_write_bytes", "7\n");
  fs::remove_all(root_ / "sys/class/infiniband/rdmap79s0");
  text = registry.Render();
  EXPECT_NE(text.find("device=\"rdmap80s0\",port=\"1\"} 7\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("rdmap79s0"), std::string::npos) << text;
}

TEST_F(HwCountersTest, MachinesWithoutCardsHaveNone) {
  metrics::Registry registry;
  EXPECT_EQ(ExportHwCounters(registry, root_.string()), 0u);
  EXPECT_EQ(registry.Render(), "");
}

}  // namespace
}  // namespace baton::transfer
