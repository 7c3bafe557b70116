#include "transfer/staged/staging.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "common/log.h"
#include "transfer/staged/wire.h"

namespace baton::transfer::staged {

Result<std::unique_ptr<Staging>> Staging::Create(const std::shared_ptr<Fabric>& inner) {
  void* const data = mmap(nullptr, kStagingBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED)
    return Error(Code::kResourceExhausted, "{} bytes to stage writes: {}", kStagingBytes, strerror(errno));
  std::unique_ptr<Staging> staging(new Staging(inner));
  staging->data_ = static_cast<std::byte*>(data);
  const Result<uint32_t> region = inner->Register({staging->data_, kStagingBytes});
  if (!region.ok()) return region.status();
  staging->region_ = *region;
  staging->registered_ = true;
  return staging;
}

Staging::~Staging() {
  if (const auto inner = inner_.lock(); inner && registered_) inner->Unregister(region_);
  pin_ = cuda::HostRegistration();
  if (data_) munmap(data_, kStagingBytes);
}

Status Staging::Pin(cuda::Driver& driver) {
  if (pinned_) return Status::Ok();
  Result<cuda::HostRegistration> pin = cuda::HostRegistration::Create(driver, data_, kStagingBytes, false);
  if (!pin.ok()) return pin.status().Prefixed("pinning memory to stage device memory");
  pin_ = *std::move(pin);
  pinned_ = true;
  return Status::Ok();
}

void WaitForCopy(cuda::CopyStream& stream, uint64_t ticket, TimePoint deadline) {
  if (const Status s = stream.Wait(ticket, deadline); s.code() == Code::kDeadlineExceeded)
    log::error("transfer: memory is taken back under a copy: {}", s.message());
}

}  // namespace baton::transfer::staged
