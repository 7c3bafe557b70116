#include "transfer/cuda/memory.h"

#include <algorithm>
#include <cstring>

#include "common/log.h"
#include "transfer/cuda/copy_stream.h"

namespace baton::transfer::cuda {
namespace {

constexpr size_t kPieceBytes = 4 << 20;

void Warn(const Status& status) {
  if (!status.ok()) log::warn("{}", status.message());
}

}  // namespace

Result<DeviceBuffer> DeviceBuffer::Create(int ordinal, size_t bytes) {
  Result<Driver*> driver = Driver::Get();
  if (!driver.ok()) return driver.status();
  if (Status s = (*driver)->Bind(ordinal); !s.ok()) return s;
  DevicePtr place = 0;
  if (Status s = (*driver)->Check((*driver)->api().MemAlloc(&place, bytes), "cuMemAlloc"); !s.ok())
    return s.Prefixed(fmt::format("{} bytes of CUDA device {}", bytes, ordinal));
  return DeviceBuffer(*driver, {reinterpret_cast<std::byte*>(place), bytes, DeviceKind::kCuda, ordinal});
}

DeviceBuffer::~DeviceBuffer() {
  if (!span_.data) return;
  Warn(driver_->Bind(span_.device_index));
  Warn(driver_->Check(driver_->api().MemFree(AsDevice(span_.data)), "cuMemFree"));
}

Result<PinnedBuffer> PinnedBuffer::Create(Driver& driver, size_t bytes) {
  if (Status s = driver.BindAny(); !s.ok()) return s;
  void* place = nullptr;
  const int result = driver.api().MemHostAlloc(&place, bytes, kHostAllocPortable | kHostAllocDeviceMap);
  if (Status s = driver.Check(result, "cuMemHostAlloc"); !s.ok())
    return s.Prefixed(fmt::format("{} bytes of pinned host memory", bytes));
  PinnedBuffer buffer;
  buffer.driver_ = &driver;
  buffer.data_ = static_cast<std::byte*>(place);
  buffer.bytes_ = bytes;
  return buffer;
}

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(driver_, other.driver_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

PinnedBuffer::~PinnedBuffer() {
  if (!data_) return;
  Warn(driver_->BindAny());
  Warn(driver_->Check(driver_->api().MemFreeHost(data_), "cuMemFreeHost"));
}

Result<HostRegistration> HostRegistration::Create(Driver& driver, const std::byte* data, size_t bytes, bool read_only) {
  if (Status s = driver.BindAny(); !s.ok()) return s;
  const unsigned flags =
      kHostRegisterPortable | kHostRegisterDeviceMap | (read_only ? kHostRegisterReadOnly : 0);
  const int result = driver.api().MemHostRegister(const_cast<std::byte*>(data), bytes, flags);
  if (Status s = driver.Check(result, "cuMemHostRegister"); !s.ok()) return s;
  HostRegistration registration;
  registration.driver_ = &driver;
  registration.data_ = data;
  return registration;
}

HostRegistration& HostRegistration::operator=(HostRegistration&& other) noexcept {
  std::swap(driver_, other.driver_);
  std::swap(data_, other.data_);
  return *this;
}

HostRegistration::~HostRegistration() {
  if (!data_) return;
  Warn(driver_->BindAny());
  Warn(driver_->Check(driver_->api().MemHostUnregister(const_cast<std::byte*>(data_)), "cuMemHostUnregister"));
}

Status CopyNow(MemorySpan to, MemorySpan from, TimePoint deadline) {
  if (to.size_bytes < from.size_bytes)
    return Error(Code::kInvalidArgument, "{} bytes do not fit into {}", from.size_bytes, to.size_bytes);
  const bool to_host = to.device == DeviceKind::kHost, from_host = from.device == DeviceKind::kHost;
  if (to_host && from_host) {
    std::memcpy(to.data, from.data, from.size_bytes);
    return Status::Ok();
  }
  Result<Driver*> driver = Driver::Get();
  if (!driver.ok()) return driver.status();
  const int ordinal = to_host ? from.device_index : to.device_index;
  Result<std::unique_ptr<CopyStream>> stream = CopyStream::Create(**driver, ordinal, false);
  if (!stream.ok()) return stream.status();
  const auto copy = [&](void* target, const void* source, size_t bytes) -> Status {
    const uint64_t ticket = (*stream)->Add(AsDevice(target), AsDevice(source), bytes);
    (*stream)->Flush();
    return (*stream)->Wait(ticket, deadline);
  };
  if (!to_host && !from_host) return copy(to.data, from.data, from.size_bytes);
  const size_t piece_bytes = std::min(kPieceBytes, from.size_bytes);
  Result<PinnedBuffer> piece = PinnedBuffer::Create(**driver, std::max<size_t>(piece_bytes, 1));
  if (!piece.ok()) return piece.status();
  for (size_t done = 0; done < from.size_bytes; done += piece_bytes) {
    const size_t bytes = std::min(piece_bytes, from.size_bytes - done);
    if (from_host) std::memcpy(piece->data(), from.data + done, bytes);
    const Status s = from_host ? copy(to.data + done, piece->data(), bytes) : copy(piece->data(), from.data + done, bytes);
    if (!s.ok()) return s;
    if (to_host) std::memcpy(to.data + done, piece->data(), bytes);
  }
  return Status::Ok();
}

}  // namespace baton::transfer::cuda
