#include "router/router.h"

#include "common/log.h"
#include "http/body_budget.h"
#include "router/discovery/discovery.h"
#include "router/discovery/workers_file.h"
#include "router/routes.h"
#include "router/services.h"

namespace baton::router {
namespace {

// Valid options only.
std::vector<WantedWorker> ListedWorkers(const RouterOptions& options) {
  std::vector<WantedWorker> workers;
  const auto add = [&](const std::string& url, Role role, std::optional<uint16_t> bootstrap_port) {
    WorkerConfig config;
    config.url = http::ParseOrigin(url)->ToString();
    config.role = role;
    config.bootstrap_port = bootstrap_port;
    workers.push_back(ListedWorker(std::move(config)));
  };
  for (const PrefillUrl& p : options.prefill) add(p.url, Role::kPrefill, p.bootstrap_port);
  for (const std::string& url : options.decode) add(url, Role::kDecode, std::nullopt);
  for (const std::string& url : options.worker_urls) add(url, Role::kRegular, std::nullopt);
  return workers;
}

std::shared_ptr<http::Server> MakeMainServer(const std::shared_ptr<Services>& services,
                                             std::vector<boost::asio::any_io_executor> loops) {
  http::ServerOptions o;
  o.host = services->options.host;
  o.port = services->options.port;
  o.max_body_bytes = services->options.max_payload_bytes;
  o.max_held_body_bytes = std::max(http::BodyBytesToHold(services->options.max_total_payload_bytes), o.max_body_bytes);
  o.tls = services->options.tls;
  o.loops = std::move(loops);
  auto server = std::make_shared<http::Server>(services->executor, o);
  InstallRoutes(services, *server);
  services->metrics.SetConnections([weak = std::weak_ptr<http::Server>(server)] {
    const auto alive = weak.lock();
    return alive ? static_cast<double>(alive->Connections()) : 0;
  });
  services->metrics.registry().AddCallback(
      "baton_router_request_body_bytes", "Bytes of the bodies of requests under way",
      [weak = std::weak_ptr<http::Server>(server)] {
        const auto alive = weak.lock();
        return alive ? static_cast<double>(alive->HeldBodyBytes()) : 0;
      });
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
      [registry = services->registry.get()] { return static_cast<double>(registry->TreeMemory()); });
  if (!o.access_log.empty()) {
    auto writer = LineWriter::Open({.path = o.access_log});
    if (!writer.ok()) return writer.status().Prefixed("--access-log");
    services->access_log = std::move(*writer);
    services->metrics.registry().AddCallback(
        "baton_router_access_log_dropped_lines", "Lines of the access log that were lost",
        [log = services->access_log.get()] { return static_cast<double>(log->dropped()); });
  }
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
  router->listed_ = MakeOwnedWorkers(services, "listed");
  router->listed_->Apply(ListedWorkers(o));
  auto discovery = Discovery::Start(services);
  if (!discovery.ok()) return discovery.status();
  router->discovery_ = std::move(*discovery);
  log::info("Router listening on {}://{}:{} (mode={} prefill={} decode={} regular={})", o.tls.enabled() ? "https" : "http", o.host,
            router->port(), o.pd_disaggregation ? "pd" : "regular", o.prefill.size(),
            o.decode.size(), o.worker_urls.size());
  return router;
}

Router::~Router() { Stop(); }

uint16_t Router::port() const { return server_->port(); }

uint16_t Router::prometheus_port() const { return metrics_server_ ? metrics_server_->port() : 0; }

bool Router::Ready() const { return services_->Ready(); }

Status Router::ReplaceListed(const RouterOptions& fresh) {
  RouterOptions checked = services_->options;
  checked.prefill = fresh.prefill;
  checked.decode = fresh.decode;
  checked.worker_urls = fresh.worker_urls;
  if (Status s = Validate(checked); !s.ok()) return s;
  listed_->Apply(ListedWorkers(checked));
  return Status::Ok();
}

Status Router::ReloadWorkersFile() { return discovery_->ReloadFile(); }

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
  if (discovery_) discovery_->Stop();
  server_->Stop();
  if (metrics_server_) metrics_server_->Stop();
  services_->registry->KickAll();  // probers see `stopped` and end
  services_->client.CloseIdle();
}

}  // namespace baton::router
