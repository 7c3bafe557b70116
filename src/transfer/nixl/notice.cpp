#include "transfer/nixl/notice.h"

#include "common/bytes.h"

namespace baton::transfer::nixl {
namespace {

constexpr uint32_t kMagic = 0x4E4E5442;  // "BTNN"

}  // namespace

void EncodeNotice(const std::vector<NoticeEntry>& entries, std::string& out) {
  out.clear();
  const auto put = [&out](auto value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  put(kMagic);
  put(static_cast<uint32_t>(entries.size()));
  for (const NoticeEntry& entry : entries) {
    put(entry.imm);
    put(entry.writes);
    put(entry.bytes);
  }
}

Status ParseNotice(std::string_view bytes, std::vector<NoticeEntry>& out) {
  out.clear();
  ByteReader reader(bytes);
  const uint32_t magic = reader.Get<uint32_t>(), count = reader.Get<uint32_t>();
  if (reader.failed() || magic != kMagic || count == 0 || count > kMaxBatchWrites)
    return Error(Code::kDataCorrupt, "a notification of {} bytes is none of Baton's", bytes.size());
  uint64_t writes = 0;
  for (uint32_t i = 0; i < count && !reader.failed(); ++i) {
    NoticeEntry entry;
    entry.imm = reader.Get<uint32_t>();
    entry.writes = reader.Get<uint32_t>();
    entry.bytes = reader.Get<uint64_t>();
    writes += entry.writes;
    if (!reader.failed() && (entry.writes == 0 || writes > kMaxBatchWrites))
      return Error(Code::kDataCorrupt, "a notification claims {} writes", writes);
    out.push_back(entry);
  }
  return reader.Finish();
}

}  // namespace baton::transfer::nixl
