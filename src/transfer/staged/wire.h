// What two StagedFabrics say to each other: addresses, frames, acknowledgements.
//
// A receiver gives each peer an area of host memory (in the address that it invites the peer with). The
// writer fills it like a ring with frames: a header, and behind it one entry after another (where to, and
// the bytes), written at once; the immediate tells area and place. Frames are taken in order of their
// sequence numbers, whatever way they came, and the entries of each in theirs. How many frames have
// landed goes into the writer's board (in the address that it invited with), at the place that every frame
// names; that frees their places there and here.
//
// An acknowledgement that is lost, or overwritten by an older one that was late, is asked for: the
// header of the first frame that waits is written again, as it was.
//
// An entry that is refused (its key, its bounds) ends the area: those before it have landed, it and all
// that follows do not, in this frame and in later ones. The writer is told of whole frames: all writes
// of that frame fail, as do all later ones.
//
// When writes are in doubt both ends begin anew, behind a fence (fabric.h): the area has the next
// key and the next tag, frames count from 0.
//
// All of it comes from other machines: parsing trusts nothing (fuzz/transfer_staged_fuzz.cpp). Checks
// recognise what was damaged on its way, so that no byte goes elsewhere; they keep out no enemy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"
#include "transfer/fabric.h"
#include "transfer/imm.h"

namespace baton::transfer::staged {

inline constexpr uint32_t kRingBytes = 8 << 20;      // of an area
inline constexpr uint32_t kHostRingBytes = 2 << 20;  // that a writer uses of it where no device takes part
inline constexpr uint32_t kFrameUnit = 64;           // frames begin at multiples,
inline constexpr uint32_t kEntryUnit = 32;           // ... and entries
inline constexpr uint32_t kMaxFrames = 128;          // not yet acknowledged, of one writer
inline constexpr uint32_t kMaxEntries = 128;         // of a frame
// A longer one holds a single write: 128 of 4 KiB fit. Several rails share the work better in smaller ones.
inline constexpr uint32_t kFrameBytes = (512 << 10) + (kMaxEntries + 2) * kEntryUnit, kRailFrameBytes = 128 << 10;
inline constexpr uint64_t kMaxStagedBytes = 1 << 20; // of one write
inline constexpr uint32_t kMostAsked = 4;            // for one acknowledgement
inline constexpr uint32_t kMaxAreas = 2048;
inline constexpr uint32_t kMaxRings = 2048;          // of one writer: places of its board
// Marks keys of device memory: no address of a process is so high.
inline constexpr uint64_t kStagedBase = uint64_t{0xBA70} << 48;
inline constexpr bool IsStaged(uint64_t address) { return address >> 48 == kStagedBase >> 48; }

struct StagedAddress {
  // What an area takes; of the memory that the keys of the same invitation open.
  static constexpr uint8_t kDevice = 1, kHost = 2;

  std::string inner;    // of the fabric below
  uint64_t writer = 0;  // random: names this end in frames that it writes
  MemoryKey board;      // kMaxRings x FrameAck
  uint8_t takes = 0;    // 0: there is no area
  uint32_t area = 0;
  uint64_t tag = 0;     // random: names the area's holder in each frame
  MemoryKey key;
  friend bool operator==(const StagedAddress&, const StagedAddress&) = default;
};
std::string EncodeAddress(const StagedAddress& address);
Result<StagedAddress> ParseAddress(std::string_view bytes);

struct FrameHeader {
  uint64_t tag = 0, sequence = 0;
  uint64_t writer = 0;   // whose board is to be written,
  uint32_t place = 0;    // and where
  uint32_t entries = 0;  // behind this header
  uint32_t bytes = 0;    // ... which take so much
  uint32_t again = 0;    // not 0: a question, whether it has landed
  uint64_t reserved[2] = {};
  uint64_t check = 0;    // of all but `again`
};
static_assert(sizeof(FrameHeader) == kFrameUnit);

// Its bytes follow, and nothing up to the next multiple of kEntryUnit.
struct FrameEntry {
  uint64_t address = 0, key = 0;  // as in a WriteRequest
  uint32_t bytes = 0, imm = 0;
  uint64_t check = 0;
};
static_assert(sizeof(FrameEntry) == kEntryUnit);

constexpr uint32_t EntrySpan(uint32_t bytes) {
  return sizeof(FrameEntry) + (bytes + kEntryUnit - 1) / kEntryUnit * kEntryUnit;
}
inline constexpr uint32_t kMostFrameBytes = sizeof(FrameHeader) + EntrySpan(kMaxStagedBytes);

uint64_t HeaderCheck(FrameHeader header);
uint64_t EntryCheck(const FrameHeader& header, const FrameEntry& entry);

// Walks a frame in memory that its writer may change at any time: everything is read once.
class FrameReader {
 public:
  // `room`: bytes from the frame's beginning to the end of the area.
  FrameReader(const std::byte* frame, uint64_t room);
  // False: nothing but the header may be looked at.
  bool sound() const { return sound_; }
  const FrameHeader& header() const { return header_; }
  bool AtEnd() const { return read_ == header_.entries; }
  // The next entry, and its bytes in the frame; false when it is none, or leaves the frame.
  bool Next(FrameEntry& entry, const std::byte*& bytes);

 private:
  FrameHeader header_;
  bool sound_ = false;
  const std::byte* at_ = nullptr;
  uint32_t left_ = 0, read_ = 0;
};

struct FrameAck {
  uint64_t tag = 0;     // the area's
  uint64_t landed = 0;  // frames before this one are in their places
  uint64_t error = 0;   // errno of frame `landed`; no later one is taken
  uint64_t check = 0;
  friend bool operator==(const FrameAck&, const FrameAck&) = default;
};
FrameAck MakeAck(uint64_t tag, uint64_t landed, uint64_t error);

inline constexpr uint32_t kStagingBytes = kRingBytes + 4096;  // with an area's acknowledgement at the end

// The tag of an area that began anew.
constexpr uint64_t NextTag(uint64_t tag) { return tag * 0xD1342543DE82EF95u + 0x9E3779B97F4A7C15u; }

// The immediates: area and place of a frame, place of an acknowledgement.
constexpr uint32_t FrameImm(uint32_t area, uint32_t ring_offset) {
  return (area << 17 | ring_offset / kFrameUnit) << 4 | static_cast<uint32_t>(ImmKind::kFrame);
}
constexpr uint32_t AckImm(uint32_t place) { return place << 4 | static_cast<uint32_t>(ImmKind::kFrameAck); }
constexpr uint32_t AreaOf(uint32_t imm) { return imm >> 21; }
constexpr uint32_t RingOffsetOf(uint32_t imm) { return (imm >> 4 & 0x1FFFF) * kFrameUnit; }
constexpr uint32_t PlaceOf(uint32_t imm) { return imm >> 4; }
static_assert(kRingBytes / kFrameUnit == 1 << 17 && kMaxAreas == 1 << 11);

}  // namespace baton::transfer::staged
