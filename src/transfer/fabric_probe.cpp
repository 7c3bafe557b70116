#include "transfer/fabric_probe.h"

#include <algorithm>
#include <thread>

#include "common/shared_memory.h"
#include "transfer/cuda/memory.h"
#include "transfer/imm.h"
#include "transfer/peer.h"

namespace baton::transfer {
namespace {

constexpr uint64_t kWriteBytes = 1 << 20;
constexpr uint32_t kWrites = 16;

// Both ends of the test; gives everything back to the fabric when it goes out of scope.
class SelfTest {
 public:
  SelfTest(Fabric& fabric, MemorySpan source, MemorySpan target)
      : fabric_(fabric), source_(source), target_(target), bytes_(source.size_bytes) {
    for (size_t i = 0; i < bytes_.size(); i += 64)
      bytes_[i] = static_cast<std::byte>((i * 2654435761u) >> 16);
  }
  ~SelfTest() {
    if (joined_) fabric_.Remove(peer_);
    if (exposed_) fabric_.Revoke(key_);
    for (uint32_t i = 0; i < registered_; ++i) fabric_.Unregister(regions_[i]);
  }

  Result<double> Run(TimePoint deadline) {
    if (Status s = cuda::CopyNow(source_, {bytes_.data(), bytes_.size()}, deadline); !s.ok()) return s;
    if (Status s = Prepare(); !s.ok()) return s;
    // The first pass sets up connections and touches pages; the second is timed.
    if (Status s = Pass(deadline); !s.ok()) return s;
    std::vector<std::byte> zeros(bytes_.size());
    if (Status s = cuda::CopyNow(target_, {zeros.data(), zeros.size()}, deadline); !s.ok()) return s;
    double seconds = 0;
    if (Status s = Pass(deadline, &seconds); !s.ok()) return s;
    return static_cast<double>(source_.size_bytes) / seconds / 1e9;
  }

 private:
  Status Prepare() {
    for (const MemorySpan& memory : {source_, target_}) {
      Result<uint32_t> region = fabric_.Register(memory);
      if (!region) return region.status();
      regions_[registered_++] = *region;
    }
    Result<MemoryKey> key = fabric_.Expose(regions_[1]);
    if (!key) return key.status();
    key_ = *key;
    exposed_ = true;
    const Result<std::string> invitation = fabric_.Invite();
    if (!invitation) return invitation.status();
    Result<uint64_t> peer = fabric_.Insert(*invitation);
    if (!peer) return peer.status();
    peer_ = *peer;
    joined_ = true;
    return Status::Ok();
  }

  Status Pass(TimePoint deadline, double* seconds = nullptr) {
    const TimePoint start = Now();
    const uint64_t step = std::min(kWriteBytes, fabric_.traits().max_write_bytes);
    const uint32_t total = static_cast<uint32_t>((source_.size_bytes + step - 1) / step);  // the last may be short
    std::vector<OpContext> contexts(total);
    std::vector<Completion> completions(64);
    uint32_t posted = 0, done = 0, arrived = 0;
    while (done < total || arrived < total) {
      while (posted < total && posted - done < fabric_.traits().max_in_flight_peer) {
        Status why;
        const PostResult result = fabric_.Write({.peer = peer_,
                                                 .local_region = regions_[0],
                                                 .local_offset = posted * step,
                                                 .bytes = std::min(step, source_.size_bytes - posted * step),
                                                 .remote_address = key_.base + posted * step,
                                                 .remote_key = key_.key,
                                                 .imm = PackImm({.slot = posted}),
                                                 .context = &contexts[posted]},
                                                Now(), why);
        if (result == PostResult::kFailed) return why;
        if (result == PostResult::kAgain) break;
        ++posted;
      }
      const size_t count = fabric_.Poll(Now(), completions);
      for (size_t i = 0; i < count; ++i) {
        if (completions[i].kind == Completion::Kind::kFailed) return completions[i].status;
        ++(completions[i].kind == Completion::Kind::kDone ? done : arrived);
      }
      if (Now() > deadline)
        return Error(Code::kUnavailable, "of {} writes to itself {} were posted, {} arrived and {} were confirmed in time",
                     total, posted, arrived, done);
      if (count == 0) std::this_thread::yield();
    }
    if (seconds) *seconds = Seconds(Now() - start);
    std::vector<std::byte> got(bytes_.size());
    if (Status s = cuda::CopyNow({got.data(), got.size()}, target_, deadline); !s.ok()) return s;
    if (got != bytes_)
      return Error(Code::kDataCorrupt, "bytes written to itself came back changed");
    return Status::Ok();
  }

  Fabric& fabric_;
  const MemorySpan source_, target_;
  std::vector<std::byte> bytes_;  // what the source holds
  uint32_t regions_[2] = {};
  uint32_t registered_ = 0;
  MemoryKey key_;
  bool exposed_ = false, joined_ = false;
  uint64_t peer_ = 0;
};

}  // namespace

Result<double> RunSelfTest(Fabric& fabric, std::optional<int> device, TimePoint deadline) {
  const auto run = [&](MemorySpan source, MemorySpan target) -> Result<double> {
    Result<double> result = SelfTest(fabric, source, target).Run(deadline);
    if (result.ok()) return result;
    return result.status().Prefixed("transfer self-test over " + fabric.traits().provider);
  };
  if (device) {
    const Result<cuda::DeviceBuffer> source = cuda::DeviceBuffer::Create(*device, kWrites * kWriteBytes);
    if (!source.ok()) return source.status();
    const Result<cuda::DeviceBuffer> target = cuda::DeviceBuffer::Create(*device, kWrites * kWriteBytes);
    if (!target.ok()) return target.status();
    return run(source->span(), target->span());
  }
  // As the pools that it stands for: memory that a peer of this host can map.
  const Result<SharedMemory> source = SharedMemory::Create(kWrites * kWriteBytes, SharedMemory::Pages::kHuge);
  if (!source.ok()) return source.status();
  const Result<SharedMemory> target = SharedMemory::Create(kWrites * kWriteBytes, SharedMemory::Pages::kHuge);
  if (!target.ok()) return target.status();
  return run(source->span(), target->span());
}

}  // namespace baton::transfer
