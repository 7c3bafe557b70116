// NIXL: search and loading, notices, the fence's view of UCX_TLS, and the fabric over a mock library
// (tests/nixl_mock). Over the real one: process_test.cpp, with BATON_NIXL_PATH.
#include "transfer/nixl/nixl.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "transfer/engine_core.h"
#include "transfer/event_log_for_tests.h"
#include "transfer/nixl/library.h"
#include "transfer/nixl/notice.h"
#include "transfer/nixl/ucx.h"

namespace baton::transfer {
namespace {

namespace fs = std::filesystem;

TEST(NixlNotice, SurvivesTheWay) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<nixl::NoticeEntry> entries, got;
    uint64_t writes = 0, bytes = 0;
    for (uint32_t i = 0, n = 1 + random() % 200; i < n; ++i, ++writes) {
      const uint32_t size = random() % 100000;
      nixl::AddWrite(entries, 16 * (random() % 3), size);
      bytes += size;
    }
    std::string text;
    nixl::EncodeNotice(entries, text);
    ASSERT_TRUE(nixl::ParseNotice(text, got).ok());
    EXPECT_EQ(got, entries);
    for (const auto& entry : got) {
      writes -= entry.writes;
      bytes -= entry.bytes;
    }
    EXPECT_EQ(writes, 0u);
    EXPECT_EQ(bytes, 0u);
    // Every shorter text is refused.
    EXPECT_FALSE(nixl::ParseNotice(std::string_view(text).substr(0, random() % text.size()), got).ok());
  }
}

TEST(NixlNotice, RefusesWhatNoBatchHolds) {
  std::vector<nixl::NoticeEntry> got;
  std::string text;
  nixl::EncodeNotice({{1, nixl::kMaxBatchWrites, 1}}, text);
  EXPECT_TRUE(nixl::ParseNotice(text, got).ok());
  for (const auto& entries : std::vector<std::vector<nixl::NoticeEntry>>{
           {}, {{1, 0, 1}}, {{1, nixl::kMaxBatchWrites + 1, 1}}, {{1, ~0u, 1}, {2, 2, 1}},
           {{1, nixl::kMaxBatchWrites, 1}, {2, 1, 1}}}) {
    nixl::EncodeNotice(entries, text);
    EXPECT_FALSE(nixl::ParseNotice(text, got).ok()) << entries.size();
  }
  EXPECT_FALSE(nixl::ParseNotice("", got).ok());
  EXPECT_FALSE(nixl::ParseNotice("garbage that is long enough", got).ok());
}

TEST(NixlUcx, KnowsWhatCannotBeFenced) {
  for (const char* fenced : {nixl::kFencedTransports, "tcp", "rc,tcp,self", "posix,sysv,tcp", "rc_x,cuda_copy,gdr_copy",
                             "^sm,cuda_ipc,rocm_ipc", "^shm,cuda,rocm", "dc:aux,tcp"})
    EXPECT_FALSE(nixl::AllowsUnfenced(fenced)) << fenced;
  for (const char* open : {"all", "sm", "shm,tcp", "tcp,cma", "rc,cuda", "rc,cuda_ipc", "mm", "^tcp", "^cma",
                           "\\cma,tcp", "^cma,knem,xpmem"})
    EXPECT_TRUE(nixl::AllowsUnfenced(open)) << open;
}

class NixlSearch : public testing::Test {
 protected:
  NixlSearch() {
    root_ = fs::path(testing::TempDir()) / fmt::format("nixl-search-{}", getpid());
    fs::remove_all(root_);
  }
  ~NixlSearch() override { fs::remove_all(root_); }
  std::string Make(const std::string& path) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << "x";
    return (root_ / path).string();
  }
  fs::path root_;
};

TEST_F(NixlSearch, FindsWheelsInEnvironmentsNewestFirst) {
  const std::string site = "venv/lib/python3.11/site-packages/";
  const std::string cu12 = Make(site + ".nixl_cu12.mesonpy.libs/libnixl_capi.so");
  const std::string cu13 = Make(site + ".nixl_cu13.mesonpy.libs/libnixl_capi.so");
  Make(site + "nixl_cu13-1.5.1.dist-info/METADATA");
  Make(site + "numpy/core.so");
  Make("bin/python3");
  const std::string user = Make("home/.local/lib/python3.9/site-packages/nixl.libs/libnixl_capi.so");
  std::vector<std::string> looked_in;
  nixl::SearchScene scene{.virtual_env = (root_ / "venv").string(), .home = (root_ / "home").string(),
                          .system_folders = false};
  EXPECT_EQ(nixl::FindLibraries(scene, looked_in),
            (std::vector<std::string>{cu13, cu12, user, "libnixl_capi.so"}));
  EXPECT_FALSE(looked_in.empty());
  EXPECT_EQ(nixl::WheelVersion(cu13), "1.5.1");
  EXPECT_EQ(nixl::WheelVersion(cu12), "");
  // By the Python on PATH, by the folder of packages, and by each path that a person may give.
  nixl::SearchScene on_path{.path = "/nonexistent:" + (root_ / "venv/bin").string(), .system_folders = false};
  Make("venv/bin/python3");
  EXPECT_EQ(nixl::FindLibraries(on_path, looked_in).front(), cu13);
  nixl::SearchScene packages{.python_path = (root_ / site).string(), .system_folders = false};
  EXPECT_EQ(nixl::FindLibraries(packages, looked_in).front(), cu13);
  for (const std::string& given : {cu13, (root_ / "venv").string(), (root_ / site).string(),
                                   fs::path(cu13).parent_path().string()})
    EXPECT_EQ(nixl::FindLibraries({.given = given}, looked_in).front(), cu13) << given;
  // What is given is all that counts.
  EXPECT_TRUE(nixl::FindLibraries({.given = root_ / "bin", .virtual_env = (root_ / "venv").string()}, looked_in).empty());
}

TEST_F(NixlSearch, SaysWhatToInstallOrWhatIsWrong) {
  Options options;
  options.provider = ProviderKind::kNixl;
  const auto refusal = [&](const std::string& path) {
    options.nixl.path = path;
    const Status status = OpenNixl(options).status();
    EXPECT_EQ(status.code(), Code::kUnsupported) << status.ToString();
    return status.message();
  };
  const std::string missing = refusal("/nonexistent/place");
  EXPECT_NE(missing.find("pip install nixl-cu13"), std::string::npos) << missing;
  EXPECT_NE(missing.find("--nixl-path"), std::string::npos);
  EXPECT_NE(missing.find("/nonexistent/place"), std::string::npos);
  // A file that is no library, and a library that is not NIXL's.
  const std::string broken = refusal(Make("libnixl_capi.so"));
  EXPECT_NE(broken.find("libnixl_capi.so"), std::string::npos) << broken;
  Dl_info info{};
  // Not one of the functions that sanitizers put in libc's place.
  ASSERT_TRUE(dladdr(reinterpret_cast<void*>(&gnu_get_libc_version), &info));
  const std::string other = refusal(info.dli_fname);
  EXPECT_NE(other.find("nixl_capi_is_stub"), std::string::npos) << other;
  options.require_rdma = true;
  EXPECT_NE(refusal("").find("RDMA"), std::string::npos);
}

// Two engines of this process over the mock, each with one region.
class NixlMock : public testing::Test {
 protected:
  void SetUp() override {
    options_.provider = ProviderKind::kNixl;
    options_.self_test = false;
    options_.nixl = {.backend = "UCX", .path = BATON_NIXL_MOCK};
    library_ = dlopen(BATON_NIXL_MOCK "/libnixl_capi.so", RTLD_NOW | RTLD_LOCAL);
    ASSERT_TRUE(library_) << dlerror();
    for (const char* fault : {"fail_register", "fail_load", "fail_post", "fail_status", "fail_release",
                              "stall", "garbage_notice", "shake_hands"})
      Set(fault, 0);
    Set("checks", 3);
  }
  // Only before engines run or through nobody's eyes but their workers': plain ints.
  void Set(const char* name, int value) {
    reinterpret_cast<void (*)(const char*, int)>(dlsym(library_, "nixl_mock_set"))(name, value);
  }
  int Get(const char* name) {
    return reinterpret_cast<int (*)(const char*)>(dlsym(library_, "nixl_mock_get"))(name);
  }

  Options options_;
  void* library_ = nullptr;
};

// Fabrics, not engines: the mock has no locks, so one thread drives both ends.
class NixlMockFabrics : public NixlMock {
 protected:
  void Open() {
    auto writer = OpenNixl(options_), target = OpenNixl(options_);
    ASSERT_TRUE(writer.ok()) << writer.status().ToString();
    ASSERT_TRUE(target.ok());
    writer_ = *std::move(writer);
    target_ = *std::move(target);
    from_ = *writer_->Register({source_.data(), source_.size()});
    to_ = *target_->Register({sink_.data(), sink_.size()});
    std::mt19937 random(3);
    for (std::byte& b : source_) b = static_cast<std::byte>(random());
    Join();
  }
  void Join() {
    key_ = *target_->Expose(to_);
    invitation_ = *target_->Invite();
    auto peer = writer_->Insert(invitation_);
    ASSERT_TRUE(peer.ok()) << peer.status().ToString();
    peer_ = *peer;
    // The other direction, for handshakes.
    back_key_ = *writer_->Expose(from_);
    ASSERT_TRUE(target_->Insert(*writer_->Invite()).ok());
  }
  PostResult Write(uint64_t from, uint64_t to, uint64_t bytes, uint32_t imm) {
    contexts_.push_back(std::make_unique<OpContext>());
    return writer_->Write({.peer = peer_,
                           .local_region = from_,
                           .local_offset = from,
                           .bytes = bytes,
                           .remote_address = key_.base + to,
                           .remote_key = key_.key,
                           .imm = imm,
                           .context = contexts_.back().get()},
                          Now(), why_);
  }
  void Drive(int turns = 20) {
    Completion batch[64];
    for (int i = 0; i < turns; ++i) {
      for (size_t n = writer_->Poll(Now(), batch); n--;) ended_.push_back(batch[n]);
      for (size_t n = target_->Poll(Now(), batch); n--;) arrived_.push_back(batch[n]);
    }
  }
  size_t Count(Completion::Kind kind) const {
    return std::count_if(ended_.begin(), ended_.end(), [&](const auto& c) { return c.kind == kind; });
  }

  std::vector<std::byte> source_ = std::vector<std::byte>(1 << 20), sink_ = std::vector<std::byte>(1 << 20);
  std::unique_ptr<Fabric> writer_, target_;
  uint32_t from_ = 0, to_ = 0;
  MemoryKey key_, back_key_;
  std::string invitation_;
  uint64_t peer_ = 0;
  Status why_;
  std::vector<std::unique_ptr<OpContext>> contexts_;
  std::vector<Completion> ended_, arrived_;
};

TEST_F(NixlMockFabrics, GathersWritesAndReportsEachOnce) {
  Open();
  const int requests = Get("requests");
  for (uint32_t i = 0; i < 300; ++i) ASSERT_EQ(Write(i * 100, (299 - i) * 100, 100, i / 10), PostResult::kPosted);
  Drive();
  EXPECT_EQ(Count(Completion::Kind::kDone), 300u);
  EXPECT_EQ(ended_.size(), 300u);
  std::vector<OpContext*> done;
  for (const Completion& c : ended_) done.push_back(c.context);
  std::sort(done.begin(), done.end());
  EXPECT_EQ(std::unique(done.begin(), done.end()), done.end());
  // 300 writes in 3 requests, each immediate counted as often as it was written.
  EXPECT_EQ(Get("requests") - requests, 3);
  ASSERT_EQ(arrived_.size(), 300u);
  std::vector<int> counts(30);
  uint64_t bytes = 0;
  for (const Completion& c : arrived_) {
    EXPECT_EQ(c.kind, Completion::Kind::kArrived);
    ASSERT_LT(c.imm, 30u);
    ++counts[c.imm];
    bytes += c.bytes;
  }
  EXPECT_EQ(bytes, 30000u);
  for (const int count : counts) EXPECT_EQ(count, 10);
  for (uint32_t i = 0; i < 300; ++i)
    ASSERT_EQ(std::memcmp(&sink_[(299 - i) * 100], &source_[i * 100], 100), 0) << i;
}

TEST_F(NixlMockFabrics, PrepareSleepPostsWhatIsOpen) {
  Open();
  const int requests = Get("requests");
  Write(0, 0, 10, 1);
  EXPECT_FALSE(writer_->PrepareSleep());
  EXPECT_EQ(Get("requests") - requests, 1);
  EXPECT_TRUE(writer_->PrepareSleep());
}

TEST_F(NixlMockFabrics, RevokedKeysCloseTheirAgentAlone) {
  Open();
  const MemoryKey other = *target_->Expose(to_);
  const std::string other_invitation = *target_->Invite();
  const uint64_t other_peer = *writer_->Insert(other_invitation);
  const int agents = Get("agents");
  target_->Revoke(key_);
  EXPECT_EQ(Get("agents"), agents - 1);
  Write(0, 0, 100, 1);
  Drive();
  ASSERT_EQ(ended_.size(), 1u);
  EXPECT_EQ(ended_[0].kind, Completion::Kind::kFailed);
  EXPECT_TRUE(ended_[0].peer_lost);
  EXPECT_EQ(sink_[0], std::byte{0});
  EXPECT_EQ(Write(0, 0, 100, 1), PostResult::kAgain);  // until it is removed and joins anew
  peer_ = other_peer;
  key_ = other;
  Write(0, 200, 100, 2);
  Drive();
  ASSERT_EQ(arrived_.size(), 1u);
  EXPECT_EQ(std::memcmp(&sink_[200], &source_[0], 100), 0);
}

TEST_F(NixlMockFabrics, PlacesOutsideOfTheRegionAreRefused) {
  Open();
  Write(0, sink_.size() - 10, 20, 1);
  Drive();
  ASSERT_EQ(ended_.size(), 1u);
  EXPECT_EQ(ended_[0].kind, Completion::Kind::kFailed);
  EXPECT_TRUE(arrived_.empty());
}

TEST_F(NixlMockFabrics, RemovedPeersGiveTheirContextsBack) {
  Open();
  Set("stall", 1);
  for (int i = 0; i < 130; ++i) Write(0, 0, 10, 1);  // one batch posted, one open
  Drive(3);
  Write(0, 0, 10, 1);
  EXPECT_TRUE(ended_.empty());
  writer_->Remove(peer_);
  Drive(5);
  EXPECT_EQ(Count(Completion::Kind::kFailed), 131u);
  EXPECT_EQ(Write(0, 0, 10, 1), PostResult::kFailed);
}

TEST_F(NixlMockFabrics, RequestsThatNixlKeepsStayItsOwn) {
  Open();
  Set("stall", 1);
  Set("fail_release", 1);
  Write(0, 0, 10, 1);
  Drive(2);
  writer_->Remove(peer_);
  Drive(5);
  EXPECT_TRUE(ended_.empty());  // its source may still be read: nobody may reuse the context
}

TEST_F(NixlMockFabrics, FailuresOfCallsFailTheWrites) {
  for (const char* fault : {"fail_post", "fail_status"}) {
    SCOPED_TRACE(fault);
    SetUp();
    ended_.clear();
    Open();
    Set(fault, 1);
    for (int i = 0; i < 5; ++i) Write(0, 0, 10, 1);
    Drive();
    EXPECT_EQ(Count(Completion::Kind::kFailed), 5u);
    EXPECT_NE(ended_[0].status.message().find("NIXL"), std::string::npos);
    EXPECT_TRUE(arrived_.empty());
  }
  Set("fail_status", 0);
  Set("fail_register", 1);
  const Status status = writer_->Register({source_.data(), 64}).status();
  EXPECT_NE(status.message().find("ulimit -l"), std::string::npos) << status.message();
  EXPECT_FALSE(target_->Expose(to_).ok());
}

TEST_F(NixlMockFabrics, GarbageIsIgnored) {
  Open();
  Set("garbage_notice", 1);
  Drive(3);
  EXPECT_TRUE(arrived_.empty());
  for (const std::string& bad : {std::string(), std::string("x"), invitation_.substr(0, 20), invitation_ + "x"})
    EXPECT_EQ(writer_->Insert(bad).status().code(), Code::kDataCorrupt) << bad.size();
  Set("fail_load", 1);
  EXPECT_EQ(writer_->Insert(invitation_).status().code(), Code::kUnavailable);
}

// A backend whose agents must know each other: also when one side describes itself late, and when a
// peer joins anew before its old pairing is gone.
TEST_F(NixlMockFabrics, BackendsThatShakeHandsKnowTheWriter) {
  options_.nixl.backend = "SHAKING";
  Set("shake_hands", 1);
  Open();
  Write(0, 0, 100, 1);
  Drive();
  EXPECT_EQ(arrived_.size(), 1u);
  const uint64_t old = peer_;
  Join();
  writer_->Remove(old);
  Write(0, 300, 100, 2);
  Drive();
  EXPECT_EQ(arrived_.size(), 2u);
  EXPECT_EQ(std::memcmp(&sink_[300], &source_[0], 100), 0);
  EXPECT_EQ(writer_->traits().family, "nixl/SHAKING");
}

// A mark is a write like any other, whose notification names it; it follows what it speaks for.
TEST_F(NixlMock, WatermarksFollowTheWrites) {
  std::vector<std::byte> source(1 << 16, std::byte{9}), sink(1 << 16);
  EngineCore a(*OpenNixl(options_), {.epoch = 1}, [](const Event&) {});
  EngineCore b(*OpenNixl(options_), {.epoch = 2}, [](const Event&) {});
  ASSERT_TRUE(a.Open().ok() && b.Open().ok());
  ASSERT_TRUE(a.Register({source.data(), source.size()}).ok() && b.Register({sink.data(), sink.size()}).ok());
  TimePoint now = TimePoint{} + 1h;
  const std::string of_a = *a.Describe(), of_b = *b.Describe();
  const PeerId to_b = *a.AddPeer(*ParseBlob(of_b), now), to_a = *b.AddPeer(*ParseBlob(of_a), now);
  const auto step = [&](int times) {
    for (; times > 0; --times) {
      now += 100us;
      a.Step(now);
      b.Step(now);
    }
  };
  step(50);
  const Slot slot = *b.Expect(to_a, now + 10s);
  const SendId send = *a.Begin(to_b, slot, {0}, {0}, now + 10s);
  for (uint32_t layer = 0; layer < 8; ++layer) {
    const transfer::Run run{layer << 13, layer << 13, 1 << 13};
    ASSERT_TRUE(a.Push(send, {&run, 1}).ok() && a.Mark(send).ok());
    Set("checks", layer % 2 ? 9 : 3);
    for (int i = 0; i < 30; ++i) {
      const uint32_t landed = b.Landed(slot);
      ASSERT_LE(landed, layer + 1);
      ASSERT_EQ(std::memcmp(sink.data(), source.data(), landed << 13), 0);
      step(layer == 3 ? 0 : 1);
    }
  }
  EXPECT_EQ(b.Landed(slot), 8u);
  a.Shutdown(now);
  b.Shutdown(now);
}

TEST_F(NixlMock, EngineOpensTestsItselfAndReports) {
  options_.self_test = true;
  auto engine = Engine::Open(options_, [](const Event&) {});
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  EXPECT_EQ((*engine)->report().provider, "nixl/UCX");
  EXPECT_NE((*engine)->report().ToString().find("nixl=of unknown version " BATON_NIXL_MOCK), std::string::npos)
      << (*engine)->report().ToString();
  EXPECT_GT((*engine)->report().self_test_gb_per_s, 0);
  engine = Status(Code::kCancelled, "closed");
  EXPECT_EQ(Get("agents"), 0);
}

TEST_F(NixlMock, MissingPluginNamesThoseThatAreThere) {
  options_.nixl.backend = "NONESUCH";
  const Status status = Engine::Open(options_, [](const Event&) {}).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_NE(status.message().find("NONESUCH"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("UCX, SHAKING"), std::string::npos);
  EXPECT_EQ(Get("agents"), 0);
}

}  // namespace
}  // namespace baton::transfer
