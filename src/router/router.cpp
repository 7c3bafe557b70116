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

std::unique_ptr<http::Server> MakeMainServer(const std::shared_ptr<Services>& services,
                                             std::vector<boost::asio::any_io_executor> loops) {
  http::ServerOptions o;
  o.host = services->options.host;
  o.port = services->options.port;
  o.max_body_bytes = services->options.max_payload_bytes;
  o.loops = std::move(loops);
  auto server = std::make_unique<http::Server>(services->executor, o);
  InstallRoutes(services, *server);
  return server;
}

}  // namespace

Result<std::unique_ptr<Router>> Router::Start(boost::asio::any_io_executor executor,
                                              RouterOptions options,
                                              std::vector<boost::asio::any_io_executor> loops) {
  if (Status s = Validate(options); !s.ok()) return s;
  std::unique_ptr<Router> router(new Router);
  router->services_ = std::make_shared<Services>(executor, std::move(options));
  const auto& services = router->services_;
  const RouterOptions& o = services->options;

  services->metrics.registry().AddCallback(
      "baton_router_prefix_tree_bytes", "Memory of the prefix trees of cache_aware",
      [registry = services->registry] { return static_cast<double>(registry->TreeMemory()); });
  router->server_ = MakeMainServer(services, std::move(loops));
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
  log::info("Router listening on http://{}:{} (mode={} prefill={} decode={} regular={})", o.host,
            router->port(), o.pd_disaggregation ? "pd" : "regular", o.prefill.size(),
            o.decode.size(), o.worker_urls.size());
  return router;
}

Router::~Router() { Stop(); }

uint16_t Router::port() const { return server_->port(); }

uint16_t Router::prometheus_port() const { return metrics_server_ ? metrics_server_->port() : 0; }

bool Router::Ready() const { return !services_->draining && services_->registry->Ready(); }

void Router::Drain() {
  services_->draining = true;
  services_->admission->Close();
  server_->Drain();
}

size_t Router::OpenRequests() const { return server_->OpenRequests(); }

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
