// Opening over real providers: choice, refusal, self-test.
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "transfer/libfabric/choice.h"
#include "transfer/libfabric/libfabric.h"
#include "transfer/shm/shm.h"
#include "transfer/transfer.h"

namespace baton::transfer {
namespace {

TEST(Provider, ReportsWhatItOpened) {
  for (const ProviderKind kind : {ProviderKind::kTcp, ProviderKind::kShm}) {
    Options options;
    options.provider = kind;
    auto engine = Engine::Open(options, [](const Event&) {});
    ASSERT_TRUE(engine.ok()) << engine.status().ToString();
    const FabricReport& report = (*engine)->report();
    EXPECT_EQ(report.provider, kind == ProviderKind::kTcp ? "tcp;ofi_rxm" : "shm");
    EXPECT_GT(report.self_test_gb_per_s, 0);
    EXPECT_FALSE(report.hardware_rdma);
    EXPECT_EQ(report.rails.size(), 1u);
    EXPECT_NE(report.ToString().find("provider=" + report.provider), std::string::npos);
  }
}

TEST(Provider, RequiredRdmaIsNeverReplaced) {
  for (const ProviderKind kind : {ProviderKind::kAuto, ProviderKind::kEfa, ProviderKind::kTcp, ProviderKind::kShm}) {
    Options options;
    options.provider = kind;
    options.require_rdma = true;
    auto engine = Engine::Open(options, [](const Event&) {});
    if (engine.ok()) GTEST_SKIP() << "this machine has RDMA: " << (*engine)->report().ToString();
    EXPECT_EQ(engine.status().code(), Code::kUnsupported);
    EXPECT_NE(engine.status().message().find("tcp"), std::string::npos) << engine.status().message();
    EXPECT_NE(engine.status().message().find("--no-require-rdma"), std::string::npos);
  }
}

// What was chosen is not only logged: whoever scrapes sees it.
TEST(Provider, AutoSaysWhatItTookAndExportsIt) {
  Options options;
  auto engine = Engine::Open(options, [](const Event&) {});
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  const FabricReport& report = (*engine)->report();
  EXPECT_TRUE(report.provider == "efa" || report.provider == "tcp;ofi_rxm") << report.provider;
  metrics::Registry registry;
  (*engine)->ExportMetrics(registry);
  const std::string text = registry.Render();
  EXPECT_NE(text.find("baton_transfer_hardware_rdma{provider=\"" + report.provider + "\"} " +
                      (report.hardware_rdma ? "1" : "0")),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("baton_transfer_self_test_gb_per_second{"), std::string::npos);
}

TEST(Provider, EfaWithoutEfaSaysWhy) {
  Options options;
  options.provider = ProviderKind::kEfa;
  auto engine = Engine::Open(options, [](const Event&) {});
  if (engine.ok()) GTEST_SKIP() << "this machine has EFA";
  EXPECT_EQ(engine.status().code(), Code::kUnsupported);
  EXPECT_NE(engine.status().message().find("efa"), std::string::npos);
}

TEST(Provider, AnAddressThatIsNotOursIsRefused) {
  Options options;
  options.provider = ProviderKind::kTcp;
  options.host = "203.0.113.77";  // reserved for documentation
  auto engine = Engine::Open(options, [](const Event&) {});
  ASSERT_FALSE(engine.ok());
  EXPECT_NE(engine.status().message().find("203.0.113.77"), std::string::npos);
}

TEST(Provider, FabricsOfOtherProvidersAndUnsoundOnesAreRefused) {
  for (const auto& [provider, fabric, mode] :
       {std::tuple{ProviderKind::kTcp, "efa-direct", WriteMode::kAuto}, {ProviderKind::kEfa, "rxm", WriteMode::kAuto},
        {ProviderKind::kTcp, "nonsense", WriteMode::kAuto}, {ProviderKind::kTcp, "native", WriteMode::kWrite}}) {
    Options options;
    options.provider = provider;
    options.fabric = fabric;
    options.write_mode = mode;
    auto engine = Engine::Open(options, [](const Event&) {});
    ASSERT_FALSE(engine.ok()) << fabric;
    EXPECT_NE(engine.status().message().find("rxm"), std::string::npos) << engine.status().message();
  }
}

// Two sides that would not understand each other say so at once.
TEST(Provider, AWriterAndAReaderDoNotJoin) {
  Options options;
  options.provider = ProviderKind::kTcp;
  options.self_test = false;
  auto writer = Engine::Open(options, [](const Event&) {});
  options.write_mode = WriteMode::kRead;
  auto reader = Engine::Open(options, [](const Event&) {});
  ASSERT_TRUE(writer.ok() && reader.ok());
  EXPECT_EQ((*reader)->report().write_path, "read");
  const auto joined = (*writer)->Connect((*reader)->Describe(), Now() + 5s);
  ASSERT_FALSE(joined.ok());
  EXPECT_NE(joined.status().message().find("tcp-read"), std::string::npos) << joined.status().message();
}

TEST(Provider, PicksARealAddressForAnyHost) {
  EXPECT_EQ(PickHost("10.1.2.3"), "10.1.2.3");
  const std::string picked = PickHost("0.0.0.0");
  EXPECT_NE(picked, "0.0.0.0");
  EXPECT_FALSE(picked.empty());
}

TEST(Provider, CudaMemoryIsRefusedWithAWayOut) {
  for (const ProviderKind kind : {ProviderKind::kTcp, ProviderKind::kShm}) {
    Options options;
    options.provider = kind;
    options.self_test = false;
    auto engine = Engine::Open(options, [](const Event&) {});
    ASSERT_TRUE(engine.ok());
    std::byte memory[64];
    const Status status = (*engine)->Register({memory, 64, DeviceKind::kCuda, 1}).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find("Options::cuda_device"), std::string::npos) << status.message();
  }
}

// One immediate may speak for many writes: each write completes once, each counts once.
TEST(Batches, EveryWriteEndsAndArrivesOnce) {
  Options options;
  options.provider = ProviderKind::kTcp;
  auto writer = *OpenLibfabric(options), target = *OpenLibfabric(options);
  constexpr uint32_t kWrites = 300, kBytes = 512;
  std::vector<std::byte> source(kWrites * kBytes), sink(kWrites * kBytes);
  for (size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 31 >> 3);
  const uint32_t from = *writer->Register({source.data(), source.size()});
  const MemoryKey key = *target->Expose(*target->Register({sink.data(), sink.size()}));
  const uint64_t peer = *writer->Insert(target->Address());
  std::vector<OpContext> contexts(kWrites);
  std::map<uint32_t, uint32_t> arrived;
  std::map<OpContext*, uint32_t> done;
  uint32_t posted = 0, count = 0, ended = 0;
  const TimePoint deadline = Now() + 20s;
  const auto imm_of = [](uint32_t i) { return i / 37 % 3 + 7; };  // runs longer and shorter than a batch
  while ((count < kWrites || ended < kWrites) && Now() < deadline) {
    Status why;
    for (uint32_t i = 0; i < 50 && posted < kWrites; ++i) {
      const PostResult result = writer->Write({.peer = peer,
                                               .local_region = from,
                                               .local_offset = posted * kBytes,
                                               .bytes = kBytes,
                                               .remote_address = key.base + posted * kBytes,
                                               .remote_key = key.key,
                                               .imm = imm_of(posted),
                                               .context = &contexts[posted]},
                                              Now(), why);
      ASSERT_NE(result, PostResult::kFailed) << why.ToString();
      if (result == PostResult::kAgain) break;
      ++posted;
    }
    Completion few[5];  // less room than a batch has members
    const size_t w = writer->Poll(Now(), few);
    for (size_t i = 0; i < w; ++i, ++ended) {
      ASSERT_EQ(few[i].kind, Completion::Kind::kDone) << few[i].status.ToString();
      ++done[few[i].context];
    }
    const size_t t = target->Poll(Now(), few);
    for (size_t i = 0; i < t; ++i, ++count) ++arrived[few[i].imm];
  }
  EXPECT_EQ(done.size(), kWrites);
  for (const auto& [context, times] : done) EXPECT_EQ(times, 1u);
  std::map<uint32_t, uint32_t> expected;
  for (uint32_t i = 0; i < kWrites; ++i) ++expected[imm_of(i)];
  EXPECT_EQ(arrived, expected);
  EXPECT_EQ(source, sink);
}

// Two endpoints of one process: a key that was taken back, and places outside of the region.
TEST(Shm, RevokedKeysAndBadPlacesAreRefused) {
  auto writer = *OpenShm(), target = *OpenShm();
  std::vector<std::byte> source(4096, std::byte{1}), sink(4096);
  const uint32_t from = *writer->Register({source.data(), source.size()});
  const uint32_t to = *target->Register({sink.data(), sink.size()});
  const MemoryKey good = *target->Expose(to), revoked = *target->Expose(to);
  target->Revoke(revoked);
  const uint64_t peer = *writer->Insert(target->Address());
  OpContext contexts[4];
  Status why;
  const auto write = [&](int i, uint64_t offset, uint64_t bytes, uint64_t key) {
    EXPECT_EQ(writer->Write({.peer = peer,
                             .local_region = from,
                             .bytes = bytes,
                             .remote_address = offset,
                             .remote_key = key,
                             .imm = static_cast<uint32_t>(i),
                             .context = &contexts[i]},
                            Now(), why),
              PostResult::kPosted);
  };
  write(0, 0, 100, revoked.key);
  write(1, 4000, 97, good.key);
  write(2, ~0ull - 5, 10, good.key);
  write(3, 3996, 100, good.key);
  std::vector<Completion> done, arrived;
  const TimePoint deadline = Now() + 5s;
  while ((done.size() < 4 || arrived.empty()) && Now() < deadline) {
    Completion batch[8];
    const size_t a = target->Poll(Now(), batch);
    arrived.insert(arrived.end(), batch, batch + a);
    const size_t d = writer->Poll(Now(), batch);
    done.insert(done.end(), batch, batch + d);
  }
  ASSERT_EQ(done.size(), 4u);
  ASSERT_EQ(arrived.size(), 1u);
  EXPECT_EQ(arrived[0].imm, 3u);
  EXPECT_EQ(arrived[0].bytes, 100u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(done[i].kind, Completion::Kind::kFailed);
  EXPECT_EQ(done[3].kind, Completion::Kind::kDone);
  for (size_t i = 0; i < sink.size(); ++i)
    ASSERT_EQ(sink[i], i < 3996 ? std::byte{0} : std::byte{1}) << i;
}

TEST(Shm, BadAddressesAreRefused) {
  auto fabric = *OpenShm();
  for (const char* address : {"", "x", "12", ":", "-4:a", "99999999999:a", "1x:a", "0:a"})
    EXPECT_FALSE(fabric->Insert(address).ok()) << address;
  // A live process that is no endpoint.
  EXPECT_EQ(fabric->Insert("1:nobody").status().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace baton::transfer
