// A libcuda for machines without a GPU: memory files play device memory, streams run when somebody
// asks for an event.
//
// Strict where the real one is, or may be: device addresses cannot be touched by the processor,
// pageable memory is refused, calls without a context fail, a handle opens only in another process
// and once. A stream moves on only by queries of its events, `ops_per_query` steps at a time, so
// whatever does not wait for its copies sees old bytes.
//
// Settings: by cuda_mock_set, or in the environment as BATON_CUDA_MOCK_SETTINGS="name=value,name=value".
//   devices (2), version (12080), ops_per_query (3), stall, no_kernel, no_peer, no_ipc,
//   no_host_register, no_host_alloc, fail_copy_after (count of copies), no_dmabuf, no_init,
//   touchable (the processor may: for tests that look at every byte after every step)
// Counts, by cuda_mock_get: copies, launches, kernel_copies, registered, allocated, streams, opened
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "transfer/cuda/abi.h"

using namespace baton::transfer::cuda;

// Not the process's operator new: tests count that.
template <typename T>
struct MallocAllocator {
  using value_type = T;
  MallocAllocator() = default;
  template <typename U>
  MallocAllocator(const MallocAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(std::malloc(n * sizeof(T))); }
  void deallocate(T* place, size_t) { std::free(place); }
  friend bool operator==(MallocAllocator, MallocAllocator) { return true; }
};

namespace baton::transfer::cuda {
struct ContextHandle {
  int device;
};
struct EventHandle {
  StreamHandle* stream = nullptr;
  bool fired = true;
};
struct ModuleHandle {};
struct FunctionHandle {};
struct StreamHandle {
  struct Step {
    DevicePtr to = 0, from = 0;
    size_t bytes = 0;
    DevicePtr list = 0;  // of a launch, read when it runs
    unsigned entries = 0;
    EventHandle* event = nullptr;
  };
  std::deque<Step, MallocAllocator<Step>> steps;
  bool failed = false;
  int device = 0;
};
}  // namespace baton::transfer::cuda

namespace {

constexpr int kInvalidContext = 201, kAlreadyMapped = 208, kInvalidHandle = 400, kIllegalAddress = 700,
              kAlreadyRegistered = 712, kNotPermitted = 800;

// Device memory: nothing at its address, the bytes at `alias`.
struct Allocation {
  std::byte* alias;
  size_t bytes;
  int fd;
  bool imported;
};

struct World {
  std::mutex mutex;
  std::map<std::string, long> settings{{"devices", 2}, {"version", 12080}, {"ops_per_query", 3}};
  std::map<std::string, long> counts;
  std::map<DevicePtr, Allocation> device;
  std::map<DevicePtr, size_t> pinned;
  std::map<std::string, DevicePtr> opened;
  ContextHandle contexts[16];
  FunctionHandle functions[16];  // by device: a module belongs to the context that it was loaded in
  ModuleHandle modules[16];

  World() {
    for (int i = 0; i < 16; ++i) contexts[i].device = i;
    const char* text = std::getenv("BATON_CUDA_MOCK_SETTINGS");
    for (std::string rest = text ? text : ""; !rest.empty();) {
      const std::string one = rest.substr(0, rest.find(','));
      rest = one.size() < rest.size() ? rest.substr(one.size() + 1) : "";
      if (const size_t equals = one.find('='); equals != std::string::npos)
        settings[one.substr(0, equals)] = std::atol(one.c_str() + equals + 1);
    }
  }
  bool On(const char* name) { return settings[name] != 0; }
};

World& Here() {
  static World& world = *new World;
  return world;
}
thread_local ContextHandle* current = nullptr;

struct Ipc {
  int pid, fd;
  size_t bytes;
};

const char* NameOf(int result) {
  switch (result) {
    case 0: return "CUDA_SUCCESS";
    case kInvalidValue: return "CUDA_ERROR_INVALID_VALUE";
    case kOutOfMemory: return "CUDA_ERROR_OUT_OF_MEMORY";
    case kNoDevice: return "CUDA_ERROR_NO_DEVICE";
    case kInvalidContext: return "CUDA_ERROR_INVALID_CONTEXT";
    case kIllegalAddress: return "CUDA_ERROR_ILLEGAL_ADDRESS";
    case kNotReady: return "CUDA_ERROR_NOT_READY";
    case kNotSupported: return "CUDA_ERROR_NOT_SUPPORTED";
    default: return "CUDA_ERROR_UNKNOWN";
  }
}

// Where the bytes really are; null when neither device nor pinned memory holds all of them.
std::byte* Resolve(World& world, DevicePtr place, size_t bytes) {
  auto found = world.device.upper_bound(place);
  if (found != world.device.begin()) {
    --found;
    if (place - found->first <= found->second.bytes && bytes <= found->second.bytes - (place - found->first))
      return found->second.alias + (place - found->first);
  }
  auto pin = world.pinned.upper_bound(place);
  if (pin != world.pinned.begin()) {
    --pin;
    if (place - pin->first <= pin->second && bytes <= pin->second - (place - pin->first))
      return reinterpret_cast<std::byte*>(place);
  }
  return nullptr;
}

DevicePtr Place(World& world, int fd, size_t bytes, bool imported) {
  void* const alias = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  void* const place = world.On("touchable")
                          ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                          : mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (alias == MAP_FAILED || place == MAP_FAILED) return 0;
  world.device[reinterpret_cast<DevicePtr>(place)] = {static_cast<std::byte*>(alias), bytes, fd, imported};
  return reinterpret_cast<DevicePtr>(place);
}

void Forget(World& world, DevicePtr place) {
  const auto found = world.device.find(place);
  munmap(found->second.alias, found->second.bytes);
  munmap(reinterpret_cast<void*>(place), found->second.bytes);
  close(found->second.fd);
  world.device.erase(found);
}

bool CopyOne(World& world, DevicePtr to, DevicePtr from, size_t bytes) {
  std::byte* const target = Resolve(world, to, bytes);
  const std::byte* const source = Resolve(world, from, bytes);
  if (!target || !source) return false;
  std::memmove(target, source, bytes);
  return true;
}

void RunStep(World& world, StreamHandle& stream) {
  const StreamHandle::Step step = stream.steps.front();
  stream.steps.pop_front();
  if (step.event) {
    step.event->fired = true;
  } else if (step.entries) {
    const auto* list = reinterpret_cast<const uint64_t*>(Resolve(world, step.list, step.entries * 24));
    for (unsigned i = 0; i < step.entries && list; ++i, list += 3) {
      ++world.counts["kernel_copies"];
      const bool aligned = (list[0] | list[1] | list[2]) % 16 == 0;
      if (!aligned || !CopyOne(world, list[0], list[1], list[2])) stream.failed = true;
    }
    if (!list) stream.failed = true;
  } else if (!CopyOne(world, step.to, step.from, step.bytes)) {
    stream.failed = true;
  }
  const long limit = world.settings["fail_copy_after"];
  if (limit && world.counts["copies"] + world.counts["kernel_copies"] >= limit) stream.failed = true;
}

}  // namespace

extern "C" {

void cuda_mock_set(const char* name, long value) {
  const std::lock_guard lock(Here().mutex);
  Here().settings[name] = value;
}
long cuda_mock_get(const char* name) {
  const std::lock_guard lock(Here().mutex);
  return Here().counts[name];
}

int cuInit(unsigned) { return Here().On("no_init") ? kNoDevice : kSuccess; }
int cuDriverGetVersion(int* version) {
  *version = static_cast<int>(Here().settings["version"]);
  return kSuccess;
}
int cuGetErrorName(int result, const char** name) {
  *name = NameOf(result);
  return kSuccess;
}
int cuGetErrorString(int, const char** text) {
  *text = "as the mock was told";
  return kSuccess;
}
int cuDeviceGetCount(int* count) {
  *count = static_cast<int>(Here().settings["devices"]);
  return kSuccess;
}
int cuDeviceGet(DeviceId* device, int ordinal) {
  *device = ordinal;
  return kSuccess;
}
int cuDeviceGetName(char* name, int bytes, DeviceId) {
  std::snprintf(name, bytes, "mock");
  return kSuccess;
}
int cuDeviceGetPCIBusId(char* text, int bytes, DeviceId device) {
  std::snprintf(text, static_cast<size_t>(bytes), "0000:%02x:00.0", 0x1b + device);
  return kSuccess;
}
int cuDeviceGetUuid(Uuid* uuid, DeviceId device) {
  std::snprintf(uuid->bytes, sizeof uuid->bytes, "mock-%d", device);
  return kSuccess;
}
int cuDeviceGetAttribute(int* value, int attribute, DeviceId) {
  *value = attribute == kAttributeDmaBuf ? !Here().On("no_dmabuf") : 1;
  return kSuccess;
}
int cuDeviceCanAccessPeer(int* can, DeviceId, DeviceId) {
  *can = !Here().On("no_peer");
  return kSuccess;
}
int cuDevicePrimaryCtxRetain(ContextHandle** context, DeviceId device) {
  *context = &Here().contexts[device];
  return kSuccess;
}
int cuCtxSetCurrent(ContextHandle* context) {
  current = context;
  return kSuccess;
}
int cuCtxEnablePeerAccess(ContextHandle*, unsigned) { return current ? kSuccess : kInvalidContext; }

int cuMemAlloc_v2(DevicePtr* place, size_t bytes) {
  if (!current) return kInvalidContext;
  if (bytes == 0) return kInvalidValue;
  const std::lock_guard lock(Here().mutex);
  const size_t whole = (bytes + 4095) / 4096 * 4096;
  const int fd = memfd_create("cuda-mock", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(whole)) != 0) return kOutOfMemory;
  *place = Place(Here(), fd, whole, false);
  ++Here().counts["allocated"];
  return *place ? kSuccess : kOutOfMemory;
}
int cuMemFree_v2(DevicePtr place) {
  const std::lock_guard lock(Here().mutex);
  if (!Here().device.contains(place)) return kInvalidValue;
  Forget(Here(), place);
  --Here().counts["allocated"];
  return kSuccess;
}
int cuMemGetAddressRange_v2(DevicePtr* base, size_t* bytes, DevicePtr place) {
  const std::lock_guard lock(Here().mutex);
  auto found = Here().device.upper_bound(place);
  if (found == Here().device.begin()) return kInvalidValue;
  --found;
  if (place - found->first >= found->second.bytes) return kInvalidValue;
  *base = found->first;
  *bytes = found->second.bytes;
  return kSuccess;
}
int cuMemHostAlloc(void** place, size_t bytes, unsigned) {
  if (!current) return kInvalidContext;
  if (Here().On("no_host_alloc")) return kOutOfMemory;
  const std::lock_guard lock(Here().mutex);
  *place = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (!*place) return kOutOfMemory;
  Here().pinned[reinterpret_cast<DevicePtr>(*place)] = bytes;
  return kSuccess;
}
int cuMemFreeHost(void* place) {
  const std::lock_guard lock(Here().mutex);
  if (!Here().pinned.erase(reinterpret_cast<DevicePtr>(place))) return kInvalidValue;
  std::free(place);
  return kSuccess;
}
int cuMemHostRegister_v2(void* place, size_t bytes, unsigned) {
  if (!current) return kInvalidContext;
  if (Here().On("no_host_register")) return kNotPermitted;
  const std::lock_guard lock(Here().mutex);
  if (Here().pinned.contains(reinterpret_cast<DevicePtr>(place))) return kAlreadyRegistered;
  Here().pinned[reinterpret_cast<DevicePtr>(place)] = bytes;
  ++Here().counts["registered"];
  return kSuccess;
}
int cuMemHostUnregister(void* place) {
  const std::lock_guard lock(Here().mutex);
  --Here().counts["registered"];
  return Here().pinned.erase(reinterpret_cast<DevicePtr>(place)) ? kSuccess : kInvalidValue;
}

int cuMemcpyAsync(DevicePtr to, DevicePtr from, size_t bytes, StreamHandle* stream) {
  if (!current) return kInvalidContext;
  const std::lock_guard lock(Here().mutex);
  if (!Resolve(Here(), to, bytes) || !Resolve(Here(), from, bytes)) return kInvalidValue;
  ++Here().counts["copies"];
  stream->steps.push_back({.to = to, .from = from, .bytes = bytes});
  return kSuccess;
}
int cuStreamCreate(StreamHandle** stream, unsigned) {
  if (!current) return kInvalidContext;
  *stream = new StreamHandle;
  (*stream)->device = current->device;
  const std::lock_guard lock(Here().mutex);
  ++Here().counts["streams"];
  return kSuccess;
}
int cuStreamDestroy_v2(StreamHandle* stream) {
  delete stream;
  const std::lock_guard lock(Here().mutex);
  --Here().counts["streams"];
  return kSuccess;
}
int cuEventCreate(EventHandle** event, unsigned) {
  if (!current) return kInvalidContext;
  *event = new EventHandle;
  return kSuccess;
}
int cuEventDestroy_v2(EventHandle* event) {
  const std::lock_guard lock(Here().mutex);
  // The real one lets a recorded event run out; here its step must not outlive it.
  if (event->stream && !event->fired)
    for (StreamHandle::Step& step : event->stream->steps)
      if (step.event == event) step = {};
  delete event;
  return kSuccess;
}
int cuEventRecord(EventHandle* event, StreamHandle* stream) {
  if (!current) return kInvalidContext;
  const std::lock_guard lock(Here().mutex);
  event->stream = stream;
  event->fired = false;
  stream->steps.push_back({.event = event});
  return kSuccess;
}
int cuEventQuery(EventHandle* event) {
  const std::lock_guard lock(Here().mutex);
  if (!event->stream) return kSuccess;
  if (!Here().On("stall"))
    for (long i = 0; i < Here().settings["ops_per_query"] && !event->stream->steps.empty() && !event->fired; ++i)
      RunStep(Here(), *event->stream);
  if (event->stream->failed) return kIllegalAddress;
  return event->fired ? kSuccess : kNotReady;
}

int cuIpcGetMemHandle(IpcHandle* handle, DevicePtr place) {
  const std::lock_guard lock(Here().mutex);
  const auto found = Here().device.find(place);
  if (Here().On("no_ipc")) return kNotSupported;
  if (found == Here().device.end() || found->second.imported) return kInvalidValue;
  const Ipc ipc{getpid(), found->second.fd, found->second.bytes};
  std::memset(handle, 0, sizeof *handle);
  std::memcpy(handle->bytes, &ipc, sizeof ipc);
  return kSuccess;
}
int cuIpcOpenMemHandle_v2(DevicePtr* place, IpcHandle handle, unsigned) {
  if (!current) return kInvalidContext;
  Ipc ipc;
  std::memcpy(&ipc, handle.bytes, sizeof ipc);
  if (ipc.pid == getpid()) return kInvalidContext;
  const std::lock_guard lock(Here().mutex);
  const std::string name(handle.bytes, sizeof handle.bytes);
  if (Here().opened.contains(name)) return kAlreadyMapped;
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", ipc.pid, ipc.fd);
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return kInvalidHandle;
  *place = Place(Here(), fd, ipc.bytes, true);
  if (!*place) return kOutOfMemory;
  Here().opened[name] = *place;
  ++Here().counts["opened"];
  return kSuccess;
}
int cuIpcCloseMemHandle(DevicePtr place) {
  const std::lock_guard lock(Here().mutex);
  for (auto it = Here().opened.begin(); it != Here().opened.end(); ++it) {
    if (it->second != place) continue;
    Forget(Here(), place);
    Here().opened.erase(it);
    --Here().counts["opened"];
    return kSuccess;
  }
  return kInvalidValue;
}

int cuModuleLoadData(ModuleHandle** module, const void*) {
  if (!current) return kInvalidContext;
  if (Here().On("no_kernel")) return kNotSupported;
  *module = &Here().modules[current->device];
  return kSuccess;
}
int cuModuleUnload(ModuleHandle* module) {
  return current && module == &Here().modules[current->device] ? kSuccess : kInvalidHandle;
}
int cuModuleGetFunction(FunctionHandle** function, ModuleHandle* module, const char* name) {
  *function = &Here().functions[module - Here().modules];
  return std::strcmp(name, "baton_copy") == 0 ? kSuccess : kInvalidValue;
}
int cuLaunchKernel(FunctionHandle* function, unsigned, unsigned grid_y, unsigned, unsigned, unsigned, unsigned, unsigned,
                   StreamHandle* stream, void** parameters, void**) {
  if (!current) return kInvalidContext;
  if (function != &Here().functions[current->device] || stream->device != current->device) return kInvalidHandle;
  const std::lock_guard lock(Here().mutex);
  ++Here().counts["launches"];
  stream->steps.push_back({.list = *static_cast<DevicePtr*>(parameters[0]), .entries = grid_y});
  return kSuccess;
}
int cuMemGetHandleForAddressRange(void* handle, DevicePtr place, size_t, int, unsigned long long) {
  const std::lock_guard lock(Here().mutex);
  const auto found = Here().device.find(place);
  if (found == Here().device.end() || Here().On("no_dmabuf")) return kNotSupported;
  const int fd = dup(found->second.fd);
  std::memcpy(handle, &fd, sizeof fd);
  return kSuccess;
}

}  // extern "C"
