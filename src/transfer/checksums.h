// Checksums of writes, on their way from sender to receiver (Options::checksum).
//
// The receiver cannot know what a write covered: an arrival is only an immediate. So the sender
// lists each write with its CRC in blocks that it writes into the receiver's manifest, a ring of
// kManifestBlocks per key set; credit mails tell it which may be overwritten. A slot is done when
// it is sealed and as many writes and as many entries have come, and all CRCs hold.
#pragma once

#include <cstddef>
#include <cstdint>

#include "transfer/crc32c.h"
#include "transfer/mail.h"

namespace baton::transfer {

struct ManifestEntry {
  uint64_t offset = 0;  // in the receiver's region
  uint32_t bytes = 0;
  uint32_t crc = 0;
  uint32_t slot = 0;    // repetition << 28 | index << 8 | generation
  uint32_t region = 0;  // receiver's RegionId
};

struct ManifestBlock {
  static constexpr uint32_t kEntries = 32;
  uint64_t epoch = 0;     // of the sender
  uint64_t sequence = 0;  // of the block, from 0; its place in the ring follows
  uint32_t count = 0;
  uint32_t crc = 0;       // of the block with this field 0
  ManifestEntry entries[kEntries];
};

inline constexpr uint32_t kManifestBlocks = 4;
inline constexpr uint32_t kManifestBlockBytes = sizeof(ManifestBlock);
inline constexpr uint64_t kManifestBytes =
    uint64_t{kMailboxCells} * kManifestBlocks * kManifestBlockBytes;

inline uint32_t BlockCrc(ManifestBlock block) {
  block.crc = 0;
  return Crc32c(reinterpret_cast<const std::byte*>(&block), sizeof block);
}

}  // namespace baton::transfer
