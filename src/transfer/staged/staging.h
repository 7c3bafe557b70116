// Memory of a ring or an area: registered with the fabric below, pinned once CUDA is in use. What was
// never used of it takes no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "transfer/cuda/copy_stream.h"
#include "transfer/cuda/driver.h"
#include "transfer/cuda/memory.h"
#include "transfer/fabric.h"

namespace baton::transfer::staged {

class Staging {
 public:
  static Result<std::unique_ptr<Staging>> Create(const std::shared_ptr<Fabric>& inner);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  Status Pin(cuda::Driver& driver);
  std::byte* data() const { return data_; }  // kStagingBytes
  uint32_t region() const { return region_; }

 private:
  explicit Staging(const std::shared_ptr<Fabric>& inner) : inner_(inner) {}
  const std::weak_ptr<Fabric> inner_;  // gone first when everything is closed
  std::byte* data_ = nullptr;
  uint32_t region_ = 0;
  bool registered_ = false, pinned_ = false;
  cuda::HostRegistration pin_;
};

inline constexpr Duration kCopyWait = 2s;  // for copies under way when their memory is taken back
// Until then or the copy's end. A device that hangs is logged.
void WaitForCopy(cuda::CopyStream& stream, uint64_t ticket, TimePoint deadline);

// How ends of writes reach the fabric's user.
using Report = std::function<void(Completion)>;

// Who posts to the fabric below with contexts inside of itself, and is told of their ends.
class Poster {
 public:
  virtual ~Poster() = default;
  virtual void OnInner(const Completion& completion, TimePoint now, const Report& report) = 0;
};

}  // namespace baton::transfer::staged
