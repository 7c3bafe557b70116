// The 32-bit immediate of every write: 20-bit slot | 8-bit generation | 4-bit kind.
// It is all that a receiver learns of a write, so it must name what the write belongs to and make
// writes of an earlier holder of the same slot recognisable (specs/transfer-engine.md section 6).
#pragma once

#include <cstdint>

namespace baton::transfer {

enum class ImmKind : uint8_t {
  kData = 0,   // part of a granted transfer: `slot` is the receiver's slot
  kHello = 1,  // the writer names itself: `slot` is the key set that the receiver gave it
  kCredit = 2,    // a credit mail lies in the cell of key set `slot`
  kManifest = 3,  // checksums: `slot` names key set and block (checksums.h)
  kRepeat = 4,    // a repeat mail lies in the cell of key set `slot`
  kConsent = 5,   // ... a consent mail
  kProbe = 6,     // asks whether a rail works; the engine never sees it (rails/)
  kMark = 7,      // one more mark of the transfer in `slot` has landed (engine_marks.cpp)
  kRepeated = 8,  // 8..13: as kData, of the first repetition and so on
  // Between two StagedFabrics, never seen by the engine; the upper 28 bits are theirs.
  kFrame = 14,    // a frame of writes lies in the area that the target gave the writer
  kFrameAck = 15,  // frames have landed
};

// How often a send's writes may be posted anew after the first time.
inline constexpr uint32_t kMaxRepetitions = 6;

constexpr ImmKind DataKind(uint32_t repetition) {
  return repetition == 0 ? ImmKind::kData
                         : static_cast<ImmKind>(static_cast<uint32_t>(ImmKind::kRepeated) + repetition - 1);
}
constexpr bool IsData(ImmKind kind) {
  return kind == ImmKind::kData || (kind >= ImmKind::kRepeated && kind < ImmKind::kFrame);
}
constexpr uint32_t RepetitionOf(ImmKind kind) {
  return kind == ImmKind::kData
             ? 0
             : static_cast<uint32_t>(kind) - static_cast<uint32_t>(ImmKind::kRepeated) + 1;
}

struct Imm {
  uint32_t slot = 0;  // < 2^20
  uint8_t generation = 0;
  ImmKind kind = ImmKind::kData;
};

inline constexpr uint32_t kImmSlots = 1u << 20;

constexpr uint32_t PackImm(Imm imm) {
  return (imm.slot << 12) | (uint32_t{imm.generation} << 4) | (static_cast<uint32_t>(imm.kind) & 15);
}

constexpr Imm UnpackImm(uint32_t bits) {
  return {.slot = bits >> 12,
          .generation = static_cast<uint8_t>(bits >> 4),
          .kind = static_cast<ImmKind>(bits & 15)};
}

}  // namespace baton::transfer
