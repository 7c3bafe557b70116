// What two StagedFabrics say to each other: addresses, cells, acknowledgements.
//
// A receiver with device memory gives each peer an area of pinned memory (in the address that it
// invites the peer with). The writer fills it like a ring: a cell is a header and the bytes, written
// at once; its immediate tells area and place. Cells are taken in order of their sequence numbers,
// whatever way they came. How many have landed goes into the writer's board (in the address that it
// invited with), at the place that every cell names; that frees their places there and here.
//
// An acknowledgement that is lost, or overwritten by an older one that was late, is asked for: the
// header of the first cell that waits is written again, as it was.
//
// When writes are in doubt both ends begin anew, behind a fence (fabric.h): the area has the next
// key and the next tag, cells count from 0.
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
inline constexpr uint32_t kCellUnit = 64;              // cells begin at multiples
inline constexpr uint32_t kMaxCells = 128;             // not yet acknowledged, of one writer
inline constexpr uint64_t kMaxStagedBytes = 1 << 20;   // of one write
inline constexpr uint32_t kMostAsked = 4;              // for one acknowledgement
inline constexpr uint32_t kMaxAreas = 2048;
inline constexpr uint32_t kMaxRings = 2048;            // of one writer: places of its board
// Marks keys of device memory: no address of a process is so high.
inline constexpr uint64_t kStagedBase = uint64_t{0xBA70} << 48;
inline constexpr bool IsStaged(uint64_t address) { return address >> 48 == kStagedBase >> 48; }

struct StagedAddress {
  std::string inner;   // of the fabric below
  uint64_t writer = 0;  // random: names this end in cells that it writes
  MemoryKey board;     // kMaxRings x CellAck
  bool has_area = false;
  uint32_t area = 0;
  uint64_t tag = 0;    // random: names the area's holder in each cell
  MemoryKey key;
  friend bool operator==(const StagedAddress&, const StagedAddress&) = default;
};
std::string EncodeAddress(const StagedAddress& address);
Result<StagedAddress> ParseAddress(std::string_view bytes);

struct CellHeader {
  uint64_t tag = 0, sequence = 0;
  uint64_t key = 0, offset = 0;  // where to
  uint64_t writer = 0;           // whose board is to be written,
  uint32_t place = 0;            // and where
  uint32_t bytes = 0;            // behind this header
  uint32_t imm = 0;
  uint32_t again = 0;            // not 0: a question, whether it has landed
  uint32_t reserved[2] = {};
};
static_assert(sizeof(CellHeader) == kCellUnit);

struct CellAck {
  uint64_t tag = 0;       // the area's
  uint64_t landed = 0;    // cells before this one are in device memory
  uint64_t error = 0;     // errno of cell `landed`; no later one is taken
  uint64_t check = 0;
  friend bool operator==(const CellAck&, const CellAck&) = default;
};
CellAck MakeAck(uint64_t tag, uint64_t landed, uint64_t error);

inline constexpr uint32_t kStagingBytes = kRingBytes + 4096;  // with an area's acknowledgement at the end

// The tag of an area that began anew.
constexpr uint64_t NextTag(uint64_t tag) { return tag * 0xD1342543DE82EF95u + 0x9E3779B97F4A7C15u; }

// The immediates: area and place of a cell, place of an acknowledgement.
constexpr uint32_t CellImm(uint32_t area, uint32_t ring_offset) {
  return (area << 17 | ring_offset / kCellUnit) << 4 | static_cast<uint32_t>(ImmKind::kCell);
}
constexpr uint32_t AckImm(uint32_t place) { return place << 4 | static_cast<uint32_t>(ImmKind::kCellAck); }
constexpr uint32_t AreaOf(uint32_t imm) { return imm >> 21; }
constexpr uint32_t RingOffsetOf(uint32_t imm) { return (imm >> 4 & 0x1FFFF) * kCellUnit; }
constexpr uint32_t PlaceOf(uint32_t imm) { return imm >> 4; }
static_assert(kRingBytes / kCellUnit == 1 << 17 && kMaxAreas == 1 << 11);

}  // namespace baton::transfer::cuda
