#include "kernels/host_buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "common/shared_memory.h"

namespace baton::kernels {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

// An anonymous mapping. Large ones are placed so that the data start on a huge page.
class HostBuffer final : public Buffer {
 public:
  HostBuffer(void* mapping, size_t mapped_bytes, std::byte* data, size_t bytes)
      : mapping_(mapping), mapped_bytes_(mapped_bytes), span_{data, bytes} {}
  ~HostBuffer() override { munmap(mapping_, mapped_bytes_); }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  MemorySpan span() const override { return span_; }

 private:
  void* mapping_;
  size_t mapped_bytes_;
  MemorySpan span_;
};

class SharedHostBuffer final : public Buffer {
 public:
  explicit SharedHostBuffer(SharedMemory memory) : memory_(std::move(memory)) {}
  MemorySpan span() const override { return memory_.span(); }

 private:
  SharedMemory memory_;
};

}  // namespace

Result<std::unique_ptr<Buffer>> AllocateSharedHostBuffer(size_t bytes) {
  Result<SharedMemory> memory = SharedMemory::Create(bytes, SharedMemory::Pages::kHuge);
  if (!memory.ok()) return memory.status();
  return std::unique_ptr<Buffer>(std::make_unique<SharedHostBuffer>(*std::move(memory)));
}

Result<std::unique_ptr<Buffer>> AllocateHostBuffer(size_t bytes) {
  const bool large = bytes >= kHugePageBytes;
  const size_t slack = large ? kHugePageBytes : 0;
  if (bytes > SIZE_MAX - slack)
    return Error(Code::kResourceExhausted, "cannot allocate {} bytes", bytes);
  const size_t mapped = bytes + slack > 0 ? bytes + slack : 1;
  void* mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) {
    return Error(Code::kResourceExhausted, "cannot allocate {} bytes: {}", bytes,
                 std::strerror(errno));
  }
  auto address = reinterpret_cast<uintptr_t>(mapping);
  if (large) {
    address = (address + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
    madvise(reinterpret_cast<void*>(address), bytes, MADV_HUGEPAGE);  // advice: failure is fine
  }
  return std::unique_ptr<Buffer>(
      new HostBuffer(mapping, mapped, reinterpret_cast<std::byte*>(address), bytes));
}

}  // namespace baton::kernels
