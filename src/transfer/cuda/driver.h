// The CUDA driver, loaded at run time: absent on most machines, and then nothing here is needed.
//
// Get() loads libcuda.so.1, or the file that BATON_CUDA_LIBRARY names, once per process and keeps it
// until the process ends, with the primary contexts that were asked for (the framework beside us
// shares them). Ordinals are those of this process, after CUDA_VISIBLE_DEVICES.
//
// Thread-safe. A context is current per thread: Bind before calls of `api` that need one.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/status.h"
#include "transfer/cuda/abi.h"

namespace baton::transfer::cuda {

inline constexpr int kOldestVersion = 11000;  // as cuDriverGetVersion counts: 11.0, driver R450
inline constexpr const char* kLibraryVariable = "BATON_CUDA_LIBRARY";

class Driver {
 public:
  // kUnsupported when there is no library, no device, or one too old; the message says what to do.
  static Result<Driver*> Get();

  const Api& api() const { return api_; }
  int version() const { return version_; }
  const std::string& file() const { return file_; }
  int device_count() const { return static_cast<int>(devices_.size()); }

  // Makes the primary context of `ordinal` the calling thread's, retaining it at first.
  Status Bind(int ordinal);
  // ... or that of any device that is in use already, for calls that need just some context.
  Status BindAny();
  const Uuid& uuid(int ordinal) const { return devices_[ordinal].uuid; }
  // The ordinal here of a device that another process names; -1 when it is not visible.
  int Find(const Uuid& uuid) const;
  // "0000:1b:00.0"; empty when the driver does not tell.
  std::string PciId(int ordinal) const;
  int Attribute(int ordinal, int attribute) const;  // 0 where the driver does not know it
  // Lets kernels of `ordinal` reach memory of `peer`, once; false where the hardware cannot.
  bool EnablePeer(int ordinal, int peer);

  // OK, or an error with the function, the result's name and meaning.
  Status Check(int result, const char* function) const;

 private:
  struct Device {
    DeviceId id = 0;
    Uuid uuid{};
    std::string name;
    ContextHandle* context = nullptr;
    std::vector<int> peers;  // by ordinal: 0 not asked yet, 1 reachable, -1 not
  };
  static Result<std::unique_ptr<Driver>> Load(const std::string& file);
  Status FindDevices();

  Api api_{};
  std::string file_;
  int version_ = 0;
  std::mutex mutex_;  // contexts and peers
  std::vector<Device> devices_;
};

// Place on the PCI bus of a CUDA ordinal; empty without CUDA or such a device.
std::string PciIdOf(int ordinal);

}  // namespace baton::transfer::cuda
