#include "router/discovery/discovery.h"

#include "router/discovery/dns_source.h"
#include "router/discovery/kube_source.h"
#include "router/prober.h"

namespace baton::router {
namespace {

// Holds the router back from being ready until it is called.
std::function<void()> HoldBack(const std::shared_ptr<Services>& services) {
  ++services->unsynced;
  return [services] { --services->unsynced; };
}

std::unique_ptr<Background> StartKube(const std::shared_ptr<Services>& services, KubeOptions options) {
  KubeSource source{std::move(options), services->options.pd_disaggregation, MakeOwnedWorkers(services, "kubernetes"), HoldBack(services)};
  const auto executor = services->executor;
  return std::make_unique<Background>(executor, "Kubernetes discovery", [executor, source] { return FollowPods(executor, source); });
}

std::unique_ptr<Background> StartDns(const std::shared_ptr<Services>& services, const DnsName& name, Role role) {
  const DnsOptions& options = services->options.discovery.dns;
  DnsSource source{name, role, options.interval, MakeOwnedWorkers(services, "dns"), HoldBack(services)};
  return std::make_unique<Background>(services->executor, "DNS discovery", [source, resolver = options.resolver] {
    return FollowDns(source, [resolver](const DnsName& name) { return LookUp(name, resolver); });
  });
}

}  // namespace

std::shared_ptr<OwnedWorkers> MakeOwnedWorkers(const std::shared_ptr<Services>& services, std::string label) {
  // Not the owner of the services: these hold the registry, whose workers' probers hold them.
  const std::weak_ptr<Services> weak = services;
  return std::make_shared<OwnedWorkers>(std::move(label), services->registry, services->metrics, [weak](const WorkerPtr& worker) {
    if (const auto alive = weak.lock()) StartProber(alive, worker);
  });
}

Result<std::unique_ptr<Discovery>> Discovery::Start(std::shared_ptr<Services> services) {
  const DiscoveryOptions& options = services->options.discovery;
  std::unique_ptr<Discovery> discovery(new Discovery);
  if (!options.workers_file.empty()) {
    discovery->file_ = std::make_shared<FileSource>(options.workers_file, services->options.pd_disaggregation,
                                                    MakeOwnedWorkers(services, "file"));
    if (Status s = discovery->file_->Read(); !s.ok()) return s.Prefixed("--workers-file");
    discovery->running_.push_back(std::make_unique<Background>(
        services->executor, "the workers file", [file = discovery->file_, executor = services->executor] { return file->Follow(executor); }));
  }
  if (options.kube.enabled) {
    KubeOptions kube = options.kube;
    if (Status s = FindApiServer(&kube); !s.ok()) return s;
    discovery->running_.push_back(StartKube(services, std::move(kube)));
  }
  const auto names = [&](const std::vector<DnsName>& list, Role role) {
    for (const DnsName& name : list) discovery->running_.push_back(StartDns(services, name, role));
  };
  names(options.dns.prefill, Role::kPrefill);
  names(options.dns.decode, Role::kDecode);
  names(options.dns.regular, Role::kRegular);
  return discovery;
}

Status Discovery::ReloadFile() { return file_ ? file_->Read() : Status::Ok(); }

void Discovery::Stop() {
  for (const auto& running : running_) running->Stop();
}

}  // namespace baton::router
