#include "bench/transfer_blocks.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <numeric>
#include <random>

#include "common/clock.h"
#include "transfer/cuda/copy_stream.h"

namespace baton::bench {
namespace {

constexpr Duration kCopyTimeout = 60s;

uint64_t PatternWord(uint64_t seed, uint64_t index) {
  uint64_t x = (index + 1) * 0x9E3779B97F4A7C15u ^ seed * 0xD1B54A32D192ED03u;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9u;
  return x ^ x >> 32;
}

}  // namespace

BlockOrder MakeBlockOrder(uint32_t blocks, bool scattered, uint64_t seed) {
  BlockOrder order;
  for (std::vector<uint32_t>* places : {&order.from, &order.to}) {
    places->resize(blocks);
    std::iota(places->begin(), places->end(), 0u);
  }
  if (scattered) {
    std::mt19937_64 random(seed);
    std::shuffle(order.from.begin(), order.from.end(), random);
    std::shuffle(order.to.begin(), order.to.end(), random);
  }
  return order;
}

Status FillPattern(MemorySpan memory, uint64_t seed) {
  if (memory.device != DeviceKind::kHost) {
    std::vector<std::byte> bytes(memory.size_bytes);
    if (Status s = FillPattern({bytes.data(), bytes.size()}, seed); !s.ok()) return s;
    return transfer::cuda::CopyNow(memory, {bytes.data(), bytes.size()}, Now() + kCopyTimeout);
  }
  for (uint64_t i = 0; i < memory.size_bytes / 8; ++i) {
    const uint64_t word = PatternWord(seed, i);
    std::memcpy(memory.data + i * 8, &word, 8);
  }
  return Status::Ok();
}

Status ClearMemory(MemorySpan memory) {
  if (memory.device == DeviceKind::kHost) {
    std::memset(memory.data, 0, memory.size_bytes);
    return Status::Ok();
  }
  std::vector<std::byte> zeros(memory.size_bytes);
  return transfer::cuda::CopyNow(memory, {zeros.data(), zeros.size()}, Now() + kCopyTimeout);
}

Result<uint64_t> CountWrongBytes(MemorySpan target, const BlockOrder& order, uint64_t block_bytes, uint64_t seed) {
  std::vector<std::byte> copy;
  if (target.device != DeviceKind::kHost) {
    copy.resize(target.size_bytes);
    const MemorySpan host{copy.data(), copy.size()};
    if (Status s = transfer::cuda::CopyNow(host, target, Now() + kCopyTimeout); !s.ok()) return s;
    target = host;
  }
  uint64_t wrong = 0;
  for (size_t b = 0; b < order.to.size(); ++b) {
    const std::byte* const block = target.data + order.to[b] * block_bytes;
    const uint64_t first = order.from[b] * block_bytes / 8;
    for (uint64_t i = 0; i < block_bytes / 8; ++i) {
      const uint64_t want = PatternWord(seed, first + i);
      uint64_t have = 0;
      std::memcpy(&have, block + i * 8, 8);
      for (uint64_t differing = want ^ have; differing; differing >>= 8) wrong += (differing & 0xFF) != 0;
    }
  }
  return wrong;
}

double MeasureMemcpy(MemorySpan memory, const BlockOrder& order, uint64_t block_bytes) {
  const uint64_t total = order.from.size() * block_bytes;
  Result<BenchPool> pool = BenchPool::Create(total, false);
  if (!pool.ok()) return 0;
  const MemorySpan copy = pool->span();
  double best = 0;
  for (int round = 0; round < 3; ++round) {  // the first takes the copy's pages
    const TimePoint start = Now();
    for (size_t i = 0; i < order.from.size(); ++i)
      std::memcpy(copy.data + order.to[i] * block_bytes, memory.data + order.from[i] * block_bytes, block_bytes);
    best = std::max(best, static_cast<double>(total) / Seconds(Now() - start) / 1e9);
  }
  return best;
}

double MeasureDeviceCopy(int from_device, int to_device, uint64_t bytes) {
  namespace cuda = transfer::cuda;
  const Result<cuda::Driver*> driver = cuda::Driver::Get();
  const int ordinal = from_device >= 0 ? from_device : to_device;
  if (!driver.ok() || ordinal < 0 || !(*driver)->Bind(ordinal).ok()) return 0;
  std::optional<cuda::DeviceBuffer> devices[2];
  cuda::PinnedBuffer host;
  cuda::DevicePtr places[2];
  for (int end = 0; end < 2; ++end) {
    const int device = end ? to_device : from_device;
    if (device >= 0) {
      Result<cuda::DeviceBuffer> buffer = cuda::DeviceBuffer::Create(device, bytes);
      if (!buffer.ok()) return 0;
      devices[end].emplace(*std::move(buffer));
      places[end] = cuda::AsDevice(devices[end]->span().data);
    } else {
      Result<cuda::PinnedBuffer> buffer = cuda::PinnedBuffer::Create(**driver, bytes);
      if (!buffer.ok()) return 0;
      host = *std::move(buffer);
      places[end] = cuda::AsDevice(host.data());
    }
  }
  if (from_device >= 0 && to_device >= 0) (*driver)->EnablePeer(from_device, to_device);
  Result<std::unique_ptr<cuda::CopyStream>> stream = cuda::CopyStream::Create(**driver, ordinal, false);
  if (!stream.ok()) return 0;
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const TimePoint start = Now();
    const uint64_t ticket = (*stream)->Add(places[1], places[0], bytes, true);
    if (!(*stream)->Wait(ticket, start + kCopyTimeout).ok()) return 0;
    best = std::max(best, static_cast<double>(bytes) / Seconds(Now() - start) / 1e9);
  }
  return best;
}

std::optional<int> AnnouncedDevice(transfer::ProviderKind provider, int own_device, int other_device) {
  if (own_device >= 0) return own_device;
  if (other_device >= 0 && provider == transfer::ProviderKind::kShm) return other_device;
  return std::nullopt;
}

std::string MemoryName(int device) { return device < 0 ? "host" : fmt::format("cuda:{}", device); }

Result<int> ParseMemory(const std::string& name) {
  if (name == "host") return -1;
  int device = -1;
  const char* const end = name.data() + name.size();
  if (name.starts_with("cuda:")) {
    const auto [rest, error] = std::from_chars(name.data() + 5, end, device);
    if (error == std::errc() && rest == end && device >= 0 && device < 1024) return device;
  }
  return Error(Code::kInvalidArgument, "memory \"{}\": use host, or cuda:N with the number of a GPU", name);
}

void PoolUnmapper::operator()(std::byte* data) const { munmap(data, bytes); }

Result<BenchPool> BenchPool::Create(uint64_t bytes, bool shared, int device) {
  BenchPool pool;
  if (device >= 0) {
    Result<transfer::cuda::DeviceBuffer> memory = transfer::cuda::DeviceBuffer::Create(device, bytes);
    if (!memory.ok()) return memory.status();
    pool.device_.emplace(*std::move(memory));
    return pool;
  }
  if (shared) {
    Result<SharedMemory> memory = SharedMemory::Create(bytes, SharedMemory::Pages::kHuge);
    if (!memory.ok()) return memory.status();
    pool.shared_.emplace(*std::move(memory));
    return pool;
  }
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return Error(Code::kResourceExhausted, "cannot allocate {} bytes: {}", bytes, strerror(errno));
  madvise(data, bytes, MADV_HUGEPAGE);
  pool.private_ = {static_cast<std::byte*>(data), PoolUnmapper{bytes}};
  return pool;
}

MemorySpan BenchPool::span() const {
  if (device_) return device_->span();
  if (shared_) return shared_->span();
  return {private_.get(), private_.get_deleter().bytes};
}

}  // namespace baton::bench
