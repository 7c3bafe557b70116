// What a push writes between pools whose pages differ in size: every token that decode lacks, once,
// wherever chunks and pages end.
#include "disagg/kv_push.h"

#include <algorithm>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

namespace baton::disagg {
namespace {

constexpr int kLayers = 3;
constexpr int kPoolTokens = 1024;

// Copies runs at once, and counts how often each byte of the target was written.
class CopyingFabric : public transfer::Engine {
 public:
  CopyingFabric(std::vector<uint8_t> source, size_t target_bytes)
      : source(std::move(source)), target(target_bytes), written(target_bytes) {}

  Result<uint32_t> Push(transfer::SendId, std::span<const transfer::Run> runs) override {
    if (refuse) return Error(Code::kResourceExhausted, "full");
    for (const transfer::Run& run : runs) {
      BATON_CHECK(run.local_offset + run.bytes <= source.size() && run.remote_offset + run.bytes <= target.size());
      std::memcpy(&target[run.remote_offset], &source[run.local_offset], run.bytes);
      for (uint64_t i = 0; i < run.bytes; ++i) ++written[run.remote_offset + i];
      bytes += run.bytes;
    }
    return static_cast<uint32_t>(runs.size());
  }

  const transfer::FabricReport& report() const override { return report_; }
  Result<transfer::RegionId> Register(MemorySpan) override { return transfer::RegionId{0}; }
  std::string Describe() const override { return {}; }
  Result<transfer::PeerId> Connect(std::string_view, TimePoint) override { return transfer::PeerId{0}; }
  void Disconnect(transfer::PeerId) override {}
  Result<transfer::Slot> Expect(transfer::PeerId, TimePoint) override { return transfer::Slot{}; }
  void Seal(transfer::Slot, uint32_t) override {}
  uint32_t Landed(transfer::Slot) const override { return 0; }
  void Cancel(transfer::Slot) override {}
  void Release(transfer::Slot) override {}
  Result<transfer::SendId> Begin(transfer::PeerId, transfer::Slot, transfer::RegionId, transfer::RegionId, TimePoint,
                                 transfer::Priority) override { return transfer::SendId{0}; }
  Status Mark(transfer::SendId) override { return Status::Ok(); }
  void Finish(transfer::SendId) override {}
  void CancelSend(transfer::SendId) override {}
  Usage usage() const override { return {}; }
  void ExportMetrics(metrics::Registry&) override {}

  std::vector<uint8_t> source, target, written;
  uint64_t bytes = 0;
  bool refuse = false;

 private:
  transfer::FabricReport report_;
};

kernels::KvLayout LayoutOf(int page_tokens) { return {kLayers, page_tokens, 2, 4, kernels::DType::kF16}; }

std::vector<PageId> Pages(std::mt19937& random, int page_tokens) {
  std::vector<PageId> pages(kPoolTokens / page_tokens);
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<PageId>(i);
  std::shuffle(pages.begin(), pages.end(), random);
  return pages;
}

size_t OffsetOf(const kernels::KvLayout& l, std::span<const PageId> pages, int layer, int plane, int token) {
  return pages[token / l.page_tokens] * l.PageBytes() + layer * l.LayerBytes() + plane * l.PlaneBytes() +
         token % l.page_tokens * l.TokenBytes();
}

struct Case {
  int from_tokens, to_tokens;  // page sizes
};

class KvPushTest : public testing::TestWithParam<Case> {};

TEST_P(KvPushTest, EveryTokenThatDecodeLacksIsWrittenOnce) {
  const kernels::KvLayout from = LayoutOf(GetParam().from_tokens), to = LayoutOf(GetParam().to_tokens);
  for (uint32_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto pick = [&](int below) { return static_cast<int>(random() % static_cast<uint32_t>(below)); };
    const int prompt = 1 + pick(400);
    const int cached = pick((prompt - 1) / to.page_tokens + 1) * to.page_tokens;       // decode's
    const int hit = pick((prompt - 1) / from.page_tokens + 1) * from.page_tokens;      // prefill's own prefix cache
    const std::vector<PageId> source_pages = Pages(random, from.page_tokens), all = Pages(random, to.page_tokens);
    const std::vector<PageId> granted(all.begin() + cached / to.page_tokens,
                                      all.begin() + cached / to.page_tokens + PagesFor(prompt, cached, to.page_tokens));
    std::vector<uint8_t> memory(kPoolTokens / from.page_tokens * from.PageBytes());
    for (uint8_t& b : memory) b = static_cast<uint8_t>(random());
    CopyingFabric fabric(std::move(memory), kPoolTokens / to.page_tokens * to.PageBytes());

    const auto plan = transfer::PagePlan::Make(PoolLayoutOf(from), PoolLayoutOf(to));
    ASSERT_TRUE(plan.ok());
    uint32_t writes = 0;
    uint64_t bytes = 0;
    KvPush push({&fabric, {}, &*plan, granted, cached}, [](Status why) { FAIL() << why.ToString(); },
                [&](KvPush::Result result) { writes = result.writes, bytes = result.bytes; });
    // As the engine reports: hits at once, then chunks layer by layer, each up to a page's end.
    if (hit) push.OnKvReady(0, kLayers, 0, hit, source_pages);
    for (int begin = hit; begin < prompt;) {
      const int end = std::min(prompt, begin + (1 + pick(6)) * from.page_tokens);
      for (int layer = 0; layer < kLayers; ++layer) push.OnKvReady(layer, layer + 1, begin, end, source_pages);
      begin = end;
    }
    push.OnEnd(engine::Output{}, nullptr);

    for (int layer = 0; layer < kLayers; ++layer)
      for (int plane = 0; plane < 2; ++plane)
        for (int token = 0; token < prompt; ++token) {
          const size_t at = OffsetOf(to, all, layer, plane, token);
          ASSERT_EQ(fabric.written[at], token >= cached) << "token " << token << " of " << prompt << ", " << cached << " cached";
          if (token < cached) continue;
          ASSERT_EQ(std::memcmp(&fabric.target[at], &fabric.source[OffsetOf(from, source_pages, layer, plane, token)], to.TokenBytes()), 0);
        }
    EXPECT_LE(*std::max_element(fabric.written.begin(), fabric.written.end()), 1);
    EXPECT_EQ(bytes, fabric.bytes);
    EXPECT_EQ(writes > 0, prompt > cached);
    // Equal pages: whole pages, one run of keys and values per layer or all layers.
    if (from.page_tokens == to.page_tokens) {
      EXPECT_LE(writes, static_cast<uint32_t>(granted.size()) * kLayers);
      EXPECT_EQ(bytes, granted.size() * to.PageBytes());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(PageSizes, KvPushTest,
                         testing::Values(Case{16, 16}, Case{16, 64}, Case{64, 16}, Case{32, 64}, Case{64, 32}, Case{16, 32},
                                         Case{1, 16}, Case{16, 1}, Case{8, 12}, Case{12, 8}, Case{7, 5}),
                         [](const auto& info) {
                           return fmt::format("{}to{}", info.param.from_tokens, info.param.to_tokens);
                         });

TEST(KvPush, RefusedPushIsToldOnceAndEndsTheWrites) {
  const auto plan = transfer::PagePlan::Make(PoolLayoutOf(LayoutOf(16)), PoolLayoutOf(LayoutOf(16)));
  CopyingFabric fabric(std::vector<uint8_t>(LayoutOf(16).PageBytes() * 4), LayoutOf(16).PageBytes() * 4);
  fabric.refuse = true;
  int told = 0;
  KvPush push({&fabric, {}, &*plan, {0, 1}, 0}, [&](Status why) {
    EXPECT_EQ(why.code(), Code::kResourceExhausted);
    ++told;
  }, [](KvPush::Result) {});
  const std::vector<PageId> pages = {2, 3};
  push.OnKvReady(0, 1, 0, 16, pages);
  fabric.refuse = false;
  push.OnKvReady(1, 2, 0, 16, pages);
  EXPECT_EQ(told, 1);
  EXPECT_EQ(fabric.bytes, 0u);
}

// Pages that are not there must fail the push, never write elsewhere.
TEST(KvPush, MissingPagesAreAnError) {
  const auto plan = transfer::PagePlan::Make(PoolLayoutOf(LayoutOf(16)), PoolLayoutOf(LayoutOf(64)));
  CopyingFabric fabric(std::vector<uint8_t>(LayoutOf(16).PageBytes() * 8), LayoutOf(64).PageBytes() * 2);
  Code code = Code::kOk;
  KvPush push({&fabric, {}, &*plan, {0}, 0}, [&](Status why) { code = why.code(); }, [](KvPush::Result) {});
  const std::vector<PageId> pages = {0, 1, 2, 3, 4};
  push.OnKvReady(0, 1, 0, 80, pages);
  EXPECT_EQ(code, Code::kOutOfRange);
  EXPECT_EQ(fabric.bytes, 0u);
}

}  // namespace
}  // namespace baton::disagg
