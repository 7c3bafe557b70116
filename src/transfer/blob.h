// The Describe blob: what a peer must know to reach an engine and to write into its regions.
// Comes from other machines, so parsing trusts nothing (fuzz/transfer_blob_fuzz.cpp).
//
// Little endian: u32 magic "BTNX", u16 protocol version, u16 zero, string family, u64 epoch,
// u32 key set, u8 key set generation, u32 credits, string address, key mailbox, key marks, u8 1 when
// checksums are wanted, key manifest, u32 n, n x {key, u64 bytes},
// u64 FNV-1a of all before. A key is u64 base, u64 key; a string is u32 length and bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "transfer/fabric.h"
#include "transfer/mail.h"

namespace baton::transfer {

inline constexpr uint16_t kProtocolVersion = 5;
inline constexpr size_t kMaxAddressBytes = 512 << 10;  // NIXL's are long
inline constexpr size_t kMaxRegions = 4096;

struct RemoteRegion {
  MemoryKey key;
  uint64_t size_bytes = 0;
  friend bool operator==(const RemoteRegion&, const RemoteRegion&) = default;
};

struct PeerBlob {
  std::string family;
  uint64_t epoch = 0;  // random per engine: a restarted process is another peer
  uint32_t key_set = 0;
  uint8_t key_set_generation = 0;
  uint32_t credits = 0;  // arrivals that the peer may cause before it is told of more (credits.h)
  std::string address;
  MemoryKey mailbox;  // kMailboxBytes; the peer writes its mails into cell `key_set`
  MemoryKey marks;    // kMarkBytes that nobody reads: where marks land (engine_marks.cpp)
  bool wants_checksums = false;  // of every write, in blocks written to `manifest` (checksums.h)
  MemoryKey manifest;            // only then
  std::vector<RemoteRegion> regions;
  friend bool operator==(const PeerBlob&, const PeerBlob&) = default;
};

std::string EncodeBlob(const PeerBlob& blob);

// kDataCorrupt for anything that EncodeBlob cannot have written, kUnsupported for another protocol
// version (names both).
Result<PeerBlob> ParseBlob(std::string_view bytes);

}  // namespace baton::transfer
