// Requests of the bench's writer to its target: one byte of kind, then what is noted here.
#pragma once

#include <cstdint>

namespace baton::bench {

inline constexpr uint32_t kTransferBenchVersion = 2;
inline constexpr uint64_t kMaxPoolBytes = uint64_t{1} << 40;
inline constexpr uint32_t kMaxGrant = 4096;

enum class TransferRequest : uint8_t {
  kOpen = 1,  // u32 version, u8 provider, u8 require_rdma, u8 shared, u64 pool bytes, string blob,
              // string fabric, u8 write mode,
              // i32 CUDA device of the target's pool, i32 that of the writer's (-1: host memory)
              // -> string error, string blob, string report
  kGrant,     // u32 slots, u32 deadline ms -> string error, u32 n, n x (u32 index, u8 generation)
  kSeal,      // u32 n, n x (u32 index, u8 generation, u32 writes); waits -> string error
  kClear,     // -> string error
  kVerify,    // u64 block bytes, u32 blocks, u8 scattered, u64 order seed, u64 pattern seed
              // -> string error, u64 wrong bytes
  kStream,    // u64 bytes, which follow raw -> string error
};

}  // namespace baton::bench
