// Notifications of batches of writes over NIXL.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "transfer/nixl/notice.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton::transfer::nixl;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::vector<NoticeEntry> entries;
  if (!ParseNotice(bytes, entries).ok()) return 0;
  // What was accepted is what would be sent, and never claims more than a batch can hold.
  std::string again;
  EncodeNotice(entries, again);
  if (again != bytes) std::abort();
  uint64_t writes = 0;
  for (const NoticeEntry& entry : entries) writes += entry.writes;
  if (writes > kMaxBatchWrites) std::abort();
  return 0;
}
