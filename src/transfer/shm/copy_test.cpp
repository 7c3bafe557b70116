#include "transfer/shm/copy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace baton::transfer::shm {
namespace {

// Against memcpy, with both ends at any alignment, and nothing written beside the target.
TEST(StreamCopy, CopiesAnyLengthToAnyAlignment) {
  std::mt19937 random(11);
  std::vector<uint8_t> source(300'000), target(300'000), expected(300'000);
  for (uint8_t& byte : source) byte = static_cast<uint8_t>(random());
  for (int i = 0; i < 600; ++i) {
    const size_t longest = i % 3 == 0 ? 250'000 : 5'000;
    const size_t bytes = random() % longest, from = random() % 200, to = random() % 200;
    std::fill(target.begin(), target.end(), uint8_t{0xA5});
    std::fill(expected.begin(), expected.end(), uint8_t{0xA5});
    std::memcpy(expected.data() + to, source.data() + from, bytes);
    PrefetchBlock(source.data() + from, bytes);
    StreamCopy(target.data() + to, source.data() + from, bytes);
    FinishStreaming();
    ASSERT_EQ(target, expected) << bytes << " bytes from " << from << " to " << to;
  }
}

}  // namespace
}  // namespace baton::transfer::shm
