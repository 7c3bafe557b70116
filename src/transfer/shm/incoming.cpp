#include "transfer/shm/incoming.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "transfer/shm/copy.h"

namespace baton::transfer::shm {

void Incoming::Pull(const Targets& targets, const Socket& socket, TimePoint now, std::span<Completion> to,
                    size_t& count) {
  Channel& channel = *channel_;
  const uint64_t tail = channel.tail.load(std::memory_order_acquire);
  // After the tail: what it counts may be the first of a device.
  if (pull_ || targets.has_devices() || channel.has_devices.load(std::memory_order_acquire))
    return PullDevices(targets, socket, now, to, count);
  const uint64_t available = tail - head_;
  if (available == 0 || dead_) return;
  if (available > kEntries) {
    dead_ = true;  // nonsense from the writer
    return;
  }
  const auto room = static_cast<uint32_t>(std::min<size_t>(kBatch, to.size() - count));
  if (room == 0 || channel.closed.load(std::memory_order_seq_cst)) return;
  Batch batch;
  Fetch(targets, available, room, batch);
  // The writer gave up while we copied: its memory may have changed under us. Report nothing. The fence
  // keeps the copy's reads before this one.
  std::atomic_thread_fence(std::memory_order_acquire);
  if (channel.closed.load(std::memory_order_seq_cst)) return;
  for (uint32_t i = 0; i < batch.count; ++i) {
    Entry& entry = channel.entries[(head_ + i) % kEntries];
    entry.error.store(batch.errors[i], std::memory_order_relaxed);
    if (batch.errors[i]) continue;
    Completion& arrived = to[count++];
    arrived = {};
    arrived.kind = Completion::Kind::kArrived;
    arrived.imm = batch.imms[i];
    arrived.bytes = batch.lengths[i];
  }
  head_ += batch.count;
  unrung_entries_ += batch.count;
  channel.head.store(head_, std::memory_order_seq_cst);
  RingWriter(socket, available - batch.count, batch.bytes);
}

DevicePull& Incoming::pull() {
  if (pull_) return *pull_;
  pull_ = std::make_unique<DevicePull>(devices_);
  taken_ = head_;  // those before were copied at once
  return *pull_;
}

Status Incoming::AddDeviceRegion(uint32_t number, const DeviceShare& share, bool own) {
  return pull().AddRegion(number, share, own);
}

void Incoming::PullDevices(const Targets& targets, const Socket& socket, TimePoint now, std::span<Completion> to,
                           size_t& count) {
  Channel& channel = *channel_;
  if (dead_ || channel.closed.load(std::memory_order_seq_cst)) return;
  DevicePull::Ended ended;
  uint64_t bytes = 0;
  const uint64_t first = head_;
  while (count < to.size() && pull().Front(ended)) {
    // The writer gave up meanwhile: its memory may have changed under the copy. Report nothing.
    if (channel.closed.load(std::memory_order_seq_cst)) return;
    pull_->Pop();
    channel.entries[head_++ % kEntries].error.store(ended.error, std::memory_order_relaxed);
    bytes += ended.bytes;
    if (ended.error) continue;
    Completion& arrived = to[count++];
    arrived = {};
    arrived.kind = Completion::Kind::kArrived;
    arrived.imm = ended.imm;
    arrived.bytes = ended.bytes;
  }
  const uint64_t tail = channel.tail.load(std::memory_order_acquire);
  if (tail - head_ > kEntries || tail - taken_ > kEntries) {
    dead_ = true;  // nonsense from the writer
    return;
  }
  if (head_ != first) {
    unrung_entries_ += head_ - first;
    channel.head.store(head_, std::memory_order_seq_cst);
    RingWriter(socket, tail - head_, bytes);
  }
  const DevicePull::Writer writer{memory_, pid_, refusal_};
  for (uint64_t begun = 0; taken_ != tail && pull().HasRoom() && begun < kDeviceBatchBytes; ++taken_) {
    const Entry& entry = channel.entries[taken_ % kEntries];
    begun += entry.bytes;
    if (!pull_->Take(entry, targets, writer, now)) break;
  }
}

// Waking the writer costs more than copying a page, so it hears of a good part of its ring at once.
void Incoming::RingWriter(const Socket& socket, uint64_t available, uint64_t bytes) {
  unrung_bytes_ += bytes;
  if (available && unrung_entries_ < kRingEntries && unrung_bytes_ < kRingBytes) return;
  unrung_entries_ = unrung_bytes_ = 0;
  if (channel_->writer_asleep.load(std::memory_order_seq_cst) &&
      channel_->writer_asleep.exchange(0))
    socket.Ring(name_);
}

void Incoming::Fetch(const Targets& targets, uint64_t available, uint32_t room, Batch& batch) {
  const uint64_t most = std::min<uint64_t>(available, room);
  while (batch.count < most && batch.bytes < kBatchBytes) {
    const uint32_t i = batch.count++;
    batch.errors[i] = FetchOne(targets, channel_->entries[(head_ + i) % kEntries], i, batch);
    batch.bytes += batch.lengths[i];
  }
  ReadRemote(batch);
  if (batch.streamed) FinishStreaming();
}

int Incoming::FetchOne(const Targets& targets, const Entry& entry, uint32_t i, Batch& batch) {
  // Read once: the other side could change it between check and use.
  const uint64_t source = entry.source, region_offset = entry.region_offset;
  const uint32_t bytes = entry.bytes, region = entry.region;
  batch.imms[i] = entry.imm;
  batch.lengths[i] = 0;
  std::byte* place = nullptr;
  if (const int error = targets.Locate(entry.key, entry.offset, bytes, place)) return error;
  batch.lengths[i] = bytes;
  if (bytes <= kInlineBytes) {
    std::memcpy(place, entry.small, bytes);
  } else if (const std::byte* const mapped = memory_.Find(region, region_offset, bytes)) {
    const Entry& next = channel_->entries[(head_ + i + 1) % kEntries];
    if (const std::byte* const later = memory_.Find(next.region, next.region_offset, 1))
      PrefetchBlock(later, 256);
    StreamCopy(place, mapped, bytes);
    batch.streamed = true;
  } else if (refusal_) {
    return refusal_;
  } else {
    const uint32_t n = batch.remote++;
    batch.from[n] = {reinterpret_cast<void*>(source), bytes};
    batch.to[n] = {place, bytes};
    batch.owners[n] = i;
  }
  return 0;
}

void Incoming::ReadRemote(Batch& batch) const {
  uint32_t first = 0;
  while (first < batch.remote) {
    iovec* const to = &batch.to[first];
    iovec* const from = &batch.from[first];
    const uint32_t left = batch.remote - first;
    const ssize_t n = process_vm_readv(pid_, to, left, from, left, 0);
    if (n <= 0) {
      // The first one cannot be read; what follows may.
      batch.errors[batch.owners[first++]] = n < 0 ? errno : EFAULT;
      continue;
    }
    auto done = static_cast<size_t>(n);
    while (first < batch.remote && done >= batch.to[first].iov_len)
      done -= batch.to[first++].iov_len;
    if (first == batch.remote) break;
    for (iovec* piece : {&batch.to[first], &batch.from[first]}) {
      piece->iov_base = static_cast<char*>(piece->iov_base) + done;
      piece->iov_len -= done;
    }
  }
}

}  // namespace baton::transfer::shm
