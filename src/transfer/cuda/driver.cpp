#include "transfer/cuda/driver.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <map>

namespace baton::transfer::cuda {
namespace {

constexpr const char* kDefaultFile = "libcuda.so.1";

template <typename Function>
void Bind(void* library, const char* name, Function& function, std::string& missing) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (!function && missing.empty()) missing = name;
}

// The first function that is not there; empty when all are.
std::string BindAll(void* library, Api& api) {
  std::string missing;
  const auto bind = [&](const char* name, auto& function) { Bind(library, name, function, missing); };
  bind("cuInit", api.Init);
  bind("cuDriverGetVersion", api.DriverGetVersion);
  bind("cuGetErrorName", api.GetErrorName);
  bind("cuGetErrorString", api.GetErrorString);
  bind("cuDeviceGetCount", api.DeviceGetCount);
  bind("cuDeviceGet", api.DeviceGet);
  bind("cuDeviceGetName", api.DeviceGetName);
  bind("cuDeviceGetUuid", api.DeviceGetUuid);
  bind("cuDeviceGetPCIBusId", api.DeviceGetPciBusId);
  bind("cuDeviceGetAttribute", api.DeviceGetAttribute);
  bind("cuDeviceCanAccessPeer", api.DeviceCanAccessPeer);
  bind("cuDevicePrimaryCtxRetain", api.PrimaryCtxRetain);
  bind("cuCtxSetCurrent", api.CtxSetCurrent);
  bind("cuCtxEnablePeerAccess", api.CtxEnablePeerAccess);
  bind("cuMemAlloc_v2", api.MemAlloc);
  bind("cuMemFree_v2", api.MemFree);
  bind("cuMemGetAddressRange_v2", api.MemGetAddressRange);
  bind("cuMemHostAlloc", api.MemHostAlloc);
  bind("cuMemFreeHost", api.MemFreeHost);
  bind("cuMemHostRegister_v2", api.MemHostRegister);
  bind("cuMemHostUnregister", api.MemHostUnregister);
  bind("cuMemcpyAsync", api.MemcpyAsync);
  bind("cuStreamCreate", api.StreamCreate);
  bind("cuStreamDestroy_v2", api.StreamDestroy);
  bind("cuEventCreate", api.EventCreate);
  bind("cuEventDestroy_v2", api.EventDestroy);
  bind("cuEventRecord", api.EventRecord);
  bind("cuEventQuery", api.EventQuery);
  bind("cuIpcGetMemHandle", api.IpcGetMemHandle);
  bind("cuIpcOpenMemHandle_v2", api.IpcOpenMemHandle);
  bind("cuIpcCloseMemHandle", api.IpcCloseMemHandle);
  bind("cuModuleLoadData", api.ModuleLoadData);
  bind("cuModuleUnload", api.ModuleUnload);
  bind("cuModuleGetFunction", api.ModuleGetFunction);
  bind("cuLaunchKernel", api.LaunchKernel);
  std::string optional;
  Bind(library, "cuMemGetHandleForAddressRange", api.MemGetHandleForAddressRange, optional);
  return missing;
}

std::string VersionText(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// What a person can do about a result, where that is known.
const char* Advice(int result) {
  switch (result) {
    case kOutOfMemory: return "; free memory of the device, or register less";
    case kNoDevice:
      return "; no GPU is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES, and give the container its GPUs";
    case kNotSupported: return "; this device or driver does not offer it";
    case 803: case 804: return "; the driver's kernel module and its library differ: reboot or reinstall the driver";
    case 999: return "; the driver is not usable: look at dmesg and nvidia-smi";
    default: return "";
  }
}

}  // namespace

Result<Driver*> Driver::Get() {
  // By file, so that tests can name another; never unloaded.
  static std::mutex mutex;
  static auto& loaded = *new std::map<std::string, std::unique_ptr<Driver>>;
  const char* const given = std::getenv(kLibraryVariable);
  const std::string file = given && *given ? given : kDefaultFile;
  const std::lock_guard lock(mutex);
  if (const auto found = loaded.find(file); found != loaded.end()) return found->second.get();
  Result<std::unique_ptr<Driver>> driver = Load(file);
  if (!driver.ok()) return driver.status();
  return (loaded[file] = *std::move(driver)).get();
}

Result<std::unique_ptr<Driver>> Driver::Load(const std::string& file) {
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) {
    const char* const why = dlerror();
    return Error(Code::kUnsupported,
                 "CUDA's driver library cannot be loaded: {}; install the NVIDIA driver, give the container its "
                 "GPUs, or name the library in {}", why ? why : file, kLibraryVariable);
  }
  auto driver = std::make_unique<Driver>();
  driver->file_ = file;
  const std::string missing = BindAll(library, driver->api_);
  if (!driver->api_.DriverGetVersion || driver->api_.DriverGetVersion(&driver->version_) != kSuccess)
    return Error(Code::kUnsupported, "{} does not tell its version: it is no CUDA driver", file);
  if (driver->version_ < kOldestVersion || !missing.empty())
    return Error(Code::kUnsupported, "the CUDA driver ({}) is of version {}{}: {} or later is needed; update the NVIDIA driver",
                 file, VersionText(driver->version_), missing.empty() ? "" : " and lacks " + missing,
                 VersionText(kOldestVersion));
  if (Status s = driver->Check(driver->api_.Init(0), "cuInit"); !s.ok()) return s;
  if (Status s = driver->FindDevices(); !s.ok()) return s;
  return driver;
}

Status Driver::FindDevices() {
  int count = 0;
  if (Status s = Check(api_.DeviceGetCount(&count), "cuDeviceGetCount"); !s.ok()) return s;
  if (count == 0) return Check(kNoDevice, "cuDeviceGetCount");
  devices_.resize(count);
  for (int i = 0; i < count; ++i) {
    Device& device = devices_[i];
    if (Status s = Check(api_.DeviceGet(&device.id, i), "cuDeviceGet"); !s.ok()) return s;
    if (Status s = Check(api_.DeviceGetUuid(&device.uuid, device.id), "cuDeviceGetUuid"); !s.ok()) return s;
    char name[128] = "";
    if (api_.DeviceGetName(name, sizeof name - 1, device.id) == kSuccess) device.name = name;
    device.peers.resize(count);
  }
  return Status::Ok();
}

Status Driver::Bind(int ordinal) {
  if (ordinal < 0 || ordinal >= device_count())
    return Error(Code::kInvalidArgument, "CUDA device {} does not exist: {} are visible, counted from 0", ordinal,
                 device_count());
  ContextHandle* context = nullptr;
  {
    const std::lock_guard lock(mutex_);
    Device& device = devices_[ordinal];
    if (!device.context) {
      if (Status s = Check(api_.PrimaryCtxRetain(&device.context, device.id), "cuDevicePrimaryCtxRetain"); !s.ok())
        return s.Prefixed(fmt::format("CUDA device {}", ordinal));
      if (Attribute(ordinal, kAttributeUnifiedAddressing) == 0)
        return Error(Code::kUnsupported, "CUDA device {} ({}) has no unified addressing", ordinal, device.name);
    }
    context = device.context;
  }
  return Check(api_.CtxSetCurrent(context), "cuCtxSetCurrent");
}

Status Driver::BindAny() {
  int ordinal = 0;
  {
    const std::lock_guard lock(mutex_);
    while (ordinal < device_count() && !devices_[ordinal].context) ++ordinal;
  }
  return Bind(ordinal < device_count() ? ordinal : 0);
}

int Driver::Find(const Uuid& uuid) const {
  for (int i = 0; i < device_count(); ++i)
    if (std::memcmp(devices_[i].uuid.bytes, uuid.bytes, sizeof uuid.bytes) == 0) return i;
  return -1;
}

std::string Driver::PciId(int ordinal) const {
  char text[32] = "";
  const bool known = ordinal >= 0 && ordinal < device_count() &&
                     api_.DeviceGetPciBusId(text, sizeof text, devices_[ordinal].id) == kSuccess;
  return known ? text : "";
}

int Driver::Attribute(int ordinal, int attribute) const {
  int value = 0;
  return api_.DeviceGetAttribute(&value, attribute, devices_[ordinal].id) == kSuccess ? value : 0;
}

bool Driver::EnablePeer(int ordinal, int peer) {
  if (ordinal == peer) return true;
  if (!Bind(peer).ok() || !Bind(ordinal).ok()) return false;
  const std::lock_guard lock(mutex_);
  int& state = devices_[ordinal].peers[peer];
  if (state == 0) {
    int can = 0;
    int result = api_.DeviceCanAccessPeer(&can, devices_[ordinal].id, devices_[peer].id);
    if (result == kSuccess && can) result = api_.CtxEnablePeerAccess(devices_[peer].context, 0);
    state = can && (result == kSuccess || result == kPeerAlreadyEnabled) ? 1 : -1;
  }
  return state == 1;
}

Status Driver::Check(int result, const char* function) const {
  if (result == kSuccess) return Status::Ok();
  const char* name = nullptr;
  const char* text = nullptr;
  if (api_.GetErrorName) api_.GetErrorName(result, &name);
  if (api_.GetErrorString) api_.GetErrorString(result, &text);
  return Error(result == kOutOfMemory ? Code::kResourceExhausted : Code::kUnsupported, "CUDA: {}: {} ({}): {}{}",
               function, name ? name : "unknown result", result, text ? text : "no text", Advice(result));
}

std::string PciIdOf(int ordinal) {
  const Result<Driver*> driver = Driver::Get();
  return driver.ok() ? (*driver)->PciId(ordinal) : "";
}

}  // namespace baton::transfer::cuda
