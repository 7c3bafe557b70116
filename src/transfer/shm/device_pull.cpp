#include "transfer/shm/device_pull.h"

#include <sys/uio.h>

#include <cerrno>
#include <cstring>

#include "common/log.h"
#include "transfer/shm/copy.h"

namespace baton::transfer::shm {
namespace {

constexpr uint32_t kMaxRegions = 256;
constexpr Duration kPatience = 1s;    // for the notice of a region that a descriptor names
constexpr Duration kSettleWait = 2s;  // for copies under way when a key is taken back
constexpr uint64_t kLine = 64;

}  // namespace

Status DevicePull::AddRegion(uint32_t number, const DeviceShare& share, bool own) {
  if (number >= kMaxRegions || (number < regions_.size() && regions_[number].known))
    return Error(Code::kDataCorrupt, "region {} is shared twice, or too high", number);
  if (Status s = devices_.Use(); !s.ok()) return s;
  if (number >= regions_.size()) regions_.resize(number + 1);
  regions_[number] = {.share = share, .known = true, .own = own};
  return Status::Ok();
}

bool DevicePull::Take(const Entry& entry, const Targets& targets, const Writer& writer, TimePoint now) {
  // Read once: the other side could change it between check and use.
  const uint64_t source = entry.source;
  Piece& piece = pieces_[taken_ % kEntries];
  piece = {.key = entry.key, .imm = entry.imm, .bytes = entry.bytes};
  std::byte* place = nullptr;
  MemorySpan target;
  bool later = false;
  piece.error = targets.Locate(piece.key, entry.offset, piece.bytes, place, &target);
  if (!piece.error) piece.error = Copy(entry, source, place, target, writer, piece, later);
  if (later) {
    if (source == kDeviceSource && !Known(entry.region)) {
      if (unknown_since_ == TimePoint{}) unknown_since_ = now;
      if (now - unknown_since_ < kPatience) return false;
      piece.error = ENODEV;
    } else {
      return false;
    }
  }
  unknown_since_ = {};
  if (piece.error) piece.bytes = 0;
  ++taken_;
  return true;
}

int DevicePull::Copy(const Entry& entry, uint64_t source, std::byte* place, const MemorySpan& target,
                     const Writer& writer, Piece& piece, bool& later) {
  if (source != kDeviceSource) return FromHost(entry, source, place, target, writer, piece, later);
  const uint32_t number = entry.region;
  const uint64_t offset = entry.region_offset;
  if (!Known(number)) {
    later = true;
    return 0;
  }
  Region& region = regions_[number];
  if (piece.bytes > region.share.bytes || offset > region.share.bytes - piece.bytes) return ERANGE;
  return FromDevice(region, offset, place, target, piece, later);
}

int DevicePull::FromDevice(Region& region, uint64_t offset, std::byte* place, const MemorySpan& target, Piece& piece,
                           bool& later) {
  const bool to_host = target.device == DeviceKind::kHost;
  const int accessor = to_host ? devices_.driver()->Find(region.share.device) : target.device_index;
  if (accessor < 0) return ENODEV;
  bool by_engine = false;
  const cuda::DevicePtr from = Reach(region, accessor, by_engine);
  cuda::CopyStream* const stream = devices_.Stream(accessor);
  if (!from || !stream) return ENODEV;
  if (to_host && !devices_.IsPinned(place, piece.bytes)) {
    int error = 0;
    std::byte* const detour = TakeDetour(piece, error);
    later = !detour && !error;
    if (!detour) return error;
    piece.to = place;
    piece.detour = detour;
    place = detour;
  }
  piece.stream = stream;
  const uint64_t by_kernel = by_engine ? 0 : to_host ? cuda::CopyStream::kKernelBytes : cuda::CopyStream::kPeerKernelBytes;
  piece.ticket = stream->Add(cuda::AsDevice(place), from + offset, piece.bytes, by_kernel);
  return 0;
}

int DevicePull::FromHost(const Entry& entry, uint64_t source, std::byte* place, const MemorySpan& target,
                         const Writer& writer, Piece& piece, bool& later) {
  if (target.device == DeviceKind::kHost) return Fetch(entry, source, place, piece.bytes, writer);
  cuda::CopyStream* const stream = devices_.Stream(target.device_index);
  if (!stream) return ENODEV;
  const std::byte* from = nullptr;
  if (piece.bytes > kInlineBytes) from = writer.memory.Find(entry.region, entry.region_offset, piece.bytes);
  if (!from || !devices_.IsPinned(from, piece.bytes)) {
    int error = 0;
    std::byte* const detour = TakeDetour(piece, error);
    later = !detour && !error;
    if (!detour) return error;
    if ((error = Fetch(entry, source, detour, piece.bytes, writer))) return error;
    from = detour;
  }
  piece.stream = stream;
  piece.ticket = stream->Add(cuda::AsDevice(place), cuda::AsDevice(from), piece.bytes);
  return 0;
}

// Bytes of the writer's host memory, now.
int DevicePull::Fetch(const Entry& entry, uint64_t source, std::byte* to, uint32_t bytes, const Writer& writer) {
  if (bytes <= kInlineBytes) {
    std::memcpy(to, entry.small, bytes);
    return 0;
  }
  if (const std::byte* const mapped = writer.memory.Find(entry.region, entry.region_offset, bytes)) {
    StreamCopy(to, mapped, bytes);
    FinishStreaming();
    return 0;
  }
  if (writer.refusal) return writer.refusal;
  for (size_t done = 0; done < bytes;) {
    const iovec local{to + done, bytes - done};
    const iovec remote{reinterpret_cast<void*>(source + done), bytes - done};
    const ssize_t n = process_vm_readv(writer.pid, &local, 1, &remote, 1, 0);
    if (n <= 0) return n < 0 ? errno : EFAULT;
    done += static_cast<size_t>(n);
  }
  return 0;
}

std::byte* DevicePull::TakeDetour(Piece& piece, int& error) {
  if (!detour_) {
    Result<cuda::PinnedBuffer> buffer = cuda::PinnedBuffer::Create(*devices_.driver(), kDetourBytes);
    if (!buffer.ok()) {
      log::error("transfer over shm: {}", buffer.status().message());
      error = ENOMEM;
      return nullptr;
    }
    detour_ = *std::move(buffer);
  }
  const uint64_t size = (piece.bytes + kLine - 1) / kLine * kLine;
  if (size > kDetourBytes) {
    error = EMSGSIZE;
    return nullptr;
  }
  const uint64_t left = kDetourBytes - detour_tail_ % kDetourBytes;
  const uint64_t start = size <= left ? detour_tail_ : detour_tail_ + left;
  if (start + size - detour_head_ > kDetourBytes) return nullptr;
  piece.detour_end = detour_tail_ = start + size;
  return detour_.data() + start % kDetourBytes;
}

cuda::DevicePtr DevicePull::Reach(Region& region, int accessor, bool& by_engine) {
  if (region.own) {
    const int owner = devices_.driver()->Find(region.share.device);
    by_engine = owner < 0 || !devices_.driver()->EnablePeer(accessor, owner);
    return region.share.place;
  }
  auto found = region.imports.find(accessor);
  if (found == region.imports.end()) {
    Result<std::shared_ptr<Import>> import = devices_.Open(region.share, accessor);
    if (!import.ok()) log::error("transfer over shm: {}", import.status().message());
    found = region.imports.emplace(accessor, import.ok() ? *std::move(import) : nullptr).first;
  }
  return found->second ? found->second->base() + region.share.offset : 0;
}

bool DevicePull::Front(Ended& ended) {
  if (ended_ == taken_) return false;
  Piece& piece = pieces_[ended_ % kEntries];
  if (piece.stream) {
    if (!piece.stream->Done(piece.ticket)) return false;
    if (!piece.stream->status().ok() && !piece.error) piece.error = EIO;
    if (piece.to && !piece.error) std::memcpy(piece.to, piece.detour, piece.bytes);
    piece.to = nullptr;
  }
  ended = {piece.error, piece.imm, piece.bytes};
  return true;
}

void DevicePull::Pop() {
  const Piece& piece = pieces_[ended_++ % kEntries];
  if (piece.detour_end) detour_head_ = piece.detour_end;
}

void DevicePull::Settle(uint64_t key) {
  const TimePoint deadline = Now() + kSettleWait;
  for (uint64_t i = ended_; i != taken_; ++i) {
    Piece& piece = pieces_[i % kEntries];
    if (!piece.stream || (key && piece.key != key)) continue;
    if (const Status s = piece.stream->Wait(piece.ticket, deadline); s.code() == Code::kDeadlineExceeded)
      log::error("transfer over shm: memory is taken back under a copy: {}", s.message());
    if (!piece.error) piece.error = EKEYREVOKED;
  }
}

bool DevicePull::Idle() {
  for (uint64_t i = ended_; i != taken_; ++i)
    if (const Piece& piece = pieces_[i % kEntries]; piece.stream && !piece.stream->Done(piece.ticket)) return false;
  return true;
}

}  // namespace baton::transfer::shm
