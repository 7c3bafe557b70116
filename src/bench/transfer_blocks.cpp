#include "bench/transfer_blocks.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <random>

#include "common/clock.h"

namespace baton::bench {
namespace {

uint64_t PatternWord(uint64_t seed, uint64_t index) {
  uint64_t x = (index + 1) * 0x9E3779B97F4A7C15u ^ seed * 0xD1B54A32D192ED03u;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9u;
  return x ^ x >> 32;
}

}  // namespace

BlockOrder MakeBlockOrder(uint32_t blocks, bool scattered, uint64_t seed) {
  BlockOrder order;
  for (std::vector<uint32_t>* places : {&order.from, &order.to}) {
    places->resize(blocks);
    std::iota(places->begin(), places->end(), 0u);
  }
  if (scattered) {
    std::mt19937_64 random(seed);
    std::shuffle(order.from.begin(), order.from.end(), random);
    std::shuffle(order.to.begin(), order.to.end(), random);
  }
  return order;
}

void FillPattern(MemorySpan memory, uint64_t seed) {
  for (uint64_t i = 0; i < memory.size_bytes / 8; ++i) {
    const uint64_t word = PatternWord(seed, i);
    std::memcpy(memory.data + i * 8, &word, 8);
  }
}

uint64_t CountWrongBytes(MemorySpan target, const BlockOrder& order, uint64_t block_bytes, uint64_t seed) {
  uint64_t wrong = 0;
  for (size_t b = 0; b < order.to.size(); ++b) {
    const std::byte* const block = target.data + order.to[b] * block_bytes;
    const uint64_t first = order.from[b] * block_bytes / 8;
    for (uint64_t i = 0; i < block_bytes / 8; ++i) {
      const uint64_t want = PatternWord(seed, first + i);
      uint64_t have = 0;
      std::memcpy(&have, block + i * 8, 8);
      for (uint64_t differing = want ^ have; differing; differing >>= 8) wrong += (differing & 0xFF) != 0;
    }
  }
  return wrong;
}

double MeasureMemcpy(MemorySpan memory, const BlockOrder& order, uint64_t block_bytes) {
  const uint64_t total = order.from.size() * block_bytes;
  Result<BenchPool> pool = BenchPool::Create(total, false);
  if (!pool.ok()) return 0;
  const MemorySpan copy = pool->span();
  double best = 0;
  for (int round = 0; round < 3; ++round) {  // the first takes the copy's pages
    const TimePoint start = Now();
    for (size_t i = 0; i < order.from.size(); ++i)
      std::memcpy(copy.data + order.to[i] * block_bytes, memory.data + order.from[i] * block_bytes, block_bytes);
    best = std::max(best, static_cast<double>(total) / Seconds(Now() - start) / 1e9);
  }
  return best;
}

void PoolUnmapper::operator()(std::byte* data) const { munmap(data, bytes); }

Result<BenchPool> BenchPool::Create(uint64_t bytes, bool shared) {
  BenchPool pool;
  if (shared) {
    Result<SharedMemory> memory = SharedMemory::Create(bytes, SharedMemory::Pages::kHuge);
    if (!memory.ok()) return memory.status();
    pool.shared_.emplace(*std::move(memory));
    return pool;
  }
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return Error(Code::kResourceExhausted, "cannot allocate {} bytes: {}", bytes, strerror(errno));
  madvise(data, bytes, MADV_HUGEPAGE);
  pool.private_ = {static_cast<std::byte*>(data), PoolUnmapper{bytes}};
  return pool;
}

MemorySpan BenchPool::span() const {
  if (shared_) return shared_->span();
  return {private_.get(), private_.get_deleter().bytes};
}

}  // namespace baton::bench
