// The memory that a writer and its target share: a ring of write descriptors and its two indices.
//
// One per writer and target, made by the writer in a sealed memfd that is passed over the target's
// socket, so nothing is left behind whatever dies. Either side may scribble on it: each reads an
// entry once, checks it, and trusts only its own indices.
#pragma once

#include <atomic>
#include <cstdint>

namespace baton::transfer::shm {

inline constexpr uint64_t kMagic = 0x33304D48534E5442;  // "BTNSHM03"
inline constexpr uint32_t kEntries = 2048;
inline constexpr uint32_t kInlineBytes = 16;
inline constexpr uint32_t kUnshared = ~0u;
inline constexpr uint64_t kDeviceSource = 0;  // as `source`: the region is in device memory

struct alignas(64) Entry {
  uint64_t source;   // in the writer's address space
  uint64_t offset;   // in the target's region
  uint64_t key;
  uint32_t bytes;
  uint32_t imm;
  uint32_t region;         // number of the writer's region, kUnshared where peers cannot map it
  std::atomic<int32_t> error;  // by the target, before it moves `head` past: 0 or an errno
  uint64_t region_offset;  // of the source
  std::byte small[kInlineBytes];  // the bytes themselves, when they fit
};

struct Channel {
  uint64_t magic;
  // Writer's.
  alignas(64) std::atomic<uint64_t> tail;       // entries [head, tail) wait for the target
  std::atomic<uint32_t> closed;                 // source memory may be reused: take nothing more
  std::atomic<uint32_t> writer_asleep;
  std::atomic<uint32_t> has_devices;            // a region of the writer is in device memory
  // Target's.
  alignas(64) std::atomic<uint64_t> head;
  std::atomic<uint32_t> target_asleep;
  alignas(64) Entry entries[kEntries];
};

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free,
              "shared between processes");

}  // namespace baton::transfer::shm
