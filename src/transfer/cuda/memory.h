// Owners of CUDA memory: of a device, pinned host memory, and host memory pinned where it lies.
//
// Making and freeing them takes a millisecond and more and may wait for the device: at start, not
// per write. Freed memory must not be in use by a copy. Owner's thread.
#pragma once

#include <cstddef>
#include <utility>

#include "common/clock.h"
#include "common/memory.h"
#include "transfer/cuda/driver.h"

namespace baton::transfer::cuda {

inline DevicePtr AsDevice(const void* place) { return reinterpret_cast<DevicePtr>(place); }

class DeviceBuffer {
 public:
  static Result<DeviceBuffer> Create(int ordinal, size_t bytes);
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : driver_(other.driver_), span_(std::exchange(other.span_, {})) {}
  DeviceBuffer& operator=(DeviceBuffer&&) = delete;
  ~DeviceBuffer();
  MemorySpan span() const { return span_; }

 private:
  DeviceBuffer(Driver* driver, MemorySpan span) : driver_(driver), span_(span) {}
  Driver* driver_;
  MemorySpan span_;
};

// Host memory that every device reads and writes at full speed, at this same address.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  static Result<PinnedBuffer> Create(Driver& driver, size_t bytes);
  PinnedBuffer(PinnedBuffer&& other) noexcept
      : driver_(other.driver_), data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;
  ~PinnedBuffer();
  std::byte* data() const { return data_; }
  size_t size() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  Driver* driver_ = nullptr;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

// Pins memory that another owns, while it lasts. `read_only`: the mapping allows no writing.
class HostRegistration {
 public:
  HostRegistration() = default;
  static Result<HostRegistration> Create(Driver& driver, const std::byte* data, size_t bytes, bool read_only);
  HostRegistration(HostRegistration&& other) noexcept
      : driver_(other.driver_), data_(std::exchange(other.data_, nullptr)) {}
  HostRegistration& operator=(HostRegistration&& other) noexcept;
  ~HostRegistration();

 private:
  Driver* driver_ = nullptr;
  const std::byte* data_ = nullptr;
};

// Copies and waits, by `deadline`: for tests, checks and start-up, never on the worker's way. Either
// side may be host memory of any kind (it goes through a pinned piece).
Status CopyNow(MemorySpan to, MemorySpan from, TimePoint deadline);

}  // namespace baton::transfer::cuda
