// What `baton bench transfer` moves: blocks of a pattern, from one order of places to another. Both
// ends derive the same places and bytes from seeds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "common/memory.h"
#include "common/shared_memory.h"
#include "common/status.h"

namespace baton::bench {

// Block i goes from place from[i] of the writer to place to[i] of the target, in blocks.
struct BlockOrder {
  std::vector<uint32_t> from, to;
};
BlockOrder MakeBlockOrder(uint32_t blocks, bool scattered, uint64_t seed);

void FillPattern(MemorySpan memory, uint64_t seed);
// Bytes of the target that differ from what the writer's pattern of `seed` has put there.
uint64_t CountWrongBytes(MemorySpan target, const BlockOrder& order, uint64_t block_bytes, uint64_t seed);

// 10^9 bytes/s of one thread that copies the blocks within this process by memcpy.
double MeasureMemcpy(MemorySpan memory, const BlockOrder& order, uint64_t block_bytes);

struct PoolUnmapper {
  size_t bytes = 0;
  void operator()(std::byte* data) const;
};

// The pool of one end: as the server's KV pool, or plain private memory.
class BenchPool {
 public:
  static Result<BenchPool> Create(uint64_t bytes, bool shared);
  MemorySpan span() const;

 private:
  std::optional<SharedMemory> shared_;
  std::unique_ptr<std::byte, PoolUnmapper> private_;
};

}  // namespace baton::bench
