// The notification that travels with a batch of writes: which immediates it stands for.
//
// NIXL delivers it to the target after the data of the batch. Little endian: u32 magic "BTNN",
// u32 n, n x {u32 imm, u32 writes, u64 bytes}; neighbours with the same immediate are one entry.
// Comes from other machines, so parsing trusts nothing (fuzz/transfer_nixl_notice_fuzz.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace baton::transfer::nixl {

inline constexpr uint32_t kMaxBatchWrites = 4096;

struct NoticeEntry {
  uint32_t imm = 0;
  uint32_t writes = 0;
  uint64_t bytes = 0;
  friend bool operator==(const NoticeEntry&, const NoticeEntry&) = default;
};

// Adds one write to the entries of a batch.
inline void AddWrite(std::vector<NoticeEntry>& entries, uint32_t imm, uint64_t bytes) {
  if (entries.empty() || entries.back().imm != imm) entries.push_back({imm, 0, 0});
  ++entries.back().writes;
  entries.back().bytes += bytes;
}

void EncodeNotice(const std::vector<NoticeEntry>& entries, std::string& out);

// Replaces `out`. kDataCorrupt for what EncodeNotice cannot have written, also for more than
// kMaxBatchWrites writes.
Status ParseNotice(std::string_view bytes, std::vector<NoticeEntry>& out);

}  // namespace baton::transfer::nixl
