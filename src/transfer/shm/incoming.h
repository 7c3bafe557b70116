// A peer's way to us: descriptors that it wrote, bytes that we fetch.
//
// Where the bytes come from, best first: the descriptor itself (a few bytes), the writer's shared
// region mapped here (a plain copy), the writer's memory by process_vm_readv. Where device memory is
// involved the copies are DevicePull's.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>

#include <sys/mman.h>
#include <sys/uio.h>

#include "transfer/fabric.h"
#include "transfer/shm/channel.h"
#include "transfer/shm/device_pull.h"
#include "transfer/shm/peer_memory.h"
#include "transfer/shm/socket.h"
#include "transfer/shm/targets.h"

namespace baton::transfer::shm {

struct Unmapper {
  void operator()(Channel* channel) const { munmap(channel, sizeof(Channel)); }
};
using ChannelPtr = std::unique_ptr<Channel, Unmapper>;

class Incoming {
 public:
  // `refusal`: errno with which this process may not read the writer's memory, or 0.
  Incoming(ChannelPtr channel, std::string name, int pid, Fd process, int refusal, Devices& devices)
      : channel_(std::move(channel)),
        name_(std::move(name)),
        process_(std::move(process)),
        pid_(pid),
        refusal_(refusal),
        devices_(devices) {}

  // Copies a batch, or goes on with copies of devices, and reports arrivals from to[count] on.
  void Pull(const Targets& targets, const Socket& socket, TimePoint now, std::span<Completion> to, size_t& count);

  bool HasEntries() const {
    return !dead_ && channel_->tail.load(std::memory_order_seq_cst) != head_;
  }
  bool Over() const {
    return (dead_ || channel_->closed.load(std::memory_order_acquire)) && (!pull_ || pull_->Idle());
  }
  void SetAsleep(bool asleep) {
    channel_->target_asleep.store(asleep, std::memory_order_seq_cst);
  }
  void SetDead() { dead_ = true; }

  const std::string& name() const { return name_; }
  int process() const { return process_.get(); }
  int refusal() const { return refusal_; }
  ~Incoming() {
    for (const std::byte* const data : pinned_) devices_.Unpin(data);
  }
  PeerMemory& memory() { return memory_; }
  // The writer's region is in device memory.
  Status AddDeviceRegion(uint32_t number, const DeviceShare& share, bool own);
  // Pins the writer's mapped region for devices here, while it stays mapped.
  void Pin(uint32_t number, uint64_t bytes) {
    if (const std::byte* const data = memory_.Find(number, 0, bytes)) {
      devices_.Pin(data, bytes, true);
      pinned_.push_back(data);
    }
  }
  // After a key was taken back (0: any): waits, bounded, until no copy of a device lands by it.
  void Settle(uint64_t key) {
    if (pull_) pull_->Settle(key);
  }

 private:
  static constexpr uint32_t kBatch = 64;           // descriptors, also per process_vm_readv
  static constexpr uint64_t kBatchBytes = 4 << 20; // about a millisecond of copying
  static constexpr uint64_t kDeviceBatchBytes = 32 << 20;  // devices: less than 0.1 ms over NVLink
  static constexpr uint64_t kRingBytes = 2 << 20, kRingEntries = 128;  // copied before a sleeping writer hears of it

  // Descriptors taken from the ring and what became of them.
  struct Batch {
    uint32_t count = 0;
    uint64_t bytes = 0;
    bool streamed = false;
    std::array<uint32_t, kBatch> imms, lengths;
    std::array<int, kBatch> errors;
    // Those that need the system call, and which descriptor each is of.
    uint32_t remote = 0;
    std::array<iovec, kBatch> from, to;
    std::array<uint32_t, kBatch> owners;
  };

  void Fetch(const Targets& targets, uint64_t available, uint32_t room, Batch& batch);
  int FetchOne(const Targets& targets, const Entry& entry, uint32_t i, Batch& batch);
  void ReadRemote(Batch& batch) const;
  void RingWriter(const Socket& socket, uint64_t available, uint64_t bytes);
  void PullDevices(const Targets& targets, const Socket& socket, TimePoint now, std::span<Completion> to, size_t& count);
  DevicePull& pull();

  ChannelPtr channel_;
  std::string name_;
  Fd process_;
  int pid_ = 0;
  int refusal_ = 0;
  uint64_t head_ = 0;
  uint64_t unrung_entries_ = 0, unrung_bytes_ = 0;
  bool dead_ = false;
  PeerMemory memory_;
  Devices& devices_;
  std::unique_ptr<DevicePull> pull_;  // since device memory came in, on either side
  std::vector<const std::byte*> pinned_;
  uint64_t taken_ = 0;                // with `pull_`: descriptors that it was given
};

}  // namespace baton::transfer::shm
