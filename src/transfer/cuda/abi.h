// The part of the CUDA driver's C interface (libcuda.so.1) that Baton calls: types, numbers and a
// table of functions, declared here from the public ABI so that no toolkit is needed to build.
//
// Results are CUresult numbers: 0 is success. Names as exported by the library ("_v2" where the
// plain symbol is an older layout).
#pragma once

#include <cstddef>
#include <cstdint>

namespace baton::transfer::cuda {

using DevicePtr = uint64_t;  // CUdeviceptr; a host pointer too, under unified addressing
using DeviceId = int;        // CUdevice
struct ContextHandle;
struct StreamHandle;
struct EventHandle;
struct ModuleHandle;
struct FunctionHandle;

struct Uuid {
  char bytes[16];
};
struct IpcHandle {
  char bytes[64];
};

inline constexpr int kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kNoDevice = 100, kNotReady = 600,
                     kPeerAlreadyEnabled = 704, kNotSupported = 801;

inline constexpr int kAttributeUnifiedAddressing = 41, kAttributeReadOnlyHostRegister = 113,
                     kAttributeDmaBuf = 124;
inline constexpr unsigned kHostAllocPortable = 1, kHostAllocDeviceMap = 2;
inline constexpr unsigned kHostRegisterPortable = 1, kHostRegisterDeviceMap = 2, kHostRegisterReadOnly = 8;
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr unsigned kIpcLazyPeerAccess = 1;
inline constexpr int kRangeHandleDmaBufFd = 1;

struct Api {
  int (*Init)(unsigned flags);
  int (*DriverGetVersion)(int* version);
  int (*GetErrorName)(int result, const char** name);
  int (*GetErrorString)(int result, const char** text);
  int (*DeviceGetCount)(int* count);
  int (*DeviceGet)(DeviceId* device, int ordinal);
  int (*DeviceGetName)(char* name, int bytes, DeviceId device);
  int (*DeviceGetUuid)(Uuid* uuid, DeviceId device);
  int (*DeviceGetPciBusId)(char* text, int bytes, DeviceId device);
  int (*DeviceGetAttribute)(int* value, int attribute, DeviceId device);
  int (*DeviceCanAccessPeer)(int* can, DeviceId device, DeviceId peer);
  int (*PrimaryCtxRetain)(ContextHandle** context, DeviceId device);
  int (*CtxSetCurrent)(ContextHandle* context);
  int (*CtxEnablePeerAccess)(ContextHandle* peer, unsigned flags);
  int (*MemAlloc)(DevicePtr* place, size_t bytes);
  int (*MemFree)(DevicePtr place);
  int (*MemGetAddressRange)(DevicePtr* base, size_t* bytes, DevicePtr place);
  int (*MemHostAlloc)(void** place, size_t bytes, unsigned flags);
  int (*MemFreeHost)(void* place);
  int (*MemHostRegister)(void* place, size_t bytes, unsigned flags);
  int (*MemHostUnregister)(void* place);
  int (*MemcpyAsync)(DevicePtr to, DevicePtr from, size_t bytes, StreamHandle* stream);
  int (*StreamCreate)(StreamHandle** stream, unsigned flags);
  int (*StreamDestroy)(StreamHandle* stream);
  int (*EventCreate)(EventHandle** event, unsigned flags);
  int (*EventDestroy)(EventHandle* event);
  int (*EventRecord)(EventHandle* event, StreamHandle* stream);
  int (*EventQuery)(EventHandle* event);
  int (*IpcGetMemHandle)(IpcHandle* handle, DevicePtr place);
  int (*IpcOpenMemHandle)(DevicePtr* place, IpcHandle handle, unsigned flags);
  int (*IpcCloseMemHandle)(DevicePtr place);
  int (*ModuleLoadData)(ModuleHandle** module, const void* image);
  int (*ModuleUnload)(ModuleHandle* module);
  int (*ModuleGetFunction)(FunctionHandle** function, ModuleHandle* module, const char* name);
  int (*LaunchKernel)(FunctionHandle* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                      unsigned block_y, unsigned block_z, unsigned shared_bytes, StreamHandle* stream,
                      void** parameters, void** extra);
  // CUDA 11.7 and later; null before.
  int (*MemGetHandleForAddressRange)(void* handle, DevicePtr place, size_t bytes, int type, uint64_t flags);
};

}  // namespace baton::transfer::cuda
