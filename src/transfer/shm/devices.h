// CUDA as an endpoint on shared memory uses it: a stream per device, device memory that processes of
// this host lend each other, host memory that is pinned for it.
//
// Between two processes device memory travels as an IPC handle of its whole allocation, in a file
// beside a notice (socket.h). The target opens it in the context of the device that will copy.
// Thread: the fabric's owner.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/memory.h"
#include "transfer/cuda/copy_stream.h"
#include "transfer/shm/socket.h"

namespace baton::transfer::shm {

// What a writer tells of a region in device memory.
struct DeviceShare {
  uint64_t magic = 0;
  cuda::IpcHandle handle{};       // of the allocation
  cuda::Uuid device{};
  uint64_t place = 0;             // of the region, for its own process
  uint64_t offset = 0, bytes = 0; // of the region in the allocation
};

// Another process's allocation, open in the context of one device here.
class Import {
 public:
  Import(cuda::Driver& driver, int accessor, cuda::DevicePtr base) : driver_(driver), accessor_(accessor), base_(base) {}
  Import(const Import&) = delete;
  Import& operator=(const Import&) = delete;
  ~Import();
  cuda::DevicePtr base() const { return base_; }

 private:
  cuda::Driver& driver_;
  const int accessor_;
  const cuda::DevicePtr base_;
};

class Devices {
 public:
  // Loads CUDA at the first call.
  Status Use();
  cuda::Driver* driver() const { return driver_; }  // null before

  // The stream that copies with `ordinal`; null when there can be none (logged).
  cuda::CopyStream* Stream(int ordinal);
  void Flush();

  // A file with the DeviceShare. kUnsupported for memory that has no IPC handle (made by cuMemCreate).
  Result<Fd> Share(const MemorySpan& memory);
  static Result<DeviceShare> ReadShare(int fd);
  // One opening per allocation and accessor at a time, however many ask.
  Result<std::shared_ptr<Import>> Open(const DeviceShare& share, int accessor);

  // Pins host memory, if that can be; else copies take a detour.
  void Pin(const std::byte* data, size_t bytes, bool read_only);
  void Unpin(const std::byte* data) { pins_.erase(data); }
  bool IsPinned(const std::byte* data, size_t bytes) const;

 private:
  struct PinnedRange {
    size_t bytes = 0;
    cuda::HostRegistration registration;
  };
  cuda::Driver* driver_ = nullptr;
  std::map<int, std::unique_ptr<cuda::CopyStream>> streams_;
  std::map<std::pair<std::string, int>, std::weak_ptr<Import>> imports_;
  std::map<const std::byte*, PinnedRange> pins_;
};

}  // namespace baton::transfer::shm
