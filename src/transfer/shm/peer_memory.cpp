#include "transfer/shm/peer_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace baton::transfer::shm {
namespace {

constexpr uint32_t kMaxRegions = 256;
constexpr uint64_t kHugePageBytes = 2 << 20;

}  // namespace

PeerMemory::~PeerMemory() {
  for (const Region& region : regions_)
    if (region.mapping) munmap(region.mapping, region.mapped);
}

Status PeerMemory::Map(uint32_t number, int fd, uint64_t offset, uint64_t bytes) {
  const int seals = fcntl(fd, F_GET_SEALS);
  const off_t end = lseek(fd, 0, SEEK_END);
  if (seals < 0 || !(seals & F_SEAL_SHRINK))
    return Error(Code::kDataCorrupt, "the shared memory of region {} is not sealed", number);
  if (end < 0 || bytes == 0 || bytes > static_cast<uint64_t>(end) ||
      offset > static_cast<uint64_t>(end) - bytes)
    return Error(Code::kDataCorrupt, "region {} does not lie within its shared memory", number);
  if (number >= kMaxRegions || (number < regions_.size() && regions_[number].mapping))
    return Error(Code::kDataCorrupt, "region {} is shared twice, or too high", number);
  // From a huge page's start to the end, at such an address, so that huge pages stay whole.
  const uint64_t first = offset / kHugePageBytes * kHugePageBytes;
  const uint64_t needed = offset + bytes - first;
  const size_t mapped = needed + kHugePageBytes;
  void* const mapping =
      mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED)
    return Error(Code::kResourceExhausted, "mapping region {}: {}", number, strerror(errno));
  auto* const begin = static_cast<std::byte*>(mapping);
  std::byte* const data = begin + -reinterpret_cast<uintptr_t>(begin) % kHugePageBytes;
  if (mmap(data, needed, PROT_READ, MAP_SHARED | MAP_FIXED, fd, static_cast<off_t>(first)) ==
      MAP_FAILED) {
    const int error = errno;
    munmap(mapping, mapped);
    return Error(Code::kResourceExhausted, "mapping region {}: {}", number, strerror(error));
  }
  if (number >= regions_.size()) regions_.resize(number + 1);
  regions_[number] = {data + (offset - first), bytes, mapping, mapped};
  return Status::Ok();
}

}  // namespace baton::transfer::shm
