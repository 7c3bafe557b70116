// Checksums of writes, on their way from sender to receiver (Options::checksum).
//
// The receiver cannot know what a write covered: an arrival is only an immediate. So the sender
// lists each write with its CRC in blocks that it writes into the receiver's manifest, a ring of
// kManifestBlocks per key set; credit mails tell it which may be overwritten. A slot is done when
// it is sealed and as many writes and as many entries have come, and all CRCs hold.
//
// A block whose write failed is written again, so one may arrive twice. The immediate names the block:
// the second arrival is known as such whatever has been written into its place since.
#pragma once

#include <cstddef>
#include <cstdint>

#include "transfer/crc32c.h"
#include "transfer/imm.h"
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

// Which block of which key set a manifest's immediate is about; `low` is the end of its sequence.
struct BlockName {
  static constexpr uint32_t kLowBits = 10;
  uint32_t key_set = 0;
  uint32_t low = 0;
};
static_assert(kMailboxCells << BlockName::kLowBits == kImmSlots);

constexpr uint32_t PackBlockName(uint32_t key_set, uint64_t sequence) {
  return key_set << BlockName::kLowBits |
         static_cast<uint32_t>(sequence & ((1u << BlockName::kLowBits) - 1));
}
constexpr BlockName UnpackBlockName(uint32_t slot) {
  return {.key_set = slot >> BlockName::kLowBits, .low = slot & ((1u << BlockName::kLowBits) - 1)};
}

inline uint32_t BlockCrc(ManifestBlock block) {
  block.crc = 0;
  return Crc32c(reinterpret_cast<const std::byte*>(&block), sizeof block);
}

}  // namespace baton::transfer
