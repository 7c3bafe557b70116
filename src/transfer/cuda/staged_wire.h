// What two StagedFabrics say to each other: addresses, cells, acknowledgements.
//
// A receiver with device memory gives each peer an area of pinned memory (in the address that it
// invites the peer with). The writer fills it like a ring: a cell is a header and the bytes, written
// at once; its immediate tells area and place. Cells are taken in order of their sequence numbers.
// The first one introduces the writer, so that the receiver can acknowledge: it writes how many cells
// have landed into the end of the writer's own ring, which frees their places there and here.
//
// All of it comes from other machines: parsing trusts nothing (fuzz/transfer_staged_fuzz.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"
#include "transfer/fabric.h"
#include "transfer/imm.h"

namespace baton::transfer::cuda {

inline constexpr uint32_t kRingBytes = 8 << 20;        // of an area, and of a writer's ring
inline constexpr uint32_t kStagingBytes = kRingBytes + 4096;  // with the acknowledgement at the end
inline constexpr uint32_t kCellUnit = 64;              // cells begin at multiples
inline constexpr uint32_t kMaxCells = 128;             // not yet acknowledged, of one writer
inline constexpr uint64_t kMaxStagedBytes = 1 << 20;   // of one write
inline constexpr uint32_t kMaxAreas = 2048;
// Marks keys of device memory: no address of a process is so high.
inline constexpr uint64_t kStagedBase = uint64_t{0xBA70} << 48;
inline constexpr bool IsStaged(uint64_t address) { return address >> 48 == kStagedBase >> 48; }

struct StagedAddress {
  std::string inner;   // of the fabric below
  bool has_area = false;
  uint32_t area = 0;
  uint64_t tag = 0;    // random: names the area's holder in each cell
  MemoryKey key;
  friend bool operator==(const StagedAddress&, const StagedAddress&) = default;
};
std::string EncodeAddress(const StagedAddress& address);
Result<StagedAddress> ParseAddress(std::string_view bytes);

struct Introduction {
  std::string inner;     // address of the writer
  uint32_t writer = 0;   // what its acknowledgements name
  uint64_t tag = 0;      // and hold
  MemoryKey key;         // of its ring
  friend bool operator==(const Introduction&, const Introduction&) = default;
};
std::string EncodeIntroduction(const Introduction& introduction);
Result<Introduction> ParseIntroduction(std::string_view bytes);

struct CellHeader {
  enum class Kind : uint32_t { kIntroduction = 1, kData = 2 };
  uint64_t tag = 0, sequence = 0;
  Kind kind{};
  uint32_t bytes = 0;          // behind this header
  uint64_t key = 0, offset = 0;  // kData: where to
  uint32_t imm = 0;
  uint32_t reserved[5] = {};
};
static_assert(sizeof(CellHeader) == kCellUnit);

struct CellAck {
  uint64_t tag = 0;
  uint64_t landed = 0;    // cells before this one are in device memory
  uint64_t error = 0;     // errno of cell `landed`; no later one is taken
  uint64_t check = 0;
  friend bool operator==(const CellAck&, const CellAck&) = default;
};
CellAck MakeAck(uint64_t tag, uint64_t landed, uint64_t error);

// The immediates: area and place of a cell, the writer that an acknowledgement is for.
constexpr uint32_t CellImm(uint32_t area, uint32_t ring_offset) {
  return (area << 17 | ring_offset / kCellUnit) << 4 | static_cast<uint32_t>(ImmKind::kCell);
}
constexpr uint32_t AckImm(uint32_t writer) { return writer << 4 | static_cast<uint32_t>(ImmKind::kCellAck); }
constexpr uint32_t AreaOf(uint32_t imm) { return imm >> 21; }
constexpr uint32_t RingOffsetOf(uint32_t imm) { return (imm >> 4 & 0x1FFFF) * kCellUnit; }
constexpr uint32_t WriterOf(uint32_t imm) { return imm >> 4; }
static_assert(kRingBytes / kCellUnit == 1 << 17 && kMaxAreas == 1 << 11);

}  // namespace baton::transfer::cuda
