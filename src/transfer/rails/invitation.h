// What the rails of one side tell those of the other: each rail's address, and for every key of the
// description the key of each rail. Travels as the address of the Describe blob (blob.h), so it comes
// from other machines and parsing trusts nothing (fuzz/transfer_rails_fuzz.cpp).
//
// Little endian: u32 magic "BTNR", u8 version, u8 n, n x {string address, u8 1 when its keys are
// renewed in series, key pad}, u32 k, k x {u64 id, n x key}. A key is u64 base, u64 key; a string is
// u32 length and bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "transfer/fabric.h"

namespace baton::transfer {

inline constexpr size_t kMaxRails = 16;

struct RailsInvitation {
  struct Rail {
    std::string address;
    bool renews_keys = false;
    MemoryKey pad;  // a few bytes that anyone invited may write to: kRailPadBytes
    friend bool operator==(const Rail&, const Rail&) = default;
  };
  std::vector<Rail> rails;
  std::vector<uint64_t> ids;    // MemoryKey::key as the engines know it
  std::vector<MemoryKey> keys;  // of ids[i] on rail r: [i * rails.size() + r]
  friend bool operator==(const RailsInvitation&, const RailsInvitation&) = default;
};

inline constexpr uint64_t kRailPadBytes = 64;

std::string EncodeRails(const RailsInvitation& invitation);
// kDataCorrupt for anything that EncodeRails cannot have written.
Result<RailsInvitation> ParseRails(std::string_view bytes);

}  // namespace baton::transfer
