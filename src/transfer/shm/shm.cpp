#include "transfer/shm/shm.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <deque>
#include <fstream>
#include <new>
#include <unordered_map>
#include <vector>

#include "common/log.h"
#include "common/shared_memory.h"
#include "transfer/shm/channel.h"
#include "transfer/shm/incoming.h"
#include "transfer/shm/socket.h"

namespace baton::transfer {
namespace {

using shm::Channel;
using shm::ChannelPtr;
using shm::Entry;
using shm::Fd;
using shm::Incoming;
using shm::kEntries;
using shm::kInlineBytes;
using shm::Notice;

constexpr Duration kSocketInterval = 100us;  // between looks at the socket while awake
constexpr size_t kMaxWriters = 512;
constexpr uint32_t kHostEntries = 512;           // in flight where processors copy: more leave their caches
constexpr uint64_t kMaxWriteBytes = 4 << 20;     // what the detour of device_pull.h holds with ease
constexpr uint64_t kMostPinned = uint64_t{4} << 30;  // of a peer's memory while the engine runs: it takes time

Fd OpenPid(int pid) { return Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))); }

// A number that no other endpoint of this host is likely to have: `probe_` is at its address.
uint64_t Unlikely(const void* here) {
  return reinterpret_cast<uint64_t>(here) * 0x9E3779B97F4A7C15u ^
         static_cast<uint64_t>(Now().time_since_epoch().count());
}

// A way to a peer: we write descriptors.
struct Outgoing {
  ChannelPtr channel;
  std::string name;
  Fd process;
  uint64_t tail = 0, seen = 0;  // posted, and completed towards the engine
  std::array<OpContext*, kEntries> contexts{};
  bool dead = false;
};

class ShmFabric final : public Fabric {
 public:
  ~ShmFabric() override;
  Status Open(std::optional<int> device);

  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return fmt::format("{}:{}", getpid(), socket_.name()); }
  Result<uint32_t> Register(MemorySpan memory) override;
  void Unregister(uint32_t region) override;
  Result<MemoryKey> Expose(uint32_t region) override { return targets_.Expose(region); }
  void Revoke(const MemoryKey& key) override;
  Result<uint64_t> Insert(std::string_view address) override;
  void Remove(uint64_t peer) override;
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  int wait_fd() const override { return epoll_.get(); }
  bool PrepareSleep() override;

 private:
  void Watch(int fd);
  void ReadSocket();
  void Attach(shm::Socket::Message message);
  void MapRegion(const shm::Socket::Message& message);
  Status Share(const Outgoing& out, uint32_t region);
  Status RegisterDevice(const MemorySpan& memory, Fd& share);
  void FindDead();
  void ReadCompletions(uint64_t handle, Outgoing& out, std::span<Completion> to, size_t& count);
  void FailAll(uint64_t handle, Outgoing& out);
  void SetAsleep(bool asleep);
  bool HasWork() const;

  FabricTraits traits_;
  shm::Socket socket_;
  Fd epoll_;
  const uint64_t probe_ = Unlikely(this);
  shm::Targets targets_{probe_};
  std::vector<Fd> shared_;  // by region: its file, read-only; empty where peers cannot map it
  shm::Devices devices_;
  bool has_devices_ = false;  // a region is in device memory
  std::unordered_map<uint64_t, std::unique_ptr<Outgoing>> outgoing_;
  uint64_t next_peer_ = 1;
  std::vector<std::unique_ptr<Incoming>> incoming_;
  std::deque<Completion> ready_;  // made up here: failures of writes to dead or removed peers
  TimePoint next_socket_{};
  bool asleep_ = false;
};

// Lets peers read our memory under Yama's "restricted" scope. Without Yama there is nothing to do.
void AllowPeers() {
  std::ifstream scope("/proc/sys/kernel/yama/ptrace_scope");
  int value = 0;
  if (scope >> value && value == 1) prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
}

// Copies of devices end before the memory that they touch goes.
ShmFabric::~ShmFabric() {
  for (auto& in : incoming_) in->Settle(0);
}

Status ShmFabric::Open(std::optional<int> device) {
  if (device) {
    if (Status s = devices_.Use(); !s.ok()) return s;
    if (Status s = devices_.driver()->Bind(*device); !s.ok()) return s;
    traits_.device_path = "ipc";
    traits_.least_in_flight = Pacer::kDeviceFloor;
  }
  if (Status s = socket_.Open(); !s.ok()) return s;
  epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return Error(Code::kUnavailable, "transfer over shm: epoll: {}", strerror(errno));
  Watch(socket_.fd());
  AllowPeers();
  traits_.family = traits_.provider = "shm";
  traits_.fabric = "mapped,process_vm_readv";
  traits_.rails = {"host"};
  traits_.write_path = "software";
  traits_.max_write_bytes = kMaxWriteBytes;
  traits_.max_in_flight = 4 * (device ? kEntries : kHostEntries);
  traits_.max_in_flight_peer = device ? kEntries : kHostEntries;
  return Status::Ok();
}

void ShmFabric::Watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

Result<uint32_t> ShmFabric::Register(MemorySpan memory) {
  Fd share;
  if (memory.device != DeviceKind::kHost) {
    if (Status s = RegisterDevice(memory, share); !s.ok()) return s;
  } else {
    devices_.Pin(memory.data, memory.size_bytes, false);
    if (const auto range = FindSharedMemory(memory.data, memory.size_bytes); range && memory.size_bytes)
      share = Fd(open(fmt::format("/proc/self/fd/{}", range->fd).c_str(), O_RDONLY | O_CLOEXEC));
  }
  const uint32_t region = targets_.Register(memory);
  shared_.resize(region + 1);
  shared_[region] = std::move(share);
  for (const auto& [handle, out] : outgoing_)
    if (Status s = Share(*out, region); !s.ok()) log::warn("{}", s.message());
  return region;
}

Status ShmFabric::RegisterDevice(const MemorySpan& memory, Fd& share) {
  if (traits_.device_path == "none")
    return Error(Code::kInvalidArgument, "memory of CUDA device {} was not announced: set Options::cuda_device",
                 memory.device_index);
  Result<Fd> file = devices_.Share(memory);
  if (!file.ok()) return file.status();
  // What copies to it is made now, not by the first write.
  if (!devices_.Stream(memory.device_index))
    return Error(Code::kUnsupported, "CUDA device {} has no stream for copies (its error is in the log)", memory.device_index);
  share = *std::move(file);
  has_devices_ = true;
  for (const auto& [handle, out] : outgoing_) out->channel->has_devices.store(1, std::memory_order_release);
  return Status::Ok();
}

void ShmFabric::Unregister(uint32_t region) {
  const MemorySpan memory = targets_.regions()[region];
  for (const uint64_t key : targets_.KeysOf(region)) Revoke({.key = key});
  targets_.Unregister(region);
  if (memory.device == DeviceKind::kHost) devices_.Unpin(memory.data);
  shared_[region] = Fd();
}

void ShmFabric::Revoke(const MemoryKey& key) {
  targets_.Revoke(key.key);
  for (auto& in : incoming_) in->Settle(key.key);
}

// Lets the peer map a region of ours. Without it the peer still gets the bytes, more slowly.
Status ShmFabric::Share(const Outgoing& out, uint32_t region) {
  const MemorySpan& memory = targets_.regions()[region];
  if (memory.device != DeviceKind::kHost)
    return !shared_[region] ? Status::Ok()
                            : socket_.Send(out.name, {.magic = shm::kMagic, .kind = Notice::Kind::kDevice, .value = region},
                                           shared_[region].get());
  const auto range = FindSharedMemory(memory.data, memory.size_bytes);
  if (!shared_[region] || !range) return Status::Ok();
  return socket_.Send(out.name,
                      {.magic = shm::kMagic,
                       .kind = Notice::Kind::kRegion,
                       .place = range->offset,
                       .value = region,
                       .bytes = memory.size_bytes},
                      shared_[region].get());
}

Result<uint64_t> ShmFabric::Insert(std::string_view address) {
  int pid = 0;
  const auto [end, error] = std::from_chars(address.begin(), address.end(), pid);
  if (error != std::errc() || end == address.end() || *end != ':' || pid <= 0 ||
      address.end() - end > 100)
    return Error(Code::kDataCorrupt, "an address of {} bytes is none of provider shm",
                 address.size());
  auto out = std::make_unique<Outgoing>();
  out->name.assign(end + 1, address.end());
  out->process = OpenPid(pid);
  if (!out->process)
    return Error(Code::kUnavailable, "transfer over shm: process {} of the peer: {}", pid,
                 strerror(errno));
  Fd memory(memfd_create("baton-transfer", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory || ftruncate(memory.get(), sizeof(Channel)) != 0 ||
      fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return Error(Code::kUnavailable, "transfer over shm: memfd: {}", strerror(errno));
  void* place = mmap(nullptr, sizeof(Channel), PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (place == MAP_FAILED)
    return Error(Code::kUnavailable, "transfer over shm: mmap: {}", strerror(errno));
  out->channel.reset(new (place) Channel{});
  out->channel->magic = shm::kMagic;
  out->channel->has_devices.store(has_devices_);
  const Notice notice{.magic = shm::kMagic,
                      .kind = Notice::Kind::kChannel,
                      .place = reinterpret_cast<uint64_t>(&probe_),
                      .value = probe_};
  if (Status s = socket_.Send(out->name, notice, memory.get()); !s.ok()) return s;
  for (uint32_t region = 0; region < shared_.size(); ++region)
    if (Status s = Share(*out, region); !s.ok()) return s;
  Watch(out->process.get());
  const uint64_t handle = next_peer_++;
  outgoing_[handle] = std::move(out);
  return handle;
}

void ShmFabric::Remove(uint64_t peer) {
  const auto found = outgoing_.find(peer);
  if (found == outgoing_.end()) return;
  Outgoing& out = *found->second;
  // What the target copies from now on it discards, so the source memory is free at once.
  out.channel->closed.store(1, std::memory_order_seq_cst);
  FailAll(peer, out);
  socket_.Ring(out.name);
  outgoing_.erase(found);
}

PostResult ShmFabric::Write(const WriteRequest& request, TimePoint, Status& why) {
  const auto found = outgoing_.find(request.peer);
  if (found == outgoing_.end()) {
    why = Error(Code::kInternal, "transfer over shm: write to a removed peer");
    return PostResult::kFailed;
  }
  Outgoing& out = *found->second;
  if (out.dead || out.tail - out.seen >= kEntries) return PostResult::kAgain;
  Entry& entry = out.channel->entries[out.tail % kEntries];
  const MemorySpan& memory = targets_.regions()[request.local_region];
  const bool device = memory.device != DeviceKind::kHost;
  const std::byte* const source = memory.data + request.local_offset;
  entry.source = device ? shm::kDeviceSource : reinterpret_cast<uint64_t>(source);
  entry.region = shared_[request.local_region] ? request.local_region : shm::kUnshared;
  entry.region_offset = request.local_offset;
  if (request.bytes <= kInlineBytes && !device) std::memcpy(entry.small, source, request.bytes);
  entry.offset = request.remote_address;
  entry.key = request.remote_key;
  entry.bytes = static_cast<uint32_t>(request.bytes);
  entry.imm = request.imm;
  entry.error.store(0, std::memory_order_relaxed);
  out.contexts[out.tail % kEntries] = request.context;
  out.channel->tail.store(++out.tail, std::memory_order_seq_cst);
  if (out.channel->target_asleep.load(std::memory_order_seq_cst) &&
      out.channel->target_asleep.exchange(0))
    socket_.Ring(out.name);
  return PostResult::kPosted;
}

size_t ShmFabric::Poll(TimePoint now, std::span<Completion> to) {
  if (asleep_ || now >= next_socket_) {
    if (asleep_) SetAsleep(false);
    ReadSocket();
    FindDead();
    next_socket_ = now + kSocketInterval;
  }
  size_t count = 0;
  while (count < to.size() && !ready_.empty()) {
    to[count++] = std::move(ready_.front());
    ready_.pop_front();
  }
  for (auto& [handle, out] : outgoing_) ReadCompletions(handle, *out, to, count);
  // A writer whose memory we may not read must have shared it: hear of that first.
  if (std::any_of(incoming_.begin(), incoming_.end(),
                  [](const auto& in) { return in->refusal() && in->HasEntries(); }))
    ReadSocket();
  for (auto& in : incoming_) in->Pull(targets_, socket_, now, to, count);
  devices_.Flush();
  std::erase_if(incoming_, [](const auto& in) { return in->Over(); });
  return count;
}

void ShmFabric::ReadSocket() {
  while (std::optional<shm::Socket::Message> message = socket_.Receive()) {
    if (!message->whole) continue;
    const bool ours = message->notice.magic == shm::kMagic && message->pid > 0;
    if (ours && message->notice.kind == Notice::Kind::kChannel)
      Attach(*std::move(message));
    else if (ours && (message->notice.kind == Notice::Kind::kRegion || message->notice.kind == Notice::Kind::kDevice))
      MapRegion(*message);
    else
      log::warn("transfer over shm: process {} sent a notice of another version", message->pid);
  }
}

void ShmFabric::Attach(shm::Socket::Message message) {
  const int fd = message.file.get();
  const int seals = fcntl(fd, F_GET_SEALS);
  const bool sound = seals >= 0 && (seals & F_SEAL_SHRINK) &&
                     lseek(fd, 0, SEEK_END) == static_cast<off_t>(sizeof(Channel));
  if (!sound || incoming_.size() >= kMaxWriters) {
    log::warn("transfer over shm: refused a channel of process {} ({} attached)", message.pid,
              incoming_.size());
    return;
  }
  void* place = mmap(nullptr, sizeof(Channel), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (place == MAP_FAILED) return log::warn("transfer over shm: mmap: {}", strerror(errno));
  ChannelPtr channel(static_cast<Channel*>(place));
  Fd process = OpenPid(message.pid);
  if (!process) return;  // it is dead already
  uint64_t value = 0;
  int refusal = 0;
  const iovec local{&value, sizeof value};
  const iovec remote{reinterpret_cast<void*>(message.notice.place), sizeof value};
  if (process_vm_readv(message.pid, &local, 1, &remote, 1, 0) != sizeof value)
    refusal = errno;
  else if (value != message.notice.value)
    refusal = ESRCH;
  Watch(process.get());
  incoming_.push_back(std::make_unique<Incoming>(std::move(channel), std::move(message.from),
                                                 message.pid, std::move(process), refusal,
                                                 devices_));
}

// Of the newest channel of that name: an endpoint that joins anew shares its regions anew.
void ShmFabric::MapRegion(const shm::Socket::Message& message) {
  const auto in = std::find_if(incoming_.rbegin(), incoming_.rend(),
                               [&](const auto& one) { return one->name() == message.from; });
  if (in == incoming_.rend()) return;
  const Notice& notice = message.notice;
  if (notice.kind == Notice::Kind::kDevice) {
    const Result<shm::DeviceShare> share = shm::Devices::ReadShare(message.file.get());
    const Status added = share.ok() ? (*in)->AddDeviceRegion(static_cast<uint32_t>(std::min<uint64_t>(notice.value, shm::kUnshared)),
                                                             *share, message.pid == getpid())
                                    : share.status();
    if (!added.ok()) log::error("transfer over shm: device memory of process {}: {}", message.pid, added.message());
    return;
  }
  const Status status = (*in)->memory().Map(
      static_cast<uint32_t>(std::min<uint64_t>(notice.value, shm::kUnshared)), message.file.get(),
      notice.place, notice.bytes);
  if (!status.ok())
    return log::warn("transfer over shm: process {}: {}; its pages are read by system calls", message.pid,
                     status.message());
  // Our devices read it in place.
  if (targets_.has_devices() && notice.bytes <= kMostPinned)
    (*in)->Pin(static_cast<uint32_t>(notice.value), notice.bytes);
}

// A pidfd becomes readable when its process is gone.
void ShmFabric::FindDead() {
  epoll_event events[16];
  const int count = epoll_wait(epoll_.get(), events, 16, 0);
  for (int i = 0; i < count; ++i) {
    const int fd = events[i].data.fd;
    if (fd == socket_.fd()) continue;
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
    for (auto& [handle, out] : outgoing_) {
      if (out->process.get() != fd) continue;
      FailAll(handle, *out);
      Completion gone;
      gone.kind = Completion::Kind::kPeerGone;
      gone.peer = handle;
      gone.status = Error(Code::kUnavailable, "transfer over shm: the peer's process ended");
      ready_.push_back(std::move(gone));
    }
    for (auto& in : incoming_)
      if (in->process() == fd) in->SetDead();
  }
}

void ShmFabric::ReadCompletions(uint64_t, Outgoing& out, std::span<Completion> to, size_t& count) {
  const uint64_t head = out.channel->head.load(std::memory_order_acquire);
  if (head - out.seen > out.tail - out.seen) return;  // nonsense: the deadline will end it
  while (out.seen < head && count < to.size()) {
    const Entry& entry = out.channel->entries[out.seen % kEntries];
    const int error = entry.error.load(std::memory_order_relaxed);
    Completion& completion = to[count++];
    completion = {};
    completion.context = out.contexts[out.seen % kEntries];
    ++out.seen;
    if (error == 0) continue;
    completion.kind = Completion::Kind::kFailed;
    completion.peer_lost = true;
    completion.status =
        error == ENODEV
            ? Error(Code::kUnsupported,
                    "transfer over shm: the peer cannot copy to or from this device (its log says why): make "
                    "the GPUs of both visible to both processes, or use provider tcp")
        : error == EPERM
            ? Error(Code::kUnsupported,
                    "transfer over shm: the peer may not read this process's memory (another user, "
                    "or ptrace is restricted) and it is not shared: allow it (CAP_SYS_PTRACE, "
                    "kernel.yama.ptrace_scope 0 or 1) or use provider tcp")
            : Error(Code::kUnavailable, "transfer over shm: the peer refused a write: {}",
                    strerror(error));
  }
}

void ShmFabric::FailAll(uint64_t, Outgoing& out) {
  out.dead = true;
  for (; out.seen < out.tail; ++out.seen) {
    Completion& failed = ready_.emplace_back();
    failed.kind = Completion::Kind::kFailed;
    failed.peer_lost = true;
    failed.context = out.contexts[out.seen % kEntries];
    failed.status = Error(Code::kUnavailable, "transfer over shm: the peer is gone");
  }
}

void ShmFabric::SetAsleep(bool asleep) {
  asleep_ = asleep;
  for (auto& [handle, out] : outgoing_)
    out->channel->writer_asleep.store(asleep, std::memory_order_seq_cst);
  for (auto& in : incoming_) in->SetAsleep(asleep);
}

bool ShmFabric::HasWork() const {
  if (!ready_.empty()) return true;
  for (const auto& [handle, out] : outgoing_)
    if (out->channel->head.load(std::memory_order_seq_cst) != out->seen && !out->dead) return true;
  for (const auto& in : incoming_)
    if (in->HasEntries()) return true;
  return false;
}

bool ShmFabric::PrepareSleep() {
  SetAsleep(true);
  return !HasWork();
}

}  // namespace

Result<std::unique_ptr<Fabric>> OpenShm(std::optional<int> device) {
  auto fabric = std::make_unique<ShmFabric>();
  if (Status s = fabric->Open(device); !s.ok()) return s;
  return std::unique_ptr<Fabric>(std::move(fabric));
}

}  // namespace baton::transfer
