#include "router/introducer.h"

#include <boost/asio/co_spawn.hpp>

#include "common/json.h"
#include "common/log.h"

namespace baton::router {
namespace {

constexpr Duration kPairTime = std::chrono::seconds(25);  // registration's own deadlines, and some

// As a request would name the prefill server (bootstrap.h).
std::string PairBody(const WorkerView& prefill) {
  const std::string& host = prefill.worker->origin().host;
  json::object body;
  body["bootstrap_host"] = host.find(':') == std::string::npos ? host : "[" + host + "]";
  const auto port = prefill.config.bootstrap_port ? prefill.config.bootstrap_port : prefill.metadata.bootstrap_port;
  if (port) body["bootstrap_port"] = *port;
  return json::serialize(body);
}

asio::awaitable<void> IntroducePair(std::shared_ptr<Services> services, WorkerPtr decode, std::string body) {
  http::ClientRequest request;
  request.method = "POST";
  request.target = "/baton/v1/pair";
  request.headers.Set("Content-Type", "application/json");
  const std::string key = services->registry->NextProbe(decode).api_key;
  if (!key.empty()) request.headers.Set("Authorization", "Bearer " + key);
  request.body = std::move(body);
  const std::string peer = request.body;
  http::Origin origin = decode->origin();
  const auto answer = co_await services->client.Fetch(std::move(origin), std::move(request), Now() + kPairTime);
  if (answer.ok() && answer->status == 200) co_return;
  log::warn("{} could not be paired with {} yet: {}", decode->url(), peer,
            answer.ok() ? fmt::format("HTTP {} {}", answer->status, answer->body.substr(0, 300))
                        : answer.status().message());
}

}  // namespace

void Introduce(std::shared_ptr<Services> services, WorkerPtr worker) {
  if (services->stopped || worker->role() == Role::kRegular) return;
  const std::vector<WorkerView> all = services->registry->List();
  const WorkerView* self = nullptr;
  for (const WorkerView& view : all)
    if (view.worker == worker) self = &view;
  if (!self || !self->metadata.is_baton) return;
  for (const WorkerView& other : all) {
    const bool pair = other.worker->role() != worker->role() && other.healthy && other.metadata.is_baton;
    if (!pair) continue;
    const bool is_decode = worker->role() == Role::kDecode;
    const WorkerView& prefill = is_decode ? other : *self;
    asio::co_spawn(services->executor,
                   IntroducePair(services, is_decode ? worker : other.worker, PairBody(prefill)),
                   [](std::exception_ptr error) {
                     if (error) log::error("router: an introduction ended by an exception");
                   });
  }
}

}  // namespace baton::router
