#include "common/shared_memory.h"

#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace baton {
namespace {

TEST(SharedMemory, IsZeroedAlignedAndFoundWhileItLives) {
  const std::byte* data = nullptr;
  {
    for (const auto pages : {SharedMemory::Pages::kOnDemand, SharedMemory::Pages::kHuge}) {
      auto memory = SharedMemory::Create(5'000'000, pages);
      ASSERT_TRUE(memory.ok()) << memory.status().ToString();
      const MemorySpan span = memory->span();
      data = span.data;
      EXPECT_EQ(span.size_bytes, 5'000'000u);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % (2 << 20), 0u);
      EXPECT_TRUE(std::all_of(data, data + span.size_bytes, [](std::byte b) { return b == std::byte{0}; }));
      const auto all = FindSharedMemory(data, span.size_bytes), part = FindSharedMemory(data + 4097, 10);
      ASSERT_TRUE(all && part);
      EXPECT_EQ(all->offset, 0u);
      EXPECT_EQ(part->offset, 4097u);
      EXPECT_FALSE(FindSharedMemory(data + 100, size_t{8} << 20));
      EXPECT_FALSE(FindSharedMemory(data - 1, 2));
      EXPECT_FALSE(FindSharedMemory(data + 1, SIZE_MAX));
    }
  }
  EXPECT_FALSE(FindSharedMemory(data, 1));
}

TEST(SharedMemory, AnotherMappingSeesTheSameBytesAndItCannotShrink) {
  auto memory = SharedMemory::Create(1 << 20, SharedMemory::Pages::kHuge);
  ASSERT_TRUE(memory.ok());
  const auto range = FindSharedMemory(memory->span().data, 1 << 20);
  ASSERT_TRUE(range);
  std::memset(memory->span().data, 7, 1 << 20);
  void* const other = mmap(nullptr, 1 << 20, PROT_READ, MAP_SHARED, range->fd, 0);
  ASSERT_NE(other, MAP_FAILED);
  EXPECT_EQ(std::memcmp(other, memory->span().data, 1 << 20), 0);
  munmap(other, 1 << 20);
  EXPECT_NE(ftruncate(range->fd, 0), 0);
}

}  // namespace
}  // namespace baton
