// Host memory that other processes of this host can map: a sealed memfd and this process's mapping.
//
// A KV pool made so can be read by a peer without a system call per page (transfer/shm). Whoever
// only has a pointer finds the file behind it with FindSharedMemory.
//
// Zeroed, aligned to 2 MiB. Nothing is left behind when the process ends, however it ends.
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/memory.h"
#include "common/status.h"

namespace baton {

class SharedMemory {
 public:
  enum class Pages : uint8_t {
    kOnDemand,  // small pages, taken when touched
    kHuge,      // all of it now, on huge pages where the kernel can (Linux 6.1: MADV_COLLAPSE, which
                // does not need shmem_enabled); small ones where it cannot
  };
  // kResourceExhausted when the system has no memory or descriptor for it.
  static Result<SharedMemory> Create(size_t bytes, Pages pages);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  MemorySpan span() const { return {data_, bytes_}; }

 private:
  SharedMemory(int fd, std::byte* data, size_t bytes, size_t mapped);

  int fd_ = -1;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0, mapped_ = 0;
};

// The file and the place in it of memory that lies wholly within one SharedMemory. The descriptor
// stays its owner's.
struct SharedRange {
  int fd = -1;
  uint64_t offset = 0;
};
std::optional<SharedRange> FindSharedMemory(const void* data, size_t bytes);

}  // namespace baton
