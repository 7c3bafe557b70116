#include "bench/transfer_bench.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "bench/transfer_blocks.h"
#include "bench/transfer_messages.h"
#include "common/bytes.h"

namespace baton::bench {
namespace {

// Both ends in this process, over a real connection.
class Pair {
 public:
  Pair() : listener_(*TransferListener::Open("127.0.0.1:0")) {
    target_ = std::jthread([this] {
      Result<TransferLink> link = listener_.Accept(Now() + 10s);
      served_ = link.ok() ? ServeTransferBench(*std::move(link), 20s) : link.status();
    });
  }
  Result<TransferLink> Connect() {
    return TransferLink::Connect("127.0.0.1:" + std::to_string(listener_.port()), Now() + 10s);
  }
  Status Served() {
    target_.join();
    return served_;
  }

 private:
  TransferListener listener_;
  Status served_;
  std::jthread target_;
};

TransferBenchOptions Small(transfer::ProviderKind provider) {
  return {.provider = provider, .total_mib = 4, .block_kib = {4, 64}, .queue_depth = 3, .rounds = 2, .latency_samples = 5,
          .timeout = 20s};
}

TEST(TransferBench, MovesAndChecksEveryBlock) {
  for (const transfer::ProviderKind provider : {transfer::ProviderKind::kShm, transfer::ProviderKind::kTcp}) {
    for (const bool scattered : {true, false}) {
      Pair pair;
      TransferBenchOptions options = Small(provider);
      options.scattered = options.shared_memory = scattered;
      std::vector<TransferBenchRow> rows;
      std::string report;
      const Status status = RunTransferBench(*pair.Connect(), options, [&](const std::string& text) { report = text; },
                                             [&](const TransferBenchRow& row) { rows.push_back(row); });
      ASSERT_TRUE(status.ok()) << status.ToString();
      EXPECT_TRUE(pair.Served().ok());
      ASSERT_EQ(rows.size(), 2u);
      EXPECT_EQ(rows[0].blocks, 1024u);
      EXPECT_EQ(rows[1].blocks, 64u);
      for (const TransferBenchRow& row : rows) {
        EXPECT_EQ(row.wrong, 0u);
        const json::object object = row.ToJson(options);
        EXPECT_EQ(object.at("provider").as_string(), provider == transfer::ProviderKind::kShm ? "shm" : "tcp;ofi_rxm");
        EXPECT_EQ(object.at("total_mib").to_number<int>(), 4);
        for (const char* key : {"gbps", "p50_us", "p99_us", "ceiling_gbps"}) EXPECT_GT(object.at(key).to_number<double>(), 0) << key;
      }
      EXPECT_NE(report.find("provider=" + rows[0].provider), std::string::npos);
    }
  }
}

// Each class moves its share, and background comes last.
TEST(TransferBench, ClassesShareTheBlocks) {
  using transfer::Priority;
  Pair pair;
  TransferBenchOptions options = Small(transfer::ProviderKind::kShm);
  options.total_mib = 32;
  options.block_kib = {64};
  options.rounds = 5;
  options.queue_depth = 2;
  options.classes = {Priority::kBackground, Priority::kDecode, Priority::kControl};
  std::vector<TransferBenchRow> rows;
  const Status status = RunTransferBench(*pair.Connect(), options, [](const std::string&) {},
                                         [&](const TransferBenchRow& row) { rows.push_back(row); });
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_TRUE(pair.Served().ok());
  ASSERT_EQ(rows.size(), 3u);
  uint64_t blocks = 0;
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(rows[i].priority, options.classes[i]);
    EXPECT_EQ(rows[i].ToJson(options).at("class").as_string(), transfer::PriorityName(options.classes[i]));
    EXPECT_GT(rows[i].p50_us, 0);
    blocks += rows[i].blocks;
  }
  EXPECT_EQ(blocks, 512u);
  EXPECT_GT(rows[0].milliseconds, rows[2].milliseconds) << "control was not before background";
  EXPECT_GT(rows[0].p50_us, rows[2].p50_us) << "a single block of background did not wait";
}

// On the stand-in for CUDA: the checker works on device memory.
TEST(TransferBench, MovesDeviceMemory) {
  setenv(transfer::cuda::kLibraryVariable, BATON_CUDA_MOCK, 1);
  const Result<BenchPool> pool = BenchPool::Create(1 << 20, false, 1);
  ASSERT_TRUE(pool.ok()) << pool.status().ToString();
  ASSERT_TRUE(FillPattern(pool->span(), 3).ok());
  const BlockOrder order = MakeBlockOrder(64, false, 5);
  EXPECT_EQ(*CountWrongBytes(pool->span(), order, 16384, 3), 0u);
  EXPECT_GT(*CountWrongBytes(pool->span(), order, 16384, 4), 1u << 19);
  EXPECT_GT(MeasureDeviceCopy(0, 1, 1 << 20), 0);
  EXPECT_GT(MeasureDeviceCopy(-1, 1, 1 << 20), 0);
  for (const transfer::ProviderKind provider : {transfer::ProviderKind::kShm, transfer::ProviderKind::kTcp})
    for (const auto& [from, to] : {std::pair(0, 1), std::pair(0, -1), std::pair(-1, 0)}) {
      Pair ends;
      TransferBenchOptions options = Small(provider);
      options.local_device = from;
      options.remote_device = to;
      std::vector<TransferBenchRow> rows;
      const Status status = RunTransferBench(*ends.Connect(), options, [](const std::string&) {},
                                             [&](const TransferBenchRow& row) { rows.push_back(row); });
      ASSERT_TRUE(status.ok()) << status.ToString();
      ASSERT_EQ(rows.size(), 2u);
      EXPECT_EQ(rows[0].wrong, 0u);
      EXPECT_GT(rows[0].ceiling_gbps, 0);
      EXPECT_EQ(rows[0].ToJson(options).at("remote_memory").as_string(), MemoryName(to));
    }
  unsetenv(transfer::cuda::kLibraryVariable);
}

TEST(TransferBench, MemoryNames) {
  EXPECT_EQ(*ParseMemory("host"), -1);
  EXPECT_EQ(*ParseMemory("cuda:12"), 12);
  EXPECT_EQ(*transfer::ParsePriority("background"), transfer::Priority::kBackground);
  EXPECT_EQ(transfer::ParsePriority("urgent").status().code(), Code::kInvalidArgument);
  for (const char* name : {"", "cuda", "cuda:", "cuda:-1", "cuda:1x", "gpu:0"})
    EXPECT_EQ(ParseMemory(name).status().code(), Code::kInvalidArgument) << name;
}

TEST(TransferBench, CountsWrongBytes) {
  Result<BenchPool> source = BenchPool::Create(1 << 20, false), target = BenchPool::Create(1 << 20, true);
  ASSERT_TRUE(source.ok() && target.ok());
  const MemorySpan from = source->span(), to = target->span();
  ASSERT_TRUE(FillPattern(from, 3).ok());
  const BlockOrder order = MakeBlockOrder(64, true, 5);
  for (size_t i = 0; i < 64; ++i) std::memcpy(to.data + order.to[i] * 16384, from.data + order.from[i] * 16384, 16384);
  EXPECT_EQ(*CountWrongBytes(to, order, 16384, 3), 0u);
  to.data[12345] ^= std::byte{1};
  to.data[700000] ^= std::byte{0xFF};
  EXPECT_EQ(*CountWrongBytes(to, order, 16384, 3), 2u);
  EXPECT_GT(*CountWrongBytes(to, order, 16384, 4), 1u << 19);
  EXPECT_GT(*CountWrongBytes(to, MakeBlockOrder(64, true, 6), 16384, 3), 1u << 19);
}

TEST(TransferBench, BadOptionsNameTheFlag) {
  const auto check = [](auto change, const char* flag) {
    TransferBenchOptions options = Small(transfer::ProviderKind::kShm);
    change(options);
    Pair pair;
    const Status status = RunTransferBench(*pair.Connect(), options, [](const std::string&) {}, [](const TransferBenchRow&) {});
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find(flag), std::string::npos) << status.message();
  };
  check([](auto& o) { o.total_mib = 0; }, "--total-mib");
  check([](auto& o) { o.block_kib = {4, 4097}; }, "--block-kib");
  check([](auto& o) { o.block_kib = {}; }, "--block-kib");
  check([](auto& o) { o.queue_depth = 0; }, "--queue-depth");
  check([](auto& o) { o.classes = {}; }, "--class");
  check([](auto& o) { o.classes = {transfer::Priority::kDecode, transfer::Priority::kDecode}; }, "--class");
  check([](auto& o) { o.rounds = 0; }, "--rounds");
  check([](auto& o) { o.latency_samples = 5000; }, "--latency-samples");
}

// What a target does with bytes that are no requests: an answer or the end, never a hang or crash.
TEST(TransferBench, TargetSurvivesNonsense) {
  std::vector<std::string> messages = {"", "x", std::string(1, '\x01'), std::string(100, '\xff')};
  for (char kind = 1; kind <= 6; ++kind) messages.push_back(std::string(1, kind) + std::string(40, '\x7f'));
  for (const std::string& message : messages) {
    Pair pair;
    Result<TransferLink> link = pair.Connect();
    ASSERT_TRUE(link.ok());
    ASSERT_TRUE(link->Send(message, Now() + 5s).ok());
    const Result<std::string> reply = link->Receive(Now() + 10s);
    if (reply.ok()) {
      EXPECT_FALSE(ByteReader(*reply).GetString(1 << 20).empty());
    }
    { const TransferLink gone = *std::move(link); }
    (void)pair.Served();  // an error or not: it ended
  }
}

TEST(TransferBench, AbsentTargetIsNamed) {
  const Result<TransferLink> link = TransferLink::Connect("127.0.0.1:1", Now() + 200ms);
  ASSERT_FALSE(link.ok());
  EXPECT_NE(link.status().message().find("--listen"), std::string::npos) << link.status().message();
  EXPECT_EQ(TransferLink::Connect("nonsense::x", Now() + 200ms).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace baton::bench
