#include "kernels/paged_kv.h"

#include <gtest/gtest.h>

namespace baton::kernels {
namespace {

TEST(KvLayout, SizesOfSmolLM2) {
  const KvLayout layout{30, 16, 3, 64, DType::kF16};
  EXPECT_EQ(layout.BytesPerToken(), 23040u);
  EXPECT_EQ(layout.PageBytes(), 16u * 23040u);
  EXPECT_EQ(layout.LayerBytes() * 30, layout.PageBytes());
  EXPECT_EQ(layout.ToString(), "30 layers, pages of 16 tokens, 3 heads of 64, f16");
}

TEST(KvPool, PlanesFollowEachOtherWithoutGaps) {
  const KvLayout layout{2, 4, 3, 5, DType::kF32};
  std::byte base[1];
  const KvPool pool{layout, base, 9};
  const std::byte* expected = base;
  for (PageId page = 0; page < 3; ++page) {
    for (int layer = 0; layer < 2; ++layer) {
      EXPECT_EQ(pool.Keys(page, layer), expected);
      EXPECT_EQ(pool.Values(page, layer), expected + 4 * 3 * 5 * 4);
      expected += 2 * 4 * 3 * 5 * 4;
    }
  }
}

TEST(KvLayout, PeersWithAnyDifferenceDisagree) {
  const KvLayout layout{30, 16, 3, 64, DType::kF16};
  KvLayout other = layout;
  EXPECT_EQ(layout, other);
  other.dtype = DType::kBF16;
  EXPECT_NE(layout, other);
}

}  // namespace
}  // namespace baton::kernels
