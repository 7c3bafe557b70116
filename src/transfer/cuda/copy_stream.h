// Copies between host and device memory on a device, batched and never waited for.
//
// Add takes a copy and gives a ticket; Flush hands what was added to the device, at once when it is
// idle, else as soon as a batch is worth a launch: what comes while launches are under way gathers.
// Done tells by a polled event whether everything up to a ticket has landed. Small copies of a batch
// go in one launch of a kernel that walks a list (a copy of 16 KiB on its own costs more time to
// start than to run); large or unaligned ones, and those of a driver that refuses the kernel, by
// cuMemcpyAsync. Batches take two streams in turn, so that one fills the device while the one before
// it ends: copies may land in any order, tickets are done in theirs.
//
// Host memory must be pinned. An error of the device fails the stream for good.
// Allocates nothing after Create. Owner's thread; binds the context itself.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "common/clock.h"
#include "transfer/cuda/driver.h"
#include "transfer/cuda/memory.h"

namespace baton::transfer::cuda {

class CopyStream {
 public:
  static constexpr uint32_t kBatch = 2048;  // copies that wait, at most; Add hands them over then
  // Above, the copy engine is as fast, between host and device. Between devices it is not: a copy of
  // 1 MiB takes 7 us there, of which the bytes are 3 (two H200).
  static constexpr uint64_t kKernelBytes = 256 << 10, kPeerKernelBytes = 4 << 20;

  // `kernel`: false for a few large copies, which do not need it.
  static Result<std::unique_ptr<CopyStream>> Create(Driver& driver, int ordinal, bool kernel = true);
  ~CopyStream();
  CopyStream(const CopyStream&) = delete;
  CopyStream& operator=(const CopyStream&) = delete;

  // Unified addresses; the memory stays valid until the ticket is done. Longer copies than
  // `kernel_bytes` go by the copy engine (0: all, for memory of a device that this one cannot reach).
  uint64_t Add(DevicePtr to, DevicePtr from, uint64_t bytes, uint64_t kernel_bytes = kKernelBytes);
  // To be called again while something is under way, with each turn of the owner's loop.
  void Flush();
  bool Done(uint64_t ticket);
  // True when nothing is under way.
  bool Idle() { return Done(issued_); }
  // Polls until the ticket is done: for fences and tests. kDeadlineExceeded, or the device's error.
  Status Wait(uint64_t ticket, TimePoint deadline);
  // The device's error; every ticket counts as done after it, and nothing that follows is copied.
  const Status& status() const { return status_; }
  int ordinal() const { return ordinal_; }
  bool has_kernel() const { return kernel_ != nullptr; }

 private:
  static constexpr uint32_t kMarks = 64;        // events under way
  static constexpr uint32_t kListEntries = 8192;
  static constexpr size_t kLanes = 2;
  struct Copy {  // as the kernel reads it
    uint64_t to, from, bytes;
  };
  struct Mark {
    EventHandle* event = nullptr;
    uint64_t ticket = 0;
    uint32_t list_end = 0;  // entries of the list up to here are free after it
  };

  CopyStream(Driver& driver, int ordinal) : driver_(driver), ordinal_(ordinal) {}
  Status Open(bool kernel);
  void LoadKernel();
  bool Pays() const;
  void Submit();
  void Launch(uint32_t first, uint32_t count, uint64_t longest);
  void SetMark();
  void Fail(const Status& status);
  void ReadMarks();

  Driver& driver_;
  const int ordinal_;
  std::array<StreamHandle*, kLanes> streams_{};
  size_t lane_ = 0;  // of the next batch; the same one until all that it got has an event
  ModuleHandle* module_ = nullptr;
  FunctionHandle* kernel_ = nullptr;
  PinnedBuffer list_;  // ring of Copy, read by the kernel
  uint32_t list_head_ = 0, list_tail_ = 0;  // counted without end
  std::array<Copy, kBatch> waiting_{};
  std::array<bool, kBatch> by_engine_{};
  uint32_t waiting_count_ = 0;
  uint64_t waiting_bytes_ = 0;
  uint64_t issued_ = 0, marked_ = 0, done_ = 0;  // tickets
  std::array<Mark, kMarks> marks_{};
  uint32_t first_mark_ = 0, mark_count_ = 0;
  Status status_;
};

}  // namespace baton::transfer::cuda
