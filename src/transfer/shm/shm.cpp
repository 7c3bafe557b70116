#include "transfer/shm/shm.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

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
#include "transfer/shm/channel.h"
#include "transfer/shm/socket.h"

namespace baton::transfer {
namespace {

using shm::Channel;
using shm::Entry;
using shm::Fd;
using shm::Greeting;
using shm::kEntries;

constexpr uint32_t kBatch = 64;                   // descriptors per process_vm_readv
constexpr uint64_t kBatchBytes = 4 << 20;         // and bytes: about a millisecond of copying
constexpr Duration kSocketInterval = 100us;       // between looks at the socket while awake
constexpr size_t kMaxWriters = 512;

struct Unmapper {
  void operator()(Channel* channel) const { munmap(channel, sizeof(Channel)); }
};
using ChannelPtr = std::unique_ptr<Channel, Unmapper>;

Fd OpenPid(int pid) { return Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))); }

// A way to a peer: we write descriptors.
struct Outgoing {
  ChannelPtr channel;
  std::string name;
  Fd process;
  uint64_t tail = 0, seen = 0;  // posted, and completed towards the engine
  std::array<OpContext*, kEntries> contexts{};
  bool dead = false;
};

// A peer's way to us: we read descriptors and copy.
struct Incoming {
  ChannelPtr channel;
  std::string name;
  Fd process;
  int pid = 0;
  uint64_t head = 0;
  int refusal = 0;  // errno of the probe: every write is refused with it
  bool dead = false;
};

class ShmFabric final : public Fabric {
 public:
  Status Open();

  const FabricTraits& traits() const override { return traits_; }
  std::string Address() const override { return fmt::format("{}:{}", getpid(), socket_.name()); }
  Result<uint32_t> Register(MemorySpan memory) override;
  void Unregister(uint32_t region) override;
  Result<MemoryKey> Expose(uint32_t region) override;
  void Revoke(const MemoryKey& key) override { keys_.erase(key.key); }
  Result<uint64_t> Insert(std::string_view address) override;
  void Remove(uint64_t peer) override;
  PostResult Write(const WriteRequest& request, TimePoint now, Status& why) override;
  size_t Poll(TimePoint now, std::span<Completion> out) override;
  int wait_fd() const override { return epoll_.get(); }
  bool PrepareSleep() override;

 private:
  // Descriptors taken from a ring, checked, with where their bytes go.
  struct Batch {
    uint32_t count = 0;
    uint64_t bytes = 0;
    std::array<iovec, kBatch> from, to;
    std::array<uint32_t, kBatch> imms;
    std::array<int, kBatch> errors;
  };

  void Watch(int fd);
  void ReadSocket();
  void Attach(shm::Socket::Message message);
  void FindDead();
  void ReadCompletions(uint64_t handle, Outgoing& out, std::span<Completion> to, size_t& count);
  void FailAll(uint64_t handle, Outgoing& out);
  void Pull(Incoming& in, std::span<Completion> to, size_t& count);
  void Gather(Incoming& in, uint64_t available, uint32_t room, Batch& batch);
  int Locate(const Incoming& in, uint64_t key, uint64_t offset, uint64_t bytes, void*& place) const;
  void Copy(const Incoming& in, Batch& batch);
  void SetAsleep(bool asleep);
  bool HasWork() const;

  FabricTraits traits_;
  shm::Socket socket_;
  Fd epoll_;
  uint64_t probe_ = 0;
  std::vector<MemorySpan> regions_;
  std::unordered_map<uint64_t, uint32_t> keys_;
  uint64_t next_key_ = 0;
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

Status ShmFabric::Open() {
  if (Status s = socket_.Open(); !s.ok()) return s;
  epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return Error(Code::kUnavailable, "transfer over shm: epoll: {}", strerror(errno));
  Watch(socket_.fd());
  AllowPeers();
  traits_.family = traits_.provider = "shm";
  traits_.fabric = "process_vm_readv";
  traits_.rails = {"host"};
  traits_.write_path = "software";
  traits_.max_write_bytes = 1 << 30;
  probe_ = next_key_ = reinterpret_cast<uint64_t>(this) * 0x9E3779B97F4A7C15u ^
                       static_cast<uint64_t>(Now().time_since_epoch().count());
  return Status::Ok();
}

void ShmFabric::Watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

Result<uint32_t> ShmFabric::Register(MemorySpan memory) {
  if (memory.device != DeviceKind::kHost)
    return Error(Code::kUnsupported,
                 "provider shm cannot register memory of CUDA device {}: register host memory and "
                 "stage through it",
                 memory.device_index);
  regions_.push_back(memory);
  return static_cast<uint32_t>(regions_.size() - 1);
}

void ShmFabric::Unregister(uint32_t region) {
  regions_[region] = {};
  std::erase_if(keys_, [&](const auto& key) { return key.second == region; });
}

Result<MemoryKey> ShmFabric::Expose(uint32_t region) {
  const MemoryKey key{.base = 0, .key = ++next_key_};
  keys_[key.key] = region;
  return key;
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
  const Greeting greeting{.magic = shm::kMagic,
                          .probe_address = reinterpret_cast<uint64_t>(&probe_),
                          .probe_value = probe_};
  if (Status s = socket_.SendGreeting(out->name, greeting, memory.get()); !s.ok()) return s;
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
  entry.source =
      reinterpret_cast<uint64_t>(regions_[request.local_region].data + request.local_offset);
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
  for (auto& in : incoming_) Pull(*in, to, count);
  std::erase_if(incoming_, [](const auto& in) {
    return in->dead || in->channel->closed.load(std::memory_order_acquire);
  });
  return count;
}

void ShmFabric::ReadSocket() {
  while (std::optional<shm::Socket::Message> message = socket_.Receive())
    if (message->greeting) Attach(*std::move(message));
}

void ShmFabric::Attach(shm::Socket::Message message) {
  const int fd = message.channel.get();
  const int seals = fcntl(fd, F_GET_SEALS);
  const bool sound = message.body.magic == shm::kMagic && message.pid > 0 && seals >= 0 &&
                     (seals & F_SEAL_SHRINK) &&
                     lseek(fd, 0, SEEK_END) == static_cast<off_t>(sizeof(Channel));
  if (!sound || incoming_.size() >= kMaxWriters) {
    log::warn("transfer over shm: refused a channel of process {} ({} attached)", message.pid,
              incoming_.size());
    return;
  }
  void* place = mmap(nullptr, sizeof(Channel), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (place == MAP_FAILED) return log::warn("transfer over shm: mmap: {}", strerror(errno));
  auto in = std::make_unique<Incoming>();
  in->channel.reset(static_cast<Channel*>(place));
  in->name = std::move(message.from);
  in->pid = message.pid;
  in->process = OpenPid(message.pid);
  if (!in->process) return;  // it is dead already
  uint64_t value = 0;
  const iovec local{&value, sizeof value};
  const iovec remote{reinterpret_cast<void*>(message.body.probe_address), sizeof value};
  if (process_vm_readv(in->pid, &local, 1, &remote, 1, 0) != sizeof value)
    in->refusal = errno;
  else if (value != message.body.probe_value)
    in->refusal = ESRCH;
  Watch(in->process.get());
  incoming_.push_back(std::move(in));
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
      if (in->process.get() == fd) in->dead = true;
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
        error == EPERM
            ? Error(Code::kUnsupported,
                    "transfer over shm: the peer may not read this process's memory (another user, "
                    "or ptrace is restricted): allow it (CAP_SYS_PTRACE, "
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

void ShmFabric::Pull(Incoming& in, std::span<Completion> to, size_t& count) {
  Channel& channel = *in.channel;
  const uint64_t tail = channel.tail.load(std::memory_order_acquire);
  const uint64_t available = tail - in.head;
  if (available == 0 || in.dead) return;
  if (available > kEntries) {
    in.dead = true;  // nonsense from the writer
    return;
  }
  const auto room = static_cast<uint32_t>(std::min<size_t>(kBatch, to.size() - count));
  if (room == 0 || channel.closed.load(std::memory_order_seq_cst)) return;
  Batch batch;
  Gather(in, available, room, batch);
  Copy(in, batch);
  // The writer gave up while we copied: its memory may have changed under us. Report nothing.
  if (channel.closed.load(std::memory_order_seq_cst)) return;
  for (uint32_t i = 0; i < batch.count; ++i) {
    Entry& entry = channel.entries[(in.head + i) % kEntries];
    entry.error.store(batch.errors[i], std::memory_order_relaxed);
    if (batch.errors[i]) continue;
    Completion& arrived = to[count++];
    arrived = {};
    arrived.kind = Completion::Kind::kArrived;
    arrived.imm = batch.imms[i];
    arrived.bytes = batch.to[i].iov_len;
  }
  in.head += batch.count;
  channel.head.store(in.head, std::memory_order_seq_cst);
  if (channel.writer_asleep.load(std::memory_order_seq_cst) && channel.writer_asleep.exchange(0))
    socket_.Ring(in.name);
}

int ShmFabric::Locate(const Incoming& in, uint64_t key, uint64_t offset, uint64_t bytes,
                      void*& place) const {
  if (in.refusal) return in.refusal;
  const auto found = keys_.find(key);
  if (found == keys_.end()) return EKEYREVOKED;
  const MemorySpan& region = regions_[found->second];
  if (bytes > region.size_bytes || offset > region.size_bytes - bytes) return ERANGE;
  place = region.data + offset;
  return 0;
}

void ShmFabric::Gather(Incoming& in, uint64_t available, uint32_t room, Batch& batch) {
  const uint64_t most = std::min<uint64_t>(available, room);
  while (batch.count < most && batch.bytes < kBatchBytes) {
    const uint32_t i = batch.count++;
    const Entry& entry = in.channel->entries[(in.head + i) % kEntries];
    // Read once: the other side could change it between check and use.
    const uint64_t source = entry.source, offset = entry.offset, key = entry.key;
    const uint32_t bytes = entry.bytes;
    batch.imms[i] = entry.imm;
    void* place = nullptr;
    batch.errors[i] = Locate(in, key, offset, bytes, place);
    const size_t length = batch.errors[i] ? 0 : bytes;
    batch.from[i] = {reinterpret_cast<void*>(source), length};
    batch.to[i] = {place, length};
    batch.bytes += length;
  }
}

void ShmFabric::Copy(const Incoming& in, Batch& batch) {
  uint32_t first = 0;
  std::array<iovec, kBatch> from = batch.from, to = batch.to;
  while (first < batch.count) {
    if (to[first].iov_len == 0) {
      ++first;
      continue;
    }
    const ssize_t n = process_vm_readv(in.pid, &to[first], batch.count - first, &from[first],
                                       batch.count - first, 0);
    if (n <= 0) {
      // The first one cannot be read; what follows may.
      batch.errors[first++] = n < 0 ? errno : EFAULT;
      continue;
    }
    auto left = static_cast<size_t>(n);
    while (first < batch.count && left >= to[first].iov_len) left -= to[first++].iov_len;
    if (first == batch.count) break;
    for (iovec* piece : {&to[first], &from[first]}) {
      piece->iov_base = static_cast<char*>(piece->iov_base) + left;
      piece->iov_len -= left;
    }
  }
}

void ShmFabric::SetAsleep(bool asleep) {
  asleep_ = asleep;
  for (auto& [handle, out] : outgoing_)
    out->channel->writer_asleep.store(asleep, std::memory_order_seq_cst);
  for (auto& in : incoming_) in->channel->target_asleep.store(asleep, std::memory_order_seq_cst);
}

bool ShmFabric::HasWork() const {
  if (!ready_.empty()) return true;
  for (const auto& [handle, out] : outgoing_)
    if (out->channel->head.load(std::memory_order_seq_cst) != out->seen && !out->dead) return true;
  for (const auto& in : incoming_)
    if (in->channel->tail.load(std::memory_order_seq_cst) != in->head) return true;
  return false;
}

bool ShmFabric::PrepareSleep() {
  SetAsleep(true);
  return !HasWork();
}

}  // namespace

Result<std::unique_ptr<Fabric>> OpenShm() {
  auto fabric = std::make_unique<ShmFabric>();
  if (Status s = fabric->Open(); !s.ok()) return s;
  return std::unique_ptr<Fabric>(std::move(fabric));
}

}  // namespace baton::transfer
