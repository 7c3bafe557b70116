// What the two ends of the read fabric say to each other (read_fabric.h): orders to fetch bytes, and
// answers that they are there. Both travel as plain structures between little-endian hosts; nothing
// in them is trusted before Parse* has looked at it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace baton::transfer::reads {

inline constexpr uint32_t kMagic = 0x31445242;  // "BRD1"
inline constexpr uint32_t kMaxPieces = 32;
inline constexpr uint32_t kMaxAddress = 64;

enum class Kind : uint16_t { kOrder = 1, kAnswer = 2 };

struct Header {
  uint32_t magic = kMagic;
  Kind kind = Kind::kOrder;
  uint16_t pieces = 0;
  uint64_t sender = 0;  // names the fabric that sends, for as long as it lives
  uint64_t ticket = 0;  // of the order, also in its answer
};

// One write: where the bytes are, where they go.
struct Piece {
  uint64_t source = 0, source_key = 0;  // for fi_read
  uint64_t target = 0, target_key = 0;  // offset and key of Expose
  uint32_t bytes = 0;
  uint32_t imm = 0;
};

// Only the first `header.pieces` pieces travel. The lease is a word in the sender's memory that reads
// `lease_value` for as long as the pieces' sources may be read.
struct Order {
  Header header;
  uint64_t lease = 0, lease_key = 0, lease_value = 0;
  uint32_t address_bytes = 0, reserved = 0;
  char address[kMaxAddress] = {};
  Piece pieces[kMaxPieces];
};

struct Answer {
  Header header;
  uint32_t failed = 0;  // bit per piece
  int32_t error = 0;    // errno of the last that failed
  uint32_t window = 0;  // orders that the receiver of this may have unanswered
  uint32_t reserved = 0;
};

constexpr size_t OrderBytes(uint32_t pieces) {
  return offsetof(Order, pieces) + pieces * sizeof(Piece);
}

// The kind of a message that arrived, 0 for what is none of ours.
inline Kind KindOf(std::span<const std::byte> message) {
  Header header;
  if (message.size() < sizeof header) return {};
  std::memcpy(&header, message.data(), sizeof header);
  if (header.magic != kMagic) return {};
  const bool whole = header.kind == Kind::kAnswer
                         ? message.size() == sizeof(Answer)
                         : header.kind == Kind::kOrder && header.pieces > 0 &&
                               header.pieces <= kMaxPieces &&
                               message.size() == OrderBytes(header.pieces);
  if (!whole) return {};
  if (header.kind == Kind::kAnswer) return Kind::kAnswer;
  uint32_t address_bytes = 0;
  std::memcpy(&address_bytes, message.data() + offsetof(Order, address_bytes), sizeof address_bytes);
  return address_bytes > 0 && address_bytes <= kMaxAddress ? Kind::kOrder : Kind{};
}

}  // namespace baton::transfer::reads
