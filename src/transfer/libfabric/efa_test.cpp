// What the code does on EFA, over a provider that plays it: choice of fabric, options of endpoints,
// native and emulated writes, reads instead, errors. No hardware, and no proof of how hardware
// behaves.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "transfer/libfabric/calls.h"
#include "transfer/libfabric/efa.h"
#include "transfer/libfabric/libfabric.h"
#include "transfer/transfer.h"

namespace baton::transfer {
namespace {

// Endpoints of one process that write into each other at once. Keys and addresses are the
// provider's, memory must be registered, as on EFA.
struct FakeEfa {
  // What the machine has.
  bool direct_needs_receives = false, has_direct = true;
  bool emulates_writes = false, emulates_reads = false;
  size_t longest_rma = 1 << 30;
  uint32_t version = FI_VERSION(2, 1);
  int next_error = 0;  // prov_errno with which the next write or read ends
  // What was done to it.
  std::map<int, int64_t> options;
  std::vector<uint64_t> modes;  // of queries
  size_t receives = 0;

  struct Endpoint;
  struct Queue {
    fid_cq cq{};
    std::deque<fi_cq_data_entry> entries;
    std::deque<fi_cq_err_entry> errors;
  };
  struct Receive {
    void* place;
    size_t bytes;
    void* context;
  };
  struct Endpoint {
    fid_ep ep{};
    Queue* queue = nullptr;
    uint64_t name = 0;
    std::deque<Receive> receives;
    std::deque<std::vector<char>> unexpected;
  };
  struct Memory {
    fid_mr mr{};
    const char* data;
    size_t bytes;
  };
  std::map<uint64_t, Endpoint*> endpoints;  // by name
  std::map<uint64_t, Memory*> memories;     // by key
  std::map<fi_addr_t, uint64_t> peers;      // handle -> name
  uint64_t next = 1;

  FakeEfa();
  ~FakeEfa() { Calls() = {}; }

  ssize_t Move(Endpoint& from, void* local, size_t bytes, void* desc, fi_addr_t peer,
               uint64_t address, uint64_t key, bool write, const uint64_t* data, void* context);
  static FakeEfa* current;
  std::recursive_mutex mutex;  // engines have threads of their own
};
FakeEfa* FakeEfa::current = nullptr;

template <typename Ops>
Ops MakeOps() {
  Ops ops{};
  ops.size = sizeof ops;
  return ops;
}

int CloseNothing(fid*) { return 0; }
int BindNothing(fid*, fid*, uint64_t) { return 0; }
int NoControl(fid*, int, void*) { return -FI_ENOSYS; }
int Enabled(fid*, int, void*) { return 0; }

fi_ops object_ops = [] {
  fi_ops ops = MakeOps<fi_ops>();
  ops.close = CloseNothing;
  ops.bind = BindNothing;
  ops.control = NoControl;
  return ops;
}();

fi_ops endpoint_object_ops = [] {
  fi_ops ops = object_ops;
  ops.control = Enabled;
  ops.bind = [](fid* ep, fid* other, uint64_t) {
    if (other->fclass == FI_CLASS_CQ)
      reinterpret_cast<FakeEfa::Endpoint*>(ep)->queue = reinterpret_cast<FakeEfa::Queue*>(other);
    return 0;
  };
  ops.close = [](fid* ep) {
    auto* const endpoint = reinterpret_cast<FakeEfa::Endpoint*>(ep);
    const std::lock_guard lock(FakeEfa::current->mutex);
    FakeEfa::current->endpoints.erase(endpoint->name);
    delete endpoint;
    return 0;
  };
  return ops;
}();

fi_ops queue_object_ops = [] {
  fi_ops ops = object_ops;
  ops.close = [](fid* cq) {
    delete reinterpret_cast<FakeEfa::Queue*>(cq);
    return 0;
  };
  return ops;
}();

fi_ops memory_object_ops = [] {
  fi_ops ops = object_ops;
  ops.close = [](fid* mr) {
    auto* const memory = reinterpret_cast<FakeEfa::Memory*>(mr);
    const std::lock_guard lock(FakeEfa::current->mutex);
    FakeEfa::current->memories.erase(memory->mr.key);
    delete memory;
    return 0;
  };
  return ops;
}();

fi_ops_cq queue_ops = [] {
  fi_ops_cq ops = MakeOps<fi_ops_cq>();
  ops.read = [](fid_cq* cq, void* to, size_t count) -> ssize_t {
    const std::lock_guard lock(FakeEfa::current->mutex);
    auto& queue = *reinterpret_cast<FakeEfa::Queue*>(cq);
    if (!queue.errors.empty()) return -FI_EAVAIL;
    if (queue.entries.empty()) return -FI_EAGAIN;
    count = std::min(count, queue.entries.size());
    for (size_t i = 0; i < count; ++i) {
      static_cast<fi_cq_data_entry*>(to)[i] = queue.entries.front();
      queue.entries.pop_front();
    }
    return static_cast<ssize_t>(count);
  };
  ops.readerr = [](fid_cq* cq, fi_cq_err_entry* to, uint64_t) -> ssize_t {
    const std::lock_guard lock(FakeEfa::current->mutex);
    auto& queue = *reinterpret_cast<FakeEfa::Queue*>(cq);
    if (queue.errors.empty()) return -FI_EAGAIN;
    *to = queue.errors.front();
    queue.errors.pop_front();
    return 1;
  };
  ops.strerror = [](fid_cq*, int, const void*, char*, size_t) { return "a fake error"; };
  return ops;
}();

fi_ops_ep endpoint_ops = [] {
  fi_ops_ep ops = MakeOps<fi_ops_ep>();
  ops.setopt = [](fid*, int, int option, const void* value, size_t size) {
    const std::lock_guard lock(FakeEfa::current->mutex);
    int64_t number = 0;
    std::memcpy(&number, value, size);
    FakeEfa::current->options[option] = number;
    return 0;
  };
  ops.getopt = [](fid*, int, int option, void* value, size_t* size) {
    const FakeEfa& efa = *FakeEfa::current;
    if (option == efa::kEmulatedWrite && *size == sizeof(bool))
      *static_cast<bool*>(value) = efa.emulates_writes;
    else if (option == efa::kEmulatedRead && *size == sizeof(bool))
      *static_cast<bool*>(value) = efa.emulates_reads;
    else if (option == efa::kMaxRmaSize && *size == sizeof(size_t))
      *static_cast<size_t*>(value) = efa.longest_rma;
    else
      return -FI_ENOPROTOOPT;
    return 0;
  };
  return ops;
}();

fi_ops_cm cm_ops = [] {
  fi_ops_cm ops = MakeOps<fi_ops_cm>();
  ops.getname = [](fid* ep, void* to, size_t* size) {
    if (*size < 32) return -FI_ETOOSMALL;
    *size = 32;
    std::memset(to, 0, 32);
    std::memcpy(to, &reinterpret_cast<FakeEfa::Endpoint*>(ep)->name, sizeof(uint64_t));
    return 0;
  };
  return ops;
}();

void Deliver(FakeEfa::Endpoint& to, const std::vector<char>& message) {
  const FakeEfa::Receive receive = to.receives.front();
  to.receives.pop_front();
  std::memcpy(receive.place, message.data(), std::min(receive.bytes, message.size()));
  to.queue->entries.push_back({receive.context, FI_RECV | FI_MSG, message.size(), nullptr, 0});
}

fi_ops_msg msg_ops = [] {
  fi_ops_msg ops = MakeOps<fi_ops_msg>();
  ops.recv = [](fid_ep* ep, void* place, size_t bytes, void*, fi_addr_t, void* context) -> ssize_t {
    const std::lock_guard lock(FakeEfa::current->mutex);
    auto& endpoint = *reinterpret_cast<FakeEfa::Endpoint*>(ep);
    endpoint.receives.push_back({place, bytes, context});
    ++FakeEfa::current->receives;
    if (endpoint.unexpected.empty()) return 0;
    Deliver(endpoint, endpoint.unexpected.front());
    endpoint.unexpected.pop_front();
    return 0;
  };
  ops.send = [](fid_ep* ep, const void* from, size_t bytes, void* desc, fi_addr_t peer,
                void* context) -> ssize_t {
    const std::lock_guard lock(FakeEfa::current->mutex);
    if (!desc) return -FI_EINVAL;  // FI_MR_LOCAL
    FakeEfa& efa = *FakeEfa::current;
    auto& endpoint = *reinterpret_cast<FakeEfa::Endpoint*>(ep);
    endpoint.queue->entries.push_back({context, FI_SEND | FI_MSG, 0, nullptr, 0});
    const auto to = efa.endpoints.find(efa.peers[peer]);
    if (to == efa.endpoints.end()) return 0;
    const char* const text = static_cast<const char*>(from);
    const std::vector<char> message(text, text + bytes);
    if (to->second->receives.empty())
      to->second->unexpected.push_back(message);
    else
      Deliver(*to->second, message);
    return 0;
  };
  return ops;
}();

fi_ops_rma rma_ops = [] {
  fi_ops_rma ops = MakeOps<fi_ops_rma>();
  ops.writedata = [](fid_ep* ep, const void* from, size_t bytes, void* desc, uint64_t data,
                     fi_addr_t peer, uint64_t address, uint64_t key, void* context) -> ssize_t {
    return FakeEfa::current->Move(*reinterpret_cast<FakeEfa::Endpoint*>(ep),
                                  const_cast<void*>(from), bytes, desc, peer, address, key, true,
                                  &data, context);
  };
  ops.read = [](fid_ep* ep, void* to, size_t bytes, void* desc, fi_addr_t peer, uint64_t address,
                uint64_t key, void* context) -> ssize_t {
    return FakeEfa::current->Move(*reinterpret_cast<FakeEfa::Endpoint*>(ep), to, bytes, desc, peer,
                                  address, key, false, nullptr, context);
  };
  return ops;
}();

ssize_t FakeEfa::Move(Endpoint& from, void* local, size_t bytes, void* desc, fi_addr_t peer,
                      uint64_t address, uint64_t key, bool write, const uint64_t* data,
                      void* context) {
  const std::lock_guard lock(mutex);
  if (!desc) return -FI_EINVAL;  // FI_MR_LOCAL
  const auto memory = memories.find(key);
  const auto to = endpoints.find(peers[peer]);
  int prov_errno = std::exchange(next_error, 0);
  if (to == endpoints.end()) prov_errno = 9;
  auto* const place = reinterpret_cast<char*>(address);
  const bool inside = memory != memories.end() && place >= memory->second->data &&
                      place + bytes <= memory->second->data + memory->second->bytes;
  if (!prov_errno && !inside) prov_errno = 7;
  if (prov_errno) {
    fi_cq_err_entry error{};
    error.op_context = context;
    error.err = FI_EIO;
    error.prov_errno = prov_errno;
    from.queue->errors.push_back(error);
    return 0;
  }
  std::memcpy(write ? place : local, write ? local : place, bytes);
  from.queue->entries.push_back({context, write ? FI_WRITE : FI_READ, 0, nullptr, 0});
  if (!data) return 0;
  void* receive = nullptr;
  if (direct_needs_receives) {
    if (to->second->receives.empty()) return -FI_EAGAIN;
    receive = to->second->receives.front().context;
    to->second->receives.pop_front();
  }
  to->second->queue->entries.push_back(
      {receive, FI_REMOTE_WRITE | FI_REMOTE_CQ_DATA, bytes, nullptr, *data});
  return 0;
}

fi_ops_mr mr_ops = [] {
  fi_ops_mr ops = MakeOps<fi_ops_mr>();
  ops.reg = [](fid*, const void* data, size_t bytes, uint64_t, uint64_t, uint64_t, uint64_t,
               fid_mr** mr, void*) {
    const std::lock_guard lock(FakeEfa::current->mutex);
    auto* const memory = new FakeEfa::Memory;
    memory->data = static_cast<const char*>(data);
    memory->bytes = bytes;
    memory->mr.fid.ops = &memory_object_ops;
    memory->mr.mem_desc = memory;
    memory->mr.key = FakeEfa::current->next++;
    FakeEfa::current->memories[memory->mr.key] = memory;
    *mr = &memory->mr;
    return 0;
  };
  return ops;
}();

fi_ops_av av_ops = [] {
  fi_ops_av ops = MakeOps<fi_ops_av>();
  ops.insert = [](fid_av*, const void* address, size_t, fi_addr_t* handle, uint64_t, void*) {
    const std::lock_guard lock(FakeEfa::current->mutex);
    FakeEfa& efa = *FakeEfa::current;
    *handle = efa.next++;
    std::memcpy(&efa.peers[*handle], address, sizeof(uint64_t));
    return 1;
  };
  ops.remove = [](fid_av*, fi_addr_t* handle, size_t, uint64_t) {
    const std::lock_guard lock(FakeEfa::current->mutex);
    return FakeEfa::current->peers.erase(*handle) ? 0 : -FI_EINVAL;
  };
  ops.straddr = [](fid_av*, const void*, char* text, size_t* size) -> const char* {
    std::snprintf(text, *size, "fi_addr_efa://[fe80::1]:7:1");
    return text;
  };
  return ops;
}();

fid_av the_av{};
fid_domain the_domain{};
fid_fabric the_fabric{};

fi_ops_domain domain_ops = [] {
  fi_ops_domain ops = MakeOps<fi_ops_domain>();
  ops.av_open = [](fid_domain*, fi_av_attr*, fid_av** av, void*) {
    the_av.fid.ops = &object_ops;
    the_av.ops = &av_ops;
    *av = &the_av;
    return 0;
  };
  ops.cq_open = [](fid_domain*, fi_cq_attr* attr, fid_cq** cq, void*) {
    if (attr->wait_obj == FI_WAIT_FD) return -FI_ENOSYS;
    auto* const queue = new FakeEfa::Queue;
    queue->cq.fid.fclass = FI_CLASS_CQ;
    queue->cq.fid.ops = &queue_object_ops;
    queue->cq.ops = &queue_ops;
    *cq = &queue->cq;
    return 0;
  };
  ops.endpoint = [](fid_domain*, fi_info*, fid_ep** ep, void*) {
    const std::lock_guard lock(FakeEfa::current->mutex);
    auto* const endpoint = new FakeEfa::Endpoint;
    endpoint->name = FakeEfa::current->next++;
    endpoint->ep.fid.ops = &endpoint_object_ops;
    endpoint->ep.ops = &endpoint_ops;
    endpoint->ep.cm = &cm_ops;
    endpoint->ep.msg = &msg_ops;
    endpoint->ep.rma = &rma_ops;
    FakeEfa::current->endpoints[endpoint->name] = endpoint;
    *ep = &endpoint->ep;
    return 0;
  };
  return ops;
}();

fi_ops_fabric fabric_ops = [] {
  fi_ops_fabric ops = MakeOps<fi_ops_fabric>();
  ops.domain = [](fid_fabric*, fi_info*, fid_domain** domain, void*) {
    the_domain.fid.ops = &object_ops;
    the_domain.ops = &domain_ops;
    the_domain.mr = &mr_ops;
    *domain = &the_domain;
    return 0;
  };
  return ops;
}();

fi_info* MakeInfo(const char* fabric, const fi_info& hints, uint64_t mode) {
  fi_info* const info = fi_allocinfo();
  info->fabric_attr->prov_name = strdup("efa");
  info->fabric_attr->name = strdup(fabric);
  info->domain_attr->name = strdup("rdmap0s6-rdm");
  info->domain_attr->mr_mode =
      hints.domain_attr->mr_mode &
      (FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY);
  info->domain_attr->cq_data_size = 4;
  info->domain_attr->mr_key_size = 4;
  info->mode = mode;
  info->tx_attr->size = 256;
  info->rx_attr->size = 256;
  info->ep_attr->max_msg_size = ~size_t{0};
  return info;
}

int GetInfo(uint32_t, const char*, const char*, uint64_t, const fi_info* hints, fi_info** out) {
  FakeEfa& efa = *FakeEfa::current;
  efa.modes.push_back(hints->mode);
  *out = nullptr;
  const std::string_view provider =
      hints->fabric_attr->prov_name ? hints->fabric_attr->prov_name : "efa";
  if (provider != "efa") return -FI_ENODATA;
  fi_info* const full = MakeInfo("efa", *hints, 0);
  *out = full;
  const bool receives = hints->mode & FI_RX_CQ_DATA;
  if (!efa.has_direct || (efa.direct_needs_receives && !receives)) return 0;
  *out = MakeInfo("efa-direct", *hints, FI_CONTEXT2 | (receives ? FI_RX_CQ_DATA : 0));
  (*out)->next = full;  // direct lists itself first
  return 0;
}

FakeEfa::FakeEfa() {
  current = this;
  Calls() = {.version = [] { return current->version; },
             .getinfo = GetInfo,
             .fabric = [](fi_fabric_attr*, fid_fabric** fabric, void*) {
               the_fabric.fid.ops = &object_ops;
               the_fabric.ops = &fabric_ops;
               *fabric = &the_fabric;
               return 0;
             }};
}

Options EfaOptions() {
  Options options;
  options.provider = ProviderKind::kEfa;
  return options;
}

// Two fabrics; writes of the first end in completions of both.
struct Pair {
  std::unique_ptr<Fabric> writer, target;
  std::vector<std::byte> source = std::vector<std::byte>(4096, std::byte{7});
  std::vector<std::byte> sink = std::vector<std::byte>(4096);
  uint32_t from = 0, into = 0;
  MemoryKey key;
  uint64_t peer = 0;
  OpContext context{};
  std::vector<Completion> done, arrived;

  explicit Pair(const Options& options)
      : writer(*OpenLibfabric(options)), target(*OpenLibfabric(options)) {
    from = *writer->Register({source.data(), source.size()});
    into = *target->Register({sink.data(), sink.size()});
    key = *target->Expose(into);
    peer = *writer->Insert(target->Address());
  }
  PostResult Write(uint32_t imm) {
    Status why;
    return writer->Write({.peer = peer,
                          .local_region = from,
                          .bytes = 1024,
                          .remote_address = key.base + 512,
                          .remote_key = key.key,
                          .imm = imm,
                          .context = &context},
                         Now(), why);
  }
  void Poll() {
    for (int i = 0; i < 8; ++i)
      for (Fabric* fabric : {writer.get(), target.get()}) {
        Completion some[16];
        const size_t n = fabric->Poll(Now(), some);
        for (size_t j = 0; j < n; ++j)
          (some[j].kind == Completion::Kind::kArrived ? arrived : done).push_back(some[j]);
      }
  }
};

TEST(Efa, TheFullFabricIsChosenByNameAndItsWritesAreNative) {
  FakeEfa efa;
  auto fabric = OpenLibfabric(EfaOptions());
  ASSERT_TRUE(fabric.ok()) << fabric.status().ToString();
  const FabricTraits& traits = (*fabric)->traits();
  EXPECT_EQ(traits.family, "efa");
  EXPECT_EQ(traits.fabric, "efa");
  EXPECT_EQ(traits.write_path, "native");
  EXPECT_TRUE(traits.hardware_rdma);
  EXPECT_GT(traits.cq_entries, 0u);
  EXPECT_GT(traits.drain_timeout.count(), 0);
  EXPECT_EQ(efa.options[efa::kSharedMemoryPermitted], 0);
  EXPECT_TRUE(efa.options.contains(efa::kSharedMemoryPermitted));
  EXPECT_TRUE(efa.options.contains(efa::kCudaApiPermitted));
  EXPECT_EQ(efa.options[efa::kRnrRetry], 7);
}

TEST(Efa, DirectIsTakenWhenAskedFor) {
  FakeEfa efa;
  efa.longest_rma = 1 << 20;
  Options options = EfaOptions();
  options.fabric = "efa-direct";
  auto fabric = OpenLibfabric(options);
  ASSERT_TRUE(fabric.ok()) << fabric.status().ToString();
  EXPECT_EQ((*fabric)->traits().fabric, "efa-direct");
  EXPECT_EQ((*fabric)->traits().max_write_bytes, 1u << 20);
  EXPECT_EQ(efa.receives, 0u);
}

TEST(Efa, DirectPostsReceivesWhereImmediatesNeedThem) {
  FakeEfa efa;
  efa.direct_needs_receives = true;
  Options options = EfaOptions();
  options.fabric = "efa-direct";
  Pair pair(options);
  const size_t posted = efa.receives;
  EXPECT_EQ(posted, 2 * 256u);
  EXPECT_EQ(efa.options[efa::kUseUnsolicitedWriteRecv], 0);
  EXPECT_TRUE(efa.options.contains(efa::kUseUnsolicitedWriteRecv));
  for (uint32_t i = 0; i < 600; ++i) {
    ASSERT_EQ(pair.Write(i), PostResult::kPosted) << i;
    pair.Poll();
  }
  EXPECT_EQ(pair.arrived.size(), 600u);
  EXPECT_EQ(pair.done.size(), 600u);
  EXPECT_EQ(efa.receives, posted + 600);
}

TEST(Efa, AMachineWithoutDirectSaysSo) {
  FakeEfa efa;
  efa.has_direct = false;
  Options options = EfaOptions();
  options.fabric = "efa-direct";
  auto fabric = OpenLibfabric(options);
  ASSERT_FALSE(fabric.ok());
  EXPECT_NE(fabric.status().message().find("2.1"), std::string::npos) << fabric.status().message();
}

TEST(Efa, AnOldLibraryIsRefused) {
  FakeEfa efa;
  efa.version = FI_VERSION(1, 17);
  auto fabric = OpenLibfabric(EfaOptions());
  ASSERT_FALSE(fabric.ok());
  EXPECT_NE(fabric.status().message().find("1.18"), std::string::npos) << fabric.status().message();
}

// p4d: reads in hardware, writes not.
TEST(Efa, EmulatedWritesBecomeReads) {
  FakeEfa efa;
  efa.emulates_writes = true;
  Pair pair(EfaOptions());
  const FabricTraits& traits = pair.writer->traits();
  EXPECT_EQ(traits.family, "efa-read");
  EXPECT_EQ(traits.write_path, "read");
  EXPECT_TRUE(traits.hardware_rdma);
  ASSERT_EQ(pair.Write(42), PostResult::kPosted);
  pair.Poll();
  ASSERT_EQ(pair.arrived.size(), 1u);
  EXPECT_EQ(pair.arrived[0].imm, 42u);
  ASSERT_EQ(pair.done.size(), 1u);
  EXPECT_EQ(pair.done[0].kind, Completion::Kind::kDone);
  EXPECT_EQ(pair.sink[512], std::byte{7});
  EXPECT_EQ(pair.sink[511], std::byte{0});
}

TEST(Efa, EmulatedWritesStayWritesWhereReadsAreEmulatedTooOrAskedFor) {
  FakeEfa efa;
  efa.emulates_writes = efa.emulates_reads = true;
  auto fabric = OpenLibfabric(EfaOptions());
  ASSERT_TRUE(fabric.ok());
  EXPECT_EQ((*fabric)->traits().write_path, "emulated");
  EXPECT_FALSE((*fabric)->traits().hardware_rdma);
  efa.emulates_reads = false;
  Options options = EfaOptions();
  options.write_mode = WriteMode::kWrite;
  fabric = OpenLibfabric(options);
  ASSERT_TRUE(fabric.ok());
  EXPECT_EQ((*fabric)->traits().write_path, "emulated");
}

TEST(Efa, ErrorsSayWhatToDo) {
  FakeEfa efa;
  Pair pair(EfaOptions());
  const auto fail = [&](int code) {
    efa.next_error = code;
    pair.done.clear();
    EXPECT_EQ(pair.Write(1), PostResult::kPosted);
    pair.Poll();
    return pair.done.empty() ? Completion{} : pair.done[0];
  };
  const Completion unreachable = fail(15);
  EXPECT_EQ(unreachable.kind, Completion::Kind::kFailed);
  EXPECT_TRUE(unreachable.peer_lost);
  EXPECT_NE(unreachable.status.message().find("security groups"), std::string::npos)
      << unreachable.status.message();
  // It may still insert our address: hellos are said again.
  const Completion unknown = fail(14);
  EXPECT_EQ(unknown.kind, Completion::Kind::kFailed);
  EXPECT_FALSE(unknown.peer_lost);
  for (const int code : {1, 7, 8, 9, 10, 13, 18, 4124, 4126, 4127}) {
    EXPECT_FALSE(efa::Explain(code).empty()) << code;
    EXPECT_TRUE(fail(code).peer_lost) << code;
  }
  EXPECT_TRUE(pair.arrived.empty());
}

// The whole engine: self-test and a transfer of its own, both ways of moving bytes.
TEST(Efa, TheEnginesSelfTestRunsOverIt) {
  for (const bool emulated : {false, true}) {
    FakeEfa efa;
    efa.emulates_writes = emulated;
    auto engine = Engine::Open(EfaOptions(), [](const Event&) {});
    ASSERT_TRUE(engine.ok()) << engine.status().ToString();
    EXPECT_GT((*engine)->report().self_test_gb_per_s, 0);
    EXPECT_EQ((*engine)->report().write_path, emulated ? "read" : "native");
  }
}

// A host whose address is not in the target's table yet (efa-direct refuses its writes with error 14)
// joins once it is: the engine says hello until then.
TEST(Efa, JoiningGoesOnUntilThePeerKnowsUs) {
  FakeEfa efa;
  Options options = EfaOptions();
  options.self_test = false;
  auto a = *Engine::Open(options, [](const Event&) {});
  auto b = *Engine::Open(options, [](const Event&) {});
  const std::string blob = b->Describe();
  efa.next_error = efa::kUnknownPeer;
  const Result<PeerId> peer = a->Connect(blob, Now() + 10s);
  EXPECT_TRUE(peer.ok()) << peer.status().ToString();
}

}  // namespace
}  // namespace baton::transfer
