#include "common/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

namespace baton {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr int kCollapse = 25;  // MADV_COLLAPSE, which older headers lack

struct Known {
  size_t bytes = 0;
  int fd = -1;
};
std::mutex known_mutex;
std::map<const std::byte*, Known>& KnownMemory() {
  static auto* const known = new std::map<const std::byte*, Known>;  // outlives static owners
  return *known;
}

// Maps the file at an address that is a multiple of a huge page.
std::byte* MapAligned(int fd, size_t mapped) {
  void* const reserved = mmap(nullptr, mapped + kHugePageBytes, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(reserved);
  const size_t before = -reinterpret_cast<uintptr_t>(begin) % kHugePageBytes;
  std::byte* const data = begin + before;
  if (before) munmap(begin, before);
  munmap(data + mapped, kHugePageBytes - before);
  if (mmap(data, mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
    munmap(data, mapped);
    return nullptr;
  }
  return data;
}

// A huge page can only be collapsed around a page that is there. Refusal is fine: the kernel is
// older, or has no huge page left.
void TakeHugePages(std::byte* data, size_t mapped) {
  for (size_t at = 0; at < mapped; at += kHugePageBytes) {
    const_cast<volatile std::byte*>(data)[at] = std::byte{0};
    if (madvise(data + at, kHugePageBytes, kCollapse) != 0 && errno == EINVAL) return;
  }
}

}  // namespace

Result<SharedMemory> SharedMemory::Create(size_t bytes, Pages pages) {
  const auto fail = [&](const char* call) {
    return Error(Code::kResourceExhausted, "cannot share {} bytes: {}: {}", bytes, call,
                 std::strerror(errno));
  };
  const size_t unit = pages == Pages::kHuge ? kHugePageBytes : static_cast<size_t>(getpagesize());
  if (bytes > SIZE_MAX / 2)
    return Error(Code::kResourceExhausted, "cannot share {} bytes", bytes);
  const size_t mapped = (std::max<size_t>(bytes, 1) + unit - 1) / unit * unit;
  const int fd = memfd_create("baton-pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return fail("memfd_create");
  // Peers map it: were it shrunk, their reads would raise SIGBUS.
  if (ftruncate(fd, static_cast<off_t>(mapped)) != 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    const Status status = fail("ftruncate");
    close(fd);
    return status;
  }
  std::byte* const data = MapAligned(fd, mapped);
  if (!data) {
    const Status status = fail("mmap");
    close(fd);
    return status;
  }
  if (pages == Pages::kHuge) TakeHugePages(data, mapped);
  return SharedMemory(fd, data, bytes, mapped);
}

SharedMemory::SharedMemory(int fd, std::byte* data, size_t bytes, size_t mapped)
    : fd_(fd), data_(data), bytes_(bytes), mapped_(mapped) {
  const std::lock_guard lock(known_mutex);
  KnownMemory()[data] = {mapped, fd};
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

SharedMemory::~SharedMemory() {
  if (!data_) return;
  {
    const std::lock_guard lock(known_mutex);
    KnownMemory().erase(data_);
  }
  munmap(data_, mapped_);
  close(fd_);
}

std::optional<SharedRange> FindSharedMemory(const void* data, size_t bytes) {
  const auto* const begin = static_cast<const std::byte*>(data);
  const std::lock_guard lock(known_mutex);
  auto next = KnownMemory().upper_bound(begin);
  if (next == KnownMemory().begin()) return std::nullopt;
  const auto& [start, known] = *--next;
  const auto offset = static_cast<size_t>(begin - start);
  if (offset > known.bytes || bytes > known.bytes - offset) return std::nullopt;
  return SharedRange{known.fd, offset};
}

}  // namespace baton
