#include "router/router.h"

#include "common/log.h"
#include "router/prober.h"
#include "router/routes.h"
#include "router/services.h"

namespace baton::router {
namespace {

std::vector<WorkerConfig> InitialWorkers(const RouterOptions& options) {
  std::vector<WorkerConfig> workers;
  for (const PrefillUrl& p : options.prefill) {
    WorkerConfig config;
    config.url = p.url;
    config.role = Role::kPrefill;
    config.bootstrap_port = p.bootstrap_port;
    workers.push_back(std::move(config));
  }
  const auto add = [&](const std::vector<std::string>& urls, Role role) {
    for (const std::string& url : urls) {
      WorkerConfig config;
      config.url = url;
      config.role = role;
      workers.push_back(std::move(config));
    }
  };
  add(options.decode, Role::kDecode);
  add(options.worker_urls, Role::kRegular);
  return workers;
}

std::shared_ptr<http::Server> MakeMainServer(const std::shared_ptr<Services>& services) {
  http::ServerOptions o;
  o.host = services->options.host;
  o.port = services->options.port;
  o.max_body_bytes = services->options.max_payload_bytes;
  o.tls = services->options.tls;
  auto server = std::make_shared<http::Server>(services->executor, o);
  InstallRoutes(services, *server);
  services->metrics.SetConnections([weak = std::weak_ptr<http::Server>(server)] {
    const auto alive = weak.lock();
    return alive ? static_cast<double>(alive->Connections()) : 0;
  });
  return server;
}

}  // namespace

Result<std::unique_ptr<Router>> Router::Start(boost::asio::any_io_executor executor,
                                              RouterOptions options) {
  if (Status s = Validate(options); !s.ok()) return s;
  std::unique_ptr<Router> router(new Router);
  router->services_ = std::make_shared<Services>(executor, std::move(options));
  const auto& services = router->services_;
  const RouterOptions& o = services->options;

  services->metrics.registry().AddCallback(
      "baton_router_prefix_tree_bytes", "Memory of the prefix trees of cache_aware",
      [registry = services->registry] { return static_cast<double>(registry->TreeMemory()); });
  if (!o.access_log.empty()) {
    auto writer = LineWriter::Open({.path = o.access_log});
    if (!writer.ok()) return writer.status().Prefixed("--access-log");
    services->access_log = std::move(*writer);
    services->metrics.registry().AddCallback(
        "baton_router_access_log_dropped_lines", "Lines of the access log that were lost",
        [log = services->access_log.get()] { return static_cast<double>(log->dropped()); });
  }
  router->server_ = MakeMainServer(services);
  if (Status s = router->server_->Start(); !s.ok()) return s.Prefixed("--port");
  if (o.prometheus_port >= 0) {
    http::ServerOptions m;
    m.host = o.prometheus_host;
    m.port = static_cast<uint16_t>(o.prometheus_port);
    router->metrics_server_ = std::make_unique<http::Server>(services->executor, m);
    InstallMetricsRoute(services, *router->metrics_server_);
    if (Status s = router->metrics_server_->Start(); !s.ok()) return s.Prefixed("--prometheus-port");
  }
  for (WorkerConfig& config : InitialWorkers(o)) {
    auto worker = services->registry->Add(std::move(config));
    if (!worker.ok()) return worker.status();
    StartProber(services, *worker);
  }
  log::info("Router listening on {}://{}:{} (mode={} prefill={} decode={} regular={})", o.tls.enabled() ? "https" : "http", o.host,
            router->port(), o.pd_disaggregation ? "pd" : "regular", o.prefill.size(),
            o.decode.size(), o.worker_urls.size());
  return router;
}

Router::~Router() { Stop(); }

uint16_t Router::port() const { return server_->port(); }

uint16_t Router::prometheus_port() const { return metrics_server_ ? metrics_server_->port() : 0; }

bool Router::Ready() const { return !services_->draining && services_->registry->Ready(); }

void Router::Withdraw() { services_->draining = true; }

void Router::Drain() {
  Withdraw();
  services_->admission->Close();
  server_->Drain();
}

size_t Router::OpenRequests() const { return server_->OpenRequests(); }

void Router::ReopenLogs() {
  if (services_->access_log) services_->access_log->Reopen();
}

void Router::Stop() {
  if (services_->stopped.exchange(true)) return;
  services_->draining = true;
  services_->admission->Close();
  server_->Stop();
  if (metrics_server_) metrics_server_->Stop();
  services_->registry->KickAll();  // probers see `stopped` and end
  services_->client.CloseIdle();
}

}  // namespace baton::router
