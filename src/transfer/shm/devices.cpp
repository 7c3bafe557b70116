#include "transfer/shm/devices.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/log.h"
#include "transfer/shm/channel.h"

namespace baton::transfer::shm {
namespace {

constexpr size_t kLeastPinned = 1 << 20;  // less is mails, which no device copies

}  // namespace

Import::~Import() {
  Status s = driver_.Bind(accessor_);
  if (s.ok()) s = driver_.Check(driver_.api().IpcCloseMemHandle(base_), "cuIpcCloseMemHandle");
  if (!s.ok()) log::warn("transfer over shm: {}", s.message());
}

Status Devices::Use() {
  if (driver_) return Status::Ok();
  const Result<cuda::Driver*> driver = cuda::Driver::Get();
  if (!driver.ok()) return driver.status();
  driver_ = *driver;
  return Status::Ok();
}

cuda::CopyStream* Devices::Stream(int ordinal) {
  if (const auto found = streams_.find(ordinal); found != streams_.end()) return found->second.get();
  Result<std::unique_ptr<cuda::CopyStream>> stream = cuda::CopyStream::Create(*driver_, ordinal);
  if (!stream.ok()) log::error("transfer over shm: {}", stream.status().message());
  return (streams_[ordinal] = stream.ok() ? *std::move(stream) : nullptr).get();
}

void Devices::Flush() {
  for (auto& [ordinal, stream] : streams_)
    if (stream) stream->Flush();
}

Result<Fd> Devices::Share(const MemorySpan& memory) {
  if (Status s = Use(); !s.ok()) return s;
  if (Status s = driver_->Bind(memory.device_index); !s.ok()) return s;
  const cuda::Api& api = driver_->api();
  const cuda::DevicePtr place = cuda::AsDevice(memory.data);
  cuda::DevicePtr base = 0;
  size_t whole = 0;
  if (Status s = driver_->Check(api.MemGetAddressRange(&base, &whole, place), "cuMemGetAddressRange"); !s.ok())
    return s.Prefixed("a region of device memory");
  DeviceShare share{.magic = kMagic, .device = driver_->uuid(memory.device_index), .place = place, .offset = place - base,
                    .bytes = memory.size_bytes};
  if (share.offset > whole || memory.size_bytes > whole - share.offset)
    return Error(Code::kInvalidArgument, "a region of {} bytes is larger than its allocation on CUDA device {}",
                 memory.size_bytes, memory.device_index);
  if (Status s = driver_->Check(api.IpcGetMemHandle(&share.handle, base), "cuIpcGetMemHandle"); !s.ok())
    return s.Prefixed("memory of CUDA device " + std::to_string(memory.device_index) +
                      " cannot be lent to other processes (allocate it with cuMemAlloc, or use provider tcp)");
  Fd file(memfd_create("baton-device", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file || write(file.get(), &share, sizeof share) != sizeof share ||
      fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
    return Error(Code::kUnavailable, "transfer over shm: memfd: {}", strerror(errno));
  return file;
}

Result<DeviceShare> Devices::ReadShare(int fd) {
  DeviceShare share;
  if (pread(fd, &share, sizeof share, 0) != sizeof share || share.magic != kMagic || share.bytes == 0 ||
      share.offset > ~uint64_t{0} - share.bytes)
    return Error(Code::kDataCorrupt, "a notice of device memory that this version does not know");
  return share;
}

Result<std::shared_ptr<Import>> Devices::Open(const DeviceShare& share, int accessor) {
  std::weak_ptr<Import>& known = imports_[{std::string(share.handle.bytes, sizeof share.handle.bytes), accessor}];
  if (auto import = known.lock()) return import;
  if (Status s = driver_->Bind(accessor); !s.ok()) return s;
  cuda::DevicePtr base = 0;
  const int result = driver_->api().IpcOpenMemHandle(&base, share.handle, cuda::kIpcLazyPeerAccess);
  if (Status s = driver_->Check(result, "cuIpcOpenMemHandle"); !s.ok())
    return s.Prefixed(fmt::format("a peer's device memory, for CUDA device {}", accessor));
  // What lies behind the handle is the driver's word, not the peer's.
  cuda::DevicePtr start = 0;
  size_t whole = 0;
  auto import = std::make_shared<Import>(*driver_, accessor, base);
  if (Status s = driver_->Check(driver_->api().MemGetAddressRange(&start, &whole, base), "cuMemGetAddressRange"); !s.ok())
    return s;
  if (start != base || share.offset + share.bytes > whole)
    return Error(Code::kDataCorrupt, "a peer's region leaves its allocation of {} bytes", whole);
  known = import;
  return import;
}

void Devices::Pin(const std::byte* data, size_t bytes, bool read_only) {
  if (!driver_ || bytes < kLeastPinned || pins_.contains(data)) return;
  Result<cuda::HostRegistration> registration = cuda::HostRegistration::Create(*driver_, data, bytes, read_only);
  if (!registration.ok())
    return log::info("transfer over shm: {} bytes of host memory stay unpinned, copies between them and devices take a "
                     "detour: {}", bytes, registration.status().message());
  pins_[data] = {bytes, *std::move(registration)};
}

bool Devices::IsPinned(const std::byte* data, size_t bytes) const {
  auto found = pins_.upper_bound(data);
  if (found == pins_.begin()) return false;
  --found;
  const size_t offset = static_cast<size_t>(data - found->first);
  return offset <= found->second.bytes && bytes <= found->second.bytes - offset;
}

}  // namespace baton::transfer::shm
