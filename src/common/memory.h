// Where bytes live, for code that must know (transfer registration) without knowing kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton {

enum class DeviceKind : uint8_t { kHost, kCuda };

struct MemorySpan {
  std::byte* data = nullptr;
  size_t size_bytes = 0;
  DeviceKind device = DeviceKind::kHost;
  int device_index = 0;  // CUDA ordinal; 0 for host.
};

}  // namespace baton
