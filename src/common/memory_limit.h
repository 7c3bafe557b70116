// How much memory this process may have.
#pragma once

#include <cstddef>

namespace baton {

// The machine's memory, or the control group's limit where that is less (a container's). Bytes.
size_t MemoryLimitBytes();

}  // namespace baton
