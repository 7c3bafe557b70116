#include "common/memory_limit.h"

#include <algorithm>
#include <fstream>

#include <unistd.h>

namespace baton {

size_t MemoryLimitBytes() {
  size_t bytes = static_cast<size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  // Of the group that a container sees as its root: version 2, then 1. "max" and absence are no limit.
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    if (size_t limit = 0; file >> limit && limit > 0) bytes = std::min(bytes, limit);
  }
  return bytes;
}

}  // namespace baton
