// A writer's regions as this process sees them: mapped read-only where the writer shared them.
#pragma once

#include <cstdint>
#include <vector>

#include "common/status.h"

namespace baton::transfer::shm {

class PeerMemory {
 public:
  PeerMemory() = default;
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;
  ~PeerMemory();

  // Region `number` is [offset, +bytes) of the file. Refuses a file that could shrink under us.
  Status Map(uint32_t number, int fd, uint64_t offset, uint64_t bytes);

  // Nullptr when the region is not mapped or the range leaves it.
  const std::byte* Find(uint32_t number, uint64_t offset, uint64_t bytes) const {
    if (number >= regions_.size()) return nullptr;
    const Region& region = regions_[number];
    if (bytes > region.bytes || offset > region.bytes - bytes) return nullptr;
    return region.data + offset;
  }

 private:
  struct Region {
    const std::byte* data = nullptr;
    uint64_t bytes = 0;
    void* mapping = nullptr;
    size_t mapped = 0;
  };
  std::vector<Region> regions_;  // by number
};

}  // namespace baton::transfer::shm
