#include "transfer/libfabric/device_mr.h"

#include <unistd.h>

#include "common/log.h"
#include "transfer/cuda/memory.h"

namespace baton::transfer {
namespace {

#ifdef FI_MR_DMABUF
// The dma-buf of the pages around the memory, and where in it the memory begins.
struct DmaBuf {
  int fd = -1;
  uint64_t base = 0, offset = 0;
  ~DmaBuf() {
    if (fd >= 0) close(fd);  // the registration holds its own reference
  }
};

bool ExportDmaBuf(cuda::Driver& driver, const MemorySpan& memory, DmaBuf& out) {
  const uint64_t place = cuda::AsDevice(memory.data), page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  out.base = place / page * page;
  out.offset = place - out.base;
  const uint64_t bytes = (out.offset + memory.size_bytes + page - 1) / page * page;
  const int result =
      driver.api().MemGetHandleForAddressRange(&out.fd, out.base, bytes, cuda::kRangeHandleDmaBufFd, 0);
  if (result == cuda::kSuccess) return true;
  log::warn("transfer: device memory is registered by address: {}",
            driver.Check(result, "cuMemGetHandleForAddressRange").message());
  out.fd = -1;
  return false;
}
#endif

bool HasDmaBuf([[maybe_unused]] const cuda::Driver& driver, [[maybe_unused]] int device) {
#ifdef FI_MR_DMABUF
  return FI_VERSION_GE(fi_version(), FI_VERSION(1, 20)) && driver.api().MemGetHandleForAddressRange &&
         driver.Attribute(device, cuda::kAttributeDmaBuf) != 0;
#else
  return false;
#endif
}

}  // namespace

std::string DeviceMrPath(int device) {
  const Result<cuda::Driver*> driver = cuda::Driver::Get();
  return driver.ok() && device < (*driver)->device_count() && HasDmaBuf(**driver, device) ? "hmem-dmabuf" : "hmem";
}

Result<Fid<fid_mr>> RegisterDeviceMr(fid_domain* domain, const MemorySpan& memory, uint64_t access, uint64_t key,
                                     const std::string& provider) {
  const Result<cuda::Driver*> driver = cuda::Driver::Get();
  if (!driver.ok()) return driver.status();
  if (Status s = (*driver)->Bind(memory.device_index); !s.ok()) return s;
  const iovec range{memory.data, memory.size_bytes};
  fi_mr_attr attr{};
  attr.mr_iov = &range;
  attr.iov_count = 1;
  attr.access = access;
  attr.requested_key = key;
  attr.iface = FI_HMEM_CUDA;
  attr.device.cuda = memory.device_index;
  fid_mr* mr = nullptr;
#ifdef FI_MR_DMABUF
  DmaBuf buffer;
  if (HasDmaBuf(**driver, memory.device_index) && ExportDmaBuf(**driver, memory, buffer)) {
    const fi_mr_dmabuf region{.fd = buffer.fd,
                              .offset = buffer.offset,
                              .len = memory.size_bytes,
                              .base_addr = reinterpret_cast<void*>(buffer.base)};
    attr.dmabuf = &region;
    const int error = fi_mr_regattr(domain, &attr, FI_MR_DMABUF, &mr);
    if (error == 0) return Fid<fid_mr>(mr);
    log::warn("transfer: device memory is registered by address: {}",
              FabricError(Code::kUnavailable, provider, "fi_mr_regattr with a dma-buf", error).message());
    attr.mr_iov = &range;
  }
#endif
  if (const int error = fi_mr_regattr(domain, &attr, 0, &mr))
    return FabricError(Code::kUnavailable, provider,
                       fmt::format("fi_mr_regattr of {} bytes of CUDA device {} (is nvidia-peermem or dma-buf there?)",
                                   memory.size_bytes, memory.device_index), error);
  return Fid<fid_mr>(mr);
}

}  // namespace baton::transfer
