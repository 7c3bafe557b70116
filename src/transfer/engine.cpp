// The public engine: an EngineCore on its worker thread, opened over the chosen fabric.
#include <random>

#include "common/log.h"
#include "transfer/engine_metrics.h"
#include "transfer/libfabric/libfabric.h"
#include "transfer/loopback/loopback.h"
#include "transfer/nixl/nixl.h"
#include "transfer/rails/invitation.h"
#include "transfer/rails/rails.h"
#include "transfer/fabric_probe.h"
#include "transfer/shm/shm.h"
#include "transfer/staged/staged_fabric.h"
#include "transfer/worker.h"

namespace baton::transfer {
namespace {

constexpr Duration kControlDeadline = 10s;  // for calls that only ask the worker
constexpr Duration kSelfTestDeadline = 20s;  // a starved machine is no broken fabric
// Writes over several rails are cut so that a page run keeps them all busy (docs/transfer-engine.md).
constexpr uint64_t kStripeBytes = 256 << 10;

class EngineImpl final : public Engine {
 public:
  EngineImpl(std::unique_ptr<EngineCore> core, std::chrono::milliseconds idle_poll,
             FabricReport report)
      : worker_(std::move(core), idle_poll), core_(worker_.core()), report_(std::move(report)) {
    worker_.Start();
  }

  const FabricReport& report() const override { return report_; }

  Result<RegionId> Register(MemorySpan memory) override {
    Result<RegionId> result = NotReached("Register");
    worker_.Run([&] { result = core_.Register(memory); }, Now() + kControlDeadline);
    return result;
  }

  std::string Describe() const override {
    Result<std::string> result = NotReached("Describe");
    worker_.Run([&] { result = core_.Describe(); }, Now() + kControlDeadline);
    if (result.ok()) return *std::move(result);
    log::error("transfer: cannot describe this engine: {}", result.status().ToString());
    return {};
  }

  Result<PeerId> Connect(std::string_view blob, TimePoint deadline) override {
    Result<PeerBlob> parsed = ParseBlob(blob);
    if (!parsed) return parsed.status();
    if (worker_.OnWorker())
      return Error(Code::kInvalidArgument, "Connect waits, so not from the event handler");
    Result<PeerId> id = NotReached("Connect");
    worker_.Run([&] { id = core_.AddPeer(*std::move(parsed), Now()); }, deadline);
    if (!id) return id;
    id = WaitUntilJoined(*id, deadline);
    std::lock_guard lock(metrics_mutex_);
    if (metrics_) metrics_->AddSeats();
    return id;
  }

  void Disconnect(PeerId peer) override {
    worker_.Run([&] { core_.RemovePeer(peer, Now()); }, Now() + kControlDeadline);
  }

  Result<Slot> Expect(PeerId from, TimePoint deadline) override {
    return Waking(core_.Expect(from, deadline));
  }
  void Seal(Slot slot, uint32_t writes) override {
    core_.Seal(slot, writes);
    worker_.Wake();
  }
  uint32_t Landed(Slot slot) const override { return core_.Landed(slot); }
  void Cancel(Slot slot) override {
    core_.Cancel(slot);
    worker_.Wake();
  }
  void Release(Slot slot) override {
    core_.Release(slot);
    worker_.Wake();
  }
  Result<SendId> Begin(PeerId peer, Slot remote_slot, RegionId local, RegionId remote_region,
                       TimePoint deadline, Priority priority) override {
    return Waking(core_.Begin(peer, remote_slot, local, remote_region, deadline, priority));
  }
  Result<uint32_t> Push(SendId send, std::span<const Run> runs) override {
    return Waking(core_.Push(send, runs));
  }
  Status Mark(SendId send) override {
    Status s = core_.Mark(send);
    if (s.ok()) worker_.Wake();
    return s;
  }
  void Finish(SendId send) override {
    core_.Finish(send);
    worker_.Wake();
  }
  void CancelSend(SendId send) override {
    core_.CancelSend(send);
    worker_.Wake();
  }
  Usage usage() const override { return core_.usage(); }
  void ExportMetrics(metrics::Registry& registry) override;

 private:
  static Status NotReached(std::string_view call) {
    return Error(Code::kDeadlineExceeded, "{}: the transfer worker was not reached in time", call);
  }
  template <typename T>
  Result<T> Waking(Result<T> result) {
    if (result.ok()) worker_.Wake();
    return result;
  }

  Result<PeerId> WaitUntilJoined(PeerId id, TimePoint deadline) {
    Status why;
    bool lost = false;
    for (;;) {
      EngineCore::PeerState state = EngineCore::PeerState::kLost;
      worker_.Run([&] { state = core_.GetPeerState(id, why); }, Now() + kControlDeadline);
      if (state == EngineCore::PeerState::kReady) return id;
      lost = state == EngineCore::PeerState::kLost;
      if (lost || Now() >= deadline) break;
      std::this_thread::sleep_for(200us);
    }
    worker_.Run([&] { core_.RemovePeer(id, Now(), true); }, Now() + kControlDeadline);
    return Error(lost ? Code::kUnavailable : Code::kDeadlineExceeded,
                 "connecting to the peer over {}: {}", report_.provider, why.message());
  }

  mutable Worker worker_;
  EngineCore& core_;
  const FabricReport report_;
  std::mutex metrics_mutex_;
  std::unique_ptr<EngineMetrics> metrics_;
};

void EngineImpl::ExportMetrics(metrics::Registry& registry) {
  std::lock_guard lock(metrics_mutex_);
  metrics_ = std::make_unique<EngineMetrics>(registry, core_.stats(), report_,
                                             core_.fabric().rail_stats());
}

std::unique_ptr<Fabric> JoinAll(const Options& options, std::vector<std::unique_ptr<Fabric>> rails) {
  if (rails.size() > kMaxRails) {
    log::warn("transfer: {} rails can be opened, the first {} are used", rails.size(), kMaxRails);
    rails.resize(kMaxRails);
  }
  return JoinRails(std::move(rails), {.silence = options.peer_timeout / 6});
}

Result<std::unique_ptr<Fabric>> OpenFabric(const Options& options) {
  const bool has_cards = options.provider != ProviderKind::kShm && options.provider != ProviderKind::kNixl &&
                         options.provider != ProviderKind::kLoopback;
  if (!options.rails.empty() && !has_cards)
    return Error(Code::kInvalidArgument,
                 "rails are network cards of providers efa and tcp: leave them out, or name one of these");
  if (options.rails.size() > kMaxRails)
    return Error(Code::kInvalidArgument, "{} rails are named, {} are the most of one engine",
                 options.rails.size(), kMaxRails);
  if (options.provider == ProviderKind::kLoopback) {
    if (!options.loopback)
      return Error(Code::kInvalidArgument, "the loopback provider needs Options::loopback");
    if (options.require_rdma)
      return Error(Code::kUnsupported, "RDMA is required, the loopback provider has none");
    return staged::Wrap(options.loopback->Open(), options.cuda_device);
  }
  if (options.provider == ProviderKind::kShm && !options.require_rdma) return OpenShm(options.cuda_device);
  if (options.provider == ProviderKind::kNixl) {
    if (options.cuda_device)
      return Error(Code::kUnsupported, "memory of GPUs does not go over provider nixl: use efa, tcp or shm");
    return OpenNixl(options);
  }
  Result<LibfabricFabrics> opened = OpenLibfabricFabrics(options);
  if (!opened) return opened.status();
  std::unique_ptr<Fabric> fabric =
      opened->rails ? JoinAll(options, std::move(opened->fabrics)) : std::move(opened->fabrics.front());
  return staged::Wrap(std::move(fabric), options.cuda_device);
}

uint64_t RandomEpoch() {
  std::random_device random;
  const uint64_t epoch = (uint64_t{random()} << 32) | random();
  return epoch ? epoch : 1;
}

}  // namespace

Result<ProviderKind> ParseProvider(std::string_view name) {
  if (name == "auto") return ProviderKind::kAuto;
  if (name == "efa") return ProviderKind::kEfa;
  if (name == "tcp") return ProviderKind::kTcp;
  if (name == "shm") return ProviderKind::kShm;
  if (name == "nixl") return ProviderKind::kNixl;
  return Error(Code::kInvalidArgument, "transfer provider \"{}\": use auto, efa, tcp, shm or nixl",
               name);
}

std::string_view PriorityName(Priority priority) {
  switch (priority) {
    case Priority::kControl: return "control";
    case Priority::kDecode: return "decode";
    case Priority::kBackground: return "background";
  }
  return "";
}

Result<Priority> ParsePriority(std::string_view name) {
  for (const Priority priority : {Priority::kControl, Priority::kDecode, Priority::kBackground})
    if (name == PriorityName(priority)) return priority;
  return Error(Code::kInvalidArgument, "class \"{}\": use control, decode or background", name);
}

Result<WriteMode> ParseWriteMode(std::string_view name) {
  if (name == "auto") return WriteMode::kAuto;
  if (name == "write") return WriteMode::kWrite;
  if (name == "read") return WriteMode::kRead;
  return Error(Code::kInvalidArgument, "transfer write mode \"{}\": use auto, write or read", name);
}

std::string FabricReport::ToString() const {
  return fmt::format(
      "transfer provider={} fabric={} rails=[{}] rdma={} write_path={} cuda={} self_test={} libfabric={}{}",
      provider, fabric, fmt::join(rails, ","), hardware_rdma ? "yes" : "no", write_path,
      device_path,
      self_test_gb_per_s > 0 ? fmt::format("{:.2f}GB/s", self_test_gb_per_s) : "not-run",
      libfabric_version.empty() ? "none" : libfabric_version,
      nixl_version.empty() ? "" : " nixl=" + nixl_version);
}

Result<std::unique_ptr<Engine>> Engine::Open(Options options,
                                             std::function<void(const Event&)> on_event) {
  if (options.max_slots == 0 || options.max_slots > kImmSlots || options.max_sends == 0 ||
      options.max_queued_runs == 0 || options.max_write_bytes == 0)
    return Error(Code::kInvalidArgument,
                 "transfer options: max_slots must be 1..{}, max_sends, max_queued_runs and "
                 "max_write_bytes at least 1", kImmSlots);
  Result<std::unique_ptr<Fabric>> fabric = OpenFabric(options);
  if (!fabric) return fabric.status();
  const FabricTraits& traits = (*fabric)->traits();
  FabricReport report{.provider = traits.provider,
                      .fabric = traits.fabric,
                      .rails = traits.rails,
                      .hardware_rdma = traits.hardware_rdma,
                      .write_path = traits.write_path,
                      .device_path = traits.device_path,
                      .libfabric_version = traits.version,
                      .nixl_version = traits.nixl_version};
  if (options.self_test) {
    Result<double> speed = RunSelfTest(**fabric, options.cuda_device, Now() + kSelfTestDeadline);
    if (!speed) return speed.status();
    report.self_test_gb_per_s = *speed;
  }
  const EngineCore::Config config{
      .max_slots = options.max_slots,
      .max_sends = options.max_sends,
      .max_queued_runs = options.max_queued_runs,
      .max_write_bytes =
          std::min<uint64_t>({options.max_write_bytes, traits.max_write_bytes,
                              traits.rails.size() > 1 ? kStripeBytes : 1u << 30}),
      .probe_interval = options.peer_timeout / 6,
      .peer_timeout = options.peer_timeout,
      .epoch = RandomEpoch(),
      .control_wait = options.control_wait,
      .least_in_flight = traits.least_in_flight,
      .checksum = options.checksum,
      .max_peers = std::min(kMailboxCells, traits.max_invitations)};
  auto core = std::make_unique<EngineCore>(*std::move(fabric), config, std::move(on_event));
  if (Status s = core->Open(); !s.ok()) return s;
  return std::unique_ptr<Engine>(
      std::make_unique<EngineImpl>(std::move(core), options.idle_poll, std::move(report)));
}

}  // namespace baton::transfer
